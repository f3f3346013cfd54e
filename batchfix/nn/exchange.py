"""Messages between the processes of a training: moments one way, sums of gradients the other.

What one process holds flows in, what all hold together flows out: `gather` the moments, which add, and
`NormalizeTogether`, whose backward pass sums over all processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from ..core.moments import Moments
from ..exceptions import BatchfixError
from . import functional
from .kernels import (
    SUMS_ONLY,
    all_but_channels,
    is_native,
    native_backward,
    per_channel,
    statistics,
    through,
    written_out,
)


def gather(mine: Moments, rows: bool, dtype: torch.dtype, group: Any) -> tuple[Moments, Tensor]:
    """Moments of all processes together, and whether any has rows, in one message.

    Parameters
    ----------
    mine : Moments
        n (1,), mean and m2 (C,) of this process.
    rows
        Whether it has rows, be they all padding.
    dtype
        Of the message, the same in all processes.
    group
        The processes.

    Returns
    -------
    Moments
        n (1,), mean and m2 (C,).
    Tensor
        Of bool, ().
    """
    channels = len(mine.mean)
    flag = torch.full((1,), float(rows), dtype=dtype, device=mine.mean.device)
    message = torch.cat([flag, *(v.to(dtype).reshape(-1) for v in (mine.n, mine.mean, mine.m2))])
    table = message.new_empty(dist.get_world_size(group), len(message))
    dist.all_gather(list(table.unbind()), message, group=group)
    flags, n, mean, m2 = table.split([1, 1, channels, channels], dim=1)
    return together(Moments(n, mean, m2)), (flags > 0).any()


def together(parts: Moments) -> Moments:
    """Add moments along the first axis in pairs, then pairs of pairs: (W, 1), (W, C), (W, C) -> (1,), (C,), (C,).

    Examples
    --------
    >>> parts = Moments(torch.tensor([[1.0], [0.0], [1.0]]), torch.tensor([[2.0], [0.0], [4.0]]), torch.zeros(3, 1))
    >>> whole = together(parts)
    >>> whole.n.tolist(), whole.mean.tolist(), whole.m2.tolist()
    ([2.0], [3.0], [2.0])
    """
    several = len(parts.n)
    more = (1 << (several - 1).bit_length()) - several  # to a power of two, with moments of nothing
    n, mean, m2 = (F.pad(v, (0, 0, 0, more)) for v in (parts.n, parts.mean, parts.m2))
    while len(n) > 1:
        half = len(n) // 2
        both = Moments(n[:half], mean[:half], m2[:half]) + Moments(n[half:], mean[half:], m2[half:])
        n, mean, m2 = both.n, both.mean, both.m2
    return Moments(n[0], mean[0], m2[0])


class NormalizeTogether(torch.autograd.Function):
    """weight (r z + d) + bias of the rows here, by the mean and variance of all rows; r and d are constants."""

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
        n: Tensor,
        eps: float,
        group: Any,
    ) -> Tensor:
        """By the mean and variance (C,) of all n values; x may hold none of them."""
        ctx.save_for_backward(x, weight, r, d, mean, var, n)
        ctx.eps, ctx.group = eps, group
        return _affine(x, mean, var, *through(r, d, weight, bias), eps)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """Sum over all processes in one message, be there no rows here; weight and bias of the rows here."""
        if torch.is_grad_enabled():
            raise BatchfixError(
                "Through SyncBatchRenorm gradients are taken once; a second derivative was asked for "
                "(create_graph=True), and messages have none. Use BatchRenorm, which normalizes each process by itself."
            )
        x, weight, r, d, mean, var, n = ctx.saved_tensors
        need = ctx.needs_input_grad
        level, along = _sums(dy, x, mean, var, ctx.eps)
        d_weight = along if r is None else torch.addcmul(r * along, d, level)
        dx = None
        if need[0]:
            sums = torch.stack([level, along]).to(n.dtype)
            dist.all_reduce(sums, group=ctx.group)
            level_mean, along_mean = (sums / n).to(mean.dtype)
            slope, _ = through(r, d, weight, None)
            root = torch.rsqrt(var + ctx.eps)
            gain = root if slope is None else slope.to(root.dtype) * root
            dx = _affine(x.to(mean.dtype), mean, var, -gain * along_mean, -gain * level_mean, ctx.eps)
            dx = dx.addcmul_(dy.to(dx.dtype), per_channel(gain, x)).to(x.dtype)
        return dx, d_weight if need[1] else None, level if need[2] else None, *[None] * 7


def moments_here(x: Tensor, mask: Tensor | None) -> Moments:
    """n, mean (C,) and m2 (C,) of the rows here, be there none."""
    if mask is not None or not x.numel():
        moments = functional.moments(x, mask)
        return Moments(moments.n[:1], moments.mean, moments.m2)
    mean, var = statistics(x)
    n = torch.full((1,), float(x.numel() // x.shape[1]), dtype=mean.dtype, device=mean.device)
    return Moments(n, mean, var * n)


def _affine(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """weight z + bias by given statistics, by the native kernel where there is one."""
    if not x.numel():
        return torch.empty_like(x)
    if not is_native(x):
        return written_out(x, mean, var, weight, bias, eps)
    w, b = (None if v is None else v.to(mean.dtype) for v in (weight, bias))
    return torch.native_batch_norm(x, w, b, mean, var, False, 0.0, eps)[0]


def _sums(dy: Tensor, x: Tensor, mean: Tensor, var: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Sums of dy and of dy z over the rows here, (C,)."""
    if not x.numel():
        return torch.zeros_like(mean), torch.zeros_like(mean)
    if is_native(x):
        root = torch.rsqrt(var + eps)
        _, along, level = native_backward(dy, x, None, None, None, mean, root, True, eps, SUMS_ONLY)
        return level, along
    dy = dy.to(mean.dtype)
    z = written_out(x.to(mean.dtype), mean, var, None, None, eps)
    axes = all_but_channels(x)
    return dy.sum(axes), (dy * z).sum(axes)


# ---- processes


class Members:
    """A process group that copies of a layer share."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group = group

    def __deepcopy__(self, memo: Any) -> Members:
        """Processes are not copied."""
        return self

    def __reduce__(self) -> Any:
        """A process group means nothing elsewhere."""
        raise BatchfixError(
            "To be pickled, a layer must not hold a process group of its own, which lives in these processes only; got "
            "a SyncBatchRenorm that does. Save the state_dict(), or convert_sync_batchrenorm(model) to all processes."
        )


def as_members(group: Any) -> Members | None:
    """A process group, to be kept in a layer."""
    if group is None:
        return None
    if not dist.is_available() or not isinstance(group, dist.ProcessGroup):
        raise BatchfixError(
            "process_group must be a torch.distributed process group that this process belongs to, or None for all "
            f"processes; got {group!r}. Make one with torch.distributed.new_group."
        )
    return Members(group)


def is_several(members: Members | None) -> bool:
    """Whether there are processes to exchange with."""
    if not (dist.is_available() and dist.is_initialized()):
        return False
    return dist.get_world_size(None if members is None else members.group) > 1


def check_exchange(x: Tensor, group: Any) -> None:
    """x can be sent, and be normalized by what comes."""
    if torch._C._are_functorch_transforms_active():
        raise BatchfixError(
            "SyncBatchRenorm must be called outside of torch.func transforms (grad, vmap and the like), which know no "
            "messages between processes; it was called inside of one. Use backward, or BatchRenorm."
        )
    served = dist.get_backend_config(group)
    if f"{x.device.type}:" not in served:
        raise BatchfixError(
            f"x must be on a device that the process group serves, of {served!r}; got {x.device.type}. Move the model "
            "and its input there, or initialise the group with a backend for both, such as 'cpu:gloo,cuda:nccl'."
        )
