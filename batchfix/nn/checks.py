"""What must hold of a layer's parameters and input; a sentence where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, TypeGuard

import torch
from torch import Tensor

from ..exceptions import BatchfixError

LETTERS = {2: "(N, C)", 3: "(N, C, L)", 4: "(N, C, H, W)", 5: "(N, C, D, H, W)"}


def check_parameters(num_features: Any, eps: Any, momentum: Any) -> None:
    """Parameters that all batch layers share."""
    check_count("num_features", num_features, "the number of channels")
    check_eps(eps)
    if momentum is not None:
        check_share("momentum", momentum, "or None for the average of all minibatches")


def is_number(value: Any) -> bool:
    """A real number, numpy's too, and no bool."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_whole(value: Any) -> TypeGuard[int]:
    """A whole number, numpy's too, and no bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_share(name: str, value: Any, what: str) -> None:
    """A number from 0 to 1."""
    if not is_number(value) or not 0 <= value <= 1:
        raise BatchfixError(f"{name} must be a number from 0 to 1, {what}; got {value!r}.")


def check_eps(eps: Any) -> None:
    """Eps keeps a channel without spread finite."""
    if not (is_number(eps) and 0 < eps < float("inf")):
        raise BatchfixError(
            f"eps must be a positive number, added to the variance; got {eps!r}. The usual value is 1e-5."
        )


def check_count(name: str, value: Any, what: str) -> None:
    """A positive whole number."""
    if not is_whole(value) or value < 1:
        raise BatchfixError(f"{name} must be a positive whole number, {what}; got {value!r}.")


def check_tensor(name: str, value: Any) -> None:
    """What is computed with must be a tensor."""
    if not isinstance(value, Tensor):
        raise BatchfixError(
            f"{name} must be a torch.Tensor; got {type(value).__name__}. Convert it with torch.as_tensor first."
        )


def check_input(x: Tensor, num_features: int, ndims: Sequence[int], like: Tensor, layer: str) -> None:
    """x must be floating, of one of the shapes that the layer takes, with its channels at axis 1."""
    check_floating(x, layer)
    if x.ndim not in ndims:
        raise BatchfixError(
            f"{layer} takes {' or '.join(LETTERS[n] for n in ndims)}; got shape {tuple(x.shape)}. "
            f"Reshape x, or use the layer for its dimensions ({layer[:-2]}1d, 2d, 3d)."
        )
    if x.shape[1] != num_features:
        raise BatchfixError(
            f"{layer} was made for {num_features} channels at axis 1; got {x.shape[1]} in shape {tuple(x.shape)}. "
            f"Make it with num_features={x.shape[1]}, or move the channels to axis 1."
        )
    half = like.dtype == torch.float32 and x.dtype in (torch.float16, torch.bfloat16)
    if x.dtype != like.dtype and not half:
        more = " or half precision" if like.dtype == torch.float32 else ""
        raise BatchfixError(
            f"{layer} holds {like.dtype} and takes that{more}; got {x.dtype}. "
            "Call .to(dtype) on the model or the input."
        )


def check_channels(x: Tensor, least: int = 2, **values: Tensor | None) -> None:
    """x must be floating, (N, C, *) of at least `least` axes, and each value (C,)."""
    check_tensor("x", x)
    if not x.is_floating_point() or x.ndim < least:
        shape = "(N, C, *)" if least == 2 else "(N, C, L, *)"
        raise BatchfixError(f"x must be floating, of shape {shape}; got {x.dtype} of shape {tuple(x.shape)}.")
    channels = x.shape[1:2]
    for name, value in values.items():
        if value is not None and value.shape != channels:
            raise BatchfixError(
                f"{name} must hold one value for each channel of x, shape {tuple(channels)}; got {tuple(value.shape)}."
            )


def check_floating(x: Tensor, layer: str) -> None:
    """Integers and complex numbers have no normalization."""
    check_tensor("x", x)
    if not x.is_floating_point():
        raise BatchfixError(f"{layer} normalizes floating-point values; got {x.dtype}. Convert x with .float() first.")


def check_labels(labels: Tensor, number: int, n: int, what: str, layer: str) -> None:
    """One whole number from 0 to number - 1 for each of n samples. Values on a GPU, or traced, are not read."""
    check_tensor(what, labels)
    if labels.ndim != 1 or labels.shape[0] != n:
        raise BatchfixError(
            f"{what} must hold one number for each of the {n} samples, shape ({n},); got shape {tuple(labels.shape)}."
        )
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise BatchfixError(f"{what} must be whole numbers from 0 to {number - 1}; got {labels.dtype}. Use .long().")
    if torch.compiler.is_compiling() or labels.device.type != "cpu" or not n:
        return
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= number:
        raise BatchfixError(
            f"{what} must lie from 0 to {number - 1} in this {layer}; got {low if low < 0 else high}. "
            "Number them from 0, or make the layer for more."
        )
