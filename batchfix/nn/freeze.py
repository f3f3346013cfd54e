"""Frozen layers: normalization by the running statistics, whatever `.train()` says.

A model flows in and out, changed in place: each layer that keeps running statistics becomes a frozen kind of its own
class (`BatchNorm2d` a `FrozenBatchNorm2d`, which `isinstance` still takes for a `BatchNorm2d`), and back:

    y = weight (x - running_mean) / sqrt(running_var + eps) + bias,   in training as in eval
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.utils.parametrize import is_parametrized

from ..exceptions import BatchfixError

Model = TypeVar("Model", bound=nn.Module)


def freeze(model: Model, *, weights: bool = False) -> Model:
    """Make normalization layers keep to their running statistics, in training too.

    Training then neither uses minibatch statistics nor moves the running ones: for fine-tuning on few samples, or on
    minibatches too small to normalize by.

    Parameters
    ----------
    model : Module
        Changed in place. Its layers may be torch's or ours.
    weights
        Also freeze the layers' own parameters (weight, bias, a learned blend): `requires_grad` turns False.

    Returns
    -------
    Module
        The same model. Its layers stay frozen through ``.train()``, deepcopy, pickle, ``torch.save`` and
        ``load_state_dict``, which loads their statistics; `reset_running_stats` leaves them alone, and so does
        ``swa_utils.update_bn``.

    Raises
    ------
    BatchfixError
        No layer of the model keeps running statistics; a layer is lazy or parametrized.

    Notes
    -----
    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` makes plain layers of frozen ones: freeze after it.

    Examples
    --------
    >>> model = freeze(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))).train()
    >>> model[1].training, type(model[1]).__name__, isinstance(model[1], nn.BatchNorm1d)
    (False, 'FrozenBatchNorm1d', True)
    """
    layers = layers_with_statistics(model)
    if not layers:
        raise BatchfixError(
            "To freeze, a model must have a layer that keeps running statistics, such as BatchNorm2d or BatchRenorm2d; "
            f"found {found_in(model)}. Other layers behave in training as in eval, and need no freezing."
        )
    _refuse_parametrized(layers)
    for _, layer in layers:
        if not isinstance(layer, Frozen):
            freeze_layer(layer, layer.training, ())
        if weights:
            learned = [name for name, p in layer.named_parameters(recurse=False) if p.requires_grad]
            layer.frozen_weights = (*layer.frozen_weights, *learned)
            for name in learned:
                getattr(layer, name).requires_grad_(False)
    return model


def unfreeze(model: Model) -> Model:
    """Undo `freeze`: layers are of their own class again, in the mode last asked for, and learn what they had learned.

    Parameters
    ----------
    model : Module
        Changed in place.

    Returns
    -------
    Module
        The same model.

    Raises
    ------
    BatchfixError
        No layer of the model is frozen; a frozen layer is parametrized.

    Examples
    --------
    >>> model = freeze(nn.Sequential(nn.BatchNorm1d(3)), weights=True).train()
    >>> layer = unfreeze(model)[0]
    >>> type(layer).__name__, layer.training, layer.weight.requires_grad
    ('BatchNorm1d', True, True)
    """
    check_model(model)
    layers = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, Frozen)]
    if not layers:
        raise BatchfixError(f"unfreeze takes a model with frozen layers; found {found_in(model)}. Call freeze() first.")
    _refuse_parametrized(layers)
    for _, layer in layers:
        for name in layer.frozen_weights:
            getattr(layer, name).requires_grad_(True)
        layer.training = layer.asked_mode
        del layer.asked_mode, layer.frozen_weights
        layer.__class__ = layer.thawed  # type: ignore[assignment]  # its own class again
    return model


class Frozen(nn.Module):
    """What freezing adds to a layer's class.

    Attributes
    ----------
    thawed : type
        The layer's own class.
    asked_mode : bool
        The mode that `train` was last asked for, which `unfreeze` goes back to.
    frozen_weights : tuple of str
        Parameters that learned before freezing.
    """

    if TYPE_CHECKING:  # torch.jit.script would read them, and knows no such types
        thawed: ClassVar[type[nn.Module]]
        asked_mode: bool
        frozen_weights: tuple[str, ...]

    def train(self, mode: bool = True) -> Self:
        """Remember the mode and stay in eval."""
        self.asked_mode = mode
        return super().train(False)

    def reset_running_stats(self) -> None:
        """Nothing moves frozen statistics."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Name the layer's own class: the frozen one has no place in a module that pickle could find it by."""
        return _blank, (self.thawed,), self.__getstate__()  # type: ignore[no-untyped-call]  # Python's own, untyped by torch


_FROZEN: dict[type[nn.Module], type[Frozen]] = {}


def frozen_class(thawed: type[nn.Module]) -> type[Frozen]:
    """The frozen kind of a layer's class, always the same one."""
    if thawed not in _FROZEN:
        more = {"thawed": thawed, "__doc__": f"A {thawed.__name__} that keeps to its running statistics."}
        _FROZEN[thawed] = type(f"Frozen{thawed.__name__}", (Frozen, thawed), more)
    return _FROZEN[thawed]


def _blank(thawed: type[nn.Module]) -> Frozen:
    """A frozen layer without its state, for pickle and deepcopy to fill."""
    kind = frozen_class(thawed)
    return kind.__new__(kind)


def freeze_layer(layer: nn.Module, asked_mode: bool, frozen_weights: tuple[str, ...]) -> None:
    """Freeze one layer that is not."""
    layer.__class__ = frozen_class(type(layer))
    layer.training, layer.asked_mode, layer.frozen_weights = False, asked_mode, frozen_weights  # type: ignore[assignment]  # it is Frozen now


def _refuse_parametrized(layers: Sequence[tuple[str, nn.Module]]) -> None:
    """A parametrization swaps a layer's class too, and the one would undo the other."""
    for path, layer in layers:
        if is_parametrized(layer):
            raise BatchfixError(
                f"To be frozen or unfrozen, {place(path)} must be free of parametrizations; it is a "
                f"{type(layer).__name__}. Remove them first (torch.nn.utils.parametrize.remove_parametrizations)."
            )


# ---- the layers of a model


def layers_with_statistics(model: nn.Module) -> list[tuple[str, Any]]:
    """Path and layer of all that keep running statistics, frozen ones too."""
    check_model(model)
    norms = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, _NormBase)]
    for path, layer in norms:
        refuse_lazy(path, layer)
    return [(path, layer) for path, layer in norms if layer.running_mean is not None]


def check_model(model: Any) -> None:
    """A model is a torch module."""
    if not isinstance(model, nn.Module):
        raise BatchfixError(f"model must be a torch.nn.Module; got {type(model).__name__}.")


def refuse_lazy(path: str, layer: nn.Module) -> None:
    """A layer that does not know its channels yet has no statistics."""
    if isinstance(layer, LazyModuleMixin):
        raise BatchfixError(
            f"Every layer must know its channels; {place(path)} is a {type(layer).__name__}, which learns them from "
            "its first minibatch. Call the model on one first."
        )


def place(path: str) -> str:
    """A layer, by the path that leads to it."""
    return f"layer {path!r}" if path else "the model"


def listed(names: Sequence[str], most: int = 8) -> str:
    """'a', 'b' and 3 more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def found_in(model: nn.Module) -> str:
    """The kinds of layers that a model is made of, norms first."""
    kinds = {_kind(layer) for layer in model.modules() if not list(layer.children())}
    return listed(sorted(kinds, key=lambda kind: ("Norm" not in kind, kind)))


def _kind(layer: nn.Module) -> str:
    without = isinstance(layer, _NormBase) and layer.running_mean is None
    return type(layer).__name__ + " without running statistics" * without
