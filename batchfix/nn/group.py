"""Group layers: features of one row that share statistics.

A row's features (..., F) and their groups flow in; each group comes out centred and scaled by its own features. A
sector of stocks, the outputs of one attention head: groups may be of unequal size, and the means that were removed may
be kept as features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..exceptions import BatchfixError
from .checks import check_count, check_eps, check_floating
from .kernels import without_autocast


def shortened(value: Any, most: int = 80) -> str:
    """As it is written, but not longer than a line."""
    text = repr(value)
    return text if len(text) <= most else text[:most] + " ..."


class FeatureGroupNorm(nn.Module):
    """Normalize the features of each group within each row.

        y_f = weight_f (x_f - mean_g) / sqrt(var_g + eps) + bias_f,   over the features f of group g in one row

    Parameters
    ----------
    groups : sequence of F labels
        The group of each feature: strings, numbers, anything that sorts. Groups may differ in size and need not be
        neighbours.
    eps : float
        Added to the variance (divided by the group's size), inside the square root.
    affine : bool
        Learn weight and bias (F,).
    return_group_means : bool
        Append the removed means, one a group in the order of `labels`, to the features.
    device, dtype
        Of the parameters.

    Attributes
    ----------
    labels : list
        The groups, sorted.
    out_features : int
        F, or F and the number of groups.

    Raises
    ------
    BatchfixError
        No labels, labels that do not sort, or input with another number of features.

    Notes
    -----
    Features are the last axis, (..., F). A group of one feature comes out as its bias.

    References
    ----------
    Wu and He (2018), Group Normalization, eq. 1, with groups given by labels.

    Examples
    --------
    >>> import torch
    >>> norm = FeatureGroupNorm(["Tech", "Oil", "Tech", "Tech"], affine=False, return_group_means=True)
    >>> y = norm(torch.tensor([[1.0, 7.0, 2.0, 3.0]]))
    >>> norm.labels, [round(v, 2) for v in y[0].tolist()]
    (['Oil', 'Tech'], [-1.22, 0.0, 0.0, 1.22, 7.0, 2.0])
    """

    order: Tensor
    back: Tensor

    def __init__(
        self,
        groups: Sequence[Any],
        eps: float = 1e-5,
        affine: bool = True,
        *,
        return_group_means: bool = False,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_eps(eps)
        super().__init__()
        try:
            values = [v.item() if hasattr(v, "item") else v for v in groups]
            self.labels = sorted(set(values))
        except (TypeError, ValueError, RuntimeError) as error:
            raise BatchfixError(
                f"groups must be a sequence of one label for each feature, and labels must sort and hash; got "
                f"{shortened(groups)} ({error})."
            ) from error
        if not values or any(v != v for v in values):
            raise BatchfixError(
                f"groups must hold one label for each feature, none of them missing; got {values[:5]!r}."
            )
        number = {label: code for code, label in enumerate(self.labels)}
        codes = [number[v] for v in values]
        order = sorted(range(len(codes)), key=codes.__getitem__)
        self.sizes = [codes.count(code) for code in range(len(self.labels))]
        self.in_order = order == list(range(len(codes)))
        back = sorted(range(len(codes)), key=order.__getitem__)
        self.register_buffer("order", torch.tensor(order, device=device))
        self.register_buffer("back", torch.tensor(back, device=device))
        self.num_features, self.eps, self.affine = len(values), eps, affine
        self.return_group_means = return_group_means
        self.out_features = len(values) + len(self.labels) * return_group_means
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)
        if affine:
            self.weight = nn.Parameter(torch.ones(len(values), device=device, dtype=dtype))
            self.bias = nn.Parameter(torch.zeros(len(values), device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (..., F); returns (..., out_features)."""
        check_floating(x, type(self).__name__)
        if x.shape[-1:] != (self.num_features,):
            raise BatchfixError(
                f"{type(self).__name__} was made for {self.num_features} features, the last axis of x; got shape "
                f"{tuple(x.shape)}. Give groups one label for each feature."
            )
        parts = (x if self.in_order else x[..., self.order]).split(self.sizes, dim=-1)
        with without_autocast(x):
            y = torch.cat([F.layer_norm(part, part.shape[-1:], eps=self.eps) for part in parts], dim=-1)
        y = y if self.in_order else y[..., self.back]
        if self.affine:
            y = torch.addcmul(self.bias, y, self.weight).to(x.dtype)
        if not self.return_group_means:
            return y
        return torch.cat([y, *(part.mean(dim=-1, keepdim=True) for part in parts)], dim=-1)

    def extra_repr(self) -> str:
        """Features and groups."""
        more = f"affine={self.affine}, return_group_means={self.return_group_means}"
        return f"{self.num_features} features, {len(self.labels)} groups, eps={self.eps}, {more}"


class HeadNorm(nn.Module):
    """Normalize the output of each attention head on its own, so that one loud head cannot drown the others.

        y_h = weight_h (x_h - mean(x_h)) / sqrt(var(x_h) + eps) + bias_h,   over the features of head h at one position

    Layer norm over all heads at once divides by the loudest; here every head speaks at the volume that is learned.

    Parameters
    ----------
    num_heads : int
        Heads, equal neighbouring parts of the last axis.
    eps : float
        Added to the variance, inside the square root.
    affine : bool
        Learn a weight and a bias for each head, (num_heads,).
    device, dtype
        Of the parameters.

    Raises
    ------
    BatchfixError
        The last axis of x does not divide into heads of two or more features.

    References
    ----------
    Group norm over heads, as in Sun et al. (2023), Retentive Network, section 2.3.

    Examples
    --------
    >>> import torch
    >>> y = HeadNorm(2, affine=False)(torch.tensor([[1.0, 3.0, 1000.0, 3000.0]]))
    >>> [round(v, 3) for v in y[0].tolist()]
    [-1.0, 1.0, -1.0, 1.0]
    """

    def __init__(
        self,
        num_heads: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        check_count("num_heads", num_heads, "the number of heads")
        check_eps(eps)
        super().__init__()
        self.num_heads, self.eps, self.affine = num_heads, eps, affine
        self.register_parameter("weight", None)
        self.register_parameter("bias", None)
        if affine:
            self.weight = nn.Parameter(torch.ones(num_heads, device=device, dtype=dtype))
            self.bias = nn.Parameter(torch.zeros(num_heads, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize x (..., num_heads * head_dim)."""
        check_floating(x, type(self).__name__)
        width = x.shape[-1] if x.ndim else 0
        if width % self.num_heads or width < 2 * self.num_heads:
            raise BatchfixError(
                f"The last axis of x must divide into {self.num_heads} heads of two or more features; got shape "
                f"{tuple(x.shape)}. Pass the heads' outputs side by side, (..., num_heads * head_dim)."
            )
        heads = x.unflatten(-1, (self.num_heads, -1))
        y = F.layer_norm(heads, heads.shape[-1:], eps=self.eps)
        if self.affine:
            y = torch.addcmul(self.bias[:, None], y, self.weight[:, None]).to(x.dtype)
        return y.flatten(-2)

    def extra_repr(self) -> str:
        """Heads."""
        return f"num_heads={self.num_heads}, eps={self.eps}, affine={self.affine}"
