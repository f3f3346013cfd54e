"""Block verbs: what is done with each block, to learn from it and to correct it.

A corrector flows in; a function of a block comes out, to be called with one block after the other.
"""

from __future__ import annotations

import copy as copying
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from ...correctors import CausalCorrector, LogRatio
from ..sources.source import Block


def learner(corrector: Any) -> Callable[[Block], object]:
    """What is done with each block in fit."""
    if not isinstance(corrector, LogRatio):
        return lambda block: corrector.partial_fit(block.X, **block.labels)

    def learn(block: Block) -> None:
        if block.start == 0:
            corrector.fit(block.X)
        else:  # nothing is learned from rows but that they are such as can be transformed
            clone(corrector).fit(block.X)

    return learn


def applier(corrector: Any, *, inverse: bool) -> Callable[[Block], Any]:
    """What is done with each block in transform."""
    if isinstance(corrector, CausalCorrector):
        return _causal(corrector, inverse=inverse)
    verb = corrector.inverse_transform if inverse else corrector.transform
    return lambda block: verb(block.X, **block.labels)


def _causal(corrector: CausalCorrector, *, inverse: bool) -> Callable[[Block], Any]:
    """A copy, whose past moves on by every block."""
    moving = copying.copy(corrector)
    moving.copy = True

    def move(block: Block) -> Any:
        if not inverse:
            return moving.advance(block.X)
        out = moving.inverse_transform(block.X)
        moving.partial_fit(_with_values(block.X, out, moving))
        return out

    return move


def _with_values(X: Any, values: Any, corrector: CausalCorrector) -> Any:
    """A table with its keys, and other numbers."""
    if isinstance(X, pd.DataFrame):
        whole = X.copy()
        whole[values.columns] = values
        return whole
    keys = [key for key in (corrector.time, corrector.by) if key is not None]
    if not keys:
        return values
    array = np.array(X, dtype=np.float64)
    array[:, np.setdiff1d(np.arange(X.shape[1]), [int(k) % X.shape[1] for k in keys])] = values
    return array
