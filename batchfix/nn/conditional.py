"""Conditional layers: a label, or a style, picks the frame.

`ConditionalBatchNorm`: one batch, the label picks where to (weight and bias). `DomainBatchNorm`: the label picks where
from (the statistics). `AdaptiveInstanceNorm`: each sample from its own frame to that of a style.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..core.affine import Frame
from ..exceptions import BatchfixError
from . import functional
from .base import BatchLayer
from .checks import check_count, check_eps, check_floating, check_labels, check_tensor, is_whole
from .kernels import Groups, accurate, as_batch, normalize_each, without_autocast
from .rows import normalize_rows


class _ConditionalBatchNorm(BatchLayer):
    def __init__(
        self,
        num_features: int,
        num_classes: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("num_classes", num_classes, "one more than the highest label")
        super().__init__(num_features, eps, momentum, False, device=device, dtype=dtype)
        self.num_classes, self.affine = num_classes, True
        del self.weight, self.bias  # declared by batch norm as absent
        self.weight = nn.Parameter(torch.ones(num_classes, num_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(num_classes, num_features, device=device, dtype=dtype))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:  # type: ignore[override]  # a label more than batch norm
        """Normalize x (N, C, *) by the batch; `labels` (N,) of whole numbers, or (N, K) of shares, pick the map."""
        self._check(x)
        self._check_labels(labels, x.shape[0])
        if not x.numel():
            return functional.empty(x, self.weight, self.bias)
        if not self.training:
            return _infer(x, self.running_mean[None], self.running_var[None], *self._maps(labels), self.eps)
        momentum, count = self.weight_of(self.advance()), x.numel() // x.shape[1]
        exact = accurate(x.dtype)
        if x.ndim == 2 and not labels.is_floating_point():
            weight, bias = self.weight.to(exact), self.bias.to(exact)
            y, mean, var = normalize_rows(x, weight, bias, Groups(labels.long(), self.num_classes), self.eps)
        else:
            weight, bias = self._maps(labels)
            y, mean, var = normalize_each(x, weight.to(exact), bias.to(exact), self.eps)
        functional.move(self.running_mean, self.running_var, mean[0], var[0], count, momentum)
        return y

    def _check_labels(self, labels: Tensor, n: int) -> None:
        want = (n, self.num_classes)
        check_tensor("labels", labels)
        if not labels.is_floating_point():
            check_labels(labels, self.num_classes, n, "labels", type(self).__name__)
        elif tuple(labels.shape) != want:
            raise BatchfixError(
                f"A mixture of labels must have shape {want}, a share for each class; got {tuple(labels.shape)}."
            )

    def _maps(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of each sample, (N, C)."""
        if labels.is_floating_point():
            with without_autocast(labels):
                shares = labels.to(self.weight.dtype)
                return shares @ self.weight, shares @ self.bias
        labels = labels.long()
        return F.embedding(labels, self.weight), F.embedding(labels, self.bias)

    def extra_repr(self) -> str:
        """Channels and classes."""
        return f"{self.num_features}, num_classes={self.num_classes}, eps={self.eps}, momentum={self.momentum}"


def _infer(x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Each sample (N, C) from given statistics through its own map: batch norm of the view, in eval."""
    mean, var, weight, bias = (v.expand(x.shape[:2]).reshape(-1) for v in (mean, var, weight, bias))
    return F.batch_norm(as_batch(x), mean, var, weight, bias, False, 0.0, eps).reshape(x.shape)


class ConditionalBatchNorm1d(_ConditionalBatchNorm):
    """Batch norm of (N, C) or (N, C, L) whose weight and bias a label picks.

        y = weight[label] z + bias[label],   z normalized by the whole minibatch

    Parameters
    ----------
    num_features : int
        Channels C, at axis 1.
    num_classes : int
        Labels run from 0 to num_classes - 1.
    eps : float
        Added to the variance, inside the square root.
    momentum : float or None
        Weight of the minibatch in the running statistics; None: the average of all minibatches.
    device, dtype
        Of the parameters and buffers.

    Raises
    ------
    BatchfixError
        A parameter or a label out of range (labels on a GPU are not read); input of another shape.

    Notes
    -----
    Labels may be mixed: floating `labels` (N, K) hold each sample's share of each class, and its weight and bias are
    those averages.

    References
    ----------
    Dumoulin, Shlens and Kudlur (2017), A Learned Representation for Artistic Style, eq. 5; de Vries et al. (2017).

    Examples
    --------
    >>> import torch
    >>> layer = ConditionalBatchNorm1d(3, num_classes=2)
    >>> layer(torch.randn(4, 3), torch.tensor([0, 1, 1, 0])).shape
    torch.Size([4, 3])
    >>> layer(torch.randn(4, 3), torch.tensor([[1.0, 0.0]] * 3 + [[0.5, 0.5]])).shape
    torch.Size([4, 3])
    """

    ndims = (2, 3)


class ConditionalBatchNorm2d(_ConditionalBatchNorm):
    """Batch norm of images (N, C, H, W) whose weight and bias a label picks; see `ConditionalBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> ConditionalBatchNorm2d(3, 10)(torch.randn(2, 3, 8, 8), torch.tensor([7, 0])).shape
    torch.Size([2, 3, 8, 8])
    """

    ndims = (4,)


class ConditionalBatchNorm3d(_ConditionalBatchNorm):
    """Batch norm of volumes (N, C, D, H, W) whose weight and bias a label picks; see `ConditionalBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> ConditionalBatchNorm3d(3, 2)(torch.randn(2, 3, 4, 4, 4), torch.tensor([1, 0])).shape
    torch.Size([2, 3, 4, 4, 4])
    """

    ndims = (5,)


class _DomainBatchNorm(BatchLayer):
    def __init__(
        self,
        num_features: int,
        num_domains: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        *,
        share_affine: bool = True,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("num_domains", num_domains, "one more than the highest domain")
        super().__init__(num_features, eps, momentum, affine and share_affine, device=device, dtype=dtype)
        self.num_domains, self.share_affine, self.affine = num_domains, share_affine, affine
        shape = (num_domains, num_features)
        self.running_mean = torch.zeros(shape, device=device, dtype=dtype)
        self.running_var = torch.ones(shape, device=device, dtype=dtype)
        self.num_batches_tracked = torch.zeros(num_domains, dtype=torch.long, device=device)
        if affine and not share_affine:
            del self.weight, self.bias
            self.weight = nn.Parameter(torch.ones(shape, device=device, dtype=dtype))
            self.bias = nn.Parameter(torch.zeros(shape, device=device, dtype=dtype))

    def forward(self, x: Tensor, domains: Tensor | int) -> Tensor:  # type: ignore[override]  # a domain more
        """Normalize x (N, C, *), each sample by the statistics of its domain; one number names all samples' domain."""
        self._check(x)
        codes: Any = torch.full((x.shape[0],), domains, device=x.device) if is_whole(domains) else domains
        check_labels(codes, self.num_domains, x.shape[0], "domains", type(self).__name__)
        groups = Groups(codes.long(), self.num_domains)
        if not x.numel():
            return functional.empty(x, self.weight, self.bias)
        if not self.training:
            mean, var = (v[groups.codes] for v in (self.running_mean, self.running_var))
            return _infer(x, mean, var, *self._maps(groups), self.eps)
        exact = accurate(x.dtype)
        if x.ndim == 2:
            weight, bias = (v.to(exact).expand_as(self.running_mean) for v in self._maps())
            y, mean, var = normalize_rows(x, weight, bias, groups, self.eps, apart=True)
        else:
            weight, bias = (v.to(exact).expand(x.shape[:2]) for v in self._maps(groups))
            y, mean, var = normalize_each(x, weight, bias, self.eps, groups)
        self._move(mean, var, groups, x[0, 0].numel())
        return y

    def _maps(self, groups: Groups | None = None) -> tuple[Tensor, Tensor]:
        """Weight and bias of each sample (N, C), or of each domain (D, C); (1, C) if all share them."""
        if not self.affine:
            one = torch.ones_like(self.running_mean[:1])
            return one, torch.zeros_like(one)
        if self.share_affine:
            return self.weight[None], self.bias[None]
        if groups is None:
            return self.weight, self.bias
        return F.embedding(groups.codes, self.weight), F.embedding(groups.codes, self.bias)

    def _move(self, mean: Tensor, var: Tensor, groups: Groups, size: int) -> None:
        """Move the running statistics of the domains that are there."""
        with torch.no_grad():
            samples = torch.zeros(self.num_domains, device=mean.device, dtype=mean.dtype)
            samples.index_add_(0, groups.codes, torch.ones_like(groups.codes, dtype=mean.dtype))
            there = samples > 0
            self.num_batches_tracked.add_(there)
            seen = torch.clamp(self.num_batches_tracked, min=1).to(self.running_mean.dtype)
            momentum = 1.0 / seen if self.momentum is None else self.momentum
            functional.move(
                self.running_mean, self.running_var, mean, var, (samples * size)[:, None], _column(momentum)
            )

    def extra_repr(self) -> str:
        """Channels and domains."""
        more = f"affine={self.affine}, share_affine={self.share_affine}"
        return f"{self.num_features}, num_domains={self.num_domains}, eps={self.eps}, momentum={self.momentum}, {more}"


def _column(value: float | Tensor) -> float | Tensor:
    return value[:, None] if isinstance(value, Tensor) else value


class DomainBatchNorm1d(_DomainBatchNorm):
    """Batch norm of (N, C) or (N, C, L) with statistics of its own for each domain; a minibatch may mix domains.

        y = weight z + bias,   z normalized by the samples of the same domain

    Parameters
    ----------
    num_features : int
        Channels C, at axis 1.
    num_domains : int
        Domains are numbered from 0 to num_domains - 1.
    eps, momentum, affine, device, dtype
        As in `BatchRenorm1d`.
    share_affine : bool
        One weight and bias for all domains; False: for each its own, as in the paper.

    Raises
    ------
    BatchfixError
        A parameter or a domain out of range (domains on a GPU are not read); domains of the wrong length.

    Notes
    -----
    `running_mean` and `running_var` have shape (num_domains, C), `num_batches_tracked` (num_domains,). A domain with
    one value a channel comes out as the bias, and moves its running mean alone; absent domains stay as they are.

    References
    ----------
    Chang et al. (2019), Domain-Specific Batch Normalization for Unsupervised Domain Adaptation, eq. 3-4.

    Examples
    --------
    >>> import torch
    >>> layer = DomainBatchNorm1d(3, num_domains=2)
    >>> layer(torch.randn(5, 3), torch.tensor([0, 1, 1, 0, 1])).shape
    torch.Size([5, 3])
    """

    ndims = (2, 3)


class DomainBatchNorm2d(_DomainBatchNorm):
    """Batch norm of images (N, C, H, W) with statistics for each domain; see `DomainBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> DomainBatchNorm2d(3, 2)(torch.randn(2, 3, 8, 8), torch.tensor([1, 0])).shape
    torch.Size([2, 3, 8, 8])
    """

    ndims = (4,)


class DomainBatchNorm3d(_DomainBatchNorm):
    """Batch norm of volumes (N, C, D, H, W) with statistics for each domain; see `DomainBatchNorm1d`.

    Examples
    --------
    >>> import torch
    >>> DomainBatchNorm3d(3, 2)(torch.randn(2, 3, 4, 4, 4), 0).shape
    torch.Size([2, 3, 4, 4, 4])
    """

    ndims = (5,)


class AdaptiveInstanceNorm(nn.Module):
    """Move each channel of each content sample into the frame of a style.

        y = sigma_style (content - mu_content) / sigma_content + mu_style

    Parameters
    ----------
    eps : float
        Added to the variances, inside the square root.

    See Also
    --------
    batchfix.nn.functional.adaptive_instance_norm : shapes, errors and the source.

    Examples
    --------
    >>> import torch
    >>> AdaptiveInstanceNorm()(torch.randn(2, 3, 8, 8), torch.randn(1, 3, 16, 16)).shape
    torch.Size([2, 3, 8, 8])
    """

    def __init__(self, eps: float = 1e-5) -> None:
        check_eps(eps)
        super().__init__()
        self.eps = eps

    def forward(self, content: Tensor, style: Tensor | Frame) -> Tensor:
        """Content (N, C, *) with the statistics of style: a sample of any size, or a Frame of (N or 1, C)."""
        check_floating(content, type(self).__name__)
        return functional.adaptive_instance_norm(content, style, self.eps)

    def extra_repr(self) -> str:
        """The eps."""
        return f"eps={self.eps}"
