"""Where blocks come from: arrays, tables, files and iterators, with the labels of their rows."""
