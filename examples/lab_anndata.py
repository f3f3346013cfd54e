"""Correct an AnnData in place: its matrix, and an embedding.

The call reads like scanpy's preprocessing functions: batch and what must survive are columns of `obs`.
"""

import numpy as np
from anndata import AnnData

from batchfix import BatchCorrector, ComBat, pp
from batchfix.datasets import make_lab

lab = make_lab(n_samples=90, n_features=200, n_batches=3, batch_shift=2.0, confounding=0.3, random_state=0)
adata = AnnData(lab.data)
adata.obs["batch"] = lab.batch.astype("category")
adata.obs["group"] = lab.group.astype("category")
adata.obsm["X_pca"] = np.linalg.svd(adata.X - adata.X.mean(axis=0), full_matrices=False)[0][:, :10]

# The matrix, under a new name. The corrector is fitted, and can be read or applied to other cells.
combat = ComBat()
pp.correct(adata, combat, key="batch", keep="group", key_added="combat")

# An embedding, in its place.
embedding = adata.obsm["X_pca"].copy()
pp.correct(adata, BatchCorrector(scale=None), key="batch", keep="group", obsm="X_pca")


def share_explained(table, labels):
    """Share of the table's variance that lies between the groups that `labels` form."""
    total = ((table - table.mean(axis=0)) ** 2).sum()
    within = sum(((rows - rows.mean(axis=0)) ** 2).sum() for rows in (table[labels == v] for v in labels.unique()))
    return 1 - within / total


for name, before, after in (
    ("matrix", adata.X, adata.layers["combat"]),
    ("embedding", embedding, adata.obsm["X_pca"]),
):
    shares = [share_explained(m, adata.obs[by]) for by in ("batch", "group") for m in (before, after)]
    assert shares[1] < shares[0] / 4
    print("{}: variance explained by batch {:.3f} -> {:.3f}, by group {:.3f} -> {:.3f}".format(name, *shares))
