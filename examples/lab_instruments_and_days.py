"""Two instruments, four days, and samples that were loaded in unequal amounts: all of it out at once, disease kept.

`LinearCorrector` is limma's removeBatchEffect as an estimator: one linear model of all that differs, of which the
effects of batch and nuisance are subtracted. Batches may be several factors, here instrument and day; nuisance columns
are what must go besides, here the amount loaded. Whoever corrects for the day alone leaves the rest in.
"""

import numpy as np
import pandas as pd

from batchfix import LinearCorrector
from batchfix.datasets import make_lab

lab = make_lab(n_samples=160, n_features=200, n_batches=4, batch_shift=2.0, confounding=0.3, random_state=0)
rng = np.random.default_rng(0)
sick = lab.group == "case"
samples = pd.DataFrame(
    {
        "day": lab.batch,
        "instrument": np.where(rng.random(160) < np.where(sick, 0.3, 0.7), "old", "new"),  # the sick came later
        "amount": rng.uniform(1.0, 3.0, size=160) + 0.5 * sick,
        "group": lab.group,
    }
)
by_instrument, by_amount = rng.normal(0.0, 1.0, size=(2, 200))
table = lab.data + np.outer(samples["instrument"] == "old", by_instrument) + np.outer(samples["amount"], by_amount)

day_alone = LinearCorrector().fit_transform(table, batch=samples["day"], keep=samples["group"])
corrector = LinearCorrector()
all_of_it = corrector.fit_transform(
    table, batch=samples[["day", "instrument"]], keep=samples["group"], nuisance=samples["amount"]
)


def error(values):
    """Typical error of the measured effect of disease on a feature (the true effects are known here)."""
    return float(np.sqrt(((values[sick].mean() - values[~sick].mean() - lab.effect) ** 2).mean()))


raw, by_day, whole = error(table), error(day_alone), error(all_of_it)
assert whole < by_day / 3
print(f"Error of the effects of disease: raw {raw:.2f}, corrected for day {by_day:.2f}, for all {whole:.2f}")

# A later sample is corrected with its own day, instrument and amount; its group need not be known.
one = samples.iloc[[0]]
again = corrector.transform(table.iloc[[0]], batch=one[["day", "instrument"]], nuisance=one["amount"])
assert np.allclose(again, all_of_it.iloc[[0]])
