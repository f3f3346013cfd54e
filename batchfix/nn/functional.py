"""The layers' formulas as functions of tensors.

x (N, C, *) and statistics flow in; the normalized tensor flows out. Every function here is one sentence: normalize in
one frame, and cross to another by the bridge r z + d,

    r = sigma_source / sigma_target,   d = (mu_source - mu_target) / sigma_target,   sigma^2 = var + eps.

r and d are constants to the gradient (Ioffe 2017); the statistics of x are not.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..core.affine import Affine, Frame
from ..core.moments import Moments
from ..exceptions import BatchfixError
from .checks import check_channels, check_floating, check_tensor
from .kernels import (
    accurate,
    as_batch,
    gradients,
    is_native,
    kept_and_normalized,
    normalize,
    per_channel,
    statistics,
    through,
    written_out,
)

Limit = float | Tensor
"""A limit that is known, or one that is computed while torch traces."""


def moments(x: Tensor, mask: Tensor | None = None) -> Moments:
    """Count, mean and centred sum of squares of each channel.

    Parameters
    ----------
    x : (N, C, *)
    mask : (N, *) of bool, optional
        Where x is a value and not padding.

    Returns
    -------
    Moments of tensors (C,)
        In float32 for half precision. They add: ``moments(a) + moments(b)`` are those of both.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0], [8.0]])
    >>> both = moments(x[:2]) + moments(x[2:])
    >>> both.mean.tolist(), both.variance(correction=0).tolist() == moments(x).variance(correction=0).tolist()
    ([4.0], True)
    """
    check_channels(x)
    if mask is None:
        return Moments.of(x.to(accurate(x.dtype)), (0, *range(2, x.ndim)))
    _, n, mean, var = _masked(x, mask)
    return Moments(n.expand_as(mean), mean, var * n)


def frame(moments: Moments, eps: float = 1e-5) -> Frame:
    """The frame of moments: their mean, and sqrt(var + eps) with var divided by n.

    Examples
    --------
    >>> frame(moments(torch.tensor([[1.0], [3.0]])), eps=0.0)
    Frame(location=tensor([2.]), scale=tensor([1.]))
    """
    n = torch.clamp(moments.n, min=1)
    return Frame(moments.mean, torch.sqrt(moments.m2 / n + eps))


def bridge(source: Moments, target: Moments, eps: float = 1e-5) -> Affine:
    """The affine map from values normalized with `source` to values normalized with `target`.

        z_target = r z_source + d

    Any two normalizations are joined by it: the minibatch and the running population (batch renormalization), one
    instance and the minibatch, one domain and another.

    Parameters
    ----------
    source, target : Moments of tensors
        Of shapes that broadcast, such as (N, C) and (C,).
    eps
        Added to both variances.

    Returns
    -------
    Affine
        With `r`, `d`, `clip`, `blend`, `inverse` and `@`.

    References
    ----------
    Ioffe (2017), Batch Renormalization, section 3.

    Examples
    --------
    >>> a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [8.0]])
    >>> across = bridge(moments(a), moments(b), eps=0.0)
    >>> across.r.tolist(), across.d.tolist()
    ([0.25], [-0.75])
    """
    return Affine.bridge(frame(source, eps), frame(target, eps), check=False)


def renormalize(
    x: Tensor, r: Tensor, d: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """weight (r z + d) + bias with z = x normalized by its own batch statistics, r and d given constants.

    Parameters
    ----------
    x : (N, C, *)
    r, d, weight, bias : (C,)
    eps
        Added to the variance.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> renormalize(x, r=torch.tensor([2.0]), d=torch.tensor([1.0]), eps=0.0).tolist()
    [[-1.0], [3.0]]
    """
    check_channels(x, r=r, d=d, weight=weight, bias=bias)
    if not x.numel():
        return empty(x, weight, bias)
    mean, var = statistics(x)
    return normalize(x, mean, var, weight, bias, eps, Affine(0.0, r, d))


def batch_renorm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: Limit = 0.1,
    eps: float = 1e-5,
    r_max: Limit = 1.0,
    d_max: Limit = 0.0,
    mask: Tensor | None = None,
) -> Tensor:
    """Batch renormalization: normalize with the minibatch, then cross to the running population.

        y = weight (r z + d) + bias
        r = clip(sigma_B / sigma, 1 / r_max, r_max),   d = clip((mu_B - mu) / sigma, -d_max, d_max)

    With r_max = 1 and d_max = 0 it is batch norm. Where nothing is clipped, training output equals inference output.

    Parameters
    ----------
    x : (N, C, *)
    running_mean, running_var : (C,)
        Of the population (the variance divided by n - 1); moved towards the minibatch in training.
    weight, bias : (C,), optional
    training
        False: plain inference of batch norm with the running statistics.
    momentum
        Weight of the minibatch in the running statistics.
    eps
        Added to variances, inside the square root.
    r_max, d_max
        Limits of r (at least 1) and |d| (at least 0).
    mask : (N, *) of bool, optional
        Where x is a value. Padding enters no statistic, comes out as 0 and gets no gradient.

    Returns
    -------
    Tensor (N, C, *) in the dtype of x
        A minibatch of one value a channel moves the mean only; an empty one moves nothing.

    References
    ----------
    Ioffe (2017), Batch Renormalization: Towards Reducing Minibatch Dependence, Algorithm 1.

    Examples
    --------
    >>> x, mean, var = torch.tensor([[1.0], [3.0]]), torch.tensor([0.0]), torch.tensor([4.0])
    >>> batch_renorm(x, mean, var, training=True, r_max=3.0, d_max=5.0, eps=0.0).tolist()
    [[0.5], [1.5]]
    """
    check_channels(x, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    for name, limit, least in (("r_max", r_max, 1), ("d_max", d_max, 0)):
        if not isinstance(limit, Tensor) and not limit >= least:  # before anything moves
            raise BatchfixError(f"{name} must be at least {least}; got {limit!r}. {least} allows no correction.")
    return checked_renorm(x, running_mean, running_var, weight, bias, training, momentum, eps, r_max, d_max, mask)


def checked_renorm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: Limit,
    eps: float,
    r_max: Limit,
    d_max: Limit,
    mask: Tensor | None,
) -> Tensor:
    """`batch_renorm` of what is known to fit: torch's kernels read and write past what does not."""
    if mask is not None:
        return _masked_renorm(x, running_mean, running_var, weight, bias, training, momentum, eps, r_max, d_max, mask)
    count = x.numel() // x.shape[1]
    if not count:
        return empty(x, weight, bias)
    if not training or (count > 1 and is_shut(r_max, d_max)):
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)  # type: ignore[arg-type]  # a tensor momentum comes only with tensor limits
    if is_native(x):
        y: Tensor = _BatchRenorm.apply(x, weight, bias, running_mean, running_var, momentum, eps, r_max, d_max)  # type: ignore[no-untyped-call]  # torch's own
        return y
    with torch.no_grad():  # r and d are constants
        target = population(running_mean, running_var, eps)
        mean, var = _observe(x, running_mean, running_var, momentum)
        across = limited_bridge(mean, var, target, eps, r_max, d_max)
    return normalize(x, mean, var, weight, bias, eps, across)


class _BatchRenorm(torch.autograd.Function):
    """All of it as one node: between kernels of small minibatches, what autograd and Python do costs most."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: Limit,
        eps: float,
        r_max: Limit,
        d_max: Limit,
    ) -> Tensor:
        target = population(running_mean, running_var, eps)
        mean, var = _observe(x, running_mean, running_var, momentum)
        source = Frame(mean, torch.sqrt(var + eps))
        across = Affine.bridge(source, target, check=False).clip(r_max, d_max)
        return kept_and_normalized(
            ctx, x, weight, bias, across.r, across.d, mean, var, torch.reciprocal(source.scale), eps
        )

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        return (*gradients(ctx, dy), None, None, None, None, None, None)


def population(running_mean: Tensor, running_var: Tensor, eps: float) -> Frame:
    """The frame of running statistics as they are now; they may move on."""
    return Frame(running_mean.clone(), torch.sqrt(running_var + eps))


def constant_bridge(mean: Tensor, var: Tensor, target: Frame, eps: float) -> Affine:
    """The bridge from statistics of x to a frame, constant to gradients, forward mode's too."""
    return Affine.bridge(Frame(mean.detach(), torch.sqrt(var.detach() + eps)), target, check=False)


def limited_bridge(mean: Tensor, var: Tensor, target: Frame, eps: float, r_max: Limit, d_max: Limit) -> Affine:
    """The same, with r and d clipped.

    torch.compile would compute r and d again in the backward pass, from running statistics that have moved; what is
    stacked it keeps.
    """
    across = constant_bridge(mean, var, target, eps).clip(r_max, d_max)
    if not torch.compiler.is_compiling():
        return across
    r, d = torch.stack([across.r, across.d])
    return Affine(0.0, r, d)


def _observe(x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: Limit) -> tuple[Tensor, Tensor]:
    """Mean and variance of x, towards which the running statistics move."""
    count = x.numel() // x.shape[1]
    kernel = is_native(x) and running_mean.dtype == accurate(x.dtype)
    if kernel and count > 1 and not isinstance(momentum, Tensor):
        mean, var = torch.batch_norm_update_stats(x, running_mean, running_var, momentum)
        return mean, var
    with torch.enable_grad():
        mean, var = statistics(x)
    move(running_mean, running_var, mean, var, count, momentum)
    return mean, var


def is_shut(r_max: Limit, d_max: Limit) -> bool:
    """Whether the limits are known to allow r = 1 and d = 0 only, without reading a tensor."""
    return not isinstance(r_max, Tensor) and r_max == 1.0 and not isinstance(d_max, Tensor) and d_max == 0.0


def move(
    running_mean: Tensor, running_var: Tensor, mean: Tensor, var: Tensor, count: int | Tensor, momentum: Limit
) -> None:
    """Move running statistics towards a minibatch of `count` values a channel; one value has no variance to add.

    var is divided by n, the running variance by n - 1.
    """
    with torch.no_grad():
        mean, var = mean.detach().to(running_mean.dtype), var.detach().to(running_var.dtype)
        if isinstance(count, Tensor):
            unbiased = var * (count / torch.clamp(count - 1, min=1)).to(var.dtype)
            running_mean.lerp_(mean, (count > 0).to(mean.dtype) * momentum)
            running_var.lerp_(unbiased, (count > 1).to(var.dtype) * momentum)
            return
        weight = momentum if not isinstance(momentum, Tensor) else momentum.to(mean.dtype)
        running_mean.lerp_(mean, weight)
        if count > 1:
            running_var.lerp_(var * (count / (count - 1)), weight)


def empty(x: Tensor, *parameters: Tensor | float | None) -> Tensor:
    """An empty minibatch passes, with gradients of 0 for what would have been learned from."""
    y = x
    for value in parameters:
        if isinstance(value, Tensor):
            y = y + value.flatten()[:0].sum().to(x.dtype)
    return y


# ---- padding


def lay_mask(mask: Tensor, x: Tensor) -> Tensor:
    """(N, *) laid along x (N, C, *); BatchfixError if it does not fit."""
    want = (x.shape[0], *x.shape[2:])
    check_tensor("mask", mask)
    if mask.dtype != torch.bool or tuple(mask.shape) != want:
        raise BatchfixError(
            f"mask must be bool of shape {want}, True where x {tuple(x.shape)} holds a value; got {mask.dtype} of "
            f"shape {tuple(mask.shape)}. Leave out the channel axis."
        )
    return mask.unsqueeze(1)


def _masked(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x in the dtype of its statistics with 0 for padding; count (), mean and variance (C,) of the rest."""
    laid = lay_mask(mask, x)
    values = torch.where(laid, x, 0.0).to(accurate(x.dtype))
    axes = [0, *range(2, x.ndim)]
    n = mask.sum().to(values.dtype)
    some = torch.clamp(n, min=1)
    mean = values.sum(dim=axes) / some
    centred = torch.where(laid, values - per_channel(mean, x), 0.0)
    return values, n, mean, (centred * centred).sum(dim=axes) / some


def _masked_renorm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: Limit,
    eps: float,
    r_max: Limit,
    d_max: Limit,
    mask: Tensor,
) -> Tensor:
    laid = lay_mask(mask, x)
    if not training:
        y = F.batch_norm(torch.where(laid, x, 0.0), running_mean, running_var, weight, bias, False, 0.0, eps)
        return torch.where(laid, y, 0.0)
    values, n, mean, var = _masked(x, mask)
    with torch.no_grad():
        across = limited_bridge(mean, var, population(running_mean, running_var, eps), eps, r_max, d_max)
    move(running_mean, running_var, mean, var, n, momentum)
    y = written_out(values, mean, var, *through(across.r, across.d, weight, bias), eps)
    return torch.where(laid, y, 0.0).to(x.dtype)


# ---- one instance, and the batch


def instance_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by n) of each channel of each sample, (N, C)."""
    mean, var = statistics(as_batch(x))
    return mean.reshape(x.shape[:2]), var.reshape(x.shape[:2])


def instance_renorm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    blend: float | Tensor = 0.5,
    training: bool = False,
    momentum: Limit = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalize each instance, then go part of the way across the bridge to the batch.

        y = weight ((1 + blend (r - 1)) z + blend d) + bias
        r = sigma_instance / sigma_batch,   d = (mu_instance - mu_batch) / sigma_batch

    blend = 0 is instance norm, 1 is batch norm, and between them the map is linear in (r, d). In training the batch is
    the minibatch, otherwise the running population.

    Parameters
    ----------
    x : (N, C, *), with at least one axis after the channels
    running_mean, running_var : (C,)
    weight, bias : (C,), optional
    blend
        A number, or a tensor () or (C,).
    training, momentum, eps
        As in `batch_renorm`.

    References
    ----------
    Ioffe (2017), the identity of section 3; Nam and Kim (2018), Batch-Instance Normalization, blend the outputs.

    Examples
    --------
    >>> x = torch.tensor([[[0.0, 2.0]], [[4.0, 6.0]]])
    >>> mean, var = torch.zeros(1), torch.ones(1)
    >>> instance_renorm(x, mean, var, blend=0.0, eps=0.0).tolist()
    [[[-1.0, 1.0]], [[-1.0, 1.0]]]
    >>> instance_renorm(x, mean, var, blend=1.0, eps=0.0).tolist()
    [[[0.0, 2.0]], [[4.0, 6.0]]]
    """
    check_channels(x, 3, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if not x.numel():
        return empty(x, weight, bias, blend)
    mean, var = instance_statistics(x)
    with torch.no_grad():
        if training:
            # moments of equal counts add up to means, and the variance of the means
            spread, center = torch.var_mean(mean.detach(), dim=0, correction=0)
            total = var.detach().mean(dim=0) + spread
            move(running_mean, running_var, center, total, x.numel() // x.shape[1], momentum)
        else:
            center, total = running_mean.to(mean.dtype), running_var.to(mean.dtype)
        across = constant_bridge(mean, var, Frame(center, torch.sqrt(total + eps)), eps)
    part = Affine.identity().blend(across, blend)
    w, b = through(part.r, part.d, weight, bias)
    return _each_instance(x, mean, var, w, b, eps)


def _each_instance(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """Normalize each channel of each sample, with a map (N, C) or less of its own."""
    w, b = (None if v is None else v.to(mean.dtype).expand_as(mean).reshape(-1) for v in (weight, bias))
    return normalize(as_batch(x), mean.reshape(-1), var.reshape(-1), w, b, eps).reshape(x.shape)


def adaptive_instance_norm(content: Tensor, style: Tensor | Frame, eps: float = 1e-5) -> Tensor:
    """Give each channel of each content sample the mean and standard deviation of the style.

        y = sigma_style (content - mu_content) / sigma_content + mu_style

    Parameters
    ----------
    content : (N, C, *), with at least one axis after the channels
    style : (N or 1, C, *) of any size after the channels, or a Frame of tensors (N or 1, C) or (C,)
        A sample whose statistics are taken, or the statistics themselves: location and scale (a standard deviation).
        Gradients flow to it.
    eps
        Added to both variances, or to the content's alone when the style is a Frame.

    Returns
    -------
    Tensor, of the shape of content

    References
    ----------
    Huang and Belongie (2017), Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization, eq. 8.

    Examples
    --------
    >>> content, style = torch.tensor([[[0.0, 2.0]]]), torch.tensor([[[10.0, 30.0, 50.0, 30.0]]])
    >>> y = adaptive_instance_norm(content, style, eps=0.0)
    >>> [round(v, 3) for v in y.flatten().tolist()]
    [15.858, 44.142]
    """
    _check_style(content, style)
    if not content.numel():
        return content
    mean, var = instance_statistics(content)
    if isinstance(style, Tensor):
        center, spread = _style_statistics(style)
        style = Frame(center, torch.sqrt(spread + eps))
    return _each_instance(content, mean, var, style.scale, style.location, eps)


def _style_statistics(style: Tensor) -> tuple[Tensor, Tensor]:
    if not style.requires_grad:
        return instance_statistics(style)
    values = style.to(accurate(style.dtype))
    var, mean = torch.var_mean(values, dim=list(range(2, style.ndim)), correction=0)
    return mean, var


def _check_style(content: Tensor, style: Tensor | Frame) -> None:
    check_floating(content, "AdaptiveInstanceNorm")
    n, c = content.shape[:2] if content.ndim > 1 else (0, 0)
    if content.ndim < 3:
        raise BatchfixError(
            f"content must have at least one axis after the channels, (N, C, *), to have statistics a sample; got "
            f"shape {tuple(content.shape)}."
        )
    if not isinstance(style, Tensor | Frame):
        raise BatchfixError(
            f"style must be a tensor (N or 1, C, *), or a Frame of its statistics; got {type(style).__name__}."
        )
    if isinstance(style, Tensor):
        check_floating(style, "AdaptiveInstanceNorm")
        if style.ndim < 3 or style.shape[0] not in (1, n) or style.shape[1] != c or not style[0].numel():
            raise BatchfixError(
                f"style must have shape (N or 1, C, *) with N = {n} and C = {c} as the content; got "
                f"{tuple(style.shape)}. To give statistics themselves, pass a Frame(location, scale)."
            )
        return
    for name in ("location", "scale"):
        check_tensor(f"The style's {name}", getattr(style, name))
        shape = tuple(getattr(style, name).shape)
        if shape not in ((c,), (1, c), (n, c)):
            raise BatchfixError(
                f"The style's {name} must have shape ({c},), (1, {c}) or ({n}, {c}), as the content's samples and "
                f"channels; got {shape}."
            )
