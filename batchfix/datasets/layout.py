"""Who lies in which batch, group or sector, how many each of them holds, and what they are called."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..exceptions import BatchfixError


def batch_sizes(n_samples: int, n_batches: int, n_singletons: int = 0) -> list[int]:
    """Samples in each batch: as equal as integers allow and two or more, the singletons last."""
    if n_singletons > n_batches:
        raise BatchfixError(f"n_singletons must be at most n_batches = {n_batches!r}, got {n_singletons!r}.")
    n_full = n_batches - n_singletons
    rest = n_samples - n_singletons
    if rest < 2 * n_full or (n_full == 0 and rest > 0):
        needed = "exactly" if n_full == 0 else "at least"
        of_one, or_change = (f" and {n_singletons} of one", ", n_batches or n_singletons")
        if n_singletons == 0:
            of_one, or_change = "", " or n_batches"
        raise BatchfixError(
            f"n_samples must be {needed} {2 * n_full + n_singletons} to fill {n_full} batches of two or "
            f"more{of_one}, got {n_samples!r}. Change n_samples{or_change}."
        )
    return [rest // n_full + (b < rest % n_full) for b in range(n_full)] + [1] * n_singletons


def assign(
    rng: np.random.Generator, sizes: list[int], confounding: float
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Each sample's batch, as a code, and whether it is a case; samples in random order."""
    if confounding > 0 and len(sizes) == 1:
        raise BatchfixError(
            f"confounding must be 0 with a single batch, got {confounding!r}: pass n_batches=2 or more."
        )
    cases = _case_counts(sizes, confounding)
    codes = np.repeat(np.arange(len(sizes)), sizes)
    is_case = np.concatenate([np.arange(n) < k for n, k in zip(sizes, cases, strict=True)])
    order = rng.permutation(len(codes))
    return codes[order], is_case[order]


def _case_counts(sizes: list[int], confounding: float) -> list[int]:
    """Cases in each batch."""
    signs = np.where(np.arange(len(sizes)) % 2 == 0, 1.0, -1.0)
    return whole_parts(np.asarray(sizes) * (1.0 + signs * confounding) / 2.0)


def whole_parts(shares: NDArray[np.float64]) -> list[int]:
    """Whole numbers near the shares, none off by one or more: running totals are rounded, so no error adds up."""
    # 9 decimals: the sum's own rounding error must not move a half.
    totals = np.floor(np.round(np.cumsum(shares), 9) + 0.5).astype(int)
    return [int(k) for k in np.diff(totals, prepend=0)]


def unequal_sizes(n: int, n_groups: int, inequality: float) -> list[int]:
    """Sizes of groups that `n` members fill: one each, and the rest by ``rank ** -inequality``."""
    weights = np.arange(1.0, n_groups + 1) ** -inequality
    return [1 + extra for extra in whole_parts((n - n_groups) * weights / weights.sum())]


def check_groups(n_stocks: int, n_sectors: int, n_industries: int, n_singletons: int) -> None:
    """Whether that many stocks can fill that many sectors and industries."""
    if n_singletons >= n_sectors:
        raise BatchfixError(f"n_singletons must be below n_sectors = {n_sectors!r}, got {n_singletons!r}.")
    n_full = n_sectors - n_singletons
    if n_stocks < 2 * n_full + n_singletons:
        raise BatchfixError(
            f"n_stocks must be at least {2 * n_full + n_singletons} to fill {n_full} sectors of two or more and "
            f"{n_singletons} of one, got {n_stocks!r}. Change n_stocks or n_sectors."
        )
    if not n_sectors <= n_industries <= n_stocks:
        raise BatchfixError(
            f"n_industries must be between n_sectors = {n_sectors!r} and n_stocks = {n_stocks!r}, so that each sector "
            f"has one and each has a stock, got {n_industries!r}."
        )


def classify(
    rng: np.random.Generator, n_stocks: int, n_sectors: int, n_industries: int, inequality: float, n_singletons: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Sector of each industry, and industry of each stock, as codes; stocks in random order."""
    n_full = n_sectors - n_singletons
    larger = unequal_sizes(n_stocks - n_singletons - n_full, n_full, inequality)
    sizes = np.array([1 + size for size in larger] + [1] * n_singletons)
    # One industry each, the rest by the stocks beyond one: none gets more industries than stocks.
    spare = (n_industries - n_sectors) * (sizes - 1) / max(1, n_stocks - n_sectors)
    counts = 1 + np.array(whole_parts(spare))
    members = [n for size, k in zip(sizes, counts, strict=True) for n in unequal_sizes(int(size), int(k), inequality)]
    industry = np.repeat(np.arange(n_industries), members)
    return np.repeat(np.arange(n_sectors), counts), rng.permutation(industry)


def move(
    rng: np.random.Generator,
    start: NDArray[np.intp],
    may_move: NDArray[np.bool_],
    targets: NDArray[np.intp],
    n_dates: int,
    share: float,
) -> NDArray[np.intp]:
    """Industry of each stock on each date: a share of those that may move go to another of the targets, once."""
    order, (when, where) = rng.permutation(len(start)), rng.random((2, len(start)))
    movers = order[may_move[order]]
    movers = movers[: round(share * len(movers))]
    if len(movers) and len(targets) < 2:
        raise BatchfixError(
            f"moves must be 0 where a single industry has a sector of two stocks or more, got {share!r}: pass a "
            "larger n_industries."
        )
    industry = np.tile(start, (n_dates, 1))
    for stock in movers:
        others = targets[targets != start[stock]]
        industry[1 + int(when[stock] * (n_dates - 1)) :, stock] = others[int(where[stock] * len(others))]
    return industry


def labels(
    codes: NDArray[np.intp], n_batches: int, is_case: NDArray[np.bool_]
) -> tuple[pd.Index, pd.Series, pd.Series]:
    """Names of the batches, and each sample's batch and group by its name."""
    rows = pd.Index(names("s", len(codes)), name="sample")
    batches = pd.Index(names("b", n_batches), name="batch")
    batch = pd.Series(batches.to_numpy()[codes], rows, name="batch")
    return batches, batch, pd.Series(np.where(is_case, "case", "control"), rows, name="group")


def names(prefix: str, n: int) -> list[str]:
    """Names that sort as their numbers do."""
    width = len(str(n))
    return [f"{prefix}{i:0{width}d}" for i in range(1, n + 1)]
