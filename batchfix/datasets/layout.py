"""Which sample lies in which batch and which group, and what samples, features and batches are called."""

from __future__ import annotations

import numpy as np
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
    """Cases in each batch: running totals are rounded, so that no rounding error adds up."""
    signs = np.where(np.arange(len(sizes)) % 2 == 0, 1.0, -1.0)
    wanted = np.cumsum(np.asarray(sizes) * (1.0 + signs * confounding) / 2.0)
    # 9 decimals: the sum's own rounding error must not move a half.
    totals = np.floor(np.round(wanted, 9) + 0.5).astype(int)
    return [int(k) for k in np.diff(totals, prepend=0)]


def names(prefix: str, n: int) -> list[str]:
    """Names that sort as their numbers do."""
    width = len(str(n))
    return [f"{prefix}{i:0{width}d}" for i in range(1, n + 1)]
