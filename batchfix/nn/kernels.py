"""Two operations that every batch layer here is made of, at the price of batch norm: statistics, and normalize.

A tensor x (N, C, *) flows in with maps of its channels; the normalized tensor flows out, with the gradient of batch norm,
which runs through the statistics:

    z = (x - mean) / sqrt(var + eps),    y = weight z + bias
    g = dy weight,    dx = (g - mean(g) - z mean(g z)) / sqrt(var + eps)

Eagerly both ride torch's native batch norm kernels: one for the statistics, one for y, one for all gradients. Where a
kernel has no meaning (under torch.compile and torch.func, on other devices), the formula is written out instead, and
autograd does the rest. Statistics of half precision are taken in float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

NATIVE = ("cpu", "cuda")
"""Devices that have the kernels."""


@dataclass(frozen=True)
class Groups:
    """Groups of samples: the code of each (N,), of `number` groups."""

    codes: Tensor
    number: int

    def counts(self, dtype: torch.dtype) -> Tensor:
        """Samples a group (G, 1), at least 1 so that one may divide by it."""
        ones = torch.ones(len(self.codes), 1, dtype=dtype, device=self.codes.device)
        return ones.new_zeros(self.number, 1).index_add(0, self.codes, ones).clamp(min=1.0)


def is_native(x: Tensor) -> bool:
    """Whether x may be given to the native kernels: not while torch traces or transforms it."""
    return x.device.type in NATIVE and not torch.compiler.is_compiling() and not torch._C._are_functorch_transforms_active()


def accurate(dtype: torch.dtype) -> torch.dtype:
    """The dtype that statistics of such values are taken in."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


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


def normalize(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """weight (x - mean) / sqrt(var + eps) + bias, with mean and var those of x itself.

    Parameters
    ----------
    x : (N, C, *)
    mean, var : (C,)
        What `statistics` gave for x.
    weight, bias : (C,)
        In the dtype of the statistics.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> normalize(x, *statistics(x), torch.tensor([2.0]), torch.tensor([1.0]), eps=0.0).tolist()
    [[-1.0], [3.0]]
    """
    if is_native(x) and x.numel():
        y: Tensor = _Normalize.apply(x, weight, bias, mean, var, eps)
        return y
    return written_out(x, mean, var, weight, bias, eps)


def normalize_each(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float, groups: Groups | None = None
) -> Tensor:
    """As `normalize`, with a map for each sample, and statistics shared by groups of samples (by all of them).

    Parameters
    ----------
    x : (N, C, *)
    mean, var : (G, C)
        Statistics of each group.
    weight, bias : (N, C)
        In the dtype of the statistics.
    groups
        The group of each sample; None: one group.

    Examples
    --------
    >>> x = torch.tensor([[[0.0, 2.0]], [[0.0, 2.0]]])
    >>> mean, var = (v[None] for v in statistics(x))
    >>> weight, bias = torch.tensor([[1.0], [5.0]]), torch.zeros(2, 1)
    >>> normalize_each(x, mean, var, weight, bias, eps=0.0).tolist()
    [[[-1.0, 1.0]], [[-5.0, 5.0]]]
    """
    mean, var = (v.expand_as(weight) if groups is None else v[groups.codes] for v in (mean, var))
    if is_native(x) and x.numel():
        y: Tensor = _NormalizeEach.apply(x, weight, bias, mean, var, eps, groups)
        return y
    return written_out(x, mean, var, weight, bias, eps)


def written_out(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The formula in plain arithmetic, in the dtype of the statistics; the result in that of x."""
    centred = x.to(mean.dtype) - per_channel(mean, x)
    y = centred * per_channel(torch.rsqrt(var + eps) * weight, x) + per_channel(bias, x)
    return y.to(x.dtype)


def as_batch(x: Tensor) -> Tensor:
    """(N, C, *) seen as one sample of N C channels, (1, N C, *): batch norm of it is instance norm of x."""
    return x.reshape(1, x.shape[0] * x.shape[1], *x.shape[2:])


class _Normalize(torch.autograd.Function):
    """y and its gradients, each by one native kernel; the backward kernel can be differentiated again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps = eps
        y: Tensor = torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean, var = ctx.saved_tensors
        need = list(ctx.needs_input_grad[:3])
        root = torch.rsqrt(var + ctx.eps)
        grads = aten.native_batch_norm_backward(dy, x, weight, None, None, mean, root, True, ctx.eps, need)
        return (*(g if wanted else None for g, wanted in zip(grads, need, strict=True)), None, None, None)


class _NormalizeEach(torch.autograd.Function):
    """Statistics shared by the samples, maps of their own: the view as N C channels does both in one pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, eps: float, groups: Groups | None
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var)
        ctx.eps, ctx.groups = eps, groups
        flat = (v.reshape(-1) for v in (weight, bias, mean, var))
        y: Tensor = torch.native_batch_norm(as_batch(x), *flat, False, 0.0, eps)[0]
        return y.reshape(x.shape)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight, mean, var = ctx.saved_tensors
        need, eps, groups = ctx.needs_input_grad, ctx.eps, ctx.groups
        if torch.is_grad_enabled() or x.dtype != mean.dtype:
            return (*_each_by_autograd(dy, x, weight, need, eps, groups), None, None, None, None)
        root = torch.rsqrt(var + eps)
        means, roots = mean.reshape(-1), root.reshape(-1)
        _, d_weight, d_bias = aten.native_batch_norm_backward(
            as_batch(dy), as_batch(x), None, means, var.reshape(-1), means, roots, True, eps, SUMS_ONLY
        )
        d_weight, d_bias = d_weight.reshape(weight.shape), d_bias.reshape(weight.shape)
        if not need[0]:
            return None, d_weight, d_bias, None, None, None, None
        # dx = weight root dy - (x - mean) along - level
        share = x[0, 0].numel()
        level = pooled(weight * d_bias, groups, share) * root
        along = pooled(weight * d_weight, groups, share) * root * root
        flat = (v.reshape(-1) for v in (-along, -level))
        dx = torch.native_batch_norm(as_batch(x), *flat, means, torch.ones_like(means), False, 0.0, 0.0)[0]
        dx = dx.reshape(x.shape).addcmul_(dy, per_channel(weight * root, x))
        return dx, d_weight, d_bias, None, None, None, None


SUMS_ONLY = [False, True, True]
"""Of (dx, d_weight, d_bias)."""


def pooled(sums: Tensor, groups: Groups | None, size: int) -> Tensor:
    """Mean over the values of each group, laid back along its samples: sums (N, C) of `size` values each."""
    if groups is None:
        return (sums.sum(dim=0) / (len(sums) * size)).expand_as(sums)
    total = sums.new_zeros(groups.number, sums.shape[1]).index_add(0, groups.codes, sums)
    return (total / (groups.counts(sums.dtype) * size))[groups.codes]


def statistics_by(x: Tensor, groups: Groups) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by n) of each channel in each group of samples, (G, C); 0 for an empty group.

    Differentiable through x; two passes.
    """
    values, space = x.to(accurate(x.dtype)), list(range(2, x.ndim))
    size = x[0, 0].numel() if len(x) else 1

    def mean_of(v: Tensor) -> Tensor:
        by_sample = v.sum(dim=space) if space else v
        total = by_sample.new_zeros(groups.number, x.shape[1]).index_add(0, groups.codes, by_sample)
        return total / (groups.counts(v.dtype) * size)

    mean = mean_of(values)
    centred = values - per_channel(mean[groups.codes], x)
    return mean, mean_of(centred * centred)


def _each_by_autograd(
    dy: Tensor, x: Tensor, weight: Tensor, need: tuple[bool, ...], eps: float, groups: Groups | None
) -> tuple[Tensor | None, ...]:
    """The same gradients from the written-out formula: for gradients of gradients, and for half precision."""
    again = torch.is_grad_enabled()
    groups = groups or Groups(torch.zeros(len(x), dtype=torch.long, device=x.device), 1)
    with torch.enable_grad():
        inputs = [v if again else v.detach().requires_grad_() for v in (x, weight)]
        values = inputs[0].to(accurate(x.dtype))
        mean, var = (v[groups.codes] for v in statistics_by(values, groups))
        y = written_out(values, mean, var, inputs[1], torch.zeros_like(weight), eps)
        wanted = [v for v, needed in zip(inputs, need[:2], strict=True) if needed]
        found = iter(torch.autograd.grad(y, wanted, dy.to(y.dtype), create_graph=again) if wanted else ())
    space = list(range(2, x.ndim))
    d_bias = dy.to(weight.dtype)
    d_bias = d_bias.sum(dim=space) if space else d_bias
    dx, d_weight = (next(found) if needed else None for needed in need[:2])
    return dx, d_weight, d_bias
