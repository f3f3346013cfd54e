"""Two operations that every batch layer here is made of, at the price of batch norm: statistics, and normalize.

A tensor x (N, C, *) flows in with maps of its channels; the normalized tensor flows out, with the gradient of batch
norm, which runs through the statistics:

    z = (x - mean) / sqrt(var + eps),    y = weight z + bias
    g = dy weight,    dx = (g - mean(g) - z mean(g z)) / sqrt(var + eps)

Eagerly both ride torch's native batch norm kernels: one for the statistics, one for y, one for all gradients. Where a
kernel has no meaning (under torch.compile and torch.func, on other devices), the formula is written out instead, and
autograd does the rest. Statistics of half precision are taken in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.affine import Affine

unsafe_view: Callable[[Tensor, Sequence[int]], Tensor] = torch.ops.aten._unsafe_view.default
native_backward = torch.ops.aten.native_batch_norm_backward.default

NATIVE = ("cpu", "cuda")
"""Devices that have the kernels."""


@dataclass(frozen=True)
class Groups:
    """Groups of samples: the code of each (N,), of `number` groups."""

    codes: Tensor
    number: int

    def sums(self, values: Tensor) -> Tensor:
        """Sums over the samples of each group, (N, C) -> (G, C)."""
        return values.new_zeros(self.number, values.shape[1]).index_add(0, self.codes, values)

    def counts(self, dtype: torch.dtype) -> Tensor:
        """Samples a group (G, 1), at least 1 so that one may divide by it."""
        return self.sums(torch.ones(self.codes.shape[0], 1, dtype=dtype, device=self.codes.device)).clamp(min=1.0)


def is_native(x: Tensor) -> bool:
    """Whether x may be given to the native kernels: not while torch traces or transforms it."""
    return (
        x.device.type in NATIVE
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
        and torch.autograd.forward_ad._current_level < 0
    )


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Autocast off where x is; some devices have none."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else nullcontext()


def in_backward() -> bool:
    """Whether a backward pass is running, which computes activations again that were not kept."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def accurate(dtype: torch.dtype) -> torch.dtype:
    """The dtype that statistics of such values are taken in."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def exact_on(device: torch.device) -> torch.dtype:
    """The widest dtype of a device: Apple's have no float64."""
    return torch.float32 if device.type == "mps" else torch.float64


def all_but_channels(x: Tensor) -> list[int]:
    """Axes that share statistics: all but axis 1."""
    return [0, *range(2, x.ndim)]


def per_channel(value: Tensor, x: Tensor) -> Tensor:
    """(C,) or (N, C), laid along x (N, C, *)."""
    lead = value.shape if value.ndim > 1 else (1, value.shape[0])
    return value.reshape(*lead, *[1] * (x.ndim - 2))


def statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by n) of each channel, (C,); x (N, C, *) holds at least one value a channel.

    Eagerly they carry no gradient: `normalize` knows where they came from.
    """
    if not is_native(x):
        values = x.to(accurate(x.dtype))
        var, mean = torch.var_mean(values, all_but_channels(x), correction=0)
        return mean, var
    with torch.no_grad():
        none = None
        if x.device.type == "cpu" and x.dtype != accurate(x.dtype):
            none = torch.zeros(x.shape[1], dtype=torch.float32)  # asks for float32 sums
        mean, var = torch.batch_norm_update_stats(x, none, none, 0.0)
    return mean, var


def normalize(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    across: Affine | None = None,
) -> Tensor:
    """weight (r z + d) + bias with z = (x - mean) / sqrt(var + eps), where mean and var are those of x itself.

    Parameters
    ----------
    x : (N, C, *)
    mean, var : (C,)
        What `statistics` gave for x.
    weight, bias : (C,) or None
        Learned.
    across
        The map (r, d) before them, constant to the gradient; None: r = 1, d = 0.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> normalize(x, *statistics(x), torch.tensor([2.0]), torch.tensor([1.0]), eps=0.0).tolist()
    [[-1.0], [3.0]]
    """
    r, d = (None, None) if across is None else (across.r, across.d)
    if is_native(x) and x.numel():
        y: Tensor = _Normalize.apply(x, weight, bias, r, d, mean, var, eps)  # type: ignore[no-untyped-call]  # torch's own
        return y
    return written_out(x, mean, var, *through(r, d, weight, bias), eps)


def through(
    r: Tensor | None, d: Tensor | None, weight: Tensor | None, bias: Tensor | None
) -> tuple[Tensor | None, Tensor | None]:
    """weight (r z + d) + bias as one map, (weight r, weight d + bias); None stands for a 1 or a 0."""
    if r is None or d is None:
        return weight, bias
    if weight is None:
        return r, d if bias is None else d + bias
    if weight.dtype != d.dtype:
        weight, bias = weight.to(d.dtype), None if bias is None else bias.to(d.dtype)
    return weight * r, weight * d if bias is None else torch.addcmul(bias, weight, d)


def normalize_each(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, groups: Groups | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize groups of samples (all of them together) by their own statistics, each sample with a map of its own.

    Parameters
    ----------
    x : (N, C, *)
    weight, bias : (N, C)
        In the dtype of the statistics.
    groups
        The group of each sample; None: one group.

    Returns
    -------
    y : (N, C, *)
    mean, var : (G, C)
        Statistics of each group, variance divided by n, without gradient; 0 for an empty group.

    Examples
    --------
    >>> x = torch.tensor([[[0.0, 2.0]], [[0.0, 2.0]]])
    >>> weight, bias = torch.tensor([[1.0], [5.0]]), torch.zeros(2, 1)
    >>> normalize_each(x, weight, bias, eps=0.0)[0].tolist()
    [[[-1.0, 1.0]], [[-5.0, 5.0]]]
    """
    if groups is None and x.ndim == 2:
        mean, var = statistics(x)
        z = normalize(x, mean, var, None, None, eps)
        return torch.addcmul(bias, weight, z).to(x.dtype), mean.detach()[None], var.detach()[None]
    if is_native(x) and x.ndim > 2:
        mean, var = pooled_statistics(x, groups)
        means, variances = laid_along(groups, weight, mean, var)
        codes, number = (None, 1) if groups is None else (groups.codes, groups.number)
        y: Tensor = _NormalizeEach.apply(x, weight, bias, means, variances, codes, number, eps)  # type: ignore[no-untyped-call]  # torch's own
        return y, mean, var
    mean, var = written_statistics(x, groups)
    means, variances = laid_along(groups, weight, mean, var)
    y = written_out(x, means, variances, weight, bias, eps)
    return y, mean.detach(), var.detach()


def laid_along(groups: Groups | None, like: Tensor, *values: Tensor) -> list[Tensor]:
    """Values of each group (G, C), laid along its samples as `like` (N, C)."""
    return [value.expand_as(like) if groups is None else value[groups.codes] for value in values]


def pooled_statistics(x: Tensor, groups: Groups | None) -> tuple[Tensor, Tensor]:
    """Mean and variance (G, C) of groups of samples, merged from those of the samples: moments add."""
    if groups is None:
        mean, var = statistics(x)
        return mean[None], var[None]
    with torch.no_grad():
        mean, var = (v.reshape(x.shape[:2]) for v in statistics(as_batch(x)))
        n = groups.counts(mean.dtype)
        center = groups.sums(mean) / n
        apart = mean - center[groups.codes]
        return center, groups.sums(var + apart * apart) / n


def written_out(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """weight z + bias in plain arithmetic, in the dtype of the statistics; the result in that of x."""
    root = torch.rsqrt(var + eps)
    y = (x.to(mean.dtype) - per_channel(mean, x)) * per_channel(root if weight is None else root * weight, x)
    return (y if bias is None else y + per_channel(bias, x)).to(x.dtype)


def as_batch(x: Tensor) -> Tensor:
    """(N, C, *) seen as one sample of N C channels, (1, N C, *): batch norm of it is instance norm of x."""
    return x.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:])


class _Normalize(torch.autograd.Function):
    """y and its gradients, each by one native kernel; the backward kernel can be differentiated again."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        r: Tensor | None,
        d: Tensor | None,
        mean: Tensor,
        var: Tensor,
        eps: float,
    ) -> Tensor:
        return kept_and_normalized(ctx, x, weight, bias, r, d, mean, var, torch.rsqrt(var + eps), eps)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return (*gradients(ctx, dy), None, None, None, None, None)


def kept_and_normalized(
    ctx: Any,
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    r: Tensor | None,
    d: Tensor | None,
    mean: Tensor,
    var: Tensor,
    root: Tensor,
    eps: float,
) -> Tensor:
    """weight (r z + d) + bias by one kernel, with what `gradients` will need; root is 1 / sqrt(var + eps)."""
    w, b = _exact(mean, *through(r, d, weight, bias))
    ctx.save_for_backward(x, weight, r, d, mean, root, w)
    ctx.eps = eps
    return torch.native_batch_norm(x, w, b, mean, var, False, 0.0, eps)[0]


def gradients(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of x, weight and bias by one kernel."""
    x, weight, r, d, mean, root, w = ctx.saved_tensors
    dx_needed, weight_needed, bias_needed = ctx.needs_input_grad[:3]
    if torch.is_grad_enabled():  # to be differentiated again, through the weight too
        w, _ = _exact(mean, *through(r, d, weight, None))
    asked = [dx_needed, weight_needed, weight_needed or bias_needed]
    dx, along, level = native_backward(dy, x, w, None, None, mean, root, True, ctx.eps, asked)
    if weight_needed and r is not None:
        along = torch.addcmul(r * along, d, level)
    return dx if dx_needed else None, along if weight_needed else None, level if bias_needed else None


def _exact(like: Tensor, *maps: Tensor | None) -> list[Tensor | None]:
    """The native kernels want maps in the dtype of the statistics."""
    return [v if v is None or v.dtype == like.dtype else v.to(like.dtype) for v in maps]


class _NormalizeEach(torch.autograd.Function):
    """Statistics shared by the samples, maps of their own: the view as N C channels does both in one pass."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        codes: Tensor | None,
        number: int,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, codes)  # codes too: torch then says if they were written to
        ctx.eps, ctx.number = eps, number
        w, b, m, v = (value.reshape(-1) for value in (weight, bias, mean, var))
        y = torch.native_batch_norm(as_batch(x), w, b, m, v, False, 0.0, eps)[0]
        return unsafe_view(y, x.shape)  # no view to autograd, which would refuse to change it in place

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, codes = ctx.saved_tensors
        need, eps = ctx.needs_input_grad[:3], ctx.eps
        groups = None if codes is None else Groups(codes, ctx.number)
        if torch.is_grad_enabled() or x.dtype != mean.dtype:

            def written(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
                values = x.to(weight.dtype)
                frame = laid_along(groups, weight, *written_statistics(values, groups))
                return written_out(values, frame[0], frame[1], weight, bias, eps)

            return (*by_autograd(written, (x, weight, torch.zeros_like(weight)), need, dy), *[None] * 5)
        root = torch.rsqrt(var + eps)
        means, roots = mean.reshape(-1), root.reshape(-1)
        _, d_weight, d_bias = native_backward(
            as_batch(dy), as_batch(x), None, means, var.reshape(-1), means, roots, True, eps, SUMS_ONLY
        )
        d_weight, d_bias = d_weight.reshape(weight.shape), d_bias.reshape(weight.shape)
        if not need[0]:
            return None, d_weight, d_bias, *[None] * 5
        # dx = weight root dy - (x - mean) steep - level
        share = x[0, 0].numel()
        level = pooled(weight * d_bias, groups, share) * root
        steep = pooled(weight * d_weight, groups, share) * root * root
        slope, shift, one = (-steep).reshape(-1), (-level).reshape(-1), torch.ones_like(means)
        dx = torch.native_batch_norm(as_batch(x), slope, shift, means, one, False, 0.0, 0.0)[0]
        dx = dx.reshape(x.shape).addcmul_(dy, per_channel(weight * root, x))
        return dx, d_weight, d_bias, *[None] * 5


SUMS_ONLY = [False, True, True]
"""Of (dx, d_weight, d_bias)."""


def pooled(sums: Tensor, groups: Groups | None, size: int) -> Tensor:
    """Mean over the values of each group, laid back along its samples: sums (N, C) of `size` values each."""
    if groups is None:
        return (sums.sum(dim=0) / (sums.shape[0] * size)).expand_as(sums)
    return (groups.sums(sums) / (groups.counts(sums.dtype) * size))[groups.codes]


def written_statistics(x: Tensor, groups: Groups | None) -> tuple[Tensor, Tensor]:
    """`pooled_statistics` in plain arithmetic, with gradients: two passes."""
    values, space = x.to(accurate(x.dtype)), list(range(2, x.ndim))
    if groups is None:
        var, mean = torch.var_mean(values, all_but_channels(x), correction=0)
        return mean[None], var[None]
    n = groups.counts(values.dtype) * (x.numel() // max(1, x.shape[0] * x.shape[1]))

    def mean_of(v: Tensor) -> Tensor:
        return groups.sums(v.sum(dim=space) if space else v) / n

    mean = mean_of(values)
    centred = values - per_channel(mean[groups.codes], x)
    return mean, mean_of(centred * centred)


def by_autograd(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], need: Sequence[bool], dy: Tensor
) -> list[Tensor | None]:
    """Gradients from a written-out formula: for gradients of gradients, and for half precision."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        values = [v if again and v.requires_grad else v.detach().requires_grad_() for v in inputs]
        y = function(*values)
        wanted = [v for v, needed in zip(values, need, strict=True) if needed]
        found = iter(torch.autograd.grad(y, wanted, dy.to(y.dtype), create_graph=again) if wanted else ())
    return [next(found) if needed else None for needed in need]
