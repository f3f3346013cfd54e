"""Shapes: whether the arrays of a model fit each other.

A fitted corrector flows in; an error comes out if its arrays have not one number of batches B, features p, design
columns q and loaded columns l throughout. Arrays that disagree would broadcast into wrong numbers.

    "solution.maps.center": "Bp"        one letter an axis; 1 is 1; "?" is anything
"""

from __future__ import annotations

from typing import Any

import numpy as np

_MOMENTS = {
    "batches": "B",
    "present": "Bp",
    "moments.rows": "B",
    "moments.x.n": "Bp",
    "moments.x.mean": "Bp",
    "moments.x.m2": "Bp",
    "moments.z_mean": "Bq?",
    "moments.zz": "Bqq?",
    "moments.zx": "Bqp",
    "moments.row_z_mean": "Bq",
    "moments.row_zz": "Bqq",
    "moments.rest": "Bp",
    "robust.location": "Bp",
    "robust.scale": "Bp",
}
_SOLUTION = {
    "batches": "B",
    "target.location": "p",
    "target.scale": "p",
    "pooled.location": "p",
    "pooled.scale": "p",
    "fit.location": "Fp",
    "fit.rss": "Fp",
    "fit.n": "Fp",
    "fit.coef": "qp",
    "fit.pivot": "q",
    "fit.feature_pivot": "q?",
    "fit.estimable": "p",
    "maps.center": "Bp",
    "maps.scale": "Bp",
    "maps.shift": "Bp",
    "maps.loading": "Blp",
    "unknown.center": "1p",
    "unknown.scale": "1p",
    "unknown.shift": "1p",
    "unknown.loading": "1lp",
    "loads": "?",
}
_OPTIONAL = {"present", "robust.location", "robust.scale", "maps.loading", "unknown.loading"}
"""What may be None: counts and medians that were not asked for, and loadings where nothing kept is applied."""

MOST_KEYS = 1 << 16
"""More columns of a table than can be keys."""

_POPULATION = dict.fromkeys(("n", "mean", "freedom", "var"), "p")


def check_shapes(corrector: Any) -> None:
    """Raise ValueError where arrays of a fitted corrector, or of one inside it, do not fit together."""
    inner = [getattr(corrector, name, None) for name in ("corrector_", "log_ratio_")]
    for each in inner:
        if each is not None:
            check_shapes(each)
    total = corrector.n_features_in_
    if type(total) is not int or total < 1:
        raise ValueError(f"n_features_in_ is {total!r}")
    names = getattr(corrector, "feature_names_in_", None)
    if names is not None and np.shape(names) != (total,):
        raise ValueError("there are other features than names")
    if hasattr(corrector, "statistics_"):
        _check_statistics(corrector, _count(corrector._features, total))
    if hasattr(corrector, "_grouping"):
        _check_grouping(corrector._grouping)
    if hasattr(corrector, "state_"):
        _check_state(corrector.state_)


def _check_statistics(corrector: Any, width: int) -> None:
    statistics = corrector.statistics_
    sizes = {"p": width, "q": sum(column.width for column in statistics.columns)}
    whole = dict(sizes)
    _check(statistics, _MOMENTS, whole)
    solutions = [] if corrector._solution is None else [(corrector._solution, whole["B"])]
    for solution, batches in [*solutions, *((each, 1) for each in corrector._adapted)]:
        _check(solution, _SOLUTION, sizes | {"B": batches, "F": whole["B"]})
        width = 0 if solution.maps.loading is None else solution.maps.loading.shape[1]
        unknown = solution.unknown.loading
        if width != len(solution.loads) or (unknown is not None and unknown.shape[1] != width):
            raise ValueError("maps have another loading than they name")
        if ((solution.loads < 0) | (solution.loads >= sizes["q"])).any():
            raise ValueError("maps load columns that are not there")
    if hasattr(corrector, "population_"):
        _check(corrector.population_, _POPULATION, dict(sizes))


def _count(features: slice | np.ndarray, total: int) -> int:
    """How many of `total` columns are features, which takes no memory however many a file claims."""
    if isinstance(features, slice):
        count = len(range(total)[features])
    else:
        whole = features.ndim == 1 and features.dtype.kind in "iu"
        if not whole or not ((features >= 0) & (features < total)).all():
            raise ValueError(f"features must be some of {total} columns")
        count = len(features)
    if total - count > MOST_KEYS:
        raise ValueError(f"{count} of {total} columns are features, and so many others cannot be keys")
    return count


def _check_grouping(grouping: Any) -> None:
    """Every group has a parent that is there, and every column a group."""
    size = 1
    for parents, labelled in zip(grouping.levels.parents, grouping.levels.labelled, strict=True):
        _check_codes(parents, size)
        size = len(parents)
        if np.shape(labelled) != (size,):
            raise ValueError(f"{size} groups have {np.shape(labelled)} labels")
    _check_codes(grouping.codes, size)


def _check_codes(codes: Any, size: int) -> None:
    if not isinstance(codes, np.ndarray) or codes.dtype.kind not in "iu":
        raise ValueError("codes of groups must be whole numbers")
    if len(codes) and not (codes.min() >= -1 and codes.max() < size):
        raise ValueError(f"codes of groups must be below {size}, and reach from {codes.min()} to {codes.max()}")


def _check_state(state: Any) -> None:
    """What windows remember has one last axis: the columns."""
    parts = [state.pending, *(each for past in state.pasts for each in vars(past).values())]
    widths = {each.shape[-1:] for each in parts if isinstance(each, np.ndarray)}
    if len(widths) != 1 or widths == {()}:
        raise ValueError(f"windows must remember the same columns, and have {sorted(widths)}")


def _check(value: Any, shapes: dict[str, str], sizes: dict[str, int]) -> None:
    """Check arrays by their path from `value`; what may be None is skipped. Letters are bound as they come."""
    for path, letters in shapes.items():
        array = value
        for name in path.split("."):
            array = None if array is None else getattr(array, name)
        if array is None and path in _OPTIONAL:
            continue
        if not isinstance(array, np.ndarray) or array.ndim != len(letters):
            raise ValueError(f"{path} is no array of {len(letters)} dimensions")
        for letter, n in zip(letters, array.shape, strict=True):
            want = 1 if letter == "1" else n if letter == "?" else sizes.setdefault(letter, n)
            if n != want:
                raise ValueError(f"{path} has the shape {array.shape}, and {want} stands where it has {n}")
