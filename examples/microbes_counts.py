"""From counts to corrected counts: the same depth in every sample, and an account of what was done to it.

Many tools want counts. `output="counts"` gives whole ones that sum to each sample's own depth. Taxa that were not found
count for a little in between (a logarithm needs something), and mostly round to 0 again; the audit says how many did
not. `output="abundance"` leaves every zero alone and corrects what was found; its amounts need not be whole.
"""

import numpy as np

from batchfix import CompositionalCorrector
from batchfix.core.log_ratios import clr
from batchfix.datasets import make_microbes

runs = make_microbes(120, 60, 3, batch_bias=1.0, missed=0.0, spread=1.5, variation=1.0, random_state=0)
truth = clr(runs.truth.to_numpy())


def error(counts):
    """Root mean square error of the log-ratios of common taxa, about what batches have in common."""
    common = (runs.counts > 0).all().to_numpy()
    off = clr(np.maximum(counts.to_numpy(), 0.5)[:, common]) - clr(runs.truth.to_numpy()[:, common])
    return np.sqrt(np.mean((off - off.mean(axis=0)) ** 2))


corrector = CompositionalCorrector(output="counts", batch_key="run")
table = runs.counts.assign(run=runs.batch)
corrected = corrector.fit_transform(table)
print(f"X was taken for {corrector.scale_of_input_}.")
print(f"counts:    {corrector.audit(table, corrected)}")
assert (corrected.sum(axis=1) == runs.depth).all()
assert error(corrected) < error(runs.counts) / 2
print(f"error of log-ratios against the truth: {error(runs.counts):.2f} before, {error(corrected):.2f} after")

kept = CompositionalCorrector(output="abundance", batch_key="run")
abundances = kept.fit_transform(table)
audit = kept.audit(table, abundances)
assert audit.zeros_filled == 0
print(f"abundance: {audit}")
