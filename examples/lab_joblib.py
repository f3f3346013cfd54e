"""Any engine will do: fit a part in each worker, merge what they return, and it is the fit to all rows.

joblib stands for whatever runs functions elsewhere (a batch queue, Spark, Ray). A worker gets its rows and returns a
corrector with the sums of these rows; merge() adds two of them, in any order.
"""

from functools import reduce

import numpy as np
from joblib import Parallel, delayed

from batchfix import ComBat
from batchfix.datasets import make_lab


def measure(rows, batch, group):
    return ComBat().partial_fit(rows, batch=batch, keep=group)


lab = make_lab(n_samples=400, n_features=60, n_batches=4, confounding=0.4, random_state=0)
parts = np.array_split(np.arange(400), 5)  # any cut: a batch may lie in several parts, and a part lack some

found = Parallel(n_jobs=2)(
    delayed(measure)(lab.data.iloc[rows], lab.batch.iloc[rows], lab.group.iloc[rows]) for rows in parts
)
merged = reduce(ComBat.merge, found)

whole = ComBat().fit(lab.data, batch=lab.batch, keep=lab.group)
gap = max(np.abs(getattr(merged.affine_, name) - getattr(whole.affine_, name)).max() for name in ("scale", "shift"))
assert gap < 1e-10
print(f"{len(parts)} parts merged; largest difference of a parameter to the fit on all rows: {gap:.1g}")
