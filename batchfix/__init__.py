"""batchfix takes the differences between batches out of a table, and keeps what it was asked to keep.

Choose which cells share statistics. Estimate their moments. Shrink them if they are few. Map them affinely.
"""

from . import datasets, exceptions, pp
from .correctors import BatchCorrector, ComBat, LinearCorrector

__version__ = "0.1.0"

__all__ = ["BatchCorrector", "ComBat", "LinearCorrector", "datasets", "exceptions", "pp"]
