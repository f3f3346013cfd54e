"""Activation checkpointing that leaves running statistics where one forward pass left them.

A model flows in; the two contexts that ``torch.utils.checkpoint`` enters, around the forward pass and around its
recomputation, flow out. The second brings back the buffers that the first saw:

    forward:        keep running_mean, running_var, num_batches_tracked
    recomputation:  swap them in, compute, swap back
"""

from __future__ import annotations

from types import TracebackType

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

Buffers = list[dict[str, Tensor | None]]

RECOMPUTED: set[int] = set()
"""The layers whose buffers are brought back at this moment, by id."""


def recomputation(model: nn.Module) -> tuple[_Keep, _BringBack]:
    """Make checkpointed activations the ones of the forward pass.

    Without it the layers meet running statistics that have moved: every layer counts the minibatch twice, as torch's
    own do, and the r and d of batch renormalization differ from those of the forward pass, and with them the gradients
    (by 2 to 20 percent in small networks). BatchRenorm warns of that.

    Parameters
    ----------
    model : Module
        What is checkpointed, or any module around it.

    Returns
    -------
    two contexts
        As ``torch.utils.checkpoint.checkpoint(..., use_reentrant=False, context_fn=...)`` asks for.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.checkpoint import checkpoint
    >>> block, x = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), torch.randn(2, 3, 8, 8)
    >>> y = checkpoint(block, x, use_reentrant=False, context_fn=lambda: recomputation(block))
    >>> y.sum().backward()
    >>> block[1].num_batches_tracked
    tensor(1)
    """
    keep = _Keep([layer for layer in model.modules() if isinstance(layer, _NormBase)])
    return keep, _BringBack(keep)


class _Keep:
    """Copies of the buffers, as they are on entering."""

    def __init__(self, layers: list[_NormBase]) -> None:
        self.layers, self.kept = layers, list[dict[str, Tensor | None]]()

    def __enter__(self) -> None:
        self.kept = [_copies(layer._buffers) for layer in self.layers]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to undo."""


class _BringBack:
    """The copies in the place of the buffers; a backward pass may be repeated."""

    def __init__(self, keep: _Keep) -> None:
        self.keep, self.moved = keep, list[Buffers]()

    def __enter__(self) -> None:
        self.moved.append([dict(layer._buffers) for layer in self.keep.layers])
        RECOMPUTED.update(map(id, self.keep.layers))
        for layer, kept in zip(self.keep.layers, self.keep.kept, strict=True):
            layer._buffers.update(_copies(kept))  # swapped, not written: autograd may hold the others

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        RECOMPUTED.difference_update(map(id, self.keep.layers))
        for layer, moved in zip(self.keep.layers, self.moved.pop(), strict=True):
            layer._buffers.update(moved)


def _copies(buffers: dict[str, Tensor | None]) -> dict[str, Tensor | None]:
    return {name: None if buffer is None else buffer.clone() for name, buffer in buffers.items()}
