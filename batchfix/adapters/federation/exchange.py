"""Federation: sites exchange moments, never rows, and each corrects as if it had the rows of all.

    save_moments(corrector, path)          at each site, after fit or partial_fit
    load_moments(path, path, ...)          anywhere: a corrector, fitted as if to the rows of all

The file is an archive (see `archive`: `unzip` and `numpy.load` open it) of kind "batchfix moments". Its manifest.json
says in words what is inside (class, parameters, batches, columns, least cell), and under "moments" which number k each
array ak.npy has; `moment_arrays` describes them all. Names of features and labels stand there too, encoded as in saved
models (see `codec`).

What a file tells of rows: how many there are in each batch, level and pair of levels, and which features are constant
in a batch. Sums over too few rows are not written (see `disclosure`), as far as they show how many rows they are of:

    counted      rows and levels, two at a time; observed and missing values; numbers of two values, one of them 0 or 1;
                 rows where a kept number differs from another column, or from a feature, always by as much
    estimated    values other than 0 of features and numbers, in batches, levels and beside other numbers: an estimate
                 fails where one value is far larger than the others, and says nothing where there are both signs
    not looked at, and yours to see
                 other sums of kept columns that single out a row (z^2 - 3 z + 2 of a number that is 1, 2 and once 3);
                 values that are all the same but for a few, unless the same is 0; numbers of two values that are
                 neither 0 nor 1; two features that are alike, or miss the same rows, but for a few; what is not exact,
                 as who knows all rows but one of a batch computes that one from any sum; and two files of one site,
                 from before and after a few rows came, whose difference is these rows

Send one file, once. A file is neither signed nor encrypted: damage is found, and so are moments that no rows have the
shape of, but not a file that somebody made up with care.
"""

from __future__ import annotations

import os
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from ...atomic import PathLike
from ...core.design import codes_of, repr_label
from ...core.statistics import BatchStatistics
from ...correctors.notices import warn
from ...exceptions import BatchfixError, MergeError, MissingFeatureWarning
from ..storage.archive import ArchiveError
from .disclosure import Findings, find, in_words
from .moments_file import CORRECTORS, read_moments, write_moments
from .withholding import without

SAME = 1e-12
"""Means and squares that differ by so little are of the same values, added in another order."""


class DisclosureError(BatchfixError):
    """What was to leave a site would tell of single rows."""


def save_moments(
    corrector: Any,
    path: PathLike,
    *,
    min_cell: int = 5,
    min_missing: int | None = None,
    min_nonzero: int | None = None,
    small: str = "error",
) -> None:
    """Write what other sites need of a site's rows to one file: counts, means and centred sums, never a row.

    A site need not be able to solve by itself: it may have one batch only, and nothing is finalised. Equal moments give
    equal bytes.

    Parameters
    ----------
    corrector : BatchCorrector, ComBat, LinearCorrector or CompositionalCorrector
        After `fit` or `partial_fit` on the site's rows. Batches and levels may be at this site only.
    path : file; any name will do, such as "north.moments"
    min_cell : int, default 5
        Least rows of a batch, of a level and of two levels in it; least observed values of a feature in each of these.
        A number of two values, one of them 0 or 1, is two levels (others may look so by chance: give codes as text).
        Beside kept numbers a level needs a row more for each. 1 asks for all that there is, commonest values of
        features (`scale_guard` without `scale_where`) included.
    min_missing : int, optional
        Where something is kept: least missing values of a feature in each, as what is kept of the rows that miss it
        follows by subtraction (of a single one, its age). By default `min_cell`; 1 allows any number.
    min_nonzero : int, optional
        Least values other than 0 of a feature or a kept number, in a batch, in its levels and beside other numbers, if
        that is less than a quarter of them: zeros add nothing to a sum, and it is that of the others. An estimate from
        the sums, which hold no count of zeros; values of one sign that spread much look like it. By default `min_cell`;
        1 where 0 is a value like others. It is taken so in the log-ratios of `CompositionalCorrector`, in features and
        numbers that have both signs for certain in some batch, and in all if a third as many as look sparse have, as in
        tables of z-scores.
    small : {"error", "drop"}, default "error"
        Refuse what is smaller; or leave it at home, with a warning: batches as if their rows were not there, and
        features in a batch as if they were missing there. Batches left out can be adapted to after the merge.

    Raises
    ------
    DisclosureError
        Something is of fewer rows, or single values are in it.
    MergeError
        The statistics do not add up: medians, zeros learned from the rows, a corrector that was adapted.
    ArchiveError
        Not one of these correctors (derived classes are not), or a place that cannot be written.
    NotFittedError

    Examples
    --------
    >>> import numpy as np, pathlib, tempfile
    >>> from batchfix import LinearCorrector
    >>> home, X = pathlib.Path(tempfile.mkdtemp()), np.arange(10.0)[:, None]
    >>> save_moments(LinearCorrector().partial_fit(X, batch="north"), home / "north.moments")
    >>> save_moments(LinearCorrector().partial_fit(X + 4, batch="south"), home / "south.moments")
    >>> both = load_moments(home / "north.moments", home / "south.moments")
    >>> both.transform([[4.5]], batch=["south"]).tolist()
    [[2.5]]
    """
    least_missing = min_cell if min_missing is None else min_missing
    least_nonzero = min_cell if min_nonzero is None else min_nonzero
    least = {"min_cell": min_cell, "min_missing": least_missing, "min_nonzero": least_nonzero}
    for name, value in least.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
            raise BatchfixError(f"{name} must be a whole number of at least 1, got {value!r}. Usual is 5.")
    if small not in ("error", "drop"):
        raise BatchfixError(f"small must be 'error' or 'drop', got {small!r}.")
    inner = _inner(corrector)
    statistics: BatchStatistics = inner.statistics_
    if statistics.ties is not None and min_cell > 1:
        raise DisclosureError(
            f"Nothing that leaves a site may be a single value, and scale_guard={inner.scale_guard!r} keeps each "
            "feature's commonest values. Say with scale_where= in fit or partial_fit where features are present, at "
            "every site; or set min_cell=1 to send them."
        )
    found = find(statistics, *least.values(), zero_is_usual=inner is not corrector)
    few, gaps = (in_words(sets, statistics.batches, inner._feature) for sets in (found.few, found.gaps))
    if gaps or (few and small == "error"):
        raise DisclosureError(_refusal(few if small == "error" else "", gaps, found, least))
    if few:
        if found.batches.all():
            raise DisclosureError(f"Something must be left to send, and all batches are too small ({few}).")
        statistics = without(statistics, found.batches, found.cells)
        warn(f"Left out of {str(path)!r}, as it is of too few rows: {few}.", MissingFeatureWarning)
    write_moments(corrector, statistics, path, {name: int(value) for name, value in least.items()})


def load_moments(path: PathLike, *others: PathLike) -> Any:
    """Read files of moments, in any order: a corrector that is fitted as if to the rows of all sites.

    One file gives a corrector too, which merges, learns and (where it can be solved alone) transforms.

    Parameters
    ----------
    path, *others : files that `save_moments` wrote

    Returns
    -------
    corrector

    Raises
    ------
    ArchiveError
        No such file, a damaged one, one of another kind or of a later format, or one that was made to mislead.
    MergeError
        Correctors, parameters, features or their order differ, or two files hold the same rows of a batch.
    """
    if not all(isinstance(each, str | os.PathLike) for each in (path, *others)):
        raise ArchiveError(f"Files must be given one by one, got {path!r}. Write load_moments(*paths).")
    merged = read_moments(path)
    seen = [(path, _statistics(merged))]
    for other in others:
        more = read_moments(other)
        for earlier, statistics in seen:
            twice = _in_both(statistics, _statistics(more))
            if len(twice):
                raise MergeError(
                    f"Moments must be added once, and {str(other)!r} holds the same rows of batch "
                    f"{repr_label(twice[0])} as {str(earlier)!r}. Leave one out."
                )
        seen.append((other, _statistics(more)))
        try:
            merged = merged.merge(more)
        except BatchfixError as error:
            raise MergeError(f"{str(other)!r} cannot be added to {str(path)!r}. {error}") from error
    return merged


def _inner(corrector: Any) -> Any:
    """The corrector that has the moments: itself, or that of the log-ratios."""
    if type(corrector) not in CORRECTORS.values():
        raise ArchiveError(
            f"Moments by batch must be of one of {', '.join(CORRECTORS)}, got {type(corrector).__module__}."
            f"{type(corrector).__qualname__}. Others either learn nothing of a row from other rows, and need no "
            "exchange, or depend on the order of rows."
        )
    check_is_fitted(corrector)
    inner = getattr(corrector, "corrector_", corrector)
    if type(inner) not in CORRECTORS.values():
        raise ArchiveError(
            f"Moments by batch must be of one of {', '.join(CORRECTORS)}, got {type(inner).__name__} inside "
            f"{type(corrector).__name__}, which depends on the order of rows."
        )
    for each in (corrector, inner):
        try:
            getattr(each, "_check_adds", lambda: None)()
        except MergeError as error:
            raise MergeError(f"What sites exchange must add up. {error}") from error
    inner._refuse_adapted("save_moments")
    return inner


def _refusal(few: str, gaps: str, found: Findings, least: dict[str, int]) -> str:
    """Why these are not sent, and what to do."""
    text = []
    if few:
        text.append(
            f"Sums that leave a site must be over {least['min_cell']} rows or more (min_cell), got {few}. Merge small "
            "batches or levels and fit again; leave what is small at home with small='drop' (and adapt() to its "
            "batches after the merge); or set min_cell=1, if it is no secret."
        )
    if gaps:
        text.append(
            f"Rows in which a feature is missing must be {least['min_missing']} or more (min_missing), as what is kept "
            f"of them follows by subtraction; got {gaps}. Set min_missing=1, if what is kept is no secret; else leave "
            "out these rows or features, or keep less."
        )
    if (few and any(each.estimated for each in found.few)) or any(each.estimated for each in found.gaps):
        text.append(
            "How many values are other than 0 is estimated from the sums; where 0 is a value like others (z-scores, "
            "logarithms of ratios), set min_nonzero=1."
        )
    return " ".join(text)


def _statistics(corrector: Any) -> BatchStatistics:
    statistics: BatchStatistics = getattr(corrector, "corrector_", corrector).statistics_
    return statistics


def _in_both(one: BatchStatistics, other: BatchStatistics) -> np.ndarray:
    """Labels of batches of which both have the same rows: the same counts, and means and squares to rounding."""
    labels, a, b = _common(one.batches, other.batches)
    x, y = one.moments.x, other.moments.x
    if x.n.shape[1] != y.n.shape[1] or not len(labels):
        return labels[:0]
    spread = np.sqrt(x.m2[a] / np.maximum(x.n[a], 1))
    same = x.n[a] == y.n[b]
    same &= np.abs(x.mean[a] - y.mean[b]) <= SAME * (np.abs(x.mean[a]) + spread)
    same &= np.abs(x.m2[a] - y.m2[b]) <= SAME * (x.m2[a] + x.n[a] * x.mean[a] * x.mean[a])
    same_batch = same.all(axis=1) & x.m2[a].any(axis=1) & (one.moments.rows[a] == other.moments.rows[b])
    return np.asarray(labels[same_batch])


def _common(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels that both have, and their places in each."""
    places = codes_of(one, other)
    at = np.flatnonzero(places >= 0)
    return one[at], at, places[at]
