"""What the batch layers share: batch norm's state and names, checks at the door, and the training step.

The layers are torch `_BatchNorm`s, so that what is written for batch norm (update_bn, fusing, filters of parameters)
works on them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..exceptions import BatchfixError
from .checks import check_input, check_parameters
from .kernels import exact_on


class BatchLayer(_BatchNorm):
    """A layer with batch norm's running statistics."""

    ndims: ClassVar[tuple[int, ...]]
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_parameters(num_features, eps, momentum)
        super().__init__(num_features, eps, momentum, affine, True, device=device, dtype=dtype)
        self._seen: tuple[Tensor, int, int] | None = None

    def _check(self, x: Any) -> None:
        like = self.running_mean
        if isinstance(x, Tensor) and x.dtype == like.dtype and x.ndim in self.ndims:
            channels = x.shape[1]
            if channels == self.num_features == like.shape[-1]:
                return
        check_input(x, self.num_features, self.ndims, like, type(self).__name__)

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  # torch's hook and its name for it
        self._check(input)

    def extra_repr(self) -> str:
        """Return the parameters as they are written."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"

    # ---- the training step

    def step(self) -> int:
        """Minibatches seen, as a Python number.

        Reading the buffer would make a GPU wait, so there the number is counted along; if anybody else wrote the buffer
        (a checkpoint, reset_running_stats), its version says so, and it is read again.
        """
        return self._read(self.num_batches_tracked)

    def _read(self, buffer: Tensor) -> int:
        seen = self._seen
        if seen is not None and seen[0] is buffer and seen[1] == buffer._version:
            return seen[2]
        return int(buffer.item())

    def advance(self, some: Tensor | None = None) -> int | Tensor:
        """Count this minibatch, if `some` (of bool) of it is there; return how many came before.

        A tensor while torch traces or transforms.
        """
        buffer, one = self.num_batches_tracked, 1 if some is None else some
        if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or buffer.is_meta:
            unread = buffer.clone()
            buffer.add_(one)
            return unread
        before = self._read(buffer)
        buffer.add_(one)
        if some is None and not buffer.is_cpu and not buffer.is_inference():  # those have no version
            self.__dict__["_seen"] = buffer, buffer._version, before + 1  # past torch's slow setattr
        return before

    def weight_of(self, before: int | Tensor) -> float | Tensor:
        """Weight of this minibatch in the running statistics; without momentum all count alike."""
        if self.momentum is not None:
            return self.momentum
        return 1.0 / ((before + 1).to(exact_on(before.device)) if isinstance(before, Tensor) else before + 1)

    def __prepare_scriptable__(self) -> nn.Module:
        """torch.jit.script's hook."""
        raise BatchfixError(
            f"A model must be free of {type(self).__name__} to be compiled by torch.jit.script, which torch has given "
            "up. Use torch.compile or torch.export, or torch.jit.trace in eval."
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what holds for this object's own buffer only."""
        return self.__dict__ | {"_seen": None}
