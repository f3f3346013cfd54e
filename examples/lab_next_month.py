"""A new batch arrives each month, and what was corrected before must not change.

`adapt` learns the new batch from its own rows against the frozen model, and returns a new corrector that knows it. The
old batches' maps stay as they were to the last bit, so earlier results need no second look.
"""

import numpy as np

from batchfix import ComBat
from batchfix.datasets import make_lab

lab = make_lab(n_samples=120, n_features=200, n_batches=4, batch_shift=2.0, random_state=0)
month = lab.batch.map({"b1": "january", "b2": "february", "b3": "march", "b4": "april"})
april = month == "april"

# End of March: fit on three months.
model = ComBat().fit(lab.data[~april], batch=month[~april], keep=lab.group[~april])
first_quarter = model.transform(lab.data[~april], batch=month[~april], keep=lab.group[~april])

# Mid-April: fifteen rows are enough to learn the batch. What was kept tells a sicker month from a batch effect.
early, late = np.split(np.flatnonzero(april), [15])
with_april = model.adapt(lab.data.iloc[early], batch="april", keep=lab.group.iloc[early])

# Late April: the other rows are corrected as they come.
corrected = with_april.transform(lab.data.iloc[late], batch="april", keep=lab.group.iloc[late])

again = with_april.transform(lab.data[~april], batch=month[~april], keep=lab.group[~april])
assert again.equals(first_quarter)
assert "april" not in model.batches_


def distance(table):
    """Typical distance of late April's feature means to those of the first quarter."""
    return (table.mean() - first_quarter.mean()).abs().median()


before, after = distance(lab.data.iloc[late]), distance(corrected)
assert after < before / 2
print(f"Late April's distance to the first quarter: {before:.2f} before, {after:.2f} after; the quarter is unchanged")
