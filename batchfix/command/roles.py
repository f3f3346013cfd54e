"""Roles: which columns say what of the samples, and where their labels come from."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import pandas as pd

from ..adapters.tables import Table
from ..core.naming import some
from ..exceptions import AlignmentError
from .labels import typed
from .names import InputError, check_name, split


@dataclass(frozen=True)
class Roles:
    """Columns of batch, keep and nuisance; `kinds` gives each "auto", "factor" or "number"."""

    batch: list[str]
    keep: list[str]
    nuisance: list[str]
    kinds: dict[str, str]

    @classmethod
    def from_arguments(cls, args: argparse.Namespace, header: list[str], ignored: list[str]) -> Roles:
        """Resolve the names against the header of the table that holds them."""
        where = args.metadata or args.input
        kinds: dict[str, str] = {}
        hint = "; if these are samples, give the table that describes them, one a row"
        if hasattr(args, "samples"):
            hint = "" if args.metadata else f"{hint}, with --metadata"
        taken = {} if args.metadata else dict.fromkeys(ignored, "ignore")  # column -> the option that took it

        def take(role: str) -> list[str]:
            names: dict[str, None] = {}
            for kind in ("auto", "factor", "number"):
                option = role if kind == "auto" else f"{role}-{kind}"
                for name in split(getattr(args, option.replace("-", "_"), None), header[1:]):
                    check_name(name, header, where, hint=hint)
                    first = taken.setdefault(name, option)
                    # --keep x --keep-factor x says no more than --keep-factor x
                    if first not in (option, role):
                        raise InputError(
                            f"a column can be used once, and {name!r} is named by both --{first} and --{option}; "
                            "choose one"
                        )
                    taken[name] = option
                    names[name] = None
                    kinds[name] = "factor" if role == "batch" else kind
            return list(names)

        roles = cls(take("batch"), take("keep"), take("nuisance"), kinds)
        if not roles.batch:
            raise InputError("--batch must name a column, and is empty; give the column that tells the batches apart")
        if len(roles.batch) > 1 and args.method != "linear":
            raise InputError(
                f"several batch columns ({some(roles.batch)}) need --method linear, and the method is "
                f"{args.method}; choose it, or name one column"
            )
        return roles

    def labels(
        self, cells: dict[str, list[str]], samples: list[str]
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Batch, keep and nuisance, one row a sample, each column a factor or a number.

        Factors are categories, batches aside: levels that read as numbers are levels all the same.
        """

        def frame(role: str, names: list[str]) -> pd.DataFrame:
            columns = {name: typed(name, cells[name], samples, role, self.kinds[name]) for name in names}
            factors = [name for name in names if columns[name].dtype == object and role != "batch"]
            return pd.DataFrame(columns, index=pd.Index(samples)).astype(dict.fromkeys(factors, "category"))

        return frame("batch", self.batch), frame("keep", self.keep), frame("nuisance", self.nuisance)


def samples_in_rows(args: argparse.Namespace, table: Table, metadata: Table) -> bool:
    """Whether the table has samples in rows: as told, or as the metadata's ids tell."""
    if args.samples is not None:
        return bool(args.samples == "rows")
    wanted, rows, columns = set(metadata.ids), set(table.ids), set(table.number_columns)
    if (wanted == rows) != (wanted == columns):
        return wanted == rows
    in_rows, in_columns = len(wanted & rows), len(wanted & columns)
    if not in_rows and not in_columns:
        raise AlignmentError(
            f"the ids of {args.metadata!r} ({some(metadata.ids, 3)}) must be those of the samples, and none is a row "
            f"({some(table.ids, 3)}) or a column ({some(table.number_columns, 3)}) of {args.input!r}; "
            "make the ids of both files agree"
        )
    if in_rows and in_columns:
        raise InputError(
            f"it must be clear where {args.input!r} has its samples, and ids of {args.metadata!r} are both among its "
            "rows and among its columns; say --samples rows or --samples columns"
        )
    return in_rows > 0


def metadata_of(args: argparse.Namespace, samples: list[str], metadata: Table) -> dict[str, list[str]]:
    """The metadata's columns in the order of the samples; an error where ids differ."""
    place = {name: at for at, name in enumerate(metadata.ids)}
    known = set(samples)
    complaints = []
    for lacking, path in (
        ([name for name in samples if name not in place], args.metadata),
        ([name for name in metadata.ids if name not in known], args.input),
    ):
        if lacking:
            complaints.append(f"{len(lacking)} are not in {path!r} ({some(lacking)})")
    if complaints:
        raise AlignmentError(
            f"{args.input!r} and {args.metadata!r} must hold the same samples, and of their ids "
            f"{' and '.join(complaints)}; add or leave out those samples (or a column of {args.input!r} that is not a "
            "sample: name it with --ignore)"
        )
    order = [place[name] for name in samples]
    return {name: [cells[at] for at in order] for name, cells in metadata.text.items()}
