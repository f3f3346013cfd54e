"""dask: correctors fitted to tables that are spread over chunks, and over machines. See `fit` and `transform`."""

from .lazy import fit, transform
from .rules import check_options
from .store import store

__all__ = ["check_options", "fit", "store", "transform"]
