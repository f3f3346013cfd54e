"""Correctors over blocks of rows, in one process."""
