"""A fitted corrector as a torch layer.

A corrector flows in; a module that maps (x, batch codes, coded design) as the corrector's `transform` does flows out.
Every correction is an affine map, so the layer is a table of maps with a row for each batch b:

    y = (x - center[b]) scale[b] + shift[b]  (+ (z - pivot) loading[b], z the design columns that enter the map)

No training data enters the layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

try:
    import torch
except ImportError as _error:
    raise ImportError("batchfix.adapters.torch needs torch: pip install 'batchfix[torch]'") from _error

import numpy as np
from torch import Tensor, nn
from torch.nn.functional import embedding

from ..core.affine import Affine
from ..core.design import Column, Factor, codes_of, encode, repr_label, repr_labels, slices, union_of
from ..correctors import inputs
from ..correctors.applying import join
from ..correctors.base import BatchwiseCorrector
from ..correctors.columns import as_in_fit
from ..exceptions import BatchfixError, MissingLabelError, UnknownBatchError

__all__ = ["CorrectorLayer", "to_torch"]

HALF = (torch.float16, torch.bfloat16)
TRAINED = ("scale", "shift", "loading")


def to_torch(
    corrector: BatchwiseCorrector,
    *,
    inverse: bool = False,
    trainable: bool = False,
    dtype: torch.dtype | None = None,
    device: Any = None,
) -> CorrectorLayer:
    """Turn a fitted corrector into a layer of a network, which maps rows exactly as `transform` does.

        y = (x - center[b]) scale[b] + shift[b]  (+ (z - pivot) loading[b])

    Parameters
    ----------
    corrector : fitted ComBat, LinearCorrector or BatchCorrector
        Batches that `adapt` added are known to the layer too.
    inverse : bool, default False
        The layer of `inverse_transform`, which puts the batch effects back.
    trainable : bool, default False
        True makes scale, shift and loading parameters that start at the fitted values, to be tuned with the network.
        Otherwise they are buffers. The center is a buffer in any case: shift can say all that it can.
    dtype, device
        Of the tables; torch's defaults if not given. In float64 the layer equals `transform` up to rounding.

    Returns
    -------
    CorrectorLayer
        To be called as ``layer(x, codes, design)``.

    Raises
    ------
    BatchfixError
        The corrector is not one, is not fitted, or has handle_unknown="adapt", whose maps depend on the rows of a
        call; or its maps do not fit the dtype.

    Examples
    --------
    >>> from batchfix import BatchCorrector
    >>> X, batch = np.array([[1.0], [3.0], [11.0], [13.0]]), ["a", "a", "b", "b"]
    >>> layer = to_torch(BatchCorrector().fit(X, batch=batch), dtype=torch.float64)
    >>> layer(torch.tensor(X), layer.batch_codes(batch)).ravel().tolist()
    [6.0, 8.0, 6.0, 8.0]
    """
    _check_corrector(corrector)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not getattr(dtype, "is_floating_point", False):
        raise BatchfixError(f"dtype must be a floating dtype of torch; got {dtype!r}. Use torch.float32 or float64.")
    return CorrectorLayer(corrector, inverse=inverse, trainable=trainable, dtype=dtype, device=device)


class CorrectorLayer(nn.Module):
    """The maps of a fitted corrector as a layer, one row a batch; made by `to_torch`.

        y = (x - center[b]) scale[b] + shift[b]  (+ (z - pivot) loading[b])

    Attributes
    ----------
    batches_ : array (B,)
        Batch labels in the order of their codes.
    factors_ : list of arrays
        Such labels of each batch factor; `batches_` are those of the first.
    features_ : list of p names
        The columns of x, in order.
    design_columns_ : list of q names
        The columns of the design, in order: "sex='f'" is 1 for rows of that level and 0 for others; "age" is the age
        itself. Empty where the map depends on the batch alone.
    center, scale, shift : tensors (B, p), with a row more for unknown batches where handle_unknown="pooled"
        The center is rounded to 24 bits, and the rest is in shift, so that ``.float()`` loses nothing where x is large.
    loading : tensor (B or 1, q, p), or None
        What one unit of each design column adds; further batch factors are design columns too, and the first ones.
    pivot : tensor (q,), or None
        Training means of the design columns.

    Notes
    -----
    Takes x of its own dtype, or half precision, which it maps in its own dtype. Keep it in float32 in a model of half
    precision. NaN stays where it was, and gives no gradient to what is trained. On a GPU, and wherever torch traces
    (compile, export, ONNX), codes are not read, so one that is out of range makes its row NaN instead of an error.

    A state_dict holds no labels. To keep those of the codes save the whole layer: ``torch.save(layer, path)``, then
    ``torch.load(path, weights_only=False)``. nn.Sequential passes on one tensor, so it can hold the layer of a
    corrector that was fitted without batches, and no other: give the codes in a `forward` of your own.

    Examples
    --------
    >>> from batchfix import LinearCorrector
    >>> X, batch = np.array([[1.0], [4.0], [12.0], [13.0]]), ["a", "a", "b", "b"]
    >>> hours = {"hours": [0.0, 1.0, 1.0, 0.0]}
    >>> layer = to_torch(LinearCorrector().fit(X, batch=batch, nuisance=hours), dtype=torch.float64)
    >>> layer
    CorrectorLayer(1 features, batches={'a', 'b'}, design=['hours'], handle_unknown='error', trainable=False)
    >>> layer(torch.tensor(X), layer.batch_codes(batch), layer.design(hours)).ravel().tolist()
    [6.0, 8.0, 6.0, 8.0]
    """

    center: Tensor
    scale: Tensor
    shift: Tensor
    pivot: Tensor | None
    loading: Tensor | None

    def __init__(
        self, corrector: BatchwiseCorrector, *, inverse: bool, trainable: bool, dtype: torch.dtype, device: Any
    ) -> None:
        super().__init__()
        further = [c.levels for c in corrector.statistics_.columns if isinstance(c, Factor) and c.role == "batch"]
        self.factors_ = [corrector.batches_, *further]
        self.features_ = corrector.get_feature_names_out().tolist()
        self.handle_unknown = corrector.handle_unknown
        self.trainable = trainable
        self._labelled, self._batch_names = corrector._labelled, corrector._batch_names
        self._sizes = [len(labels) for labels in self.factors_]
        maps, pivot, self._columns = _maps_of(corrector)
        self.design_columns_ = _names(self._columns)
        for name, values in _tables(maps.inverse() if inverse else maps, pivot).items():
            table = None if values is None else _tensor(name, values, dtype).to(device)
            if trainable and table is not None and name in TRAINED:
                self.register_parameter(name, nn.Parameter(table))
            else:
                self.register_buffer(name, table)

    # ---- from labels to tensors

    @property
    def batches_(self) -> np.ndarray:
        """Batch labels in the order of their codes."""
        return self.factors_[0]

    def batch_codes(self, labels: Any) -> Tensor:
        """Codes (N,) of batch labels (N,), as the corrector reads labels; (N, k) of k batch factors, in fit's order.

        A label that was not seen in fit is -1, or an UnknownBatchError where handle_unknown="error". A single label
        gives one code, which ``.expand(N)`` repeats.
        """
        if not self._labelled:
            raise UnknownBatchError("The corrector was fitted without batch labels; got some now. Call layer(x).")
        names, found = inputs.batch_factors(labels, None, _length(labels))
        if len(found) != len(self.factors_):
            raise BatchfixError(f"batch must have {len(self.factors_)} factor(s) as in fit; got {len(found)}.")
        found = inputs.in_order_of(names, self._batch_names, found)
        codes = np.empty((len(found[0]), len(found)), dtype=np.int64)
        for k, (known, values) in enumerate(zip(self.factors_, found, strict=True)):
            order = np.argsort(known, kind="stable")  # batches that adapt added come last
            at = codes_of(values, known[order])
            codes[:, k] = np.where(at >= 0, order[at], -1)
            new = np.unique(values[at < 0])
            if len(new) and self.handle_unknown == "error":
                raise UnknownBatchError(
                    f"Batch {repr_labels(new)} was not seen in fit (known: {repr_labels(known)}). Call adapt() with "
                    "its samples before to_torch(), or set handle_unknown='pooled' or 'nan'."
                )
            if len(new) and k == 0:
                union_of(known, new, "batch")  # labels of another kind are a mistake, not a new batch
        return torch.from_numpy(codes if len(found) > 1 else codes[:, 0])

    def design(self, table: Any) -> Tensor:
        """Design (N, q) of the kept columns (nuisance in LinearCorrector), as the corrector codes them, in float64.

        `table` is a DataFrame or a mapping that has these columns; others are passed over. Columns without names are
        called as in fit (keep0, keep1 and so on). MissingLabelError for a column that is absent or has gaps;
        UnknownLevelError for a level that was not seen in fit.
        """
        n = _length(table)
        found = inputs.as_columns(table, None, n, self._columns[0].role if self._columns else "keep")
        values = {}
        for column in self._columns:
            if column.name not in found:
                raise MissingLabelError(
                    f"The correction of a row depends on its {column.name!r}; got columns {list(found)[:8]}. Pass it "
                    "as in fit."
                )
            _, values[column.name] = as_in_fit(column, found[column.name])
        return torch.from_numpy(encode(self._columns, values, n))

    # ---- the map

    def forward(self, x: Tensor, codes: Tensor | None = None, design: Tensor | None = None) -> Tensor:
        """Map each row of x by its batch.

        Parameters
        ----------
        x : tensor (N, p)
        codes : integer tensor (N,), or (N, k) of k batch factors
            Positions in `batches_`, as `batch_codes` gives. -1 is a batch that was not seen in fit; its rows are
            mapped by the pooled moments (in a further factor: as its average level), or become NaN, as handle_unknown
            says. None if fitted without batches.
        design : floating tensor (N, q), optional
            The columns `design_columns_`, as `design` gives; needed if there are any. Numbers far from 0 (a time in
            seconds) are best left in float64: they are centred before they are rounded.

        Returns
        -------
        tensor (N, p)
            Of x's dtype.

        Raises
        ------
        BatchfixError
            Another shape, dtype or device; a code out of range; codes or design that are missing.
        """
        self._check(x)
        levels = self._levels(x, codes)
        row, valid = self._rows(levels)
        held = x.to(self.scale.dtype)
        gap = held.isnan() if self.trainable else None
        if gap is not None:  # 0 times NaN is NaN, in a gradient too
            held = held.masked_fill(gap, 0.0)
        y = (held - embedding(row, self.center)) * embedding(row, self.scale) + embedding(row, self.shift)
        if self.loading is not None:
            y = y + self._added(row, levels, design)
        if gap is not None:
            y = y.masked_fill(gap, torch.nan)
        if valid is not None:
            y = y.masked_fill(~valid[:, None], torch.nan)
        return y.to(x.dtype)

    def _rows(self, levels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Row of the tables for each row of x, and whether there is one (None: always)."""
        pooled = self.handle_unknown == "pooled"
        read = levels.device.type == "cpu" and not torch.compiler.is_compiling()
        if read:
            _check_range(levels, self._sizes, self.handle_unknown)
        row, valid = levels[:, 0], None
        if pooled:
            row = torch.where(row == -1, self._sizes[0], row)
        if not read or self.handle_unknown == "nan":
            valid = (levels >= (-1 if pooled else 0)).all(dim=1)
            for k, size in enumerate(self._sizes):
                valid = valid & (levels[:, k] < size)
            row = torch.where(valid, row, 0)
        return row, valid

    def _added(self, row: Tensor, levels: Tensor, design: Tensor | None) -> Tensor:
        """(z - pivot) loading[b], as a product with z in its batch's block; an unknown level is the average one."""
        assert self.loading is not None  # as forward asked
        assert self.pivot is not None  # as it comes with a loading
        parts = []
        for k, size in enumerate(self._sizes[1:], start=1):
            level = levels[:, k, None]
            one_hot = (level == torch.arange(size, device=level.device)).to(self.pivot.dtype)
            parts.append(torch.where(level < 0, 1.0 / size, one_hot))
        if self._columns:
            parts.append(self._checked(design, levels))
        z = (torch.cat(parts, dim=1) - self.pivot).to(self.loading.dtype)
        if len(self.loading) > 1:
            block = (row[:, None] == torch.arange(len(self.loading), device=row.device)).to(z.dtype)
            z = (block[:, :, None] * z[:, None, :]).flatten(1)
        with torch.autocast(z.device.type, enabled=False):
            return z @ self.loading.flatten(0, 1)

    # ---- checks

    def _check(self, x: Tensor) -> None:
        held, p = self.scale.dtype, len(self.features_)
        self._check_place("x", x)
        if x.dtype != held and x.dtype not in HALF:
            raise BatchfixError(
                f"This layer holds {held} and takes that or half precision; got {x.dtype}. Convert x with .to({held}), "
                "or make the layer with dtype=."
            )
        if x.ndim != 2 or x.shape[1] != p:
            raise BatchfixError(
                f"x must have shape (N, {p}), the corrector's features in order (features_); got {tuple(x.shape)}."
            )

    def _levels(self, x: Tensor, codes: Tensor | None) -> Tensor:
        """Return codes as (N, k), checked but for their values."""
        if codes is None:
            if self._labelled:
                raise MissingLabelError(
                    "The corrector was fitted with batch labels, and the layer must be told those of these rows; got "
                    "codes=None. Pass layer.batch_codes(labels)."
                )
            return x.new_zeros((x.shape[0], 1), dtype=torch.long)
        if not self._labelled:
            raise UnknownBatchError("The corrector was fitted without batch labels; got codes. Call layer(x).")
        self._check_place("codes", codes)
        n, k = x.shape[0], len(self._sizes)  # len(x) would fix the number of rows in an export
        want = (n,) if k == 1 else (n, k)
        if tuple(codes.shape) != want:
            raise BatchfixError(f"codes must have shape {want}, as batch_codes() gives; got {tuple(codes.shape)}.")
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise BatchfixError(f"codes must be whole numbers; got {codes.dtype}. Use layer.batch_codes(labels).")
        return codes.long() if codes.ndim == 2 else codes.long()[:, None]

    def _checked(self, design: Tensor | None, levels: Tensor) -> Tensor:
        names = self.design_columns_
        if design is None:
            raise MissingLabelError(
                f"The correction of a row depends on {', '.join(names[:8])}; got design=None. Pass layer.design(table)."
            )
        self._check_place("design", design)
        want = (levels.shape[0], len(names))
        if tuple(design.shape) != want or not design.is_floating_point():
            raise BatchfixError(
                f"design must be floating and of shape {want}, as layer.design(table) gives; got {design.dtype} of "
                f"shape {tuple(design.shape)}."
            )
        return design

    def _check_place(self, name: str, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise BatchfixError(f"{name} must be a tensor; got {type(value).__name__}. Use torch.as_tensor().")
        if value.device != self.scale.device:
            raise BatchfixError(f"{name} must be on the layer's device {self.scale.device}; got {value.device}.")

    def extra_repr(self) -> str:
        """Features, batches, design columns and options."""
        return (
            f"{len(self.features_)} features, batches={repr_labels(self.batches_)}, design={self.design_columns_}, "
            f"handle_unknown={self.handle_unknown!r}, trainable={self.trainable}"
        )


def _length(table: Any) -> int:
    """Rows of a table, a mapping or a column; one for a single label."""
    parts = table.values() if isinstance(table, Mapping) else [table]
    return max((len(part) for part in parts if hasattr(part, "__len__") and not isinstance(part, str)), default=1)


def _maps_of(corrector: BatchwiseCorrector) -> tuple[Affine, np.ndarray, list[Column]]:
    """All maps (that of unknown batches last), the pivot of what their loading multiplies, and its columns."""
    solution, columns, maps = corrector.solution_, corrector.statistics_.columns, corrector.affine_
    if corrector.handle_unknown == "pooled":
        maps = join([maps, solution.unknown])
    if maps.loading is None:
        return maps, np.zeros(0), []
    # only a batch that adapt added, or an unknown one, may have a loading
    loads = solution.loads if len(solution.loads) else corrector._loads(columns)
    used = [c for c, at in zip(columns, slices(columns), strict=True) if at.start in loads and c.role != "batch"]
    return maps, solution.fit.pivot[loads], used


def _names(columns: list[Column]) -> list[str]:
    """One name for each design column."""
    names: list[str] = []
    for c in columns:
        names += [f"{c.name}={repr_label(level)}" for level in c.levels] if isinstance(c, Factor) else [c.name]
    return names


def _tables(maps: Affine, pivot: np.ndarray) -> dict[str, np.ndarray | None]:
    """The map's arrays, with center and pivot rounded and what that changes added to the shift."""
    center, loading = _rounded(maps.center), maps.loading
    shift = maps.shift + (center - maps.center) * maps.scale
    tables: dict[str, np.ndarray | None] = {"center": center, "scale": maps.scale, "shift": shift}
    if loading is None:
        return tables | {"loading": None, "pivot": None}
    rounded, alike = _rounded(pivot), (loading == loading[:1]).all()
    return tables | {
        "shift": shift + (rounded - pivot) @ loading,
        "loading": loading[:1] if alike else loading,
        "pivot": rounded,
    }


def _rounded(values: np.ndarray) -> np.ndarray:
    """To 24 bits, which float32 holds."""
    mantissa, exponent = np.frexp(values)
    return np.asarray(np.ldexp(np.round(mantissa * 2.0**24), exponent - 24))


def _tensor(name: str, values: np.ndarray, dtype: torch.dtype) -> Tensor:
    table = torch.tensor(values).to(dtype)
    lost = ~torch.isfinite(table) | ((table == 0) & torch.tensor((values != 0) & (name == "scale")))
    if lost.any():
        raise BatchfixError(
            f"The corrector's maps must fit {dtype}; got a {name} of {float(values[lost.numpy()][0])!r}. Use "
            "dtype=torch.float64, or change the unit of the features."
        )
    return table


def _check_corrector(corrector: Any) -> None:
    if not isinstance(corrector, BatchwiseCorrector):
        raise BatchfixError(
            f"to_torch() takes a ComBat, LinearCorrector or BatchCorrector; got {type(corrector).__name__}. Take the "
            "corrector out of its pipeline, with model[0] say."
        )
    if not hasattr(corrector, "statistics_"):
        raise BatchfixError(f"to_torch() takes a fitted corrector; got {corrector!r} before fit. Call fit() first.")
    if corrector.handle_unknown == "adapt" and corrector._labelled:
        raise BatchfixError(
            "A layer maps each row by itself, and so cannot have handle_unknown='adapt', whose maps depend on all rows "
            "of a call. Call adapt() with samples of the new batches, then set_params(handle_unknown='error'), "
            "'pooled' or 'nan'."
        )


def _check_range(levels: Tensor, sizes: list[int], handle_unknown: str) -> None:
    least = 0 if handle_unknown == "error" else -1
    for k, size in enumerate(sizes):
        low, high = (int(v) for v in levels[:, k].aminmax()) if len(levels) else (0, 0)
        if low == -1 < least:
            raise UnknownBatchError(
                "Code -1 stands for a batch that was not seen in fit; got some. Call adapt() with its samples before "
                "to_torch(), or set handle_unknown='pooled' or 'nan'."
            )
        if low < least or high >= size:
            raise BatchfixError(
                f"codes must lie from {least} to {size - 1}, the positions of labels in factors_[{k}]; got "
                f"{low if low < least else high}."
            )
