"""Windows: which rows of the past measure a row, how a short window is bridged to a long one, and what is kept.

Numbers of rows flow in; the state before the first row flows out, and `core.causal` moves it on. With a bridge, a short
window's z is moved toward the long one's (Ioffe 2017, "Batch Renormalization", equation 1):

    z = r (x - center_short) / scale_short + d,           r = scale_short / scale_long,
                                                          d = (center_short - center_long) / scale_long

with r and d clipped, or blended with 1 and 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from ..exceptions import BatchfixError
from .affine import Affine, Frame
from .expanding import Expanding
from .exponential import Exponential
from .past import Ask, History, Past
from .rolling import Rolling


@dataclass(frozen=True)
class Bridge:
    """How the short window's values are moved toward the long window's frame.

    Attributes
    ----------
    r_max, d_max : float
        Limits of r, in [1 / r_max, r_max], and of d. 1 and 0: the short window alone; inf: the long one alone.
    t : float or None
        Instead of limits: 0 the short window alone, 1 the long one alone, linear in r and d between them.
    """

    r_max: float = 3.0
    d_max: float = 5.0
    t: float | None = None

    @property
    def whole(self) -> bool:
        """Whether it leads all the way to the long window, whatever the short one says."""
        return self.t == 1.0 if self.t is not None else np.isinf(self.r_max) and np.isinf(self.d_max)

    def apply(self, z: np.ndarray, short: History, long: History) -> np.ndarray:
        """Values in the short window's frame -> values in the bridged frame."""
        whole = Affine.bridge(Frame(short.center, short.scale), Frame(long.center, long.scale), check=False)
        if self.t is not None:
            return np.asarray(Affine.identity().blend(whole, self.t).apply(z))
        return np.asarray(whole.clip(self.r_max, self.d_max).apply(z))


@dataclass(frozen=True)
class Window:
    """Which rows measure row t, and by what.

    Attributes
    ----------
    length, halflife : int or None, float or None
        A rolling window's rows, or an exponential window's half-life in rows; neither: every row so far.
    lag : int
        Row t is measured by rows up to t - lag.
    min_periods : int
        Observed values without which a window says nothing.
    center, scale : {"mean", "median"} or None, {"std", "mad"} or None
        Median and MAD in rolling windows only.
    ddof : float
        As in `Ask`.
    bridge : Bridge or None
    short : Window or None
        The short window of the bridge; of it only length and halflife are used.
    """

    length: int | None = None
    halflife: float | None = None
    lag: int = 1
    min_periods: int = 2
    center: str | None = "mean"
    scale: str | None = "std"
    ddof: float = 1.0
    bridge: Bridge | None = None
    short: Window | None = None

    def past(self, p: int) -> Past:
        """The past of no row."""
        if self.length is not None:
            return Rolling.empty(p, self.length)
        if self.halflife is not None:
            return Exponential.empty(p, self.halflife)
        return Expanding.empty(p)

    def start(self, p: int) -> State:
        """State before the first row of p columns."""
        windows = [self] if self.short is None else [self, self.short]
        return State(tuple(w.past(p) for w in windows), np.full((self.lag, p), np.nan))

    def refuse_other(self, state: State, p: int) -> None:
        """A state goes on only as it began: over p columns, with these windows and this lag.

        Raises
        ------
        BatchfixError
            It is another window's.
        """
        want = self.start(p)
        if state.said == want.said and all(
            past.like(other) for past, other in zip(state.pasts, want.pasts, strict=True)
        ):
            return
        raise BatchfixError(
            f"A state must go on as it began, got {state.said} for {want.said}. Start anew with window.start({p})."
        )

    @property
    def lengths(self) -> list[int]:
        """Rows of the rolling windows among the window and its short one."""
        return [w.length for w in (self, self.short) if w is not None and w.length is not None]

    @property
    def longest(self) -> int:
        """Rows of the longest rolling window; 0 without one."""
        return max(self.lengths, default=0)

    @property
    def least(self) -> float:
        """Observed values that a window must hold: min_periods, and enough for a standard deviation."""
        return max(self.min_periods, np.floor(self.ddof) + 1 if self.scale == "std" else 1)

    def ask(self, dtype: np.dtype) -> Ask:
        """What the pasts are asked for, of rows that came in a dtype."""
        return Ask(self.center or "mean", self.scale, self.ddof, float(np.finfo(dtype).eps))


@dataclass(frozen=True, eq=False)
class State:
    """What the past leaves: moments that add up, and the rows that have not entered them yet.

    Attributes
    ----------
    pasts : tuple of Past
        Of the window, and of the short window of a bridge.
    pending : array (lag, p)
        The last rows, which enter the windows of the rows to come; NaN before the first.
    """

    pasts: tuple[Past, ...]
    pending: np.ndarray

    @property
    def said(self) -> str:
        """What it is of, in words."""
        kinds = " and ".join(type(past).__name__ for past in self.pasts)
        return f"{kinds} of {self.p} column(s), lag {len(self.pending)}"

    @property
    def p(self) -> int:
        """Number of columns."""
        return int(self.pending.shape[1])

    def columns(self, span: slice) -> Self:
        """The state of some columns."""
        return type(self)(tuple(past.columns(span) for past in self.pasts), self.pending[:, span])

    def beside(self, others: list[Self]) -> Self:
        """Lay the columns of states that have seen as many rows side by side."""
        if not others:
            return self
        pasts = tuple(past.beside([o.pasts[k] for o in others]) for k, past in enumerate(self.pasts))
        return type(self)(pasts, np.concatenate([self.pending, *(o.pending for o in others)], axis=1))
