"""Renormalization layers: a minibatch, or one instance, normalized and then moved towards the population.

    y = weight (r z + d) + bias,   r = sigma_source / sigma_target,   d = (mu_source - mu_target) / sigma_target

`BatchRenorm` goes from the minibatch to the running population, as far as its limits allow; `InstanceRenorm` from one
instance to the batch, as far as its blend says. The state is batch norm's, name by name, so checkpoints go both ways.
"""

from __future__ import annotations

from math import isfinite
from typing import Any
from warnings import warn

import torch
from torch import Tensor, nn

from ..exceptions import BatchfixError, BatchfixWarning
from . import functional
from .base import BatchLayer
from .checks import check_share, is_number
from .kernels import in_backward
from .recomputation import RECOMPUTED
from .schedule import D_MAX, R_MAX, Schedule


def _limit(name: str, value: Any, least: float) -> Schedule:
    """A number or a schedule, never below its least."""
    if is_number(value) and isfinite(value):
        value = Schedule((0, float(value)))
    if not isinstance(value, Schedule):
        raise BatchfixError(
            f"{name} must be a finite number or a Schedule; got {value!r}. Write {least:g} to allow no correction."
        )
    if value.least < least:
        raise BatchfixError(
            f"{name} must be at least {least:g} at every step; got {value.least:g}. "
            f"{least:g} allows no correction, and is batch norm."
        )
    return value


class _BatchRenorm(BatchLayer):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        r_max: float | Schedule = R_MAX,
        d_max: float | Schedule = D_MAX,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, device=device, dtype=dtype)
        self.r_max, self.d_max = r_max, d_max

    @property
    def r_max(self) -> Schedule:
        """Limit of r, at least 1; a number may be set."""
        return self._r_max

    @r_max.setter
    def r_max(self, value: float | Schedule) -> None:
        self._r_max = _limit("r_max", value, 1.0)

    @property
    def d_max(self) -> Schedule:
        """Limit of |d|, at least 0; a number may be set."""
        return self._d_max

    @d_max.setter
    def d_max(self, value: float | Schedule) -> None:
        self._d_max = _limit("d_max", value, 0.0)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalize x (N, C, *); `mask` (N, *) is False at padding, which comes out as 0."""
        self._check(x)
        state = self.running_mean, self.running_var, self.weight, self.bias
        if not self.training or not x.numel():
            return functional.checked_renorm(x, *state, False, 0.0, self.eps, 1.0, 0.0, mask)
        if mask is not None:
            functional.lay_mask(mask, x)  # before anything moves
        if in_backward() and id(self) not in RECOMPUTED:
            self._warn_of_recomputation()
        before = self.advance(None if mask is None else mask.any())
        limits = self._r_max(before), self._d_max(before)
        return functional.checked_renorm(x, *state, True, self.weight_of(before), self.eps, *limits, mask)

    def _warn_of_recomputation(self) -> None:
        step = self.step()
        if self.momentum == 0 or (self.r_max(step) == 1 and self.d_max(step) == 0):
            return
        warn(
            "To be computed again in the backward pass, BatchRenorm must find its running statistics as they were; "
            "they have moved, and so would r, d and the gradients. Call checkpoint(..., use_reentrant=False, "
            "context_fn=lambda: batchfix.nn.recomputation(model)).",
            BatchfixWarning,
            stacklevel=3,
        )

    def extra_repr(self) -> str:
        """Batch norm's, and the limits."""
        return f"{super().extra_repr()}, r_max={self.r_max}, d_max={self.d_max}"


class BatchRenorm1d(_BatchRenorm):
    """Batch renormalization of (N, C) or (N, C, L): batch norm that trains as it will infer.

    The minibatch is normalized as in batch norm, then moved to the frame of the running statistics, within limits that
    open as training goes on:

        y = weight (r z + d) + bias
        r = clip(sigma_B / sigma, 1 / r_max, r_max),   d = clip((mu_B - mu) / sigma, -d_max, d_max)

    Small minibatches, and minibatches of one class or one domain, then see in training what they see at inference. In
    eval it is batch norm, and its state is batch norm's: a checkpoint of one loads into the other.

    Parameters
    ----------
    num_features : int
        Channels C, at axis 1.
    eps : float
        Added to the variance, inside the square root.
    momentum : float or None
        Weight of the minibatch in the running statistics; None: the average of all minibatches.
    affine : bool
        Learn weight and bias (C,).
    r_max, d_max : float or Schedule
        Limits of r (at least 1) and |d| (at least 0). By default the paper's: r_max 1 until step 5,000, then 3 from
        step 40,000; d_max 0 until step 5,000, then 5 from step 25,000. Until the first of them opens the layer is batch
        norm: for short trainings give numbers, or a faster Schedule.
    device, dtype
        Of the parameters and buffers.

    Raises
    ------
    BatchfixError
        A parameter out of range; input of another shape, number of channels or dtype.

    Notes
    -----
    Half precision is normalized with float32 statistics. A minibatch of one value a channel moves the running mean and
    not the variance (without momentum it counts in the average of both); an empty one moves nothing. ``forward(x,
    mask)`` leaves padding out. r and d are constants to the gradient.

    `num_batches_tracked` is the step of the schedules. ``torch.optim.swa_utils.update_bn`` sets it to the number of its
    own minibatches: go on training with limits that are numbers.

    Activation checkpointing computes the forward pass again, from running statistics that have moved: call it with
    `recomputation`. Under torch.compile leave ``activation_memory_budget`` at 1, and do not checkpoint. DataParallel
    moves the statistics of its first replica only, as in batch norm; DistributedDataParallel those of each process, or
    of all together by `convert_sync_batchrenorm`. ``torch.jit.trace`` and CUDA graphs keep the limits of one step:
    trace in eval. ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` makes plain SyncBatchNorm of it without a word.

    References
    ----------
    Ioffe (2017), Batch Renormalization: Towards Reducing Minibatch Dependence in Batch-Normalized Models, Algorithm 1.

    Examples
    --------
    >>> import torch
    >>> layer = BatchRenorm1d(3, r_max=3.0, d_max=5.0)
    >>> layer(torch.randn(2, 3)).shape
    torch.Size([2, 3])
    """

    ndims = (2, 3)


class BatchRenorm2d(_BatchRenorm):
    """Batch renormalization of images (N, C, H, W); all else as `BatchRenorm1d`.

    Examples
    --------
    >>> import torch
    >>> BatchRenorm2d(3)(torch.randn(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    ndims = (4,)


class BatchRenorm3d(_BatchRenorm):
    """Batch renormalization of volumes (N, C, D, H, W); all else as `BatchRenorm1d`.

    Examples
    --------
    >>> import torch
    >>> BatchRenorm3d(3)(torch.randn(2, 3, 4, 4, 4)).shape
    torch.Size([2, 3, 4, 4, 4])
    """

    ndims = (5,)


class _InstanceRenorm(BatchLayer):
    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        blend: float = 0.5,
        learn_blend: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_share("blend", blend, "instance norm to batch norm")
        if not isinstance(learn_blend, bool):
            raise BatchfixError(f"learn_blend must be True or False; got {learn_blend!r}.")
        super().__init__(num_features, eps, momentum, affine, device=device, dtype=dtype)
        self.learn_blend, self._first_blend = learn_blend, float(blend)
        self.blend: float | Tensor = float(blend)
        if learn_blend:
            del self.blend
            self.blend = nn.Parameter(torch.full((num_features,), float(blend), device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Batch norm's, and the blend."""
        super().reset_parameters()
        if "blend" in self._parameters:
            nn.init.constant_(self.blend, self._first_blend)  # type: ignore[arg-type]  # learned, it is a tensor

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (N, C, *)."""
        self._check(x)
        blend = self.blend
        if isinstance(blend, Tensor):
            # the value stays within [0, 1], the gradient passes, so that a blend at the edge can come back
            blend = blend + (torch.clamp(blend, 0.0, 1.0) - blend).detach()
        training = self.training and x.numel() > 0
        momentum = self.weight_of(self.advance()) if training else 0.0
        state = self.running_mean, self.running_var, self.weight, self.bias
        return functional.instance_renorm(x, *state, blend, training, momentum, self.eps)

    def extra_repr(self) -> str:
        """Batch norm's, and the blend."""
        blend = f"{float(torch.as_tensor(self.blend).detach().mean()):g}"
        return f"{super().extra_repr()}, blend={blend}, learn_blend={self.learn_blend}"


class InstanceRenorm1d(_InstanceRenorm):
    """Instance norm, moved part of the way to batch norm, for (N, C, L).

    Each channel of each sample is normalized on its own, then crosses the bridge to the batch's frame by a share
    `blend`, linear in (r, d):

        y = weight ((1 + blend (r - 1)) z + blend d) + bias
        r = sigma_instance / sigma_batch,   d = (mu_instance - mu_batch) / sigma_batch

    blend 0 is instance norm (style gone), 1 is batch norm (style kept). In eval the batch is the running population.

    Parameters
    ----------
    num_features, eps, momentum, affine, device, dtype
        As in `BatchRenorm1d`.
    blend : float
        From 0 to 1.
    learn_blend : bool
        Learn one blend a channel, from `blend`, kept within [0, 1].

    Raises
    ------
    BatchfixError
        A parameter out of range; input of another shape, number of channels or dtype.

    Notes
    -----
    r and d are constants to the gradient, which is instance norm's whatever the blend. At inference it is no fixed map
    of x, so it must not be fused into a convolution (`fuse_conv_bn_eval` does not ask).

    References
    ----------
    The bridge is Ioffe (2017), section 3; Nam and Kim (2018), Batch-Instance Normalization, blend the two outputs.

    Examples
    --------
    >>> import torch
    >>> InstanceRenorm1d(3, blend=0.2)(torch.randn(2, 3, 10)).shape
    torch.Size([2, 3, 10])
    """

    ndims = (3,)


class InstanceRenorm2d(_InstanceRenorm):
    """Instance norm, moved part of the way to batch norm, for images (N, C, H, W); see `InstanceRenorm1d`.

    Examples
    --------
    >>> import torch
    >>> InstanceRenorm2d(3, learn_blend=True)(torch.randn(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    ndims = (4,)


class InstanceRenorm3d(_InstanceRenorm):
    """Instance norm, moved part of the way to batch norm, for volumes (N, C, D, H, W); see `InstanceRenorm1d`.

    Examples
    --------
    >>> import torch
    >>> InstanceRenorm3d(3)(torch.randn(2, 3, 4, 4, 4)).shape
    torch.Size([2, 3, 4, 4, 4])
    """

    ndims = (5,)
