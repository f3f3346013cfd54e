"""Synchronised batch renormalization: the minibatches of all processes of a training, normalized as one.

The rows that this process holds flow in, and out normalized by the rows of all. Between them lies one message each way:

    forward     all_gather of n, mean, m2 of each channel: moments add, however the rows are spread
    backward    all_reduce of sum dy, sum dy z;   dx = weight r (dy - sum dy / n - z sum dy z / n) / sqrt(var + eps)

Running statistics and the step move alike everywhere. Gradients of weight and bias are those of this process, for
DistributedDataParallel to gather as it gathers all others.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._compile import _disable_dynamo
from torch.nn.utils.parametrize import is_parametrized

from ..core.affine import Affine
from ..exceptions import BatchfixError
from .exchange import Members, NormalizeTogether, as_members, check_exchange, gather, is_several, moments_here
from .freeze import Frozen, Model, check_model, found_in, frozen_class, place
from .functional import is_shut, lay_mask, limited_bridge, move, population
from .kernels import accurate
from .renorm import BatchRenorm1d, BatchRenorm2d, BatchRenorm3d, _BatchRenorm
from .schedule import D_MAX, R_MAX, Schedule


class _SyncBatchRenorm(_BatchRenorm):
    _members: Members | None = None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        r_max: float | Schedule = R_MAX,
        d_max: float | Schedule = D_MAX,
        process_group: dist.ProcessGroup | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, r_max=r_max, d_max=d_max, device=device, dtype=dtype)
        self._members = as_members(process_group)

    @property
    def process_group(self) -> dist.ProcessGroup | None:
        """The processes that normalize together; None: all."""
        return None if self._members is None else self._members.group

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Normalize x (N, C, *), N of any size here; `mask` (N, *) is False at padding, which comes out as 0."""
        if not self.training or not is_several(self._members):
            return super().forward(x, mask)
        return self._together(x, mask)

    @_disable_dynamo  # torch.compiler.disable would load the compiler as soon as this file is imported
    def _together(self, x: Tensor, mask: Tensor | None) -> Tensor:
        group = dist.group.WORLD if self.process_group is None else self.process_group
        self._check(x)
        check_exchange(x, group)
        laid = None if mask is None else lay_mask(mask, x)
        with torch.no_grad():
            mine = moments_here(x, mask)
            everyone, counted = gather(mine, x.numel() > 0, accurate(self.running_mean.dtype), group)
            n = torch.clamp(everyone.n, min=1)
            mean, var = (v.to(mine.mean.dtype) for v in (everyone.mean, everyone.m2 / n))
            across = None
            # only a process without rows has to read whether others hold some
            if x.numel() or bool(counted):
                across = self._step(mean, var, everyone.n, sure=mask is None and x.numel() > 0)
        values = x if laid is None else torch.where(laid, x, 0.0)
        r, d = (None, None) if across is None else (across.r, across.d)
        y: Tensor = NormalizeTogether.apply(values, self.weight, self.bias, r, d, mean, var, n, self.eps, group)  # type: ignore[no-untyped-call]  # torch's own
        return y if laid is None else torch.where(laid, y, 0.0)

    def _step(self, mean: Tensor, var: Tensor, n: Tensor, sure: bool) -> Affine | None:
        """Count the minibatch, and move the running statistics; the bridge from it to where they were before.

        `sure`: n is known to be above 0 without reading it.
        """
        before = self.advance(None if sure else (n > 0).all())
        r_max, d_max = self.r_max(before), self.d_max(before)
        across = None
        if not is_shut(r_max, d_max):
            target = population(self.running_mean, self.running_var, self.eps)
            across = limited_bridge(mean, var, target, self.eps, r_max, d_max)
        move(self.running_mean, self.running_var, mean, var, n, self.weight_of(before))
        return across


class SyncBatchRenorm1d(_SyncBatchRenorm, BatchRenorm1d):
    """`BatchRenorm1d` by the statistics of all processes of a training: (N, C) or (N, C, L), N of any size in each.

    Two processes with 6 and 2 rows train as one with 8 does: the same outputs, gradients and running statistics. It
    takes CPUs as well as GPUs. In eval, and where there is one process only, it is `BatchRenorm1d`.

    Parameters
    ----------
    num_features, eps, momentum, affine, r_max, d_max, device, dtype
        As in `BatchRenorm1d`.
    process_group : ProcessGroup, optional
        Of `torch.distributed`, the processes that normalize together; by default all.

    Raises
    ------
    BatchfixError
        As in `BatchRenorm1d`; a process group that this process does not belong to, or that does not serve the device
        of x; a second derivative.

    Notes
    -----
    All processes must make the same calls in the same order, `forward` in training mode and `backward`, or the others
    wait for them. That holds for a process without rows, too: it calls the model on x (0, C, *), and `backward` on any
    loss of what comes out, such as ``y.sum()``. Whether x needs a gradient must be the same everywhere; behind a layer
    that learns it does.

    Gradients of weight and bias are those of the rows here. DistributedDataParallel averages them over the processes:
    where the numbers of rows differ, multiply a loss that is a mean over the rows here by
    ``rows here * processes / rows of all``. It need not send the running statistics, which are alike everywhere.

    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` turns these layers, and all our batch layers, into plain
    SyncBatchNorm without a word: call `convert_sync_batchrenorm` in its place. Under torch.compile the layer runs as it
    is written, between two graphs, so ``fullgraph=True`` raises. A process group cannot be pickled: where a layer has
    one of its own, save the state_dict.

    References
    ----------
    Ioffe (2017), Batch Renormalization, Algorithm 1.
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, eq. 2.1.

    Examples
    --------
    >>> layer = SyncBatchRenorm1d(3, r_max=3.0, d_max=5.0)
    >>> layer(torch.randn(2, 3)).shape
    torch.Size([2, 3])
    """

    ndims = (2, 3)


class SyncBatchRenorm2d(_SyncBatchRenorm, BatchRenorm2d):
    """`BatchRenorm2d` by the statistics of all processes of a training; all else as `SyncBatchRenorm1d`.

    Examples
    --------
    >>> SyncBatchRenorm2d(3)(torch.randn(2, 3, 8, 8)).shape
    torch.Size([2, 3, 8, 8])
    """

    ndims = (4,)


class SyncBatchRenorm3d(_SyncBatchRenorm, BatchRenorm3d):
    """`BatchRenorm3d` by the statistics of all processes of a training; all else as `SyncBatchRenorm1d`.

    Examples
    --------
    >>> SyncBatchRenorm3d(3)(torch.randn(2, 3, 4, 4, 4)).shape
    torch.Size([2, 3, 4, 4, 4])
    """

    ndims = (5,)


SYNCHRONISED: dict[type[_BatchRenorm], type[_SyncBatchRenorm]] = {
    BatchRenorm1d: SyncBatchRenorm1d,
    BatchRenorm2d: SyncBatchRenorm2d,
    BatchRenorm3d: SyncBatchRenorm3d,
}


def convert_sync_batchrenorm(model: Model, process_group: dist.ProcessGroup | None = None) -> Model:
    """Make the BatchRenorm layers of a model normalize by the rows of all processes.

    Parameters
    ----------
    model : Module
        Changed in place: its BatchRenorm layers become SyncBatchRenorm, and stay the same objects, with all that they
        hold (parameters, running statistics, limits, mode, hooks, frozenness). Other layers are left as they are.
    process_group : ProcessGroup, optional
        Of `torch.distributed`, the processes that normalize together; by default all. Layers that are synchronised
        already change to it.

    Returns
    -------
    Module
        The same model.

    Raises
    ------
    BatchfixError
        No BatchRenorm layer; a layer that is of a class of your own, parametrized, or with a forward of its own, which
        would not be synchronised. The model is then as it was.

    Notes
    -----
    BatchNorm is converted in two steps, ``convert_sync_batchrenorm(convert(model, "batch_renorm"))``; with ``r_max=1,
    d_max=0`` it stays batch norm. ``convert(model, "batch_renorm")`` leads back. Frozen layers stay frozen, and
    exchange nothing until `unfreeze`.

    Beware of ``torch.nn.SyncBatchNorm.convert_sync_batchnorm``: it turns all our batch layers into plain SyncBatchNorm
    without a word.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), BatchRenorm2d(8))
    >>> type(convert_sync_batchrenorm(model)[1]).__name__, isinstance(model[1], BatchRenorm2d)
    ('SyncBatchRenorm2d', True)
    """
    check_model(model)
    members = as_members(process_group)
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, _BatchRenorm)]
    if not layers:
        raise BatchfixError(
            f"To be synchronised, a model must have a BatchRenorm layer; found {found_in(model)}. "
            'Call convert(model, to="batch_renorm") first.'
        )
    new = [_synchronised(path, layer) for path, layer in layers]  # all are known before any is changed
    for (_, layer), kind in zip(layers, new, strict=True):
        layer.__class__ = frozen_class(kind) if isinstance(layer, Frozen) else kind  # type: ignore[assignment]  # its kind
        layer._members = members  # type: ignore[assignment]  # of its kind now
    return model


def _synchronised(path: str, layer: _BatchRenorm) -> type[_SyncBatchRenorm]:
    """The synchronised kind of a layer."""
    kind = layer.thawed if isinstance(layer, Frozen) else type(layer)
    if is_parametrized(layer):
        must, act = "be free of parametrizations", "Remove them first (nn.utils.parametrize.remove_parametrizations)"
    elif "forward" in vars(layer):
        must, act = "have no forward of its own, which would not be synchronised", "Remove it first"
    elif kind not in {*SYNCHRONISED, *SYNCHRONISED.values()}:
        must, act = f"be a BatchRenorm layer of ours; got {kind.__name__}", "Replace it by hand"
    else:
        return SYNCHRONISED.get(kind, kind)  # type: ignore[arg-type]  # a kind that is no key is a value
    raise BatchfixError(f"To be synchronised, {place(path)} must {must}. {act}.")
