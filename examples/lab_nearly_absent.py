"""Microbes that are nearly absent from one batch, and effects that ComBat turns around there.

Log abundances from three sequencing runs. Half of the microbes thrive in the sick, by 1.5. The third run was shallow:
there each of these microbes is found in one sample, and sits at the detection limit in all others. With
disease kept, ComBat takes what it expects of a patient for what it measured: as the limit does not vary, it stretches
the run's values about that expectation, and the sick, who should have more and do not, come out far below the healthy.

`scale_guard=0.2` scales a feature only if it is present in a fifth of the samples of every batch, and otherwise shifts
it. That is decided without labels.
"""

import numpy as np
from sklearn.metrics import roc_auc_score

from batchfix import ComBat

rng = np.random.default_rng(0)
n, p = 180, 100
run = np.repeat(["run1", "run2", "shallow"], n // 3)
sick = np.tile([True, False], n // 2)
thrives = np.arange(p) < p // 2

table = (
    rng.normal(4.0, 1.0, (n, p))
    + 1.5 * np.outer(sick, thrives)
    + rng.normal(0.0, 0.5, (3, p))[np.arange(n) // (n // 3)]
)
limit = 1.0
seen_in = rng.choice(np.flatnonzero(run == "shallow"), size=p)  # the one sample in which a microbe is found
unseen = np.outer(run == "shallow", thrives) & (np.arange(n)[:, None] != seen_in)
table[unseen] = limit

keep = np.where(sick, "sick", "healthy")
combat = ComBat().fit_transform(table, batch=run, keep=keep)
guarded = ComBat(scale_guard=0.2).fit_transform(table, batch=run, keep=keep)


def auc(values, rows):
    """How well the mean of the microbes that thrive tells sick from healthy: 0.5 is a coin, below it is reversed."""
    return roc_auc_score(sick[rows], values[np.ix_(rows, thrives)].mean(axis=1))


shallow, deep = run == "shallow", run != "shallow"
assert auc(combat, shallow) < 0.3
assert auc(guarded, shallow) > 0.45
for name, values in (("as measured", table), ("ComBat", combat), ("ComBat, guarded", guarded)):
    print(f"{name:<16} AUC in the shallow run {auc(values, shallow):.2f}, in the others {auc(values, deep):.2f}")
