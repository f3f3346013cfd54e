"""A stream of small batches: trades come four a day, and on some days a feed is off by ten times their spread.

Four trades are too few to be standardized by themselves: their own mean and spread are off by a good half. The
running population knows better, until a bad day comes in. RenormCorrector stands between: it reads a day by the
population, as far as two limits allow (r_max for the scale, d_max for the shift), and beyond them by the day itself.
Each day is normalized when it comes, by what was known before it.
"""

import numpy as np
import pandas as pd

from batchfix import RenormCorrector

rng = np.random.default_rng(0)
days, trades, features = 600, 4, 10
day = np.repeat(np.arange(days), trades)
truth = rng.standard_normal((days * trades, features))
off = 10 * rng.choice([-1, 0, 1], days, p=[0.02, 0.96, 0.02])[day]
table = pd.DataFrame(100 + 5 * (truth + off[:, None]), index=pd.Index(day, name="day"))


def errors(r_max, d_max):
    """Root mean square error of the normalized trades, once settled: on good days, on bad ones, on all."""
    renorm = RenormCorrector(r_max=r_max, d_max=d_max, momentum=0.01, start="first", batch_key="day")
    error = (renorm.fit_transform(table) - truth)[day >= 200]
    bad = off[day >= 200] != 0
    return [np.sqrt((part.to_numpy() ** 2).mean()) for part in (error[~bad], error[bad], error)]


itself = errors(r_max=1, d_max=0)
population = errors(r_max=np.inf, d_max=np.inf)
bridged = errors(r_max=3, d_max=1.5)

print("error, in standard deviations  good days  bad days  all")
for name, found in (("each day by itself", itself), ("by the population", population), ("bridged", bridged)):
    print(f"{name:<32}" + "  ".join(f"{error:8.2f}" for error in found))
assert bridged[2] < 0.6 * min(itself[2], population[2])
