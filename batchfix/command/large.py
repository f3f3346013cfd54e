"""Large tables: `batchfix correct` of what does not fit into memory, block by block.

    pass 1   ids and labels of all rows, which fit
    pass 2   a block at a time: statistics are added up
    pass 3   a block at a time: corrected and written

Nothing here differs from `correct` but that: the same options, the same output.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from ..adapters.blocks import fit_blocks, transform_blocks
from ..adapters.sources.files import labels_of
from ..adapters.sources.opening import as_source
from ..adapters.sources.sizes import free_memory, numbers_in
from ..adapters.sources.source import BLOCK_BYTES, Source
from ..adapters.sources.tables import TextSource
from ..adapters.tables import Table, is_parquet, open_table, read_header, read_text
from .checks import check_batches, check_ids, check_kept, check_names_differ, warn_of_covariates
from .covariates import CovariateSearch
from .methods import METHODS
from .models import save_as_asked
from .names import InputError
from .reading import Cells, explaining_cells
from .roles import Roles, metadata_of, samples_in_rows
from .steps import enough_features, filled, finish, make_corrector, say
from .summary import counts_of, describe, in_bytes, wrote
from .terminal import progress_bar, warn

SHARE = 0.25
"""Of the free memory, what a table's numbers may take: a correction holds them twice, and more while it works."""

MOST_ROWS = 1_000_000_000
"""Of a block: more than any memory holds, and no more than every reader takes."""


def add_stream_options(parser: argparse.ArgumentParser) -> None:
    """Register what asks for blocks."""
    parser.add_argument(
        "--stream",
        action="store_true",
        help="read, correct and write block by block, as is done by itself with tables too large for the memory "
        "(methods of medians, log-ratios, abundances and those without batches need the whole table, as do --report "
        "and samples in columns)",
    )
    parser.add_argument(
        "--block-rows",
        type=_whole,
        metavar="N",
        help="the same, N rows at a time (default: what makes 16 MB of a table, 64 MB of an .h5ad file)",
    )


def check_stream_options(args: argparse.Namespace) -> None:
    """Refuse, before the work, blocks where the whole table is needed."""
    if not asked(args):
        return
    option = "--stream" if args.stream else "--block-rows"
    if not adds_up(args.method):
        raise InputError(
            f"{option} adds up statistics of blocks, and --method {args.method} needs the whole table at once; leave "
            f"it out, or choose one of {', '.join(name for name in METHODS if adds_up(name))}"
        )
    _refuse_report(args, f"{option} is given")


def streams(args: argparse.Namespace) -> bool:
    """Whether to go block by block: as asked, or as the size of the table and of the memory say."""
    if asked(args):
        return True
    need, free = _need(args), free_memory()
    if free is None or need <= SHARE * free:
        return False
    if not adds_up(args.method):
        whole(args, f"--method {args.method} needs the whole table at once")
        return False
    _refuse_report(args, f"{args.input!r} is too large to load ({in_bytes(need)} of numbers, {in_bytes(free)} free)")
    return True


def asked(args: argparse.Namespace) -> bool:
    """Whether an option asks for blocks."""
    return bool(args.stream) or args.block_rows is not None


def whole(args: argparse.Namespace, why: str) -> None:
    """Say that a large table must be loaded; an error where it cannot be."""
    if asked(args):
        raise InputError(f"blocks cannot be corrected one by one where {why}; leave --stream and --block-rows out")
    need, free = _need(args), free_memory()
    if free is None or need <= SHARE * free:
        return
    said = f"{why}, and the numbers of {args.input!r} take {in_bytes(need)}, where {in_bytes(free)} of memory are free"
    if 2 * need > free:
        raise InputError(
            f"{said}; choose a method whose statistics add up (combat, linear, location, ...) with samples in rows, or "
            "a larger machine"
        )
    warn(f"{said}: this may be slow or fail.")


def correct_in_blocks(args: argparse.Namespace, roles: Roles, ignored: list[str], *, existed: bool) -> bool:
    """Read, correct, write and say what was done; False, and nothing done, where samples are columns."""
    found = _described(args, roles, ignored)
    if found is None:
        return False
    table, cells = found
    batch, keep, nuisance = roles.labels(cells, table.ids)
    check_batches(args, batch)
    check_kept(keep)
    corrector = make_corrector(args, batch)
    measurements = partial(Measurements, args.input, table, labels(batch, keep, nuisance))
    source = measurements()
    if not source.n_features:
        raise InputError(
            f"{args.input!r} must have columns of measurements, and all of its columns are named as labels or "
            "ignored; leave the measurements out of --batch, --keep, --nuisance and --ignore"
        )
    search = CovariateSearch(table.number_columns, len(table.ids))

    def watch(values: np.ndarray) -> None:
        search.add(values)
        if search.complete:
            warn_of_covariates(search.found(), in_rows=True)

    with explaining_cells(args.input, list(table.text), source.cells):
        fit_in_blocks(args, corrector, measurements(watch=watch))
    with progress_bar("writing") as progress, open_table(args.output) as write:
        start = 0
        for block in transform_blocks(corrector, source, block_rows=args.block_rows, progress=progress):
            write(filled(table.rows(start, start + len(block)), block, in_rows=True), None)
            start += len(block)
    lines = describe(table.number_columns, args.method, batch, keep, nuisance)
    if table.text:
        lines.append(f"carried unchanged: {', '.join(table.text)}")
    say(args, [*lines, wrote(args.output, existed)])
    save_as_asked(args, corrector, batch=roles.batch, ignore=ignored)
    done = {"samples": len(batch), "features": source.n_features, "batches": counts_of(batch)}
    finish(args, done | {"kept": roles.keep, "nuisance": roles.nuisance, "carried": list(table.text)})
    return True


def fit_in_blocks(args: argparse.Namespace, corrector: Any, source: Source) -> None:
    """Add up the statistics of all blocks, with a bar."""
    with enough_features(args, source.n_features), progress_bar("learning") as progress:
        fit_blocks(corrector, source, block_rows=args.block_rows, progress=progress)


def labels(batch: pd.DataFrame, keep: pd.DataFrame, nuisance: pd.DataFrame) -> dict[str, Any]:
    """Labels by role, as `fit_blocks` takes them."""
    given: dict[str, Any] = {"batch": batch if len(batch.columns) > 1 else batch.iloc[:, 0]}
    return given | {role: frame for role, frame in (("keep", keep), ("nuisance", nuisance)) if len(frame.columns)}


class Measurements(Source):
    """The numbers of a table in a file, block by block: of 16 MB, as a block is held decoded, as numbers and as cells.

    Parameters
    ----------
    path : file of a table
    table : Table
        Its ids and text, and the names of all its columns.
    given : labels of all rows by role
    watch : function, optional
        Called with the numbers of each block that is read.
    """

    block_bytes = BLOCK_BYTES // 4
    names: list[str]

    def __init__(
        self, path: str, table: Table, given: dict[str, Any], watch: Callable[[np.ndarray], object] | None = None
    ) -> None:
        self.path, self.table, self.watch = path, table, watch
        self.names = table.number_columns
        self.n_rows, self.n_features = len(table.ids), len(self.names)
        self.dtype = np.dtype(np.float64)
        self.labels = labels_of(given)

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        for frame, share in self._frames(rows):
            if self.watch is not None:
                self.watch(frame.to_numpy())
            yield frame, {}, share

    def _frames(self, rows: int) -> Iterator[tuple[pd.DataFrame, float]]:
        if not is_parquet(self.path):
            for frame, _, share in TextSource(Path(self.path), {}, text=self.table.text).tables(rows):
                yield frame[self.names], share
            return
        from ..adapters.tables.parquet import read_blocks

        start = 0
        for numbers, share in read_blocks(self.path, self.table, rows):
            stop = start + len(numbers)
            yield pd.DataFrame(numbers, index=self.table.ids[start:stop], columns=self.names, copy=False), share
            start = stop

    def cells(self) -> Iterator[Cells]:
        """Cells as they are written, of columns that the file does not hold as numbers, block by block."""
        source = as_source(self.path, text=self.table.columns)
        with progress_bar("looking closer") as progress:
            for block in source.blocks(max(1, source.rows_per_block() // 8)):  # text takes more room than numbers
                columns = {name: block.X[name] for name in self.names if not is_numeric_dtype(block.X[name])}
                texts = {name: each.astype(object).where(each.notna(), "").map(str) for name, each in columns.items()}
                yield self.table.ids[block.start : block.stop], {name: each.tolist() for name, each in texts.items()}
                progress(block.share)


def _described(args: argparse.Namespace, roles: Roles, ignored: list[str]) -> tuple[Table, dict[str, list[str]]] | None:
    """The table without its numbers, and the cells that describe its samples; None if these are columns."""
    with progress_bar("reading") as progress:
        named = ignored if args.metadata else [*roles.kinds, *ignored]
        table = replace(read_text(args.input, named, progress=progress), columns=read_header(args.input)[1:])
    if args.metadata is None:
        check_ids(args, table)
        return table, table.text
    metadata = read_text(args.metadata)
    if not samples_in_rows(args, table, metadata):
        whole(args, "samples are columns")
        return None
    cells = metadata_of(args, table.ids, metadata)
    check_names_differ(args, table, metadata, in_rows=True)
    return table, cells


def adds_up(name: str) -> bool:
    """Whether a method's statistics add up."""
    method = METHODS[name]
    return method.peers is None and method.composition is None and hasattr(method.make(), "partial_fit")


def _refuse_report(args: argparse.Namespace, why: str) -> None:
    if args.report is not None:
        raise InputError(
            f"--report looks at the whole table at once, and {why}; leave it out, and for a report give a sample of "
            "the rows to batchfix diagnose --method"
        )


def _need(args: argparse.Namespace) -> int:
    """Bytes of the table's numbers; what is not there is refused where it is read."""
    return numbers_in(args.input, layer=args.layer) if Path(args.input).is_file() else 0


def _whole(text: str) -> int:
    digits = text.lstrip("0")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, and is {text!r}")
    return min(int(digits[:10]), MOST_ROWS)
