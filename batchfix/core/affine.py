"""Affine maps between frames: the last step of every correction.

Locations and scales flow in (a `Frame` per group of cells); a map that can be applied, inverted, composed, clipped
and blended flows out. A map is kept in centred form,

    y = (x - center) * scale + shift  (+ sum_k z_k loading_k),

because r * x + d loses an offset of 1e8, and its digits, in d. Two normalizations of the same x are joined by

    z_target = r * z_source + d,   r = sigma_source / sigma_target,   d = (mu_source - mu_target) / sigma_target

(Ioffe 2017, "Batch Renormalization", equation 1). Written once for numpy, torch and the array API standard.
Parameters are floating arrays or Python numbers; the usual promotion decides the dtype, so float32 in is float32 out
when the parameters are float32 (or Python numbers) too.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Self

from batchfix.core.arrays import Array, array_namespace
from batchfix.exceptions import BatchfixError

NUMBERS = (int, float)
"""A tuple: a union is built anew at each call, and layers ask often."""


@dataclass(frozen=True, eq=False)
class Frame:
    """The frame in which a group of cells is standard: (x - location) / scale has location 0 and scale 1.

    Parameters
    ----------
    location, scale
        In the units of x; scale a standard deviation (never a variance), above 0. Of shape (p,), (groups, p),
        (channels, 1, 1), or anything else that broadcasts to x. NaN marks a frame that is not known.

    Examples
    --------
    >>> Frame(location=5.0, scale=2.0)
    Frame(location=5.0, scale=2.0)
    """

    location: Array
    scale: Array


@dataclass(frozen=True, eq=False)
class Affine:
    """An affine map, y = (x - center) * scale + shift (+ sum_k z_k loading_k).

    Parameters
    ----------
    center, scale, shift
        Arrays that broadcast to x, such as (p,), (groups, p) or (channels, 1, 1), or Python numbers. center has the
        units of x, shift those of y.
    loading
        Optional (..., q, p): what one unit of each of q kept columns z adds to y.

    Examples
    --------
    >>> import numpy as np
    >>> plate, pooled = Frame(np.array([10.0]), np.array([2.0])), Frame(np.array([0.0]), np.array([1.0]))
    >>> correct = Affine.move(plate, pooled)
    >>> correct.apply(np.array([[10.0], [14.0]])).tolist()
    [[0.0], [2.0]]
    >>> (correct.inverse() @ correct).apply(np.array([[14.0]])).tolist()
    [[14.0]]
    """

    center: Array
    scale: Array
    shift: Array
    loading: Array | None = None

    def __post_init__(self) -> None:
        if self.loading is not None and len(_shape(self.loading)) < 2:
            raise BatchfixError(
                f"loading must have shape (..., q, p), q kept columns by p features; got {_shape(self.loading)}. "
                "For one kept column give (1, p)."
            )

    # ---- making one

    @classmethod
    def identity(cls) -> Self:
        """The map that changes nothing.

        Examples
        --------
        >>> Affine.identity()
        Affine(center=0.0, scale=1.0, shift=0.0, loading=None)
        """
        return cls(0.0, 1.0, 0.0)

    @classmethod
    def standardize(cls, frame: Frame) -> Self:
        """x -> (x - location) / scale. BatchfixError where the scale is 0.

        Examples
        --------
        >>> Affine.standardize(Frame(10.0, 4.0)).apply(12.0)
        0.5
        """
        _refuse_zeros(frame.scale, "The scale of the frame to standardize by")
        return cls(frame.location, 1.0 / frame.scale, 0.0)

    @classmethod
    def bridge(cls, source: Frame, target: Frame, *, check: bool = True) -> Self:
        """z_source -> z_target = r z_source + d: from the standard values in one frame to those in another.

        It equals ``standardize(target) @ standardize(source).inverse()``, with center 0.

        Parameters
        ----------
        source, target
            The two frames, in the same units.
        check
            Refuse target scales of 0. False reads no values, as a layer on a GPU or under torch.compile needs
            (reading would synchronise); the scales must then be known to be above 0.

        Raises
        ------
        BatchfixError
            If a target scale is 0.

        Examples
        --------
        >>> bridge = Affine.bridge(Frame(3.0, 2.0), Frame(1.0, 4.0))
        >>> bridge.r, bridge.d
        (0.5, 0.5)
        """
        if check:
            _refuse_zeros(target.scale, "The scale of the target frame")
        return cls(0.0, source.scale / target.scale, (source.location - target.location) / target.scale)

    @classmethod
    def move(cls, source: Frame, target: Frame, *, coef: Array | None = None) -> Self:
        """x as seen in the source frame -> the same standing in the target frame, in the units of x.

            y = target.location + (x - source.location) * target.scale / source.scale

        It equals ``standardize(target).inverse() @ standardize(source)``. With kept columns z and their effects coef,
        each row's frame is centred at location + z coef, so the ratio stretches residuals and spares the effects:

            y = target.location + z coef + (x - source.location - z coef) * target.scale / source.scale

        Parameters
        ----------
        source, target
            The two frames, in the same units.
        coef
            Optional (..., q, p): the effect of each kept column, in units of x per unit of z. The features must be
            the last axis of the frames.

        Raises
        ------
        BatchfixError
            If a source scale is 0.

        Examples
        --------
        >>> import numpy as np
        >>> batch, pooled = Frame(np.array([7.0]), np.array([2.0])), Frame(np.array([5.0]), np.array([1.0]))
        >>> Affine.move(batch, pooled).apply(np.array([[11.0]])).tolist()
        [[7.0]]
        >>> kept = Affine.move(batch, pooled, coef=np.array([[4.0]]))
        >>> kept.apply(np.array([[11.0]]), np.array([[1.0]])).tolist()
        [[9.0]]
        """
        _refuse_zeros(source.scale, "The scale of the source frame")
        ratio = target.scale / source.scale
        loading = None if coef is None else coef * (1.0 - _by_feature(ratio))
        return cls(source.location, ratio, target.location, loading)

    # ---- reading it

    @property
    def r(self) -> Array:
        """The slope in y = r x + d."""
        return self.scale

    @property
    def d(self) -> Array:
        """The intercept in y = r x + d, without z; apply() does not use it, since it rounds when center is large."""
        if isinstance(self.center, NUMBERS) and self.center == 0:
            return self.shift
        return self.shift - self.center * self.scale

    def group(self, index: int) -> Self:
        """The map of one group, out of parameters whose first axis is the group: (groups, p) -> (p,).

        Parameters with fewer axes than the rest are shared by all groups and stay as they are.

        Raises
        ------
        BatchfixError
            If the map holds no such group.

        Examples
        --------
        >>> import numpy as np
        >>> both = Affine(np.array([[1.0, 2.0], [3.0, 4.0]]), 2.0, np.array([5.0, 6.0]))
        >>> both.group(1).center.tolist(), both.group(1).shift.tolist()
        ([3.0, 4.0], [5.0, 6.0])
        """
        shapes = [_shape(value) for value in (self.center, self.scale, self.shift)]
        if self.loading is not None:
            shapes.append(_without_q(self.loading))
        ndim = max(len(shape) for shape in shapes)
        groups = max((shape[0] for shape in shapes if shape and len(shape) == ndim), default=0)
        if not 0 <= index < groups:
            raise BatchfixError(f"The map holds {groups} groups, numbered from 0; got index {index!r}.")

        def pick(value: Array, axes: int) -> Array:
            shape = _shape(value)
            if len(shape) < axes:
                return value
            return value[index if shape[0] > 1 else 0, ...]

        return type(self)(
            pick(self.center, ndim),
            pick(self.scale, ndim),
            pick(self.shift, ndim),
            None if self.loading is None else pick(self.loading, ndim + 1),
        )

    # ---- using it

    def apply(self, x: Array, z: Array | None = None) -> Array:
        """y = (x - center) * scale + shift (+ sum_k z_k loading_k).

        Parameters
        ----------
        x
            Floating array; the parameters broadcast to its shape, and y has that shape. NaN stays where it is.
        z
            (..., q), the kept columns of the same rows; needed when the map has a loading, and ignored when not.

        Raises
        ------
        BatchfixError
            If z is needed and missing, or shapes do not fit.

        Examples
        --------
        >>> Affine(center=1e8, scale=0.5, shift=1.0).apply(100000002.0)
        2.0
        """
        shape = _shape(x)
        for name in ("center", "scale", "shift"):
            _refuse_misfit(name, _shape(getattr(self, name)), shape)
        y = (x - self.center) * self.scale + self.shift
        if self.loading is None:
            return y
        q = _shape(self.loading)[-2]
        if z is None:
            raise BatchfixError(
                f"This map depends on {q} kept column(s); got z=None. Give z, of shape (..., {q}), for the rows of x."
            )
        if _shape(z)[-1:] != (q,):
            raise BatchfixError(
                f"z must have one entry per kept column, shape (..., {q}); got shape {_shape(z)}. "
                "Give the columns the map was made with."
            )
        _refuse_misfit("loading", _without_q(self.loading), shape)
        _refuse_misfit("z", _shape(z)[:-1], shape[:-1])
        return y + _weighted_sum(z, self.loading) if q else y

    def inverse(self) -> Self:
        """y -> x. The inverse of (center, scale, shift) is (shift, 1 / scale, center): nothing is multiplied out.

        Raises
        ------
        BatchfixError
            If a scale is 0.

        Examples
        --------
        >>> Affine(center=1e8, scale=4.0, shift=0.0).inverse()
        Affine(center=0.0, scale=0.25, shift=100000000.0, loading=None)
        """
        _refuse_zeros(self.scale, "The scale of the map to invert")
        scale = 1.0 / self.scale
        return type(self)(self.shift, scale, self.center, _times(self.loading, -scale))

    def __matmul__(self, other: Affine) -> Self:
        """``(self @ other).apply(x, z)`` is ``self.apply(other.apply(x, z), z)``; both see the same z.

        Examples
        --------
        >>> (Affine(0.0, 2.0, 1.0) @ Affine(3.0, 5.0, 0.0)).apply(4.0)
        11.0
        """
        if not isinstance(other, Affine):
            return NotImplemented
        return type(self)(
            other.center,
            other.scale * self.scale,
            (other.shift - self.center) * self.scale + self.shift,
            _plus(_times(other.loading, self.scale), self.loading),
        )

    # ---- limiting it

    def clip(self, r_max: Array | float, d_max: Array | float) -> Self:
        """Limit a bridge: r to [1 / r_max, r_max], d to [-d_max, d_max].

        Parameters
        ----------
        r_max, d_max
            r_max at least 1, d_max at least 0 (in units of the target's scale). Numbers, or arrays of the map's
            library; the values of arrays are not checked.

        Raises
        ------
        BatchfixError
            If a limit is out of range, or the map has a loading.

        Examples
        --------
        >>> Affine.bridge(Frame(10.0, 8.0), Frame(0.0, 2.0)).clip(r_max=3.0, d_max=2.5)
        Affine(center=0.0, scale=3.0, shift=2.5, loading=None)
        """
        for name, limit, least in (("r_max", r_max, 1), ("d_max", d_max, 0)):
            if isinstance(limit, NUMBERS) and not limit >= least:
                raise BatchfixError(f"{name} must be at least {least}; got {limit!r}. {least} is the tightest limit.")
        if self.loading is not None:
            raise BatchfixError(
                "clip() limits r and d of a bridge; got a map with a loading, which has no one d. "
                "Clip the map before kept columns enter it."
            )
        return type(self)(0.0, _clip(self.r, 1.0 / r_max, r_max), _clip(self.d, -d_max, d_max))

    def blend(self, other: Affine, t: Array | float) -> Self:
        """(1 - t) self + t other, linear in r and d (and in the loading): self at t = 0, other at t = 1.

        It stays centred: with c the blended center, the shift is
        (1 - t) shift_0 + t shift_1 + t (1 - t) (center_1 - center_0) (scale_0 - scale_1).

        Parameters
        ----------
        other
            The map at t = 1.
        t
            A number, or an array that broadcasts as the parameters do.

        Examples
        --------
        >>> Affine.identity().blend(Affine(0.0, 3.0, 8.0), 0.25)
        Affine(center=0.0, scale=1.5, shift=2.0, loading=None)
        """
        s = 1.0 - t
        bend = (t * s) * ((other.center - self.center) * (self.scale - other.scale))
        return type(self)(
            self.center * s + other.center * t,
            self.scale * s + other.scale * t,
            self.shift * s + other.shift * t + bend,
            _plus(_times(self.loading, s), _times(other.loading, t)),
        )


def _shape(value: Array) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def _without_q(loading: Array) -> tuple[int, ...]:
    shape = _shape(loading)
    return (*shape[:-2], shape[-1])


def _by_feature(value: Array) -> Array:
    """(..., p) -> (..., 1, p), to meet a loading's (..., q, p)."""
    return value[..., None, :] if _shape(value) else value


def _times(loading: Array | None, factor: Array) -> Array | None:
    return None if loading is None else loading * _by_feature(factor)


def _plus(left: Array | None, right: Array | None) -> Array | None:
    if left is None or right is None:
        return left if right is None else right
    return left + right


def _weighted_sum(z: Array, loading: Array) -> Array:
    """sum_k z_k loading_k, over q >= 1 columns."""
    if loading.ndim == 2 and z.dtype == loading.dtype:  # torch's matmul promotes no dtypes
        return z @ loading
    total = z[..., :1] * loading[..., 0, :]
    for k in range(1, loading.shape[-2]):
        total = total + z[..., k : k + 1] * loading[..., k, :]
    return total


def _clip(value: Array, low: Array, high: Array) -> Array:
    if isinstance(value, NUMBERS):
        return min(max(value, low), high)
    if hasattr(value, "clip"):  # numpy's and torch's own, quicker to reach
        return value.clip(low, high)
    return array_namespace(value).clip(value, low, high)


def _refuse_zeros(scale: Array, what: str) -> None:
    zero = scale == 0
    found = zero if isinstance(zero, bool) else array_namespace(scale).any(zero)
    if found:
        raise BatchfixError(
            f"{what} must not be 0; got 0 in a scale of {prod(_shape(scale))} value(s). "
            "A constant feature has no spread to divide by: give it scale 1, or leave it out."
        )


def _refuse_misfit(name: str, shape: tuple[int, ...], onto: tuple[int, ...]) -> None:
    """The result must have x's shape: each trailing axis equal, or 1 in the parameter."""
    fits = len(shape) <= len(onto) and all(
        size in (1, full) for size, full in zip(reversed(shape), reversed(onto), strict=False)
    )
    if not fits:
        raise BatchfixError(
            f"{name} must broadcast to the shape of x{' without its last axis' if name == 'z' else ''}, {onto}; "
            f"got {shape}{' without its last axis' if name == 'z' else ''}. "
            "Give x the features, in their order, that the map was made for."
        )
