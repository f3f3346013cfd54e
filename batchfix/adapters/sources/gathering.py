"""Gathering: blocks cut anew, so that what belongs together is in one block.

Blocks and the keys of their rows flow in (dates of a long table, batches of a stream); blocks that end where no key
goes on flow out. The rows of a key must stand together, or nearly so: what came to its end may not come back.

    a a b b | b c c c | c d   ->   a a | b b b | c c c c | d
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ...correctors.tables import is_polars
from ...exceptions import BatchfixError
from .row_labels import aligned
from .source import ROLES, Block

HELD_BYTES = 1 << 29
"""What is held back of several keys that stand mixed, in float64, before it is refused. One key alone must be held."""

Keys = Callable[[Block], list[Any]]
"""Key columns of a block, each of one entry a row."""


def gathered(blocks: Iterable[Block], keys: Keys, what: str) -> Iterator[Block]:
    """Hold back the rows whose key may go on in the next block.

    Parameters
    ----------
    blocks : iterable of Block
    keys : function of a block
        Columns that tell, all together, what a row belongs to.
    what : str
        What that is, for the error.

    Raises
    ------
    BatchfixError
        Rows of a key that had come to its end; keys that stand mixed all over the table.
    """
    ended: set[Hashable] = set()
    held: list[Block] = []
    share = np.nan
    for block in map(_in_order, blocks):
        held.append(block)
        share = block.share
        last = _labels(keys(block))
        if len(held) > 1 and (last == last.iloc[-1]).all() and held[-1].start == held[-2].stop:
            before = _labels(keys(_part(held[-2], held[-2].X.shape[0] - 1, None)))
            if before.iloc[-1] == last.iloc[-1]:  # still the same one: nothing can be cut off
                continue
        whole = joined(held)
        labels = _labels(keys(whole))
        cut = _cut(labels)
        if cut:
            yield _checked(replace(_part(whole, 0, cut), share=block.share), labels.iloc[:cut], ended, what)
        held = [_part(whole, cut, None)]
        rest = labels.iloc[cut:]
        if len(rest) * whole.X.shape[1] * 8 > HELD_BYTES and rest.nunique() > 1:
            raise BatchfixError(
                f"Rows of one {what} must stand together, or one block does not have them all; from row "
                f"{whole.start + cut} on, {rest.nunique()} of them stand mixed. Sort the rows by {what}."
            )
    if held:
        whole = replace(joined(held), share=share)
        yield _checked(whole, _labels(keys(whole)), ended, what)


def joined(blocks: list[Block]) -> Block:
    """Blocks that follow each other as one."""
    if len(blocks) == 1:
        return blocks[0]
    X = _stack([block.X for block in blocks])
    labels = {}
    for role in ROLES:
        parts = [getattr(block, role) for block in blocks]
        if parts[0] is None:
            continue
        if np.ndim(parts[0]) == 0 and not isinstance(parts[0], dict) and all(p == parts[0] for p in parts):
            labels[role] = parts[0]
            continue
        whole = [_as_rows(part, block.X.shape[0]) for part, block in zip(parts, blocks, strict=True)]
        labels[role] = _stack(whole)
    return Block(blocks[0].start, X, **labels, share=blocks[-1].share)


def _in_order(block: Block) -> Block:
    """A block whose labels are in the order of its rows, and so can be cut by position."""
    index = block.X.index if isinstance(block.X, pd.DataFrame) else None
    return replace(block, **{role: aligned(value, index, role) for role, value in block.labels.items()})


def _checked(block: Block, labels: pd.Series, ended: set[Hashable], what: str) -> Block:
    """A block whose keys end with it."""
    found = labels.unique().tolist()
    again = next((label for label in found if label in ended), None)
    if again is not None:
        shown = again[0] if isinstance(again, tuple) and len(again) == 1 else again
        raise BatchfixError(
            f"Rows of one {what} must stand together, or one block does not have them all; {shown!r} came to its end "
            f"before row {block.start} and comes back in rows {block.start} to {block.stop - 1}. Sort the rows by "
            f"{what}, or take blocks so large that they hold each whole (block_rows)."
        )
    ended.update(found)
    return block


def _cut(labels: pd.Series) -> int:
    """The last place before which every key has its end: those after it may go on."""
    codes, _ = pd.factorize(labels, use_na_sentinel=False)
    first = np.full(codes.max() + 1, len(codes))
    np.minimum.at(first, codes, np.arange(len(codes)))
    cut = int(first[codes[-1]])
    while (earlier := int(first[codes[cut:]].min())) < cut:
        cut = earlier
    return cut


def _labels(columns: list[Any]) -> pd.Series:
    """One label a row."""
    series = [pd.Series(np.asarray(column, dtype=object)) for column in columns]
    return series[0] if len(series) == 1 else pd.Series(list(zip(*series, strict=True)))


def _part(block: Block, start: int, stop: int | None) -> Block:
    """Rows of a block."""
    rows = slice(start, stop)
    labels = {role: _rows(value, rows) for role, value in block.labels.items()}
    return Block(block.start + start, _rows(block.X, rows), **labels, share=block.share)


def _rows(values: Any, rows: slice) -> Any:
    if isinstance(values, dict):
        return {name: _rows(column, rows) for name, column in values.items()}
    if isinstance(values, pd.DataFrame | pd.Series):
        return values.iloc[rows]
    return values if np.ndim(values) == 0 else values[rows]


def _as_rows(value: Any, n: int) -> Any:
    """One label for all rows as one a row."""
    return np.repeat(np.asarray(value), n) if np.ndim(value) == 0 and not isinstance(value, dict) else value


def _stack(parts: list[Any]) -> Any:
    """Tables, columns or mappings of columns, one below the other."""
    first = parts[0]
    if isinstance(first, dict):
        return {name: _stack([part[name] for part in parts]) for name in first}
    if isinstance(first, pd.DataFrame | pd.Series):
        return pd.concat(parts)
    if is_polars(first):
        from polars import concat

        return concat(parts)
    arrays = [np.asarray(part) for part in parts]
    if len({array.dtype.kind for array in arrays}) > 1 and any(array.dtype.kind not in "fiub" for array in arrays):
        arrays = [array.astype(object) for array in arrays]  # text and numbers stay apart
    return np.concatenate(arrays)
