"""Tables in files, in and out: csv and tsv, plain or gzipped, and parquet, told by extension.

A file becomes a `Table`, which keeps what a correction must not touch (the order of rows and columns, the ids as they
were written, the columns of text) beside the numbers, and goes back to a file as it came. Numbers are read and written
with every digit, so reading what was written gives the same floats.
"""

from .cells import MISSING, number
from .reading import read_header, read_table, read_text
from .table import NotNumericError, Table, TableError, is_parquet
from .writing import atomic_write, check_output, open_table, write_table

__all__ = [
    "MISSING",
    "NotNumericError",
    "Table",
    "TableError",
    "atomic_write",
    "check_output",
    "is_parquet",
    "number",
    "open_table",
    "read_header",
    "read_table",
    "read_text",
    "write_table",
]
