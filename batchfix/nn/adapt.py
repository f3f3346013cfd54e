"""Adaptation: the running statistics of a model, estimated anew on a few samples of another domain.

A model and minibatches of samples flow in; the same model with other running statistics flows out. Each layer's
minibatches leave moments behind, which add up (`core.moments`), so that minibatches of any size give exactly

    running_mean = mean,   running_var = m2 / (n - 1)   of all values that reached the layer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import reduce
from inspect import signature
from itertools import repeat
from operator import add
from typing import Any, TypeVar
from warnings import warn

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils.data import Dataset, IterableDataset
from torch.utils.hooks import RemovableHandle
from tqdm import tqdm

from ..core.moments import Moments
from ..exceptions import AdaptationWarning, BatchfixError
from . import functional
from .checks import check_labels, is_whole
from .conditional import _DomainBatchNorm
from .freeze import Frozen, found_in, layers_with_statistics, listed, place
from .kernels import exact_on, statistics
from .renorm import _BatchRenorm

Model = TypeVar("Model", bound=nn.Module)

PIECE = 2**20
"""Values of a layer's input that are taken in float64 at once."""


def adapt(
    model: Model,
    data: Iterable[Any],
    *,
    prior: float | None = None,
    forward: Callable[[Any], Any] | None = None,
    progress: bool = True,
) -> Model:
    """Re-estimate running statistics on samples of a new domain, in one pass and without labels.

        running_mean = (1 - w) old + w mean,   running_var = (1 - w) old + w m2 / (n - 1)
        w = samples / (prior + samples)

    mean and m2 are the moments of all n values of a channel that reached the layer, merged over minibatches in float64.
    Meanwhile every layer normalizes by its minibatch, so that deeper layers see what they will see.

    Parameters
    ----------
    model : Module
        With layers that keep running statistics: BatchNorm, SyncBatchNorm, BatchRenorm, InstanceRenorm (its batch
        side), ConditionalBatchNorm, DomainBatchNorm (of the domains that come). Frozen layers are left alone.
    data : iterable of minibatches
        A DataLoader, a list, a generator, of tensors, or of tuples, lists or dicts, whose first element is the model's
        input. Tensors are moved to the device of the model.
    prior : float, optional
        Samples that the old statistics count for; None: they count for nothing. Worth it below some 30 samples.
    forward : callable, optional
        Called with each minibatch in place of the model, to say how the model is called:
        ``lambda batch: model(batch["x"], batch["domain"])``.
    progress
        Show a progress bar, in a terminal.

    Returns
    -------
    Module
        The same model. All else is as it was: weights, modes, momentum, `requires_grad`, `num_batches_tracked`; after
        an exception the running statistics too.

    Raises
    ------
    BatchfixError
        No layer to adapt, no sample that reaches one, nan or inf among the values, a minibatch without a tensor.

    Warns
    -----
    AdaptationWarning
        A layer saw one value a channel: its mean moves, its variance stays.

    Notes
    -----
    A minibatch of one value a channel has no variance: it is normalized by the moments so far, or by the old statistics
    as long as those are of one value too, and is counted like any other. Dropout and the like are in eval; nothing is
    learned. `samples` are the rows that reach a layer, each once if a layer is called twice on them. A layer that no
    sample reaches stays as it is, and so does InstanceNorm, whose running statistics are those of instances.

    Only calls of layers are seen: not ``layer.forward(x)``, nor a scripted or exported model. The bare module inside
    DataParallel or DistributedDataParallel is adapted, each process by its own data.

    References
    ----------
    Schneider et al. (2020), Improving robustness against common corruptions by covariate shift adaptation, section 2.
    Chan, Golub and LeVeque (1983), Algorithms for computing the sample variance, eq. 2.1.

    Examples
    --------
    >>> model = nn.Sequential(nn.BatchNorm1d(1), nn.Linear(1, 2)).eval()
    >>> minibatches = [torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [4.0], [5.0]])]
    >>> adapt(model, minibatches)[0].running_mean, model[0].running_var
    (tensor([3.]), tensor([2.5000]))
    >>> adapt(model, [torch.tensor([[9.0], [9.0]])], prior=6)[0].running_mean
    tensor([4.5000])
    """
    _check(data, prior)
    layers = [_Adapted(path, layer) for path, layer in layers_with_statistics(model) if _is_adaptable(layer)]
    if not layers:
        raise BatchfixError(
            "To adapt, a model must have a layer that keeps the running statistics of minibatches and is not frozen, "
            f"such as BatchNorm2d or BatchRenorm2d; found {found_in(model)}. Unfreeze it, or convert() its layers."
        )
    call, device = forward or _caller(model), _device(model, layers[0].layer)
    with (
        torch.no_grad(),
        _eagerly(),
        _listening(model, layers),
        tqdm(data, desc="adapt", unit=" minibatches", disable=None if progress else True, leave=False) as bar,
    ):
        for number, batch in enumerate(bar, start=1):
            call(_moved(batch, device))
            for layer in layers:
                layer.close_minibatch(number)
    found = [(layer, layer.settled(prior or 0.0)) for layer in layers if layer.was_reached()]
    if not found:
        raise BatchfixError(
            f"data must bring samples to a layer that keeps statistics ({listed([one.place for one in layers])}); "
            "none came. It may be empty, or an iterator that is used up, or forward may not call the model."
        )
    for layer, new in found:
        layer.commit(*new)
    thin = [layer.place for layer, _ in found if layer.is_thin()]
    if thin:
        warn(
            f"One value a channel has no variance: {listed(thin)} moved the running mean and kept the running "
            "variance. Pass more samples.",
            AdaptationWarning,
            stacklevel=2,
        )
    return model


class _Adapted:
    """A layer, and the moments of what reached it; called before each of its calls."""

    def __init__(self, path: str, layer: Any) -> None:
        self.place, self.layer, self.signature = place(path), layer, signature(layer.forward)
        self.old: tuple[Tensor, Tensor] = layer.running_mean, layer.running_var
        mean = self.old[0].detach().to(exact_on(self.old[0].device))
        zero = torch.zeros_like(mean)
        self.moments = Moments(zero, zero, zero)
        self.samples = self.here = torch.zeros_like(mean[..., :1])

    def __call__(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Add the moments of the input, and let the layer normalize by them."""
        if layer is not self.layer:
            raise BatchfixError(
                f"To adapt, {self.place} must be called itself; a replica of it was. Adapt the module inside "
                "DataParallel."
            )
        x, *rest = self.signature.bind(*args, **kwargs).args
        channels = self.old[0].shape[-1]
        if not isinstance(x, Tensor) or x.ndim < 2 or x.shape[1] != channels or not x.is_floating_point():
            return  # the layer says what is wrong
        moments, samples = self._observe(x, *rest)
        self.moments = self.moments + moments
        self.here = torch.maximum(self.here, samples)
        mean, var = self.old
        for source in (self.moments, moments):
            enough = source.n > 1
            mean = torch.where(enough, source.mean, mean)
            var = torch.where(enough, source.variance(correction=0), var)
        self.layer.running_mean, self.layer.running_var = (
            new.to(old.device, old.dtype) for new, old in zip((mean, var), self.old, strict=True)
        )

    def _observe(self, x: Tensor, mask_or_domains: Any = None) -> tuple[Moments, Tensor]:
        """Moments and the number of samples of a layer's input; of each domain where the layer tells them apart."""
        if not isinstance(self.layer, _DomainBatchNorm):
            mask = mask_or_domains if isinstance(self.layer, _BatchRenorm) else None
            moments = _moments(x, mask)
            there = len(x) if mask is None else int(mask.reshape(len(x), -1).any(dim=1).sum())
            return moments, torch.full_like(self.here, there)
        codes, number = mask_or_domains, self.layer.num_domains
        if is_whole(codes):
            codes = torch.full((len(x),), codes, device=x.device)
        check_labels(codes, number, len(x), "domains", type(self.layer).__name__)
        parts = [_moments(x[codes == domain], None) for domain in range(number)]
        moments = Moments(*(torch.stack([getattr(part, name) for part in parts]) for name in ("n", "mean", "m2")))
        return moments, torch.bincount(codes, minlength=number)[:, None].to(self.here.dtype)

    def close_minibatch(self, number: int) -> None:
        """Count the samples of a minibatch, and refuse what is not a number."""
        self.samples, self.here = self.samples + self.here, torch.zeros_like(self.here)
        if not bool((torch.isfinite(self.moments.mean) & torch.isfinite(self.moments.m2)).all()):
            raise BatchfixError(
                f"Values must be finite to adapt to; minibatch {number} brought nan or inf to {self.place}. "
                "Take such samples out. The model is as it was."
            )

    def settled(self, prior: float) -> tuple[Tensor, Tensor]:
        """The new running mean and variance."""
        n, weight = self.moments.n, self.samples / (prior + self.samples)
        estimates = (self.moments.mean, 1), (self.moments.variance(correction=1), 2)
        new = []
        for old, (estimate, least) in zip(self.old, estimates, strict=True):
            before = old.detach().to(n.dtype)
            # a weight of 1 forgets the old ones, even if they are nan
            after = torch.where(weight == 1, estimate, torch.lerp(before, estimate, weight))
            value = torch.where(n >= least, after, before).to(old.dtype)
            if not bool((torch.isfinite(value) | (n < least)).all()):
                raise BatchfixError(
                    f"New statistics must be finite; those of {self.place} would be nan or inf in {old.dtype}. "
                    "Scale the data, keep the layer in float32, or leave a prior of nan out. The model is as it was."
                )
            new.append(value)
        return new[0], new[1]

    def commit(self, *new: Tensor) -> None:
        """Write the new statistics into the layer's own buffers."""
        for buffer, value in zip(self.old, new, strict=True):
            with torch.inference_mode(buffer.is_inference()), torch.no_grad():
                buffer.copy_(value)

    def restore(self) -> None:
        """Give the layer its own buffers back."""
        self.layer.running_mean, self.layer.running_var = self.old

    def was_reached(self) -> bool:
        """Whether a value came."""
        return bool((self.moments.n > 0).any())

    def is_thin(self) -> bool:
        """Whether some channel saw one value, which has no variance."""
        return bool((self.moments.n == 1).any())


def _is_adaptable(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and not isinstance(layer, Frozen)


def _moments(x: Tensor, mask: Tensor | None) -> Moments:
    """Moments of x (N, C, *) in float64, a piece at a time."""
    rows = max(1, PIECE // max(1, x[:1].numel()))
    masks = repeat(None) if mask is None else mask.split(rows)
    return reduce(add, map(_moments_of_piece, x.split(rows), masks))


def _moments_of_piece(x: Tensor, mask: Tensor | None) -> Moments:
    """In float64. Values of fewer digits have all theirs (1e-12) from one pass of a kernel, at a third of the time."""
    exact = exact_on(x.device)
    if mask is not None or x.dtype == exact or not x.numel():
        return functional.moments(x.to(exact), mask)
    mean, var = statistics(x.to(exact))
    n = x.numel() // x.shape[1]
    return Moments(torch.full_like(mean, n), mean, var * n)


# ---- the model meanwhile


@contextmanager
def _listening(model: nn.Module, layers: list[_Adapted]) -> Iterator[None]:
    """All modules in eval, the layers on their minibatches' statistics; on leaving, everything as it was."""
    modes = [(module, module.training) for module in model.modules()]
    hooks: list[RemovableHandle] = []
    try:
        for module, _ in modes:
            module.training = False  # not .eval(): some models merge weights there
        hooks.extend(layer.layer.register_forward_pre_hook(layer, with_kwargs=True) for layer in layers)
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer in layers:
            layer.restore()
        for module, mode in modes:
            module.training = mode


def _eagerly() -> AbstractContextManager[None]:
    """Compiled code does not see new hooks, so compiled models run as they are written (torch 2.6 can do that)."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        return nullcontext()  # nothing is compiled, and loading the compiler takes seconds
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance


def _caller(model: nn.Module) -> Callable[[Any], Any]:
    """Call the model, without the wrapper that would call replicas, with the first element of a minibatch."""
    bare = model.module if isinstance(model, DataParallel | DistributedDataParallel) else model

    def call(batch: Any) -> Any:
        x = _first(batch)
        try:
            return bare(x)
        except TypeError as error:
            error.add_note(
                "adapt() called the model with a minibatch's first element alone; forward= says it otherwise."
            )
            raise

    return call


# ---- minibatches


def _check(data: Any, prior: Any) -> None:
    if isinstance(data, Dataset) and not isinstance(data, IterableDataset):
        raise BatchfixError(
            f"data must be an iterable of minibatches; got {type(data).__name__}, a Dataset, which holds single "
            "samples. Write DataLoader(data, batch_size=32)."
        )
    if isinstance(data, Tensor | Mapping | str) or not isinstance(data, Iterable):
        what = f"a tensor of shape {tuple(data.shape)}" if isinstance(data, Tensor) else type(data).__name__
        raise BatchfixError(
            f"data must be an iterable of minibatches, such as a DataLoader or a list of tensors; got {what}. "
            "Write [x] for one minibatch, x.split(32) for several."
        )
    number = isinstance(prior, int | float) and not isinstance(prior, bool)
    if prior is not None and not (number and 0 <= prior < float("inf")):
        raise BatchfixError(
            f"prior must be a number of samples, 0 or more, or None; got {prior!r}. It says how many samples the old "
            "statistics count for."
        )


def _device(model: nn.Module, layer: Any) -> torch.device:
    """Where the model takes its input: that of its first parameter."""
    first: Tensor = next(model.parameters(), layer.running_mean)
    return first.device


def _moved(batch: Any, device: torch.device) -> Any:
    """Move all tensors of a minibatch."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: _moved(value, device) for key, value in batch.items()}
    if isinstance(batch, tuple | list):
        values = [_moved(value, device) for value in batch]
        return type(batch)(*values) if hasattr(batch, "_fields") else type(batch)(values)
    return batch


def _first(batch: Any) -> Tensor:
    """The model's input in a minibatch."""
    first = batch
    if isinstance(batch, Mapping):
        first = next(iter(batch.values()), None)
    elif isinstance(batch, tuple | list):
        first = batch[0] if batch else None
    if not isinstance(first, Tensor):
        raise BatchfixError(
            "A minibatch must be a tensor, or a tuple, list or dict whose first element is one; got "
            f"{type(batch).__name__}{'' if first is batch else f' with {type(first).__name__} first'}. "
            "Say how the model is called: forward=lambda batch: model(...)."
        )
    return first
