"""dask: correctors fitted to tables that are spread over chunks, and over machines. See `fit` and `transform`."""

from .lazy import fit, transform
from .store import store

__all__ = ["fit", "store", "transform"]
