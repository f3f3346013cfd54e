"""Peers: the command's methods whose statistics belong to a row and its groups, or to a column's own past."""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ..adapters.tables import MISSING, Table, check_output, read_header, read_text, write_table
from ..core.naming import nearest, some
from ..exceptions import AlignmentError
from .labels import label
from .names import InputError, check_name, split
from .reading import read_numbers
from .summary import count, wrote
from .terminal import progress_bar

ZONE = re.compile(r"\d[T ]\d.*(Z|[+-]\d\d:?(\d\d)?)\s*$")

OF_BATCHES = (
    *("batch", "keep", "keep_factor", "keep_number", "nuisance", "nuisance_factor", "nuisance_number"),
    *("metadata", "samples", "reference", "scale_guard", "write", "zeros"),
)
"""Options that speak of batches, or of the samples that are in them."""


def add_peer_options(parser: argparse.ArgumentParser) -> None:
    """Register what only these methods take."""
    parser.add_argument(
        "--groups",
        metavar="TABLE",
        help="with sector-...: a table whose first column names columns of TABLE, and whose others are their groups, "
        "coarse to fine",
    )
    parser.add_argument(
        "--within",
        metavar="COLUMN",
        help="with sector-... of a long table (a row a date and stock): the column of dates; --by names the groups",
    )
    parser.add_argument(
        "--by", metavar="COLUMNS", action="append", help="with --within: columns of groups, coarse to fine"
    )
    parser.add_argument(
        "--symbol",
        metavar="COLUMN",
        help="with --within: the column that tells a date's rows apart (the first column, if it is not that of dates), "
        "each of which a date has once",
    )
    parser.add_argument(
        "--group-stats", action="store_true", help="with sector-...: append what was removed, as mean(Tech), ..."
    )


def check_peer_options(args: argparse.Namespace, *, sectors: bool) -> None:
    """Refuse options that a method would pass over in silence."""
    options = {"--groups": args.groups, "--within": args.within, "--by": args.by, "--symbol": args.symbol}
    given = [name for name, value in options.items() if value] + ["--group-stats"] * args.group_stats
    if given and not sectors:
        raise InputError(f"{given[0]} needs a method sector-..., and the method is {args.method}; choose one")
    for name in ("--by", "--symbol"):
        if options[name] and not args.within:
            raise InputError(f"{name} names keys of a long table and needs --within, the column of dates; name it")
    if sectors and not args.groups and not args.within:
        raise InputError(
            f"--method {args.method} compares members of a group and needs --groups, a table of the columns' groups "
            "(of a long table: --within, the column of dates, and --by); to compare whole rows choose a method row-..."
        )
    if args.groups and args.within:
        raise InputError(
            "--groups is for wide tables (a column a stock) and --within for long ones (a row a date and stock); give "
            "one of the two"
        )


def refuse_batch_options(args: argparse.Namespace) -> None:
    """Refuse what speaks of batches: these methods have none."""
    for name in OF_BATCHES:
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name.replace('_', '-')} speaks of batches, and --method {args.method} has none; leave it out"
            )


def run_peers(args: argparse.Namespace, make: Any) -> None:
    """Read, correct, write, and say what was done; `make` makes the corrector from its groups."""
    refuse_batch_options(args)
    existed = check_output(args.output).exists()
    header = read_header(args.input)
    ignored = split(args.ignore, header[1:])
    for name in ignored:
        check_name(name, header, args.input)
    long = args.within is not None
    keys = _keys(args, header) if long else []
    text = [name for name in dict.fromkeys([*keys, *ignored]) if name in header[1:]]
    table = read_numbers(args.input, text, unique_ids=not long)
    values = pd.DataFrame(table.numbers, columns=table.number_columns)
    _check_columns(args, table)
    options: dict[str, Any] = {"return_group_stats": True} if args.group_stats else {}
    if long:
        cells = {name: _column(table, name) for name in keys}
        values = pd.concat([pd.DataFrame(cells), values], axis=1)
        options |= {"within": args.within, "by": split(args.by, header) or None, "symbol": args.symbol}
        _check_pairs(args, table)
    else:
        values.index = pd.Index(table.ids)
        if args.groups is not None:
            options["groups"] = _groups(args, table)
    corrector = make(**options)
    corrected = corrector.fit_transform(values)
    with progress_bar("writing") as progress:
        write_table(_with(table, corrected), args.output, progress=progress)
    print(f"{count(len(values), 'row')} x {count(len(table.number_columns), 'column')} corrected by {args.method}")
    names = [name for name in corrector.group_names_.tolist() if name != "row"]
    if names:
        print(f"{count(len(names), 'group')}: {some(names, 8)}")
    print(wrote(args.output, existed))


def run_history(args: argparse.Namespace, make: Any) -> None:
    """Each column by its own past: rows must be in the order of time."""
    refuse_batch_options(args)
    existed = check_output(args.output).exists()
    ignored = split(args.ignore, read_header(args.input)[1:])
    table = read_numbers(args.input, ignored)
    _check_columns(args, table)
    try:
        times = pd.DatetimeIndex(
            pd.to_datetime(table.ids, format="ISO8601", utc=True if _all_zoned(table.ids) else None)
        )
    except ValueError:
        raise InputError(
            f"--method {args.method} needs dates (2026-01-31) in the first column of {args.input!r}, and it holds "
            f"{some(table.ids, 3)}; put them there, in order"
        ) from None
    corrected = make().fit_transform(pd.DataFrame(table.numbers, index=times, columns=table.number_columns))
    with progress_bar("writing") as progress:
        write_table(_with(table, corrected), args.output, progress=progress)
    print(f"{count(len(times), 'row')} x {count(len(table.number_columns), 'column')} corrected by {args.method}")
    print(wrote(args.output, existed))


def _all_zoned(dates: list[str]) -> bool:
    """Whether every time says how far from Greenwich it is: these may differ, as summers do."""
    return all(ZONE.search(date) for date in dates)


def _check_columns(args: argparse.Namespace, table: Table) -> None:
    if not table.number_columns:
        raise InputError(f"{args.input!r} must have columns of measurements, and all are named otherwise; name fewer")


def _keys(args: argparse.Namespace, header: list[str]) -> list[str]:
    """The date's column, then those of groups."""
    keys = [args.within, *split(args.by, header), *([args.symbol] if args.symbol else [])]
    for name in keys:
        if name not in header:  # the first column may well be one of them
            raise InputError(
                f"{args.input!r} must have the columns you name, and has no {name!r}{nearest(name, header)}; its "
                f"columns are {some(header, 8)}"
            )
    return keys


def _check_pairs(args: argparse.Namespace, table: Table) -> None:
    """Refuse a row that is there twice: one date, and one id in the first column."""
    if args.symbol or args.within == table.id_name:
        return
    pairs = pd.DataFrame({"id": table.ids, "date": table.text[args.within]})
    twice = pairs.duplicated()
    if twice.any():
        name, date = pairs[twice.to_numpy()].iloc[0]
        raise InputError(
            f"each row of {args.input!r} must be another date or another {table.id_name or 'id'}, and {name!r} of "
            f"{date!r} is there twice ({count(int(twice.sum()), 'row')} too many); drop them, or name what tells rows "
            "apart with --symbol"
        )


def _column(table: Table, name: str) -> Any:
    cells = table.ids if name == table.id_name else table.text[name]
    return np.array([_group(cell) for cell in cells], dtype=object)


def _group(cell: str) -> str | None:
    return None if cell.strip() in MISSING else label(cell)


def _groups(args: argparse.Namespace, table: Table) -> pd.DataFrame:
    """Levels (columns) of the group of each column of the table, in its order."""
    found = read_text(args.groups)
    known = set(found.ids)
    lost = [name for name in table.number_columns if name not in known]
    if lost:
        raise AlignmentError(
            f"{args.groups!r} must name every column of {args.input!r} in its first column, and lacks {some(lost)}; "
            "add them (with an empty cell where no group is known), or carry them along with --ignore"
        )
    levels = {name: [_group(cell) for cell in cells] for name, cells in found.text.items()}
    return pd.DataFrame(levels, index=found.ids, dtype=object).loc[table.number_columns]


def _with(table: Table, corrected: pd.DataFrame) -> Table:
    """The table with other numbers, and further columns after its own."""
    names = [str(name) for name in corrected.columns]
    more = [name for name in names if name not in set(table.number_columns)]
    twice = [name for name in more if name in table.text]
    if twice:
        raise InputError(f"columns of statistics must have names of their own, and {some(twice)} is there; rename it")
    return replace(table, columns=[*table.columns, *more], numbers=corrected.to_numpy())
