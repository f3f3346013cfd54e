"""Parameters of the causal pass: each in its range, and all of them together a window.

What the user wrote flows in; a `core.windows.Window` flows out, or the sentence that says why there is none.
"""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, InvalidParameterError, StrOptions

from ..core.windows import Bridge, Window
from ..exceptions import BatchfixError

SHORTEST = 1e-3
"""Half-lives in rows: the weight of the row before, 0.5 ** (1 / halflife), must not underflow to 0."""


class CausalParameters(BaseEstimator):
    """The parameters of `CausalCorrector`, and the window they ask for."""

    window: str
    center: str | None
    scale: str | None
    length: int | None
    halflife: float | None
    lag: int
    min_periods: int
    ddof: float
    bridge: str | None
    short: float | None
    r_max: float
    d_max: float
    blend: float

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "window": [StrOptions({"expanding", "rolling", "ewm"})],
        "center": [StrOptions({"mean", "median"}), None],
        "scale": [StrOptions({"std", "mad"}), None],
        "length": [Interval(Integral, 1, None, closed="left"), None],
        "halflife": [Interval(Real, SHORTEST, None, closed="left"), None],
        "lag": [Interval(Integral, 0, None, closed="left")],
        "min_periods": [Interval(Integral, 1, None, closed="left")],
        "ddof": [Interval(Real, 0, None, closed="left")],
        "time": [str, Integral, None],
        "by": [str, Integral, None],
        "bridge": [StrOptions({"clip", "blend", "ewm"}), None],
        "short": [Interval(Real, 0, None, closed="neither"), None],
        "r_max": [Interval(Real, 1, None, closed="both")],
        "d_max": [Interval(Real, 0, None, closed="both")],
        "blend": [Interval(Real, 0, 1, closed="both")],
        "copy": ["boolean"],
    }

    def _window(self) -> Window:
        """The window that the parameters ask for.

        Raises
        ------
        BatchfixError
            They do not go together.
        """
        try:
            self._validate_params()
        except InvalidParameterError as error:
            raise BatchfixError(str(error)) from error
        for name in ("length", "lag", "min_periods", "halflife", "ddof", "short"):
            if isinstance(getattr(self, name), bool):
                raise BatchfixError(f"{name} must be a number; got {getattr(self, name)!r}.")
        if self.ddof > 1 and (self.window == "ewm" or self.bridge == "ewm"):
            raise BatchfixError(
                f"ddof must be at most 1 where weights are exponential, or young variances are negative; got "
                f"ddof={self.ddof!r}. Use 1 (without bias) or 0."
            )
        for name, kind in (("length", "rolling"), ("halflife", "ewm")):
            value = getattr(self, name)
            if (value is not None) != (self.window == kind):
                raise BatchfixError(
                    f"{name} must be given with window={kind!r} and only there; got {name}={value!r}, "
                    f"window={self.window!r}."
                )
        if (self.center == "median" or self.scale == "mad") and self.window != "rolling":
            raise BatchfixError(
                "A median or MAD needs every value of its window, and the state holds them only if window='rolling'; "
                f"got center={self.center!r}, scale={self.scale!r}, window={self.window!r}."
            )
        if self.center is None and self.scale is None:
            raise BatchfixError("center or scale must be given; got None for both, which would change nothing.")
        window = Window(
            length=self.length,
            halflife=self.halflife,
            lag=self.lag,
            min_periods=self.min_periods,
            center=self.center,
            scale=self.scale,
            ddof=self.ddof,
            bridge=self._bridge(),
            short=self._short(),
        )
        shortest = min(window.lengths, default=None)
        if shortest is not None and window.least > shortest:
            raise BatchfixError(
                f"A window must be able to hold min_periods values, and more than ddof; got min_periods="
                f"{self.min_periods!r}, ddof={self.ddof!r} and a window of {shortest} row(s). Make it longer."
            )
        return window

    def _bridge(self) -> Bridge | None:
        if (self.bridge is None) != (self.short is None):
            raise BatchfixError(
                f"A bridge must have a short window, and a short window a bridge; got bridge={self.bridge!r}, "
                f"short={self.short!r}."
            )
        if self.bridge is None:
            return None
        if self.center is None or self.scale is None:
            raise BatchfixError(
                f"A bridge joins two frames, each a center and a scale; got center={self.center!r}, "
                f"scale={self.scale!r}."
            )
        return Bridge(self.r_max, self.d_max, self.blend if self.bridge == "blend" else None)

    def _short(self) -> Window | None:
        if self.bridge is None or self.short is None:
            return None
        if self.bridge == "ewm" and (self.center == "median" or self.scale == "mad"):
            raise BatchfixError("An exponential short window has no median or MAD. Use bridge='clip'.")
        long = self.halflife if self.bridge == "ewm" else self.length
        if long is not None and self.short >= long:
            raise BatchfixError(f"short must be shorter than the window; got short={self.short!r}, window {long!r}.")
        if self.bridge == "ewm":
            if self.short < SHORTEST:
                raise BatchfixError(f"A half-life must be at least {SHORTEST:g} rows; got short={self.short!r}.")
            return Window(halflife=float(self.short))
        if self.short != int(self.short):
            raise BatchfixError(f"short must be a whole number of rows; got {self.short!r}. A half-life: bridge='ewm'.")
        return Window(length=int(self.short))
