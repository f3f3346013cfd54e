"""Where corrected blocks go: arrays and files, whole or not at all."""
