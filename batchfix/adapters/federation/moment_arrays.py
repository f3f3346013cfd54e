"""Moment arrays: the statistics that fitting needs, as named arrays for a file, and back.

With B batches, p features, and q design columns (a kept or nuisance factor has one a level, 0 or 1; a number is one):

    name        shape                  unit     meaning
    rows        (B,)                   1        rows of each batch
    row_z_mean  (B, q)                 z        means of the design columns over these rows
    row_zz      (B, q (q + 1) / 2)     z z      sums of products of their deviations from these means
    n           (B, p)                 1        observed values; (B, 1) where none is missing
    mean        (B, p)                 x        their mean; 0 where there is none
    m2          (B, p)                 x x      sum of their squared deviations from it
    z_mean      (B, q, p)              z        means of the design columns over the rows where x is observed
    zz          (B, q (q + 1) / 2, p)  z z      sums of products of their deviations from these means
    zx          (B, q, p)              z x      sums of products of deviations of the design columns and of x
    rest        (B, p)                 x x      what a batch's own regression on the design columns leaves of m2
    present     (B, p)                 1        observed values declared present (`scale_where`), where any were
    tie_values  (s, B, p)              x        the s commonest values, NaN where there are fewer (only if asked for)
    tie_lower   (s, B, p)              1        bounds on how often each occurs
    tie_upper   (s, B, p)              1
    tie_other   (B, p)                 1        bound on how often any other value occurs

The last axis of z_mean and zz is 1, for all features, where none is missing. Of symmetric products the upper triangle
is there, row by row (`numpy.triu_indices`). Counts are int64 and all else is float64. Without design columns the arrays
of z are not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...core.comoments import CoMoments
from ...core.design import Column, Factor, Number
from ...core.moments import Moments
from ...core.statistics import BatchStatistics
from ...core.ties import Ties
from ..storage.declared import check_types

SHAPES = {
    "rows": "B",
    "row_z_mean": "Bq",
    "row_zz": "Bt",
    "n": "Bn",
    "mean": "Bp",
    "m2": "Bp",
    "z_mean": "Bqz",
    "zz": "Btz",
    "zx": "Bqp",
    "rest": "Bp",
    "present": "Bp",
    "tie_values": "sBp",
    "tie_lower": "sBp",
    "tie_upper": "sBp",
    "tie_other": "Bp",
}
"""One letter an axis: t of q (q + 1) / 2, n and z of 1 or p."""

COUNTS = ("rows", "n", "present", "tie_lower", "tie_upper", "tie_other")
DESIGN = ("row_z_mean", "row_zz", "z_mean", "zz", "zx", "rest")
OPTIONAL = ("present", "tie_values", "tie_lower", "tie_upper", "tie_other")


ROUNDING = 1e-6
"""Share by which sums may differ for the order in which they were added, with much to spare."""

TINY = 1e-20
"""Squares of deviations that may be nothing but rounding, as a share of the squares of the values."""


def to_arrays(statistics: BatchStatistics) -> dict[str, np.ndarray]:
    """Statistics as the arrays above."""
    m, ties = statistics.moments, statistics.ties
    j, k = np.triu_indices(m.zx.shape[1])
    n, rows = np.asarray(m.x.n), m.rows[:, None]
    found: dict[str, Any] = {
        "rows": m.rows,
        "row_z_mean": m.row_z_mean,
        "row_zz": m.row_zz[:, j, k],
        "n": rows if (n == rows).all() else n,
        "mean": m.x.mean,
        "m2": m.x.m2,
        "z_mean": m.z_mean,
        "zz": m.zz[:, j, k],
        "zx": m.zx,
        "rest": m.rest,
        "present": statistics.present,
    }
    if ties is not None:
        found |= {f"tie_{name}": getattr(ties, name) for name in ("values", "lower", "upper", "other")}
    return {
        name: np.ascontiguousarray(values, dtype=np.int64 if name in COUNTS else np.float64)
        for name, values in found.items()
        if values is not None and (j.size or name not in DESIGN)
    }


def from_arrays(
    arrays: Mapping[str, np.ndarray], batches: np.ndarray, columns: Sequence[Column], eps: float, *, by_cell: bool
) -> BatchStatistics:
    """Statistics of these arrays; ValueError, or its like, for what no statistics are."""
    check_types(BatchStatistics, {"batches": batches, "columns": columns, "eps": eps, "by_cell": by_cell})
    _check_labels(batches, columns)
    q, shape = sum(c.width for c in columns), arrays["mean"].shape
    if not q:
        arrays = dict(zip(DESIGN, [*_nothing(*shape), arrays["m2"]], strict=True)) | dict(arrays)
    _check(arrays, batches, columns)
    n = np.broadcast_to(arrays["n"], shape).astype(np.float64)
    ties = None
    if "tie_values" in arrays:
        values, lower, upper, other = (arrays[f"tie_{name}"] for name in ("values", "lower", "upper", "other"))
        ties = Ties(values, lower, upper, other, n.astype(np.int64))
    return BatchStatistics(
        batches,
        tuple(columns),
        CoMoments(
            Moments(n, arrays["mean"], arrays["m2"]),
            z_mean=arrays["z_mean"],
            zz=_square(arrays["zz"], q),
            zx=arrays["zx"],
            rows=arrays["rows"].astype(np.float64),
            row_z_mean=arrays["row_z_mean"],
            row_zz=_square(arrays["row_zz"], q),
            rest=arrays["rest"],
        ),
        eps,
        present=arrays["present"].astype(np.float64) if "present" in arrays else None,
        by_cell=by_cell,
        ties=ties,
    )


def _nothing(n_batches: int, p: int) -> list[np.ndarray]:
    """Moments of no design column."""
    return [np.zeros((n_batches, *rest)) for rest in ((0,), (0,), (0, 1), (0, 1), (0, p))]


def _square(triangle: np.ndarray, q: int) -> np.ndarray:
    """Symmetric products (B, q, q, ...) of their upper triangle (B, t, ...)."""
    j, k = np.triu_indices(q)
    whole = np.zeros((len(triangle), q, q, *triangle.shape[2:]))
    whole[:, j, k] = whole[:, k, j] = triangle
    return whole


def _check(arrays: Mapping[str, np.ndarray], batches: np.ndarray, columns: Sequence[Column]) -> None:
    """Whether arrays have the shapes above, and numbers that moments can be."""
    tied = [name in arrays for name in SHAPES if name.startswith("tie_")]
    if not set(SHAPES) - set(OPTIONAL) <= set(arrays) <= set(SHAPES) or any(tied) != all(tied):
        raise ValueError(f"there are arrays {sorted(arrays)}")
    p, q = arrays["mean"].shape[-1], sum(c.width for c in columns)
    sizes = {"B": (len(batches),), "p": (p,), "n": (1, p), "z": (1, p), "q": (q,), "t": (q * (q + 1) // 2,)}
    sizes["s"] = arrays["tie_values"].shape[:1] if any(tied) else ()
    for name, values in arrays.items():
        letters = SHAPES[name]
        if values.ndim != len(letters) or any(n not in sizes[k] for n, k in zip(values.shape, letters, strict=True)):
            raise ValueError(f"{name} has the shape {values.shape}")
        if values.dtype != (np.int64 if name in COUNTS else np.float64):
            raise ValueError(f"{name} holds {values.dtype}")
        if not np.isfinite(values).all() and name != "tie_values":
            raise ValueError(f"{name} is not finite")
        if name in (*COUNTS, "m2", "rest") and (values < 0).any():
            raise ValueError(f"{name} is below 0")
    if (arrays["n"] > arrays["rows"][:, None]).any():
        raise ValueError("there are more values than rows")
    _check_possible(arrays, columns)


def _check_possible(arrays: Mapping[str, np.ndarray], columns: Sequence[Column]) -> None:
    """Whether rows can have these moments, up to rounding."""
    n, mean, m2, rest, zx = (arrays[name] for name in ("n", "mean", "m2", "rest", "zx"))
    rows, q = arrays["rows"][:, None], zx.shape[1]
    if q and arrays["z_mean"].shape[-1] < mean.shape[1] and (n != rows).any():
        raise ValueError("values are missing, and z_mean is that of all rows")
    counts = n if arrays["z_mean"].shape[-1] == n.shape[1] else rows
    with np.errstate(all="ignore"):  # infinities and NaN refuse nothing
        row_mean, diagonal = arrays["row_z_mean"][..., None], np.equal(*np.triu_indices(q))
        row_squares, squares = arrays["row_zz"][:, diagonal, None], arrays["zz"][:, diagonal]
        rounding = TINY * n * mean**2 + np.finfo(float).tiny
        z_level = np.abs(row_squares) + rows[:, None] * row_mean**2
        _check_design(row_mean, row_squares, rows, z_level, columns)
        _check_design(arrays["z_mean"], squares, counts, z_level, columns)
        most = np.sqrt((np.maximum(squares, 0) + TINY * z_level) * (m2 + rounding)[:, None])
        for said, wrong in (
            ("a mean of no values", (n == 0) & (mean != 0)),
            ("squares of fewer than two values", (n <= 1) & (m2 > rounding)),
            ("rest beyond m2", rest > (1 + ROUNDING) * m2 + rounding),
            ("zx beyond zz and m2", np.abs(zx) > (1 + ROUNDING) * most),
            ("more values present than observed", arrays.get("present", 0) > n),
        ):
            if wrong.any():
                raise ValueError(f"there is {said}")


def _check_design(
    mean: np.ndarray, squares: np.ndarray, n: np.ndarray, level: np.ndarray, columns: Sequence[Column]
) -> None:
    """Check means and squares of design columns (B, q, c) over so many rows (B, c).

    They may be those of all rows, whose squares are `level`, less others: so much larger is their rounding.
    """
    if (squares < -ROUNDING * level).any():
        raise ValueError("there are squares of design columns below 0")
    if ((n[:, None] == 0) & (mean != 0)).any():
        raise ValueError("there are means of design columns over no rows")
    start = 0
    for column in columns:
        shares = mean[:, start : start + column.width]
        start += column.width
        off = (n > 0) & (np.abs(shares.sum(axis=1) - 1) > ROUNDING)
        if isinstance(column, Factor) and ((shares < -ROUNDING).any() or off.any()):
            raise ValueError(f"the shares of the levels of {column.name!r} do not add up to 1")


def _check_labels(batches: np.ndarray, columns: Sequence[Column]) -> None:
    """Whether labels are what designs are made of."""
    if len({c.name for c in columns}) != len(columns) or not all(isinstance(c, Factor | Number) for c in columns):
        raise ValueError("columns must be factors or numbers, each under a name of its own")
    for labels in (batches, *(c.levels for c in columns if isinstance(c, Factor))):
        if labels.ndim != 1 or not len(labels) or not np.array_equal(np.unique(labels), labels):
            raise ValueError("labels must be sorted, each once")
