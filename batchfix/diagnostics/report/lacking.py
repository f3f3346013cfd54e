"""Lacking: the evaluation of a table that cannot be evaluated, each number with the sentence why.

A table and a reason flow in; an evaluation without numbers flows out, so that a page says what a number would have.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..evaluation import Evaluation
from ..sections import BatchVariance, Comparison, Features, Missing, Mixing


def lacking(before: Any, reason: str, *, corrector: str = "") -> Evaluation:
    """Of a table of n samples x p features, all of whose numbers are missing for one reason.

    With the name of a corrector it is that corrector which refused the table.

    Examples
    --------
    >>> found = lacking([[1.0, 2.0], [3.0, 4.0]], "All samples are of one batch.")
    >>> found.verdict, found.n, str(found.forecast)
    ('undecided', 2, 'All samples are of one batch.')
    """
    missing = Missing(reason)
    table = pd.DataFrame(before)
    n, p = table.shape
    return Evaluation(
        verdict="undecided",
        under=(),
        over=(),
        mind=(),
        batch_variance=BatchVariance(missing, missing, missing),
        biology=missing,
        dispersion=Comparison(missing, missing),
        predictability=Comparison(missing, missing),
        leave_one_batch_out=missing,
        mixing=Mixing(Comparison(missing, missing), {}),
        features=Features(missing, missing, pd.DataFrame(index=table.columns)),
        forecast=missing,
        samples=pd.DataFrame(index=table.index),
        notes=(),
        corrector=corrector,
        corrected=False,
        n=n,
        n_features=p,
    )
