"""Block rules: what each corrector asks of blocks, so that they give what all rows at once would.

statistics per batch            any blocks: statistics add up
RenormCorrector                 fit: a batch in one block, for it takes one step
GroupCorrector, long            a date in one block, for its rows are compared
CausalCorrector                 in the order of time; transform moves a copy along
LogRatio                        what zeros become must not be learned from rows
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from ...correctors import (
    CausalCorrector,
    CompositionalCorrector,
    GroupCorrector,
    LinearCorrector,
    LogRatio,
    RenormCorrector,
)
from ...correctors import columns as kinds
from ...correctors.base import BatchwiseCorrector
from ...correctors.rows import names_in
from ...correctors.rowwise import RowwiseCorrector
from ...correctors.tables import take_keys
from ...exceptions import BatchfixError, MergeError, MissingLabelError, TooFewSamplesError, UnmergeableError
from ..sources.gathering import Keys, gathered
from ..sources.source import Block, Source

NAMES = ("batch_key", "keep_keys", "nuisance_keys", "within", "by", "symbol", "time", "weights", "neutralize")
"""Parameters that name columns, which need not hold numbers."""


def is_dask(X: Any) -> bool:
    """Whether X is a dask collection, without importing dask."""
    return type(X).__module__.partition(".")[0] in ("dask", "dask_expr") and hasattr(X, "dask")


def inside(corrector: Any) -> Any:
    """The corrector that has the statistics: a composition's own, or itself."""
    return (corrector.corrector or corrector) if isinstance(corrector, CompositionalCorrector) else corrector


def key_names(corrector: Any) -> list[str]:
    """Columns that the corrector's keys name."""
    found: list[str] = []
    for each in (corrector, inside(corrector)):
        for name in NAMES:
            value = getattr(each, name, None)
            if isinstance(value, str):
                found.append(value)
            elif isinstance(value, list | tuple):
                found += [key for key in value if isinstance(key, str)]
    return found


# ---- what is refused


def check_fit(corrector: Any) -> None:
    """Refuse, before anything is read, a corrector whose statistics do not add up."""
    if getattr(inside(corrector), "keep_y", False):
        raise BatchfixError("Blocks bring no y, which keep_y=True keeps. Pass the target as keep, with keep_y=False.")
    if isinstance(corrector, LogRatio):
        zeros = corrector.zeros
        if isinstance(zeros, str) and zeros not in ("multiplicative", "keep", "pseudocount"):
            robust = zeros == "auto" and corrector.get_params()["transform"] == "rclr"
            if not robust:
                raise UnmergeableError(
                    f"Blocks must be told what zeros become, which zeros={zeros!r} learns from all rows at once. Pass "
                    "zeros=HalfMinimum(x), x half of the smallest proportion that you expect."
                )
    elif not hasattr(type(corrector), "partial_fit"):
        raise MergeError(
            f"Blocks must be added up, and {type(corrector).__name__} cannot add any. Use fit on all rows at once."
        )
    else:
        _ = corrector.partial_fit  # absent, with a sentence, where something is learned from all rows at once


def check_transform(corrector: Any) -> None:
    """Refuse what one block alone would answer otherwise than all rows do."""
    for each in (corrector, inside(corrector)):
        if getattr(each, "handle_unknown", None) == "adapt":
            raise BatchfixError(
                "Blocks are corrected one by one, and handle_unknown='adapt' learns a new batch from all of its rows "
                "in one call. Call adapt() with those rows first, or set handle_unknown='error', 'pooled' or 'nan'."
            )


def check_labels(corrector: Any, block: Block) -> None:
    """Refuse labels that the corrector does not take."""
    takes = ["batch", "keep", "nuisance"] if isinstance(corrector, LinearCorrector) else ["batch", "keep"]
    if isinstance(corrector, RowwiseCorrector | LogRatio):
        takes = []
    stray = [role for role in block.labels if role not in takes]
    if stray:
        raise BatchfixError(f"{type(corrector).__name__} takes no {stray[0]}, got some. Leave it out.")


def check_codes(corrector: Any, source: Source) -> None:
    """Refuse columns of one array that could be factors or numbers, as `fit` does, by the values of all rows."""
    crowded = {name: each for labels in source.labels.values() for name, each in labels.crowded.items()}
    if not crowded:
        return
    every = [name for labels in source.labels.values() for name in labels.columns]
    told = inside(corrector)
    declared = [
        kinds.declared(option, names_in(getattr(told, option, None)), every)
        for option in ("keep_factors", "keep_numbers")
    ]
    for name, column in crowded.items():
        if not any(name in each for each in declared):
            kinds.check_codes(name, column)


def check_rows(corrector: Any, n: int) -> None:
    """Refuse windows longer than all rows, as `fit` does; of a long table, rows are dates."""
    if isinstance(corrector, CausalCorrector) and corrector.by is None and corrector.window_.longest > n:
        raise TooFewSamplesError(
            f"A rolling window must fit into the data; got a window of {corrector.window_.longest} rows and "
            f"n_samples={n}. Shorten it, or build up the state with partial_fit."
        )


# ---- blocks cut anew


def cut_for_fit(corrector: Any, blocks: Iterable[Block]) -> Iterable[Block]:
    """Blocks in which what belongs together is whole, to learn from."""
    told = inside(corrector)
    if isinstance(told, RenormCorrector):
        return gathered(blocks, _batches(corrector), "batch")
    return cut_for_transform(corrector, blocks)


def cut_for_transform(corrector: Any, blocks: Iterable[Block]) -> Iterable[Block]:
    """Blocks in which what belongs together is whole, to be applied to."""
    if isinstance(corrector, GroupCorrector) and corrector.within is not None:
        return gathered(blocks, _columns(corrector.within), "date")
    if isinstance(corrector, CausalCorrector) and corrector.by is not None and corrector.time is not None:
        return gathered(blocks, _columns(corrector.time), "date")
    if isinstance(corrector, CausalCorrector) and corrector.by is not None:
        return gathered(blocks, _index_dates, "date")
    return blocks


def _columns(key: Any) -> Keys:
    keys = list(key) if isinstance(key, list | tuple) else [key]
    return lambda block: list(take_keys(block.X, keys)[1].values())


def _index_dates(block: Block) -> list[Any]:
    return [block.X.index if isinstance(block.X, pd.DataFrame) else np.arange(block.start, block.stop)]


def _batches(corrector: Any) -> Keys:
    key = corrector.batch_key if corrector.batch_key is not None else inside(corrector).batch_key

    def found(block: Block) -> list[Any]:
        if block.batch is None:
            if key is None:
                raise MissingLabelError(
                    f"{type(corrector).__name__} must be told the batch of each row in blocks: without labels, each "
                    "block would be a batch. Pass batch=, or set batch_key."
                )
            return _columns(key)(block)
        if isinstance(block.batch, dict):
            return list(block.batch.values())
        return [np.broadcast_to(np.asarray(block.batch), block.X.shape[0])]

    return found


def finish(corrector: Any) -> None:
    """Finish the estimates, as fit does, so that what cannot be estimated is said now."""
    inner = getattr(corrector, "corrector_", corrector)
    if isinstance(inner, BatchwiseCorrector):
        inner.solution_  # noqa: B018  # made when asked for
