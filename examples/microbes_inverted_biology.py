"""How keeping the label turns biology around, and how the guard stops it.

Three runs, one of them so shallow that a fifth of the taxa are nearly absent from it. There what stands for zero hardly
varies. ComBat is told the disease, expects a difference, measures none, divides what is left by a tiny spread, and puts
the difference back reversed. The share of variance between runs looks perfect all the same. CompositionalCorrector
scales only taxa that are present in a fifth of the samples of every run.
"""

import numpy as np
from sklearn.metrics import roc_auc_score

from batchfix import ComBat, CompositionalCorrector, LogRatio

rng = np.random.default_rng(2)
n, taxa = 180, 200
run = np.repeat(["run1", "run2", "shallow"], n // 3)
sick = np.tile([True, False], n // 2)
thrives = np.arange(taxa) < 40

logs = (
    rng.normal(0, 1, (n, taxa)) + 1.5 * np.outer(sick, thrives) + rng.normal(0, 0.5, (3, taxa)).repeat(n // 3, axis=0)
)
logs[:, ~thrives] += 2
counts = rng.poisson(200 * np.exp(logs))
seen_in = rng.choice(np.flatnonzero(run == "shallow"), size=taxa)
counts[np.outer(run == "shallow", thrives) & (np.arange(n)[:, None] != seen_in)] = 0


def auc(ratios):
    """How well the taxa that thrive tell the sick of the shallow run: below 0.5 is reversed."""
    rows = run == "shallow"
    return roc_auc_score(sick[rows], ratios[np.ix_(rows, thrives)].mean(axis=1))


def between_runs(ratios):
    """Share of the variance that lies between runs."""
    means = np.stack([ratios[run == r].mean(axis=0) for r in np.unique(run)])
    return ((means - ratios.mean(axis=0)) ** 2).sum() * (n / 3) / ((ratios - ratios.mean(axis=0)) ** 2).sum()


keep = np.where(sick, "sick", "healthy")
raw = LogRatio().fit_transform(counts)
ways = {
    "as measured": raw,
    "ComBat": ComBat().fit_transform(raw, batch=run, keep=keep),
    "ComBat, guarded": CompositionalCorrector(ComBat()).fit_transform(counts, batch=run, keep=keep),
    "location only": CompositionalCorrector().fit_transform(counts, batch=run, keep=keep),
}
for name, ratios in ways.items():
    print(f"{name:<16} between runs {between_runs(ratios):.3f}, AUC in the shallow run {auc(ratios):.2f}")

assert auc(ways["ComBat"]) < 0.3
assert auc(ways["ComBat, guarded"]) > 0.45
