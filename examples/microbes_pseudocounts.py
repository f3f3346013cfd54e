"""Why pseudocounts lie: the same samples, sequenced ten times less, become another batch.

Half a count is a large share of a shallow sample and a tiny one of a deep sample. What was not found is then more
abundant in the shallow run, and a batch effect appears where there is none. A fixed proportion does not do that.
"""

import warnings

import numpy as np

from batchfix import CompositionalCorrector
from batchfix.datasets import make_microbes

deep = make_microbes(80, 150, 2, batch_bias=0.0, missed=0.0, depth=50_000, depth_shift=0.0, random_state=0).counts
deep = deep.loc[:, (deep > 0).mean() >= 0.1]
shallow = np.random.default_rng(0).binomial(deep, 0.1)
table = np.vstack([deep, shallow])
run = np.repeat(["deep", "shallow"], len(deep))

shares = {}
for zeros in ("half_minimum", "pseudocount"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        corrector = CompositionalCorrector(zeros=zeros).fit(table, batch=run)
        check = corrector.check_depth(table, batch=run)
    shares[zeros] = check.batch_share
    print(
        f"{zeros:<12} {check.batch_share:.1%} of the variance lies between the runs, "
        f"the leading component goes with depth by {check.correlation:.2f}"
    )
    if caught:
        print(f"{'':<12} warned: {caught[-1].message}")

assert shares["pseudocount"] > 2 * shares["half_minimum"]
