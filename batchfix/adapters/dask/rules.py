"""Rules of dask tables: what cannot be done chunk by chunk, in any order, and what the result will look like.

A corrector and a table by its chunks flow in; a sentence, or the columns and the dtype of the result, flow out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...correctors import CausalCorrector, GroupCorrector, RenormCorrector
from ...correctors.base import BatchwiseCorrector
from ...correctors.tables import float_types
from ...exceptions import BatchfixError, MergeError
from ..sources.source import Block
from ..streaming import rules
from .chunks import Chunks


def check_options(block_rows: Any, progress: Any) -> None:
    """Refuse options of blocks, which chunks do not have."""
    if block_rows is not None:
        raise BatchfixError(
            f"The blocks of a dask table are its chunks, got block_rows={block_rows!r}. Leave it out, and for other "
            "chunks use X.rechunk() or X.repartition()."
        )
    if progress is not None and progress is not False:
        raise BatchfixError(
            f"The progress of a dask table is shown by dask, got progress={progress!r:.80}. Leave it out, and use "
            "dask.diagnostics.ProgressBar or the cluster's dashboard."
        )


def check_fit(corrector: Any, chunks: Chunks) -> None:
    """Refuse, before anything is read, statistics that do not add up, and labels that cannot be those of a fit."""
    name = type(corrector).__name__
    if isinstance(rules.inside(corrector), CausalCorrector | RenormCorrector):
        raise MergeError(
            f"Chunks of a dask table are measured in any order, and {name} takes rows in theirs: what came before "
            "decides. Use batchfix.fit_blocks() on blocks in order, or fit() on X.compute()."
        )
    if not hasattr(type(corrector), "partial_fit") or not hasattr(corrector, "merge"):
        raise MergeError(
            f"Chunks of a dask table must add up, and {name} has no partial_fit() and merge(). Pass a corrector by "
            "itself, outside of a pipeline, or use fit() on X.compute()."
        )
    rules.check_fit(corrector)
    check_labels(corrector, chunks)
    rules.check_codes(corrector, chunks)  # type: ignore[arg-type]  # it looks at labels only


def check_transform(corrector: Any, chunks: Chunks) -> None:
    """Refuse what depends on rows of other chunks."""
    if isinstance(corrector, CausalCorrector):
        raise BatchfixError(
            "Chunks of a dask table are corrected in any order, and CausalCorrector goes on from row to row. Use "
            "batchfix.transform_blocks() on blocks in order, or transform() of X.compute()."
        )
    rules.check_transform(corrector)
    check_labels(corrector, chunks)


def check_labels(corrector: Any, chunks: Chunks) -> None:
    """Refuse labels that the corrector does not take, and dates that are cut in two.

    Rows of one date must share a chunk, which only an index with known divisions promises.
    """
    rules.check_labels(corrector, Block(0, chunks.X, **chunks.given))
    if not isinstance(corrector, GroupCorrector) or (corrector.by is None and corrector.within is None):
        return
    dates = corrector.within
    if chunks.framed and chunks.X.known_divisions and dates is not None and dates == chunks.X.index.name:
        return
    raise BatchfixError(
        f"Rows of one date must share a chunk, got dates in {dates!r} and chunks cut elsewhere. Use "
        f"X.set_index({dates!r}), which cuts between dates, or a wide table, a row a date."
    )


def columns(corrector: Any, chunks: Chunks, *, inverse: bool) -> list[Any]:
    """Names of the result's columns: X's own, but for keys, where they are as many."""
    names = _features(corrector) if inverse else [str(name) for name in corrector.get_feature_names_out()]
    if not chunks.framed:
        return names
    own = [c for c in chunks.X.columns if c not in corrector._consumed]
    return own if [str(c) for c in own] == names else names


def _features(corrector: Any) -> list[str]:
    """Features of fit without keys."""
    if isinstance(corrector, GroupCorrector):
        return corrector._features_out()
    whole = isinstance(corrector, BatchwiseCorrector)
    return [str(name) for name in (corrector.get_feature_names_out() if whole else corrector._part_names())]


def dtype(corrector: Any, chunks: Chunks) -> np.dtype[Any]:
    """float32 where features are read as such and come back so, else float64."""
    if getattr(corrector, "output", None) == "counts":  # float32 has no whole numbers beyond 2**24
        return np.dtype(np.float64)
    if not chunks.framed:
        return np.dtype(np.float32 if chunks.X.dtype == np.float32 else np.float64)
    features = chunks.X._meta.drop(columns=[c for c in corrector._consumed if c in chunks.X.columns])
    if float_types(features) == [np.float32]:
        return np.dtype(np.float32)
    plain = all(isinstance(each, np.dtype) for each in features.dtypes)
    return np.dtype(np.float32 if plain and np.result_type(*features.dtypes) == np.float32 else np.float64)
