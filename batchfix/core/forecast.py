"""Forecast: what a correction will cost, from labels alone.

Statistics of the design go in (no feature is looked at); for each contrast c of what is kept, its share with what is
removed (batch, and nuisance if there is any) comes out, and what follows from it. With T the cross products of the
kept design columns about their mean, and W those of what is removed taken out of them,

    v0 = c' T^- c        variance of the contrast, in units of the noise variance, if nothing had to be removed
    v1 = c' W^- c        the same once batch and nuisance are in the model
    rho2 = 1 - v0 / v1   R2 on what is removed of the contrast's own regressor, given the other kept columns

1/(1 - rho2) is the variance inflation factor of the contrast. A correction that does not keep it leaves 1 - rho2 of
its effect; one that keeps it estimates it with 1/sqrt(1 - rho2) times the noise, which a test on the corrected table
does not know of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import fdtri, stdtr, stdtrit

from .least_squares import RANK_TOLERANCE, spectrum, total_products, unit_of
from .statistics import BatchStatistics

ALPHA = 0.05
"""Level of the tests whose false positives are forecast."""


@dataclass(frozen=True)
class Sharing:
    """What the kept design columns share with what is removed.

    Attributes
    ----------
    total, within : array (k, k)
        Cross products of the kept columns, each in units of its own spread: over all rows, and once batch (and
        nuisance) are taken out.
    unit : array (k,)
        1 / spread of each column.
    naive_df : int
        Residual degrees of freedom of a regression on the kept columns alone, n - 1 - rank: what a test on the
        corrected table believes it has.
    residual_df : int
        Those that are left once what is removed is in the model too.
    """

    total: np.ndarray
    within: np.ndarray
    unit: np.ndarray
    naive_df: int
    residual_df: int

    @classmethod
    def of(cls, statistics: BatchStatistics, *, nuisance: bool = True) -> Sharing:
        """Reduce the statistics of a design; without `nuisance`, only the batch factors are removed."""
        moments = statistics.moments
        roles = np.array([column.role for column in statistics.columns for _ in range(column.width)])
        kept = roles == "keep"
        whole = total_products(moments)
        unit = unit_of(whole)
        scale = unit[:, None] * unit
        whole, inside = whole * scale, moments.row_zz.sum(axis=0) * scale
        gone = ~kept if nuisance else roles == "batch"
        total = whole[np.ix_(kept, kept)]
        within = _beyond(inside, kept, gone)
        n = int(moments.rows.sum())
        used = kept | gone
        rank = int(_spectrum(inside[np.ix_(used, used)])[2].sum())
        naive = n - 1 - int(_spectrum(total)[2].sum())
        return cls(total, within, unit[kept], naive, n - len(moments.rows) - rank)

    def variances(self, contrasts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Variance of each contrast (m, k) of the coefficients, nothing removed and all removed; inf: no estimate."""
        scaled = contrasts * self.unit
        return _variance(self.total, scaled), _variance(self.within, scaled)

    def canonical(self, columns: slice | None = None) -> np.ndarray:
        """Squared canonical correlations of some kept columns with what is removed, given the other kept ones.

        Largest first, one for each independent direction; of all kept columns by default. The first is the rho2 of
        the worst contrast there is (Hotelling 1936, "Relations between two sets of variates").
        """
        some = np.zeros(len(self.total), dtype=bool)
        some[columns or slice(None)] = True
        total, within = _beyond(self.total, some, ~some), _beyond(self.within, some, ~some)
        values, vectors, counts = _spectrum(total)
        root = vectors[:, counts] / np.sqrt(values[counts])
        left = np.linalg.eigvalsh(root.T @ within @ root)
        return np.asarray(np.where(left > RANK_TOLERANCE, 1.0 - np.clip(left, 0.0, 1.0), 1.0))


def share_of(nothing_removed: np.ndarray, all_removed: np.ndarray) -> np.ndarray:
    """Rho2 from both variances; 1 where what is removed leaves no estimate, NaN where there was none anyway."""
    with np.errstate(invalid="ignore"):
        share = 1.0 - nothing_removed / all_removed
    return np.asarray(np.where(np.isinf(nothing_removed), np.nan, np.clip(share, 0.0, 1.0)))


def surviving_share(rho2: np.ndarray) -> np.ndarray:
    """Share of a contrast's true effect that is left after a correction that does not keep it: 1 - rho2.

    Examples
    --------
    >>> import numpy as np
    >>> surviving_share(np.array([0.0, 0.36, 1.0]))
    array([1.  , 0.64, 0.  ])
    """
    return 1.0 - np.asarray(rho2, dtype=np.float64)


def noise_inflation(rho2: np.ndarray) -> np.ndarray:
    """Standard error of a contrast that is kept, over that without batches: 1/sqrt(1 - rho2).

    Examples
    --------
    >>> import numpy as np
    >>> noise_inflation(np.array([0.0, 0.36, 1.0]))
    array([1.  , 1.25,  inf])
    """
    with np.errstate(divide="ignore"):
        return np.asarray(1.0 / np.sqrt(surviving_share(rho2)))


def false_positive_rate(
    rho2: np.ndarray, naive_df: int, residual_df: int, *, alpha: float = ALPHA, kept: bool = True
) -> np.ndarray:
    """How often a t-test on the corrected table finds a contrast that is not there.

    Kept, the estimate has variance v1 and residual_df degrees of freedom behind its noise; the test takes it to have
    v0 and naive_df:

        P(|t_residual| > t_{1 - alpha/2, naive} sqrt(residual_df (1 - rho2) / naive_df))

    For one kept column naive_df = n - 2 and residual_df = n - B - 1. Exact for a location-only correction of complete
    data with independent normal noise of one variance, and a regression on all kept columns; for any number of them.
    An approximation for corrections that scale or shrink (ComBat). Not kept, the test misses instead: with T = t^2
    the test says yes where T (naive_df (1 - rho2) - q rho2) > residual_df q, q the squared quantile, if ever.

    Parameters
    ----------
    rho2 : array
    naive_df, residual_df : int
        See `Sharing`.
    alpha : float
        Level that the test is run at.
    kept : bool
        Whether the correction keeps the contrast.

    Returns
    -------
    array
        Rates; NaN where no degree of freedom is left.

    References
    ----------
    Nygaard, Rodland and Hovig 2016, Biostatistics 17, 29-39: the effect, and why batch belongs in the model instead.

    Examples
    --------
    >>> import numpy as np
    >>> false_positive_rate(np.array([0.11]), naive_df=28, residual_df=19).round(3)  # n=30, B=10
    array([0.128])
    """
    rho2 = np.asarray(rho2, dtype=np.float64)
    if residual_df < 1:
        return np.full(rho2.shape, np.nan)
    quantile = -stdtrit(naive_df, alpha / 2)
    if kept:
        bound = quantile * np.sqrt(residual_df * (1.0 - rho2) / naive_df)
    else:
        room = naive_df * (1.0 - rho2) - quantile**2 * rho2
        bound = np.where(room > 0, quantile * np.sqrt(residual_df / np.where(room > 0, room, 1.0)), np.inf)
    return np.asarray(2.0 * stdtr(residual_df, -bound))


def joint_false_positive_rate(rho2: np.ndarray, naive_df: int, residual_df: int, *, alpha: float = ALPHA) -> float:
    """How often an F-test of a whole column on the corrected table finds differences that are not there.

    With the column's k canonical rho2_j the F statistic is sum_j chi2_j / (1 - rho2_j) over chi2_residual, up to
    known factors, and the rate P(sum_j chi2_j / (1 - rho2_j) > k F / naive_df chi2_residual), F the quantile of
    (k, naive_df). Exact where `false_positive_rate` is, which it equals for k = 1.

    References
    ----------
    Imhof 1961, "Computing the distribution of quadratic forms in normal variables", Biometrika 48, eq. 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> round(joint_false_positive_rate(np.array([0.11]), naive_df=28, residual_df=19), 3)
    0.128
    """
    from scipy.integrate import quad  # here: importing it takes long

    rho2 = np.asarray(rho2, dtype=np.float64)
    k = len(rho2)
    if residual_df < 1 or k == 0 or np.isnan(rho2).any() or (rho2 >= 1).any():
        return float("nan")
    critical = k * fdtri(k, naive_df, 1.0 - alpha) / naive_df
    weights = np.append(1.0 / (1.0 - rho2) / critical, -1.0)  # P(weights @ chi2 > 0), the last with residual_df
    freedom = np.append(np.ones(k), residual_df)

    def integrand(u: float) -> float:
        turn = weights * u
        angle = 0.5 * freedom @ np.arctan(turn)
        size = 0.25 * freedom @ np.log1p(turn * turn)
        return float(np.sin(angle) * np.exp(-size) / u)

    # substituting u = s/(1 - s) keeps the whole half-line in reach, whatever the scale of the weights
    unit = 1.0 / np.sqrt(freedom @ weights**2)
    area, _ = quad(
        lambda s: integrand(unit * s / (1.0 - s)) * unit / (1.0 - s) ** 2, 0.0, 1.0, limit=400, epsabs=1e-9, epsrel=1e-9
    )
    return float(np.clip(0.5 + area / np.pi, 0.0, 1.0))


@dataclass(frozen=True)
class ForecastCurve:
    """What each rho2 would cost in a design of these degrees of freedom, as arrays of one length.

    Attributes
    ----------
    rho2, surviving, noise, false_positives : array (m,)
        See `surviving_share`, `noise_inflation`, `false_positive_rate`.
    """

    rho2: np.ndarray
    surviving: np.ndarray
    noise: np.ndarray
    false_positives: np.ndarray

    @classmethod
    def of(
        cls, naive_df: int, residual_df: int, *, alpha: float = ALPHA, rho2: np.ndarray | None = None
    ) -> ForecastCurve:
        """Costs at `rho2`, by default 0, .01, ... .99.

        Examples
        --------
        >>> curve = ForecastCurve.of(naive_df=58, residual_df=57, rho2=[0.0, 0.36, 0.64])
        >>> curve.false_positives.round(3).tolist()
        [0.052, 0.118, 0.239]
        """
        at = np.arange(100) / 100 if rho2 is None else np.asarray(rho2, dtype=np.float64)
        rates = false_positive_rate(at, naive_df, residual_df, alpha=alpha)
        return cls(at, surviving_share(at), noise_inflation(at), rates)


def _spectrum(products: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Eigenvalues and vectors of products that are in units of spread already, and which count."""
    return spectrum(products, np.ones(len(products)))


def _beyond(products: np.ndarray, some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Cross products of some columns once others are taken out of them: A - B D^- B'."""
    own = products[np.ix_(some, some)]
    if not others.any():
        return np.asarray(own)
    values, vectors, counts = _spectrum(products[np.ix_(others, others)])
    basis = vectors[:, counts] / np.sqrt(values[counts])
    shared = products[np.ix_(some, others)] @ basis
    return np.asarray(own - shared @ shared.T)


def _variance(products: np.ndarray, contrasts: np.ndarray) -> np.ndarray:
    """c' A^- c for each row c; inf where c leaves the row space of A."""
    values, vectors, counts = _spectrum(products)
    along = contrasts @ vectors
    squares = along * along
    variance = squares[:, counts] @ (1.0 / values[counts])
    lost = squares[:, ~counts].sum(axis=1) > RANK_TOLERANCE * squares.sum(axis=1)
    return np.asarray(np.where(lost, np.inf, variance))
