"""Statistics of peers as columns: what each group had, beside the values, and the values back out of them.

Statistics (rows, groups) flow in and become columns, ``mean(Tech)`` of a group in a wide table, ``mean(momentum)`` of a
factor in a long one; on the way back the columns become statistics again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import check_array, check_is_fitted

from ..core.naming import some
from ..core.scores import Sheet, restore
from ..core.standing import Standing
from ..exceptions import BatchfixError
from .grouping import Grouping
from .peer_reader import Cells, PeerReader, Place
from .rowwise import Table
from .tables import float_types, plain


class PeerColumns(PeerReader):
    """Names and writes the columns of statistics, and restores values from them."""

    winsorize: Any
    leave_one_out: bool
    return_group_stats: bool

    group_names_: np.ndarray

    def _append(
        self, cells: Cells, out: np.ndarray, j: int, place: Place, sheet: Sheet, standing: Standing, betas: Any
    ) -> None:
        """Write statistics into the columns after the values."""
        p = cells.table.values.shape[1]
        fields = [getattr(standing, field) for field, _ in self._fields()]
        at = p
        if self._long:
            codes = np.broadcast_to(sheet.codes, sheet.X.shape).astype(np.intp)
            for field in fields:
                place.write(np.take_along_axis(field, codes, axis=1), out[:, at + j])
                at += p
            for k in range(0 if betas is None else betas.shape[1]):
                place.write(np.broadcast_to(betas[:, k : k + 1], sheet.X.shape), out[:, at + j * betas.shape[1] + k])
            return
        columns = self._columns_of_groups(cells.grouping)
        width = len(self.group_names_)
        for (name, _), field in zip(self._fields(), fields, strict=True):
            block = np.full((len(field), width), 0.0 if name == "count" else np.nan)
            seen = columns >= 0
            block[:, columns[seen]] = field[:, seen]
            out[:, at : at + width] = block
            at += width
        if betas is not None:
            out[:, at:] = betas

    def _columns_of_groups(self, found: Grouping) -> np.ndarray:
        """Place of each group among those of fit, -1 where it has no name."""
        place = {str(name): i for i, name in enumerate(self.group_names_)}
        new = [name for name in found.names if name and name not in place]
        if new:
            raise BatchfixError(
                f"Groups must be those of fit, since each has columns in the output; got {some(new, 3)}, which fit has "
                "not seen. Fit with these labels too, or set return_group_stats=False."
            )
        return np.array([place.get(name, -1) for name in found.names], dtype=np.intp)

    def _fields(self) -> list[tuple[str, str]]:
        """Field of the statistics, and what it is called."""
        fields = [("center", self.center or ""), ("scale", self.scale or ""), ("count", "count")]
        return [(field, name) for field, name in fields if name]

    def _stat_names(self, features: Sequence[Any] | None = None) -> list[str]:
        """Names of the columns after the values."""
        if not self.return_group_stats:
            return []
        owners = list(self._features_out() if features is None else features) if self._long else list(self.group_names_)
        names = [f"{stat}({owner})" for _, stat in self._fields() for owner in owners]
        if self._long:
            return names + [f"beta({factor} ~ {name})" for factor in owners for name in self._exposures]
        return names + [f"beta({name})" for name in self._exposures]

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the values without keys, then ``mean(Tech)`` and the like where they are returned."""
        check_is_fitted(self, "group_names_")
        features = self._features_out(input_features)
        return np.asarray([*features, *self._stat_names(features)], dtype=object)

    def inverse_transform(self, X: Any, *, membership: Any = None, weights: Any = None, exposures: Any = None) -> Any:
        """Values out of standings and the groups' statistics.

        NaN stays: what has no group, exposure or scale that is known has no standing to go back from.

        Parameters
        ----------
        X : table
            What transform returned, with return_group_stats=True.
        membership, exposures
            Those of transform, where there were any. Exposures that were key columns are passed here too.
        weights
            Not used.

        Raises
        ------
        BatchfixError
            The values cannot be restored: the statistics are not there, or ranks, winsorizing or leaving one out
            have lost them.
        """
        check_is_fitted(self, "group_names_")
        self._refuse_lost()
        table = self._read_back(X)
        p = len(self._features_out())
        Z, stats = table.values[:, :p], table.values[:, p:].astype(np.float64)
        back = Table(Z, {}, table.index, table.names[:p], table.source)
        if self._exposures and exposures is None:
            raise BatchfixError(
                f"inverse_transform must be given the exposures of fit, {self._exposures}, to put them back; got none. "
                "Pass exposures=, since the columns they came in are not in the table any more."
            )
        loads = self._loads(exposures, back)
        out = np.empty(Z.shape, dtype=Z.dtype)
        if self._long:
            self._restore_long(Z, stats, loads, out)
        else:
            found = self._wide_groups(back, membership)
            self._restore_wide(Z, stats, found, loads, out)
        return self._as_given(out, back, back.names)

    def _restore_wide(
        self, Z: np.ndarray, stats: np.ndarray, found: Grouping, loads: np.ndarray | None, out: np.ndarray
    ) -> None:
        columns, width = self._columns_of_groups(found), len(self.group_names_)
        nothing = np.full((len(Z), 1), np.nan)
        parts = {}
        for i, (field, _) in enumerate(self._fields()):
            parts[field] = np.hstack([stats[:, i * width : (i + 1) * width], nothing])[:, columns]
        betas = stats[:, len(self._fields()) * width :] if self._exposures else None
        restore(Z, found.codes, _standing(parts), out, betas, loads)

    def _restore_long(self, Z: np.ndarray, stats: np.ndarray, loads: np.ndarray | None, out: np.ndarray) -> None:
        p, codes = Z.shape[1], np.arange(Z.shape[1])
        parts = {field: stats[:, i * p : (i + 1) * p] for i, (field, _) in enumerate(self._fields())}
        restore(Z, codes, _standing(parts), out)
        if loads is not None:
            betas = stats[:, len(self._fields()) * p :].reshape(len(Z), p, loads.shape[1])
            out += np.einsum("npk,nk->np", betas, loads)

    def _refuse_lost(self) -> None:
        why = ""
        if self.method != "zscore":
            why = f"ranks (method={self.method!r}) keep the order of values and not the values"
        elif self.winsorize is not None:
            why = f"winsorize={self.winsorize!r} has set the extremes to the limits"
        elif self.leave_one_out:
            why = "leave_one_out=True gives each value statistics of its own, and those of the groups are returned"
        elif not self.return_group_stats:
            why = "the statistics that were taken out are not in the table; set return_group_stats=True"
        if why:
            raise BatchfixError(f"inverse_transform must have what determines the values, but {why}.")

    def _read_back(self, X: Any) -> Table:
        """What transform returned, its columns by name where it has names."""
        wanted = [str(name) for name in self.get_feature_names_out()]
        names = list(X.columns) if hasattr(X, "columns") else None
        if names is not None:
            own = [str(name) for name in names]
            lost = [name for name in wanted if name not in own]
            if lost:
                raise BatchfixError(
                    f"inverse_transform must be given the columns of transform; got none for {some(lost, 3)}. Keep the "
                    "statistics beside the values."
                )
            places = [own.index(name) for name in wanted]
            names = [names[at] for at in places]
            X = X.iloc[:, places] if isinstance(X, pd.DataFrame) else X[names]
        values = check_array(plain(X), dtype=float_types(X), ensure_all_finite=False, estimator=self, input_name="X")
        if values.shape[1] != len(wanted):
            raise BatchfixError(
                f"inverse_transform must be given the {len(wanted)} columns of transform; got {values.shape[1]}."
            )
        return Table(values, {}, X.index if isinstance(X, pd.DataFrame) else None, names or wanted, X)


def _standing(parts: dict[str, np.ndarray]) -> Standing:
    """Statistics as they were returned; a center that was not taken is 0, a scale that was not divided by unknown."""
    some_part = next(iter(parts.values()))
    center = parts.get("center", np.zeros(some_part.shape))
    return Standing(center, parts.get("scale", np.full(some_part.shape, np.nan)), parts["count"])
