"""Rows of a table, each normalized and sent through the map of its label, a piece of the table at a time.

x (N, C) flows in with a label for each row and a map for each label; the same table flows out, with its gradients:

    y = A_k (x - mean) + bias_k,   A_k = weight_k / sqrt(var + eps),   k the label of the row
    dx = A_k dy - level - (x - mean) along,
    level = mean(A_k dy),   along = mean(A_k dy (x - mean)) / (var + eps)

mean, var and the means in dx are over all rows, or over the rows of one label (`apart`). Rows have no axis to ride a
batch norm kernel along, as images do (`kernels.normalize_each`). What costs time here is memory that is touched for
the first time, so nothing of the table's size is made but y and dx.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .kernels import Groups, accurate, by_autograd, is_native, statistics, written_out, written_statistics

PIECE = 2**17
"""Values of x that are worked on at once: they stay in the processor's cache."""


def normalize_rows(
    x: Tensor, weight: Tensor, bias: Tensor, labels: Groups, eps: float, apart: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalize rows by the statistics of all, or of their label alone, each with the map of its label.

    Parameters
    ----------
    x : (N, C)
    weight, bias : (K, C)
        The map of each label, in the dtype of the statistics.
    labels
        The label of each row, K of them.
    apart
        Whether each label has statistics of its own.

    Returns
    -------
    y : (N, C)
    mean, var : (K, C) if apart, else (1, C)
        Variance divided by n, without gradient; 0 for a label without rows.

    Examples
    --------
    >>> x, labels = torch.tensor([[0.0], [2.0], [0.0], [2.0]]), Groups(torch.tensor([0, 0, 1, 1]), 2)
    >>> y, mean, var = normalize_rows(x, torch.tensor([[1.0], [5.0]]), torch.zeros(2, 1), labels, eps=0.0)
    >>> y.flatten().tolist(), mean.tolist(), var.tolist()
    ([-1.0, 1.0, -5.0, 5.0], [[1.0]], [[1.0]])
    """
    if is_native(x):
        with torch.no_grad():
            mean, var = _statistics_apart(x, labels) if apart else (v[None] for v in statistics(x))
        y: Tensor = _NormalizeRows.apply(x, weight, bias, mean, var, labels.codes, eps, apart)  # type: ignore[no-untyped-call]  # torch's own
        return y, mean, var
    mean, var = written_statistics(x, labels if apart else None)
    return _written(x, weight, bias, labels, eps, apart), mean.detach(), var.detach()


def _written(x: Tensor, weight: Tensor, bias: Tensor, labels: Groups, eps: float, apart: bool) -> Tensor:
    """y in plain arithmetic."""
    frame = written_statistics(x, labels if apart else None)
    mean, var = (v[labels.codes] if apart else v.expand_as(x) for v in frame)
    return written_out(x, mean, var, weight[labels.codes], bias[labels.codes], eps)


class _Pieces:
    """The pieces of a table's rows, and room to work on one."""

    def __init__(self, x: Tensor, labels: Groups, apart: bool) -> None:
        n, c = x.shape
        self.rows = n if x.is_cuda else max(1, PIECE // c)
        self.codes, self.apart = labels.codes, apart
        self.work, self.room = (x.new_empty(min(n, self.rows), c, dtype=accurate(x.dtype)) for _ in range(2))

    def __call__(self, *tables: Tensor) -> Any:
        """Pieces of tables (N, C), with the labels of their rows and a place for a result."""
        pieces = zip(*(table.split(self.rows) for table in tables), self.codes.split(self.rows), strict=True)
        return ((*piece, self.work[: len(piece[-1])]) for piece in pieces)

    def of_label(self, values: Tensor, codes: Tensor) -> Tensor:
        """Values (K, C), one row for each label."""
        return torch.index_select(values, 0, codes, out=self.room[: len(codes)])

    def of_frame(self, values: Tensor, codes: Tensor) -> Tensor:
        """Values of the frame of each row, which all share unless they are apart."""
        return self.of_label(values, codes) if self.apart else values


def _statistics_apart(x: Tensor, labels: Groups) -> tuple[Tensor, Tensor]:
    """Mean and variance (K, C) of the rows of each label.

    Two passes, of which the second takes out what the first lost to rounding (Chan, Golub and LeVeque 1983, eq. 1.7).
    """
    pieces = _Pieces(x, labels, apart=True)
    mean, rest, var = (x.new_zeros(labels.number, x.shape[1], dtype=accurate(x.dtype)) for _ in range(3))
    n = labels.counts(mean.dtype)
    for part, codes, work in pieces(x):
        mean.index_add_(0, codes, work.copy_(part))
    mean /= n
    for part, codes, work in pieces(x):
        torch.sub(part, pieces.of_label(mean, codes), out=work)
        rest.index_add_(0, codes, work)
        var.index_add_(0, codes, work.mul_(work))
    rest /= n
    return mean.add_(rest), var.div_(n).sub_(rest * rest).clamp_(min=0.0)


class _NormalizeRows(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        var: Tensor,
        codes: Tensor,
        eps: float,
        apart: bool,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, var, codes)  # codes too: torch then says if they were written to
        ctx.eps, ctx.apart = eps, apart
        labels = Groups(codes, weight.shape[0])
        slope = weight * torch.rsqrt(var + eps)
        y, pieces = torch.empty_like(x), _Pieces(x, labels, apart)
        for part, out, codes, work in pieces(x, y):
            torch.sub(part, pieces.of_frame(mean, codes), out=work)
            work.mul_(pieces.of_label(slope, codes))
            torch.add(work, pieces.of_label(bias, codes), out=out)
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, codes = ctx.saved_tensors
        labels, apart, need = Groups(codes, weight.shape[0]), ctx.apart, ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():

            def written(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
                return _written(x, weight, bias, labels, ctx.eps, apart)

            return (*by_autograd(written, (x, weight, torch.zeros_like(weight)), need, dy), *[None] * 5)
        root = torch.rsqrt(var + ctx.eps)
        slope, pieces = weight * root, _Pieces(x, labels, apart)
        d_bias, d_slope = torch.zeros_like(weight), torch.zeros_like(weight)
        for part, up, codes, work in pieces(x, dy):
            d_bias.index_add_(0, codes, work.copy_(up))
            torch.sub(part, pieces.of_frame(mean, codes), out=work)
            d_slope.index_add_(0, codes, work.mul_(up))
        d_weight = d_slope * root
        if not need[0]:
            return None, d_weight, d_bias, None, None, None, None, None
        if apart:
            n = labels.counts(weight.dtype)
            level, along = slope * d_bias / n, slope * d_slope / n
        else:
            level, along = ((slope * d).sum(dim=0, keepdim=True) / len(x) for d in (d_bias, d_slope))
        along *= root * root
        dx = torch.empty_like(x)
        for part, up, out, codes, work in pieces(x, dy, dx):
            torch.sub(part, pieces.of_frame(mean, codes), out=work)
            work.mul_(pieces.of_frame(along, codes)).add_(pieces.of_frame(level, codes)).neg_()
            torch.addcmul(work, up, pieces.of_label(slope, codes), out=out)
        return dx, d_weight, d_bias, None, None, None, None, None
