"""Conversion: other normalization layers in the place of those that a model has, with all that they learned.

A model flows in and out, changed in place. A new layer takes over the very tensors of the old one (parameters, running
statistics), so that optimizers go on, and everything else that both kinds know: eps, momentum, mode, device, dtype.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Literal
from warnings import warn

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.utils.parametrize import is_parametrized

from ..exceptions import BatchfixError, BatchfixWarning, DroppedStatisticsWarning
from .checks import check_count, check_eps, check_share
from .conditional import _ConditionalBatchNorm, _DomainBatchNorm
from .freeze import Frozen, check_model, found_in, freeze_layer, listed, place, refuse_lazy
from .renorm import BatchRenorm1d, BatchRenorm2d, BatchRenorm3d, InstanceRenorm1d, InstanceRenorm2d, InstanceRenorm3d
from .sync import SYNCHRONISED

Kind = Literal["batch_renorm", "batch_norm", "group_norm", "instance_renorm"]

TARGETS: dict[str, tuple[type[nn.Module], ...]] = {
    "batch_renorm": (BatchRenorm1d, BatchRenorm2d, BatchRenorm3d),
    "batch_norm": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    "group_norm": (nn.GroupNorm, nn.GroupNorm, nn.GroupNorm),
    "instance_renorm": (InstanceRenorm1d, InstanceRenorm2d, InstanceRenorm3d),
}
"""The layers for 1, 2 and 3 dimensions of each kind."""

OPTIONS = {
    "batch_renorm": ("eps", "momentum", "r_max", "d_max"),
    "batch_norm": ("eps", "momentum"),
    "group_norm": ("eps", "num_groups"),
    "instance_renorm": ("eps", "momentum", "blend", "learn_blend"),
}
"""What may be said of the new layers."""

INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

DIMS: dict[type[nn.Module], int | None] = {nn.SyncBatchNorm: None, nn.GroupNorm: None}
for _kinds in (*TARGETS.values(), INSTANCE, tuple(SYNCHRONISED.values())):
    DIMS |= {kind: dims for dims, kind in enumerate(_kinds, start=1) if kind not in DIMS}
"""All layers that can be converted, and their dimensions; None: the layer does not say."""

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def convert(
    model: nn.Module, to: Kind, *, num_groups: int | None = None, dims: int | None = None, **options: Any
) -> nn.Module:
    """Replace the normalization layers of a model by layers of another kind.

    Parameters
    ----------
    model : Module
        With BatchNorm, SyncBatchNorm, BatchRenorm, InstanceRenorm, InstanceNorm or GroupNorm layers. Changed in place,
        but for a model that is itself such a layer.
    to : {"batch_renorm", "batch_norm", "group_norm", "instance_renorm"}
        The kind of the new layers.
    num_groups : int
        Of group norm, which needs it. It must divide the channels of every layer.
    dims : {1, 2, 3}, optional
        Dimensions of the layers that do not say (SyncBatchNorm and GroupNorm): 2 for images.
    **options
        Of the new layers: eps, momentum; r_max, d_max of `BatchRenorm2d`; blend, learn_blend of `InstanceRenorm2d`.
        By default they are those of the old layers where these have them.

    Returns
    -------
    Module
        The same model, or the new layer if the model is a layer.

    Raises
    ------
    BatchfixError
        Nothing to convert; an unknown kind or option; num_groups that does not divide; dims that nobody said; a layer
        that is lazy, of a class of your own, parametrized, or with hooks, which would be lost; a frozen layer whose
        statistics have no place in its new kind. The model is then as it was.

    Warns
    -----
    DroppedStatisticsWarning
        Running statistics (or a learned blend) have no place in the new kind.
    BatchfixWarning
        The new kind needs running statistics that the old one did not keep: they start at mean 0 and variance 1.

    Notes
    -----
    Kept: the parameters (the same objects, so optimizers go on), running statistics, `num_batches_tracked`, eps,
    momentum, mode, device, dtype, `requires_grad`, frozenness, and a layer's occurring twice. Layers that are of the
    kind already, and ConditionalBatchNorm and DomainBatchNorm, which take labels, are left as they are. BatchNorm that
    tracks no statistics tracks none as "batch_norm" either.

    "batch_renorm" with ``r_max=1, d_max=0`` is batch norm, and back again the state is the same to the last bit. Of
    SyncBatchNorm and SyncBatchRenorm the process group is lost: the new layers normalize each process by itself. The
    running variance of InstanceNorm is that within instances, not that of batches, and is dropped.

    Beware of ``torch.nn.SyncBatchNorm.convert_sync_batchnorm``: it turns all our batch layers, frozen ones too, into
    plain SyncBatchNorm without a word.

    Examples
    --------
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    >>> weight = model[1].weight
    >>> model = convert(model, to="batch_renorm", r_max=3.0, d_max=5.0)
    >>> type(model[1]).__name__, model[1].weight is weight
    ('BatchRenorm2d', True)
    """
    if num_groups is not None:
        options["num_groups"] = num_groups
    _check_call(model, to, dims, options)
    layers = [(path, layer) for path, layer in model.named_modules() if _is_source(path, layer)]
    if not layers:
        raise BatchfixError(
            "To convert, a model must have a normalization layer: BatchNorm, SyncBatchNorm, BatchRenorm, "
            f"InstanceRenorm, InstanceNorm or GroupNorm; found {found_in(model)}. Layers that take labels are not "
            "converted."
        )
    new: dict[int, nn.Module] = {}
    dropped, fresh = [], []
    for path, layer in layers:  # all are made before any is put in its place
        if not options and _class_of(layer) in TARGETS[to]:
            continue
        made = _made(path, layer, model, to, dims, options)
        lost, begun = _take_over(path, layer, made, options)
        new[id(layer)] = made
        dropped += [place(path)] * lost
        fresh += [place(path)] * begun
    if dropped:
        warn(
            f"What has no place in {to} is dropped, running statistics or a learned blend, of {listed(dropped)}.",
            DroppedStatisticsWarning,
            stacklevel=2,
        )
    if fresh:
        warn(
            f"Running statistics, which {to} needs, start at mean 0 and variance 1 in {listed(fresh)}. Train, or call "
            "adapt(model, data), before inference.",
            BatchfixWarning,
            stacklevel=2,
        )
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if id(child) in new:
                parent._modules[name] = new[id(child)]
    return new.get(id(model), model)


def _made(path: str, layer: Any, model: nn.Module, to: Kind, dims: int | None, options: dict[str, Any]) -> nn.Module:
    """A new layer of the kind, with the settings of the old one where nothing else is asked for."""
    _refuse_hooks(path, layer)
    dims = DIMS[_class_of(layer)] or dims or (1 if to == "group_norm" else None)
    if dims is None:
        raise BatchfixError(
            f"dims must be given for layers that do not say theirs; {place(path)} is a {type(layer).__name__}. "
            "Pass dims=2 for images, 1 for sequences or 3 for volumes."
        )
    target = TARGETS[to][dims - 1]
    settings = {
        name: getattr(layer, name) for name in OPTIONS[to] if name not in layer._parameters and hasattr(layer, name)
    }
    settings |= options | {"affine": layer.weight is not None} | _place_of(layer, model)
    channels = layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features
    settings["num_channels" if to == "group_norm" else "num_features"] = channels
    if to == "batch_norm" and isinstance(layer, _BatchNorm):
        settings["track_running_stats"] = layer.running_mean is not None
    if to == "group_norm" and channels % settings["num_groups"]:
        raise BatchfixError(
            f"num_groups must divide the channels of every layer; got {settings['num_groups']}, and {place(path)} has "
            f"{channels}."
        )
    try:
        return target(**settings)
    except BatchfixError as error:
        raise BatchfixError(f"{target.__name__} in the place of {place(path)}: {error}") from error


def _take_over(path: str, layer: Any, new: Any, options: dict[str, Any]) -> tuple[bool, bool]:
    """Give a new layer what the old one holds. Whether something was dropped, and whether its statistics are fresh."""
    for name, parameter in layer._parameters.items():  # weight, bias, a learned blend
        if name in new._parameters and name not in options:
            new._parameters[name] = parameter
    lost = any(p is not None and new._parameters.get(name) is not p for name, p in layer._parameters.items())
    had, needed = (getattr(one, "running_mean", None) is not None for one in (layer, new))
    kept = had and needed and isinstance(layer, _BatchNorm)
    if kept:
        new._buffers |= {name: layer._buffers[name] for name in STATISTICS if layer._buffers[name] is not None}
    new.training = layer.training
    if isinstance(layer, Frozen):
        if not kept:
            raise BatchfixError(
                f"To become {type(new).__name__}, {place(path)} must not be frozen to running statistics, which have "
                "no place there. unfreeze() the model first."
            )
        freeze_layer(new, layer.asked_mode, tuple(name for name in layer.frozen_weights if name in new._parameters))
    return lost or (had and not kept), needed and not kept


def _class_of(layer: nn.Module) -> type[nn.Module]:
    """The layer's own class, frozen or not."""
    return layer.thawed if isinstance(layer, Frozen) else type(layer)


def _place_of(layer: nn.Module, model: nn.Module) -> dict[str, Any]:
    """Device and dtype of the layer, or of the model if the layer holds no tensor."""
    tensors: Iterable[Tensor] = chain(layer.parameters(), layer.buffers(), model.parameters(), model.buffers())
    return next(({"device": t.device, "dtype": t.dtype} for t in tensors if t.is_floating_point()), {})


# ---- what is asked for, and what is there


def _check_call(model: Any, to: Any, dims: Any, options: dict[str, Any]) -> None:
    check_model(model)
    if not isinstance(to, str) or to not in TARGETS:
        raise BatchfixError(f"to must be one of {', '.join(map(repr, TARGETS))}; got {to!r}.")
    unknown = [name for name in options if name not in OPTIONS[to]]
    if unknown:
        raise BatchfixError(
            f"Options of {to} are {', '.join(OPTIONS[to])}; got {listed(unknown)}. All else is taken from the old "
            "layers."
        )
    if dims is not None and (isinstance(dims, bool) or dims not in (1, 2, 3)):
        raise BatchfixError(f"dims must be 1, 2 or 3, for (N, C, L), (N, C, H, W) or (N, C, D, H, W); got {dims!r}.")
    if to == "group_norm":
        check_count("num_groups", options.get("num_groups"), "the groups that channels fall into")
    if "eps" in options:
        check_eps(options["eps"])
    if options.get("momentum") is not None:
        check_share("momentum", options["momentum"], "or None for the average of all minibatches")


def _is_source(path: str, layer: nn.Module) -> bool:
    """Whether a layer can be converted; a sentence where it cannot but one would think so."""
    takes_labels = isinstance(layer, _ConditionalBatchNorm | _DomainBatchNorm)
    if takes_labels or not isinstance(layer, _NormBase | nn.GroupNorm):
        return False
    refuse_lazy(path, layer)
    if is_parametrized(layer):
        raise BatchfixError(
            f"To be converted, {place(path)} must be free of parametrizations, which its replacement would lose. "
            "Remove them first (torch.nn.utils.parametrize.remove_parametrizations)."
        )
    if _class_of(layer) not in DIMS:
        raise BatchfixError(
            f"To be converted, {place(path)} must be of a class of torch's or ours; got {type(layer).__name__}, and "
            "what it does beyond them would be lost. Replace it by hand."
        )
    return True


def _refuse_hooks(path: str, layer: nn.Module) -> None:
    """What hangs on a layer would not hang on its replacement."""
    own = vars(layer)
    found = [name for name, value in own.items() if name.endswith("_hooks") and value]
    found += ["a forward of its own"] * ("forward" in own) + list(layer._modules)
    if found:
        raise BatchfixError(
            f"To be converted, {place(path)} must be free of hooks and the like, which its replacement would lose; it "
            f"carries {listed(found)}. Remove them, convert, and add them again."
        )
