"""Batch effects learned on control wells alone, and taken out of all wells.

Every plate carries the same controls, but the treated wells are spread unevenly. Whoever levels all wells of a plate
takes a part of the treatment for a plate effect. The controls are alike on every plate, so what differs between them
is the plate.
"""

import numpy as np

from batchfix import BatchCorrector
from batchfix.datasets import make_lab

lab = make_lab(
    n_samples=384, n_features=100, n_batches=4, batch_shift=2.0, effect_size=2.0, confounding=0.6, random_state=0
)
wells, plate = lab.data, lab.batch
control = lab.group == "control"

levelled = BatchCorrector(scale=None).fit_transform(wells, batch=plate)
by_controls = BatchCorrector(scale=None).fit(wells[control], batch=plate[control]).transform(wells, batch=plate)

active = lab.effect != 0


def share_found(table):
    """Slope of the measured treatment effects on the true ones: 1 if they came through whole."""
    measured = table[~control].mean() - table[control].mean()
    return float(np.polyfit(lab.effect[active], measured[active], deg=1)[0])


found, found_by_controls = share_found(levelled), share_found(by_controls)
assert found < 0.8
assert abs(found_by_controls - 1) < 0.1
print(f"Share of the treatment effect that is left: {found:.2f} by all wells, {found_by_controls:.2f} by controls")
