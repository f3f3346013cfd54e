"""Streaming: correctors fitted and applied to more rows than memory holds, in one process.

A source of blocks flows in; statistics are added up block by block, and the corrector is that of all rows. Blocks then
flow through it one by one, to an iterator, an array or a file:

    block, block, ...  ->  statistics + statistics + ...  ->  fitted corrector
    block, block, ...  ->  corrected block, corrected block, ...  ->  out
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
from sklearn.base import clone
from tqdm import tqdm

from ... import exceptions
from ...exceptions import BatchfixError, MergeError
from ..sinks.opening import fill
from ..sources.files import said
from ..sources.opening import as_source
from ..sources.source import Block, Source
from . import rules
from .verbs import applier, learner

Progress = bool | Callable[[float], object] | None


def fit(
    corrector: Any, X: Any, batch: Any, keep: Any, nuisance: Any, *, block_rows: int | None, progress: Progress
) -> None:
    """Fit, block by block; see `fit_blocks`."""
    fresh: Any = clone(corrector)
    rules.check_fit(fresh)
    own = set(vars(fresh))
    source = as_source(X, batch, keep, nuisance, keys=rules.key_names(fresh))
    rules.check_codes(fresh, source)
    learn = learner(fresh)
    n = 0
    for block in _walk(rules.cut_for_fit(fresh, source.blocks(block_rows)), source, progress, "fit"):
        with located(block):
            rules.check_labels(fresh, block)
            learn(block)
        n += block.stop - block.start
    rules.check_rows(fresh, n)
    rules.finish(fresh)
    kept = {name: value for name, value in vars(corrector).items() if name in own}
    corrector.__dict__ = kept | {name: value for name, value in vars(fresh).items() if name not in own}


def transform(
    corrector: Any,
    X: Any,
    batch: Any,
    keep: Any,
    nuisance: Any,
    *,
    out: Any,
    inverse: bool,
    block_rows: int | None,
    progress: Progress,
) -> Any:
    """Correct, block by block; see `transform_blocks`."""
    source = as_source(X, batch, keep, nuisance, keys=rules.key_names(corrector))
    pieces = _corrected(corrector, source, inverse=inverse, block_rows=block_rows, progress=progress)
    if out is None:
        return (values for _, values in pieces)
    fill(out, pieces, source.n_rows, source)
    return out


def _corrected(
    corrector: Any, source: Source, *, inverse: bool, block_rows: int | None, progress: Progress
) -> Iterator[tuple[int, Any]]:
    """Place of the first row, and corrected rows, block by block."""
    apply = applier(corrector, inverse=inverse)
    blocks = rules.cut_for_transform(corrector, source.blocks(block_rows))
    for block in _walk(blocks, source, progress, "transform"):
        with located(block):
            rules.check_labels(corrector, block)
            values = apply(block)
        if isinstance(values, pd.DataFrame) and not isinstance(block.X, pd.DataFrame):
            values.index = pd.RangeIndex(block.start, block.stop)  # set_output numbers the rows of each call from 0
        yield block.start, values


def _walk(blocks: Iterable[Block], source: Source, progress: Progress, what: str) -> Iterator[Block]:
    """Blocks that agree in their columns; says how far it is."""
    first: Block | None = None
    show = progress is True
    with tqdm(total=source.n_rows, desc=what, unit=" rows", disable=None if show else True, leave=False) as bar:
        for k, block in enumerate(blocks):
            first = first or block
            _check_columns(first, block, k)
            yield block
            bar.update(block.stop - block.start)
            if callable(progress):
                progress(block.share)


def _check_columns(first: Block, block: Block, k: int) -> None:
    want, got = first.names, block.names
    where = f"block {k} (rows {block.start} to {block.stop - 1})"
    if block.X.shape[1] != first.X.shape[1]:
        differ = f"has {block.X.shape[1]} of them where the first has {first.X.shape[1]}"
        if want is not None and got is not None:
            lost, more = [c for c in want if c not in set(got)], [c for c in got if c not in set(want)]
            differ = f"lacks {lost[:3]}" if lost else f"has {more[:3]} more" if more else differ
    elif want == got:
        return
    elif want is None or got is None:
        differ = "has no names for them where the first has" if got is None else "has names where the first has none"
    else:
        lost = [c for c in want if c not in set(got)]
        differ = f"lacks {lost[:3]}" if lost else "has them in another order"
    raise MergeError(f"Every block must have the columns of the first, in their order, but {where} {differ}.")


@contextmanager
def located(block: Block) -> Iterator[None]:
    """Errors that speak of rows by their place in a block say where the block is."""
    where = f"In the block of rows {block.start} to {block.stop - 1}"
    try:
        yield
    except BatchfixError as error:
        kind = type(error)
        if block.start == 0 or getattr(exceptions, kind.__name__, None) is not kind:
            raise
        raise kind(f"{where}: {error}") from error
    except ValueError as error:  # scikit-learn's
        if block.start == 0:
            raise
        raise BatchfixError(f"{where}: {said(error, 300)}") from error
