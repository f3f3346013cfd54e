"""The command `batchfix`: tables in, corrected tables out.

Exit codes: 0 done; 2 the input or the way it was asked (one sentence on stderr);
1 a fault of ours (with the traceback to report); 130 Ctrl-C; 141 the reader of
our output went away.

A subcommand is a function that adds its parser to the others and sets `run`, a
function of the parsed arguments; `COMMANDS` lists them.
"""

from __future__ import annotations

import argparse
import csv
import difflib
import os
import shlex
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from tqdm import tqdm

from batchfix.adapters.tables import (
    MISSING,
    NotNumericError,
    Progress,
    Table,
    check_output,
    number,
    read_header,
    read_table,
    read_text,
    some,
    write_table,
)
from batchfix.core.variance import variance_explained
from batchfix.correctors import BatchCorrector, ComBat, LinearCorrector
from batchfix.datasets import load_bladder
from batchfix.exceptions import (
    AlignmentError,
    AmbiguousKeepError,
    BatchfixError,
    BatchfixWarning,
    MissingLabelError,
    NothingToCorrectWarning,
    UnknownBatchError,
)


class InputError(BatchfixError):
    """The command was asked for something that its files or options do not allow."""


# ---------------------------------------------------------------- the methods


@dataclass(frozen=True)
class Method:
    """A name on the command line: what it does, and how its corrector is made."""

    summary: str
    make: Callable[..., Any]


METHODS = {
    "combat": Method("shift and scale per batch, shrunk across features (sva's ComBat)", ComBat),
    "combat-nonparametric": Method("the same with non-parametric priors; slow", partial(ComBat, parametric=False)),
    "combat-mean-only": Method("ComBat's shift alone", partial(ComBat, mean_only=True)),
    "linear": Method("shift by least squares (limma's removeBatchEffect); takes --nuisance", LinearCorrector),
    "location": Method("equal means", partial(BatchCorrector, scale=None)),
    "location-scale": Method("equal means and standard deviations", BatchCorrector),
    "location-scale-shrunk": Method(
        "the same, shrunk across features by empirical Bayes", partial(BatchCorrector, shrinkage="eb")
    ),
    "robust-location": Method("equal medians", partial(BatchCorrector, location="median", scale=None)),
    "robust-location-scale": Method(
        "equal medians and median absolute deviations", partial(BatchCorrector, location="median", scale="mad")
    ),
    "standardize": Method(
        "mean 0 and standard deviation 1 within each batch", partial(BatchCorrector, target="standard")
    ),
}
_SCALE_GUARDED = ("combat", "combat-nonparametric")


# ------------------------------------------------------------------ batchfix demo


def add_demo(commands: Any) -> None:
    """Register `batchfix demo`."""
    parser = commands.add_parser(
        "demo",
        help="correct a real table that comes along, in seconds",
        description="Correct bladder cancer microarrays from five batches with ComBat, keeping cancer status; "
        "say what changed, and write the corrected table.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        default="bladder_corrected.csv",
        help="where the corrected table goes, replacing what is there (default: %(default)s)",
    )
    parser.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> None:
    """Correct the bladder table, write it, and print what batch and cancer explain of it."""
    existed = check_output(args.output).exists()
    bladder = load_bladder()
    data, batch, cancer = bladder.data, bladder.samples["batch"], bladder.samples["cancer"]
    corrected = ComBat().fit_transform(data, batch=batch, keep=cancer.to_frame())
    table = Table("sample", [str(i) for i in data.index], [str(c) for c in data.columns], corrected.to_numpy(), {})
    write_table(table, args.output)

    def shares(values: pd.DataFrame) -> tuple[float, float]:
        matrix = values.to_numpy()
        of_batch = variance_explained(matrix, batch.to_numpy(), given=cancer.to_numpy())
        of_cancer = variance_explained(matrix, cancer.to_numpy(), given=batch.to_numpy())
        return float(of_batch.mean()), float(of_cancer.mean())

    before, after = shares(data), shares(corrected)
    n, p = data.shape
    print(f"bladder cancer microarrays: {n} samples x {p} probes in {batch.nunique()} batches")
    print("corrected by ComBat, keeping cancer status")
    print()
    print("share of a probe's variance, on average    before    after")
    print(f"  batch explains, given cancer status      {before[0]:6.1%}   {after[0]:6.1%}")
    print(f"  cancer status explains, given batch      {before[1]:6.1%}   {after[1]:6.1%}")
    print()
    print(f"{_wrote(args.output, existed)} (samples in rows, log2 intensities)")


# --------------------------------------------------------------- batchfix correct


def add_correct(commands: Any) -> None:
    """Register `batchfix correct`."""
    methods = "\n".join(f"  {name:<22} {method.summary}" for name, method in METHODS.items())
    parser = commands.add_parser(
        "correct",
        help="correct a table of your own",
        description="Take the differences between batches out of a table, and keep what you name.\n\n"
        "The table is .csv or .tsv, also gzipped (.csv.gz); its first column holds the ids. Without --metadata\n"
        "its rows are samples, and --batch, --keep and --nuisance name columns of its own, which are carried to\n"
        "the output unchanged. With --metadata they name columns of that table, joined by sample id.",
        epilog=f"methods:\n{methods}\n\n"
        "example:\n"
        "  batchfix correct runs.csv -o corrected.csv --batch run --keep group --keep-number age\n\n"
        "COLUMNS are names separated by commas; quote a name that holds one: '\"a,b\",c'.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("input", metavar="TABLE", help="the table to correct")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where the corrected table goes")
    parser.add_argument("--metadata", metavar="TABLE", help="a table of samples: ids, then batch, group, ...")
    parser.add_argument(
        "--samples",
        choices=["rows", "columns"],
        help="where TABLE has its samples; needed with --metadata if its ids do not tell",
    )
    parser.add_argument(
        "--method", choices=list(METHODS), default="combat", metavar="NAME", help="see below (default: %(default)s)"
    )
    column = partial(parser.add_argument, action="append", default=None, metavar="COLUMNS")
    column("--batch", required=True, help="the batch of each sample (several columns: with --method linear)")
    column("--keep", help="what must survive: text is a factor, decimals a number")
    column("--keep-factor", help="the same, each value a level of its own (1, 2, 3 as codes)")
    column("--keep-number", help="the same, a quantity (1, 2, 3 as amounts)")
    column("--nuisance", help="what must go besides batch")
    column("--nuisance-factor", help="the same, each value a level of its own")
    column("--nuisance-number", help="the same, a quantity")
    column("--ignore", help="columns of TABLE to carry along, neither corrected nor used")
    parser.add_argument("--reference", metavar="BATCH", help="leave this batch as it is, map the others to it")
    parser.add_argument(
        "--scale-guard",
        metavar="SHARE",
        type=_share,
        help="with combat: scale a feature only if it is present in this share of every batch, say 0.2",
    )
    parser.set_defaults(run=run_correct)


def run_correct(args: argparse.Namespace) -> None:
    """Read, correct, write, and say what was done."""
    _check_options(args)
    existed = check_output(args.output).exists()
    header = read_header(args.input)
    ignored = _split(args.ignore, header[1:])
    for name in ignored:
        _check_name(name, header, args.input)
    roles = Roles.from_arguments(args, read_header(args.metadata or args.input), ignored)

    if args.metadata is None:
        table = _read(args.input, [*roles.kinds, *ignored])
        in_rows, samples, cells = True, table.ids, table.text
    else:
        metadata = read_text(args.metadata)
        table = _read(args.input, ignored)
        in_rows = _samples_in_rows(args, table, metadata)
        samples = table.ids if in_rows else table.number_columns
        cells = _joined(args, samples, metadata)
    n_features = len(table.number_columns) if in_rows else len(table.ids)
    if not n_features:
        raise InputError(
            f"{args.input!r} must have columns of measurements, and all of its columns are named as labels or "
            "ignored; leave the measurements out of --batch, --keep, --nuisance and --ignore"
        )

    batch, keep, nuisance = roles.labels(cells, samples)
    _check_batches(batch)
    corrector = _make_corrector(args, batch)
    values = pd.DataFrame(table.numbers, index=table.ids, columns=table.number_columns)
    extra = {"nuisance": nuisance} if len(nuisance.columns) else {}
    corrected = corrector.fit_transform(
        values if in_rows else values.T,
        batch=batch if len(batch.columns) > 1 else batch.iloc[:, 0],
        keep=keep if len(keep.columns) else None,
        **extra,
    ).to_numpy()
    with _progress("writing") as progress:
        write_table(replace(table, numbers=corrected if in_rows else corrected.T), args.output, progress=progress)

    print(f"{_count(len(samples), 'sample')} x {_count(n_features, 'feature')} corrected by {args.method}")
    for name in batch.columns:
        counts = Counter(batch[name])
        shown = ", ".join(f"{label} ({counts[label]})" for label in sorted(counts)[:8])
        print(f"{name}: {_count(len(counts), 'batch', 'batches')}: {shown}{', ...' if len(counts) > 8 else ''}")
    for word, frame in (("kept", keep), ("nuisance", nuisance)):
        for name, column in frame.items():
            kind = "number" if column.dtype.kind == "f" else f"factor, {_count(column.nunique(), 'level')}"
            print(f"{word}: {name} ({kind})")
    if table.text:
        print(f"carried unchanged: {', '.join(table.text)}")
    print(_wrote(args.output, existed))


@dataclass(frozen=True)
class Roles:
    """Which columns say what of the samples; `kinds` gives each "auto", "factor" or "number"."""

    batch: list[str]
    keep: list[str]
    nuisance: list[str]
    kinds: dict[str, str]

    @classmethod
    def from_arguments(cls, args: argparse.Namespace, header: list[str], ignored: list[str]) -> Roles:
        """Resolve the names against the header of the table that holds them."""
        where = args.metadata or args.input
        kinds: dict[str, str] = {}
        taken = {} if args.metadata else dict.fromkeys(ignored, "ignore")  # column -> the option that took it

        def take(role: str) -> list[str]:
            names: dict[str, None] = {}
            for kind in ("auto", "factor", "number"):
                option = role if kind == "auto" else f"{role}-{kind}"
                for name in _split(getattr(args, option.replace("-", "_"), None), header[1:]):
                    _check_name(name, header, where)
                    first = taken.setdefault(name, option)
                    # --keep x --keep-factor x says no more than --keep-factor x
                    if first not in (option, role):
                        raise InputError(
                            f"a column can be used once, and {name!r} is named by both --{first} and --{option}; "
                            "choose one"
                        )
                    taken[name] = option
                    names[name] = None
                    kinds[name] = kind
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
        """Batch, keep and nuisance, one row a sample, each column a factor or a number."""

        def frame(role: str, names: list[str]) -> pd.DataFrame:
            typed = {
                name: _factor(name, cells[name], samples, role)
                if role == "batch" or self.kinds[name] == "factor"
                else _typed(name, cells[name], samples, role, self.kinds[name])
                for name in names
            }
            return pd.DataFrame(typed, index=pd.Index(samples))

        return frame("batch", self.batch), frame("keep", self.keep), frame("nuisance", self.nuisance)


def _factor(name: str, cells: list[str], samples: list[str], role: str) -> Any:
    """The cells as they are written; an error where one is missing."""
    missing = [sample for sample, cell in zip(samples, cells, strict=True) if cell.strip() in MISSING]
    if missing:
        raise MissingLabelError(
            f"every sample must have a value in --{role} column {name!r}, and {len(missing)} of {len(samples)} have "
            f"none: {some(missing)}; fill them in, or leave those samples out"
        )
    return np.array(cells, dtype=object)


def _typed(name: str, cells: list[str], samples: list[str], role: str, kind: str) -> Any:
    """Numbers as floats, text as it is; an error where it could be either."""
    _factor(name, cells, samples, role)
    values, bad = [], []
    for sample, cell in zip(samples, cells, strict=True):
        try:
            values.append(number(cell))
        except ValueError:
            bad.append((sample, cell))
    if bad and (kind == "number" or values):
        sample, cell = bad[0]
        wanted = f"--{role}-number column {name!r} must hold finite numbers, and"
        if kind == "auto":
            wanted = f"--{role} column {name!r} must be all numbers or all text, and some cells are numbers but"
        raise AmbiguousKeepError(
            f"{wanted} sample {sample!r} has {cell!r}; correct it, or say --{role}-factor {name} if the "
            "values are levels"
        )
    if bad:
        return np.array(cells, dtype=object)
    array = np.array(values)
    distinct = np.unique(array)
    if kind == "auto" and len(distinct) > 2 and np.array_equal(array, np.rint(array)):
        raise AmbiguousKeepError(
            f"--{role} column {name!r} holds whole numbers ({', '.join(f'{v:.0f}' for v in distinct[:4])}"
            f"{', ...' if len(distinct) > 4 else ''}), which may be levels or amounts; "
            f"say --{role}-factor {name} or --{role}-number {name}"
        )
    return array


def _samples_in_rows(args: argparse.Namespace, table: Table, metadata: Table) -> bool:
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


def _joined(args: argparse.Namespace, samples: list[str], metadata: Table) -> dict[str, list[str]]:
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


def _make_corrector(args: argparse.Namespace, batch: pd.DataFrame) -> Any:
    options: dict[str, Any] = {}
    if args.reference is not None:
        several = len(batch.columns) > 1
        wanted = next(csv.reader([args.reference]), []) if several else [args.reference]
        if len(wanted) != len(batch.columns):
            raise InputError(
                f"--reference must name one batch for each of {some(batch.columns)}, separated by commas, and is "
                f"{args.reference!r}; name {len(batch.columns)}"
            )
        for label, name in zip(wanted, batch.columns, strict=True):
            labels = sorted(set(batch[name]))
            if label not in labels:
                raise UnknownBatchError(
                    f"--reference must be a batch in column {name!r}, and {label!r} is none of {some(labels)}"
                    f"{_nearest(label, labels)}"
                )
        options["reference_batch"] = tuple(wanted) if several else wanted[0]
    if args.scale_guard is not None:
        options["scale_guard"] = args.scale_guard
    return METHODS[args.method].make(**options)


def _check_batches(batch: pd.DataFrame) -> None:
    """Refuse batches of one sample each; warn of a single batch."""
    for name in batch.columns:
        n_batches = batch[name].nunique()
        if n_batches == 1:
            message = f"column {name!r} holds one batch only ({batch[name].iloc[0]!r}): no difference to take out."
            warnings.warn(message, NothingToCorrectWarning, stacklevel=2)
        elif n_batches == len(batch):
            raise InputError(
                f"a batch must hold several samples, and in column {name!r} every sample is a batch of its own, and "
                "nothing would be left after a correction; name the column of the batches"
            )


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that the method or the input would pass over in silence."""
    if args.metadata is None and args.samples == "columns":
        raise InputError(
            "samples in columns need --metadata, because a batch per sample cannot be a column then; give the table "
            "that holds the batch of each sample"
        )
    if args.method != "linear" and (args.nuisance or args.nuisance_factor or args.nuisance_number):
        raise InputError(f"--nuisance needs --method linear, and the method is {args.method}; choose it")
    if args.method.startswith("robust") and (args.keep or args.keep_factor or args.keep_number):
        raise InputError(
            f"--keep needs a method that works with means, and {args.method} works with medians; choose another method"
        )
    if args.method not in _SCALE_GUARDED and args.scale_guard is not None:
        raise InputError(
            f"--scale-guard needs --method {' or '.join(_SCALE_GUARDED)}, and the method is {args.method}; choose one"
        )


def _read(path: str, text: list[str]) -> Table:
    try:
        with _progress("reading") as progress:
            return read_table(path, text=text, progress=progress)
    except NotNumericError as error:
        raise InputError(
            f"{error} To carry {'it' if len(error.columns) == 1 else 'them'} along unchanged, add "
            f"--ignore {_quoted(error.columns)}"
        ) from error


# --------------------------------------------------------------- names and words


def _split(options: list[str] | None, columns: Sequence[str]) -> list[str]:
    """Column names out of comma-separated lists; a name that is a column stays whole."""
    names: dict[str, None] = {}
    known = set(columns)
    for option in options or []:
        found = [option] if option in known else next(csv.reader([option]), [])
        names.update(dict.fromkeys(name if name in known else name.strip() for name in found))
    return [name for name in names if name]


def _quoted(names: Sequence[str]) -> str:
    """Names as an option's value that `_split` and a shell read back."""
    return shlex.quote(",".join(f'"{name}"' if "," in name else name for name in names))


def _check_name(name: str, header: list[str], path: str) -> None:
    if name in header[1:]:
        return
    if name == header[0]:
        raise InputError(
            f"a named column must be beside the ids, and {name!r} is the first column of {path!r}, which holds them; "
            "put a column of unique ids first"
        )
    raise InputError(
        f"{path!r} must have the columns you name, and has no {name!r}{_nearest(name, header[1:])}; "
        f"its columns are {some(header[1:], 8)}"
    )


def _nearest(name: str, names: Sequence[str]) -> str:
    """', did you mean ...?' where something is near."""
    folded = {each.casefold(): each for each in names}
    found = difflib.get_close_matches(name.casefold(), list(folded), n=1)
    return f" (did you mean {folded[found[0]]!r}?)" if found else ""


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a share between 0 and 1, and is {text!r}")
    return value


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n} {one if n == 1 else many or one + 's'}"


def _wrote(path: str, existed: bool) -> str:
    return f"wrote {path}{', replacing the file that was there' if existed else ''}"


# ------------------------------------------------------------ terminal and faults


@contextmanager
def _progress(what: str) -> Iterator[Progress]:
    """A bar on stderr, in a terminal only, for work of a second or more."""
    shape = "{desc} {percentage:3.0f}% |{bar}| {remaining} left"
    with tqdm(total=1.0, desc=what, file=sys.stderr, disable=None, leave=False, delay=1.0, bar_format=shape) as bar:
        yield lambda done: bar.update(done - bar.n)


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Show each warning once, as one line on stderr."""
    seen: set[str] = set()

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = _one_line(message)
        if text not in seen:
            seen.add(text)
            print(f"warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", BatchfixWarning)
        warnings.showwarning = show
        yield


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


COMMANDS = [add_demo, add_correct]


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="batchfix",
        description="Take the differences between batches out of a table, and keep what you asked to keep.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"batchfix {version('batchfix')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments (those of the process by default); the exit code."""
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return 141
    except OSError as error:
        _drop_output()
        print(f"batchfix: the system refused: {error.strerror or error}", file=sys.stderr)
        return 2
    return code


def _drop_output() -> None:
    """Send what stdout still holds nowhere, so that Python's own last flush stays quiet."""
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _run(argv: Sequence[str] | None) -> int:
    try:
        args = build_parser().parse_args(argv)
        with _one_line_warnings():
            args.run(args)
    except SystemExit as stop:  # argparse: 0 after --help, 2 after a mistake
        return stop.code if isinstance(stop.code, int) else 2
    except BatchfixError as error:
        print(f"batchfix: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("batchfix: interrupted", file=sys.stderr)
        return 130
    except OSError:
        raise
    except Exception:  # noqa: BLE001  (the last stop: whatever it is, it is ours)
        traceback.print_exc()
        print("batchfix: this is a fault of batchfix; please report it with the lines above", file=sys.stderr)
        return 1
    return 0
