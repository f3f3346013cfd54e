"""Needs: what a saved model must be told of new samples, and under which names."""

from __future__ import annotations

import copy as copying
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..adapters.tables import number
from ..core.design import Column, Factor, codes_of
from ..core.naming import nearest, some
from ..correctors import inputs
from ..exceptions import UnknownBatchError
from .names import InputError, check_name, split
from .roles import Roles


@dataclass(frozen=True)
class Needs:
    """The labels that a model with batches asks for.

    Attributes
    ----------
    corrector : the model
    core : the corrector whose statistics are per batch: itself, or the one inside a CompositionalCorrector
    columns : kept and nuisance columns of fit
    needed : names of those that the correction of a row depends on; the others help to learn a new batch
    keys : names of batch and kept columns where the model finds them in its table
    """

    corrector: Any
    core: Any
    columns: list[Column]
    needed: list[str]
    keys: list[Any]

    @classmethod
    def of(cls, corrector: Any) -> Needs:
        """Read them off a fitted corrector; key positions in an array are refused, because files have names."""
        core = getattr(corrector, "corrector_", corrector)
        target = "y" if getattr(core, "keep_y", False) else None
        columns = [c for c in core.statistics_.columns if c.role != "batch" and c.name != target]
        strict = copying.copy(core).set_params(handle_unknown="error")  # what teaches a new batch is a help, no need
        spared = set(strict._spared())
        named = corrector._named if core is not corrector else corrector._keys()
        keys = [key for each in named.values() for key in each]
        if any(not isinstance(key, str) for key in keys):
            raise InputError(
                f"the model must find its labels by name, and finds them in column {some(keys)} of an array; fit it on "
                "a table with names, or use it from Python"
            )
        return cls(corrector, core, columns, [c.name for c in columns if c.name not in spared], keys)

    @property
    def known(self) -> list[np.ndarray]:
        """Sorted labels of each batch column that fit saw (and adapt)."""
        if not self.core._labelled:
            return []
        further = [c.levels for c in self.core.statistics_.columns if c.role == "batch" and isinstance(c, Factor)]
        return [np.sort(self.core.batches_), *further]

    def roles(self, given: Sequence[str] | None, noted: Sequence[str], header: list[str], path: str) -> Roles:
        """Which columns hold batch, kept and nuisance; what is not needed only to learn a batch, if it is there."""
        known = self.known
        if not known:
            if given:
                raise InputError("the model was fitted without batches, and --batch names some; leave it out")
            names: list[str] = []
        else:
            names = split(given, header[1:]) or list(noted) or self.keys[: len(known)] or list(self.core._batch_names)
        if len(names) != len(known):
            told = f"is {some(names)}" if names else "does not say, nor does the model"
            raise InputError(
                f"--batch must name the {len(known)} column{'s' * (len(known) > 1)} of batches that the model knows, "
                f"and {told}; name {'them' if len(known) > 1 else 'it'}"
            )
        for name in names:
            check_name(name, header, path)
        for name in self.needed:
            if name not in header[1:]:
                raise InputError(
                    f"{path!r} must have a column {name!r}, because the model corrects a sample by it, and has none"
                    f"{nearest(name, header[1:])}; add it, under that name"
                )
        learns = self.core.handle_unknown == "adapt"
        there = [c for c in self.columns if c.name in self.needed or (learns and c.name in header[1:])]
        twice = [c.name for c in there if c.name in names]
        if twice:
            raise InputError(
                f"a column can be used once, and {twice[0]!r} is kept by the model; name another for --batch"
            )
        kinds = dict.fromkeys(names, "factor")
        kinds |= {c.name: "factor" if isinstance(c, Factor) else "number" for c in there}
        by_role = {role: [c.name for c in there if c.role == role] for role in ("keep", "nuisance")}
        return Roles(names, by_role["keep"], by_role["nuisance"], kinds)

    def typed(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Kept or nuisance columns with labels of the model's kind."""
        levels = {c.name: c.levels for c in self.columns if isinstance(c, Factor)}
        changed = {n: as_known(frame[n], levels[n], n) if n in levels else frame[n] for n in frame.columns}
        return pd.DataFrame(changed, index=frame.index)

    def batches(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Batch columns with labels of the model's kind."""
        pairs = zip(frame.columns, self.known, strict=True)
        return pd.DataFrame({n: as_known(frame[n], levels, n) for n, levels in pairs}, index=frame.index)

    def new(self, batch: pd.DataFrame) -> dict[str, list[Any]]:
        """Labels of each batch column that fit did not see."""
        found = {}
        for name, levels in zip(batch.columns, self.known, strict=True):
            labels = np.unique(inputs.as_labels(batch[name].to_numpy(), repr(name)))
            found[name] = labels[codes_of(labels, levels) < 0].tolist()
        return found

    def check_new(self, batch: pd.DataFrame, unknown: str) -> None:
        """Refuse new batches unless it was said what to do with them, and it can be done."""
        for k, (name, labels) in enumerate(self.new(batch).items()):
            if not labels:
                continue
            what = f"{some(labels)} of column {name!r}"
            if unknown == "error":
                raise UnknownBatchError(
                    f"every batch must be one that the model was fitted to ({some(self.known[k].tolist(), 8)}), and "
                    f"{what} {'is' if len(labels) == 1 else 'are'} not{nearest(labels[0], self.known[k].tolist())}; "
                    "correct the label, or say --unknown adapt to learn a new batch from its samples, pooled to take "
                    "it for an average one, or nan to leave it empty"
                )
            if unknown == "adapt" and k > 0:
                raise InputError(
                    f"--unknown adapt learns batches of the first batch column alone, and {what} is new too; say "
                    "--unknown pooled or nan"
                )
            counts = batch[name].value_counts()
            lone = [each for each in labels if counts[each] == 1]
            if unknown == "adapt" and lone:
                raise InputError(
                    f"--unknown adapt learns a batch from two samples or more, and {some(lone)} of column {name!r} has "
                    "one; collect more, or say --unknown pooled or nan"
                )

    def transform(
        self, values: pd.DataFrame, batch: pd.DataFrame, keep: pd.DataFrame, nuisance: pd.DataFrame
    ) -> pd.DataFrame:
        """Transform, with labels as arguments or where the model's keys look for them."""
        corrector = self.corrector
        given: dict[str, Any] = {"keep": keep, "nuisance": nuisance}
        given = {role: frame for role, frame in given.items() if len(frame.columns)}
        if len(batch.columns):
            names = self.core._batch_names
            labels = batch.set_axis(names, axis=1) if len(names) == len(batch.columns) else batch
            given["batch"] = labels if names or len(batch.columns) > 1 else labels.iloc[:, 0]
        if self.keys:
            beside = pd.concat([frame for role, frame in given.items() if role != "batch"] + [batch], axis=1)
            beside = beside.rename(columns=dict(zip(batch.columns, self.keys, strict=False)))
            given = {}
            consumed = [key for key in self.keys if key in beside.columns and key in corrector._consumed]
            levels = [key for key in self.keys if key in beside.columns and key not in corrector._consumed]
            values = pd.concat([values, beside[consumed + levels]], axis=1)
            if levels:
                values = values.set_index(levels, append=True)
        if hasattr(corrector, "feature_names_in_"):
            corrected = corrector.transform(values, **given)
        elif corrector._numbered is not None:
            corrected = corrector.transform(values.set_axis(corrector._numbered, axis=1), **given)
        else:
            made = np.asarray(corrector.transform(values.to_numpy(), **given))
            corrected = pd.DataFrame(made, columns=corrector.get_feature_names_out(list(values.columns)))
        names = [str(name) for name in corrected.columns]
        return pd.DataFrame(np.asarray(corrected), columns=names, index=values.index)

    def done(self, roles: Roles, batch: pd.DataFrame, features: int, unknown: str) -> dict[str, Any]:
        """What was corrected, for a person or a program."""
        new = self.new(batch)
        return {
            "samples": len(batch),
            "features": features,
            "batches": {name: _counted(batch[name], new[name]) for name in batch.columns},
            "unknown": unknown if any(new.values()) else None,
            "kept": roles.keep,
            "nuisance": roles.nuisance,
            "carried": [],
        }


def _counted(labels: pd.Series, new: list[Any]) -> dict[str, dict[str, Any]]:
    counts = Counter(labels.tolist())
    return {str(each): {"samples": counts[each], "known": each not in new} for each in sorted(counts)}


def as_known(labels: pd.Series, known: np.ndarray, name: str) -> Any:
    """Labels of a file, which are text, as the kind of labels that the model knows."""
    kind = known.dtype.kind
    if kind in "UO" or not len(known):
        return labels
    try:
        if kind == "b":
            values = np.array([{"true": True, "false": False}[each.casefold()] for each in labels])
        elif kind in "iu":
            values = np.array([int(each) for each in labels])
        elif kind == "f":
            values = np.array([number(each) for each in labels])
        else:
            values = labels.to_numpy().astype(known.dtype)
    except (ValueError, KeyError) as error:
        raise InputError(
            f"column {name!r} must hold labels like those of the model ({some(known.tolist(), 3)}), and {error} is not "
            "of that kind; write them alike"
        ) from error
    return pd.Series(values, index=labels.index)
