"""Sparse cells, in memory and in a file: what stays sparse, what becomes dense, and what is never loaded.

Most counts of single cells are 0. A correction that only scales leaves them at 0, and the matrix sparse. One that also
moves the mean makes nearly every value other than 0: batchfix says how large the dense matrix is before it makes it, in
float32, or writes it to a file a block at a time.
"""

import tempfile
import warnings
from pathlib import Path

import anndata as ad
import numpy as np
from scipy import sparse

from batchfix import BatchCorrector, ComBat, pp
from batchfix.exceptions import DenseWarning

# 6,000 cells of three runs, 500 genes, one count in ten other than 0; each run reads each gene louder or softer.
rng = np.random.default_rng(0)
run = np.repeat(["r1", "r2", "r3"], 2000)
loudness = {name: rng.uniform(0.5, 2.0, 500) for name in ("r1", "r2", "r3")}
rows = [np.where(rng.random(500) < 0.1, rng.gamma(4.0, 0.5, 500) * loudness[name], 0.0) for name in run]
adata = ad.AnnData(sparse.csr_matrix(np.array(rows, dtype=np.float32)))
adata.obs["run"] = run


def spread_between(X):
    """How far the runs' standard deviations of a gene lie apart, the middle gene."""
    X = X.toarray() if sparse.issparse(X) else X
    spreads = np.stack([X[run == name].std(axis=0) for name in ("r1", "r2", "r3")])
    return float(np.median(spreads.max(axis=0) / spreads.min(axis=0)))


# What only scales stays sparse.
pp.correct(adata, BatchCorrector(location=None), key="run", key_added="scaled")
assert sparse.issparse(adata.layers["scaled"])
assert adata.layers["scaled"].nnz == adata.X.nnz
assert spread_between(adata.layers["scaled"]) < 1.001

# ComBat moves zeros: the size is said first.
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always", DenseWarning)
    pp.correct(adata, ComBat(), key="run", key_added="combat")
assert adata.layers["combat"].dtype == np.float32

# The same from file to file: of X, no more than a block is ever in memory.
folder = tempfile.TemporaryDirectory()
place, corrected = Path(folder.name) / "cells.h5ad", Path(folder.name) / "corrected.h5ad"
ad.AnnData(adata.X.toarray(), obs=adata.obs).write_h5ad(place)
backed = ad.read_h5ad(place, backed="r")
new = pp.correct(backed, ComBat(), key="run", filename=corrected)
gap = np.abs(new.X[:] - adata.layers["combat"]).max()
assert gap < 1e-5  # of float32
for each in (backed, new):
    each.file.close()

# What was done is written beside the result.
record = ad.read_h5ad(corrected).uns["batchfix"]["X"]
assert (record["corrector"], record["key"]) == ("ComBat", "run")
folder.cleanup()

print(str(said[0].message))
print(
    f"spread between runs {spread_between(adata.X):.2f} -> {spread_between(adata.layers['scaled']):.2f}, still sparse"
)
print(f"the file: {record['corrector']} {record['batchfix_version']} by {record['key']!r}; differs by {gap:.1g}")
