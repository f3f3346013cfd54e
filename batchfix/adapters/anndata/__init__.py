"""AnnData corrected in place or from file to file: dense, sparse, backed, lazy and dask-backed matrices."""
