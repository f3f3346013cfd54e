"""`python -m batchfix`, the same as the command `batchfix`."""

import sys

from batchfix.cli import main

if __name__ == "__main__":
    sys.exit(main())
