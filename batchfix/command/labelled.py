"""Labelled tables: what the commands that judge a correction read.

Options and files flow in; numbers, samples in rows, flow out with the batch of each sample and what is kept.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from ..adapters.tables import Table, read_header
from ..core.naming import nearest, some
from ..correctors.amounts import scale_of
from ..exceptions import AlignmentError
from .anndata_files import OpenAnnData, add_layer_option, check_layer, is_h5ad, opened, refuse_table_options
from .checks import look_for_covariates
from .methods import METHODS
from .names import InputError, check_name, split
from .reading import OF_SAMPLES, read_numbers, refuse_h5ad
from .reports import as_kept
from .roles import Roles
from .steps import read_samples
from .summary import count
from .terminal import warn

DISTANCES = ("euclidean", "aitchison", "braycurtis")


@dataclass(frozen=True, eq=False)
class Labelled:
    """A table of the user's with what is known of its samples.

    Attributes
    ----------
    values : DataFrame, samples in rows
    batch : Series of labels
    keep : DataFrame or None
        Factors are categories, numbers floats.
    in_rows : bool
        Whether the file has its samples in rows.
    text : list of str
        Columns of the file that are no measurements.
    layer : str or None
        Of an AnnData: what was read in place of X.
    """

    values: pd.DataFrame
    batch: pd.Series
    keep: pd.DataFrame | None
    in_rows: bool
    text: list[str]
    layer: str | None = None


def add_sample_options(parser: argparse.ArgumentParser) -> None:
    """Register the table, and the options that say what is what in it."""
    parser.add_argument("input", metavar="TABLE", help="the table, uncorrected")
    add_layer_option(parser, "judge")
    parser.add_argument("--metadata", metavar="TABLE", help="a table of samples: ids, then batch, group, ...")
    parser.add_argument(
        "--samples",
        choices=["rows", "columns"],
        help="where TABLE has its samples; needed with --metadata if its ids do not tell",
    )
    column = partial(parser.add_argument, action="append", default=None, metavar="COLUMNS")
    column("--batch", required=True, help="the batch of each sample")
    column("--keep", help="what must survive: text is a factor, decimals a number")
    column("--keep-factor", help="the same, each value a level of its own (1, 2, 3 as codes)")
    column("--keep-number", help="the same, a quantity (1, 2, 3 as amounts)")
    column("--ignore", help="columns of TABLE that are neither measurements nor used")
    parser.add_argument(
        "--distance",
        choices=DISTANCES,
        default="euclidean",
        help="between samples, for shares of variance and spread (default: %(default)s); counts and shares of a whole "
        "that are not logarithms: aitchison (without zeros) or braycurtis",
    )
    parser.add_argument("--fast", action="store_true", help="without forests, with fewer repetitions: seconds")


Read = Callable[[], tuple[pd.DataFrame, bool, dict[str, list[str]], list[str]]]
"""Reads values, whether the file has samples in rows, cells that describe samples, and columns that are no values."""


def read_labelled(args: argparse.Namespace) -> Labelled:
    """Read the table, or the AnnData, and the labels of its samples."""
    roles, read = (_of_anndata if is_h5ad(args.input) else _of_table)(args)
    if len(roles.batch) > 1:
        raise InputError(
            f"--batch must name one column here, got {some(roles.batch)}; name one, and ask again for the others"
        )
    values, in_rows, cells, text = read()
    batch, keep, _ = roles.labels(cells, list(values.index))
    if batch.iloc[:, 0].nunique() == 1:
        raise InputError(
            f"--batch must name a column of several batches, and {roles.batch[0]!r} holds one only "
            f"({batch.iloc[0, 0]!r}): there is no difference to look for; name the column that tells them apart"
        )
    if not len(values.columns):
        raise InputError(
            f"{args.input!r} must have columns of measurements, and all of its columns are named as labels or "
            "ignored; leave the measurements out of --batch, --keep and --ignore"
        )
    look_for_covariates(values, in_rows=in_rows, done="measured")
    _check_distance(args, values)
    return Labelled(values, batch.iloc[:, 0], as_kept(keep, roles), in_rows, text, args.layer)


def _of_table(args: argparse.Namespace) -> tuple[Roles, Read]:
    """What the columns of a table are, and what reads it."""
    check_layer(args)
    refuse_h5ad(args.metadata, OF_SAMPLES)
    if args.metadata is None and args.samples == "columns":
        raise InputError(
            "samples in columns need --metadata, because a batch per sample cannot be a column then; give the table "
            "that holds the batch of each sample"
        )
    header = read_header(args.input)
    ignored = split(args.ignore, header[1:])
    for name in ignored:
        check_name(name, header, args.input)
    roles = Roles.from_arguments(_of_several(args), read_header(args.metadata or args.input), ignored)

    def read() -> tuple[pd.DataFrame, bool, dict[str, list[str]], list[str]]:
        table, in_rows, _, cells = read_samples(args, roles, ignored)
        return _values(table, in_rows=in_rows), in_rows, cells, [*roles.kinds, *ignored]

    return roles, read


def _of_anndata(args: argparse.Namespace) -> tuple[Roles, Read]:
    """What the columns of obs are, and what reads the AnnData."""
    refuse_table_options(args, ("metadata", "samples", "ignore"))
    with opened(args.input, args.layer) as adata:
        roles = adata.roles(_of_several(args))

    def read() -> tuple[pd.DataFrame, bool, dict[str, list[str]], list[str]]:
        with opened(args.input, args.layer) as adata:
            return _named_values(adata), True, adata.cells(roles.kinds), adata.header[1:]

    return roles, read


def _of_several(args: argparse.Namespace) -> argparse.Namespace:
    """Options under which several batch columns are no error yet, as the error of roles speaks of --method."""
    return argparse.Namespace(**vars(args) | {"method": "linear"})


def _named_values(adata: OpenAnnData) -> pd.DataFrame:
    """The matrix of an AnnData whose samples and features have names of their own."""
    values = adata.values()
    for what, names in (("samples", values.index), ("features", values.columns)):
        twice = list(names[names.duplicated()].unique())
        if twice:
            raise InputError(
                f"the {what} of {adata.path!r} must have different names, and {some(twice, 3)} stand twice; rename them"
            )
    return values


def described(path: str, first: Labelled) -> str:
    """A line on what was read: its size, and what the batches are."""
    n, p = first.values.shape
    return f"{count(n, 'sample')} x {count(p, 'feature')} of {path}, batches by {first.batch.name}"


def read_after(path: str, first: Labelled) -> pd.DataFrame:
    """The corrected table, its samples and features in the order of the first one's."""
    if is_h5ad(path):
        with opened(path, first.layer) as adata:
            values = _named_values(adata)
    else:
        header = read_header(path)
        table = read_numbers(path, [name for name in first.text if name in header[1:]])
        values = _values(table, in_rows=first.in_rows)
    lost = first.values.index.difference(values.index, sort=False)
    more = values.index.difference(first.values.index, sort=False)
    if len(lost) or len(more):
        which, where = (lost, "not in it") if len(lost) else (more, "in it alone")
        raise AlignmentError(
            f"{path!r} must hold the samples of the table before, and {len(which)} are {where} ({some(which)}); give "
            "the table that was made of this one"
        )
    values = values.loc[first.values.index]
    if set(values.columns) == set(first.values.columns):
        return values[first.values.columns]
    lost = first.values.columns.difference(values.columns, sort=False)
    if not len(lost):
        more = values.columns.difference(first.values.columns, sort=False)
        raise AlignmentError(
            f"{path!r} must hold the features of the table before, and holds {len(more)} more ({some(more)}); leave "
            "out what is no feature"
        )
    if 0 < len(lost) < len(first.values.columns):
        raise AlignmentError(
            f"{path!r} must hold the features of the table before, and lacks {len(lost)} of them ({some(lost)}); give "
            "the table that was made of this one, or add --ignore for what is no feature"
        )
    return values  # log-ratios of parts, say


def judging_method(text: str) -> str:
    """Name of a method that corrects between batches."""
    known = [name for name, method in METHODS.items() if method.peers is None]
    if text not in known:
        if text in METHODS:
            raise argparse.ArgumentTypeError(
                f"invalid choice: {text!r}, which does not correct between batches; those that do are "
                f"{', '.join(known)}"
            )
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r}{nearest(text, known)}; the methods are {', '.join(known)}"
        )
    return text


def corrector_of(name: str, first: Labelled) -> Any:
    """The corrector of a method, as it is by default."""
    if name.startswith("robust") and first.keep is not None:
        raise InputError(
            f"--keep needs a method that works with means, and {name} works with medians; choose another method"
        )
    return METHODS[name].make()


def _check_distance(args: argparse.Namespace, values: pd.DataFrame) -> None:
    """Warn of a distance between counts or shares that is taken of something else."""
    held = values.to_numpy()
    if args.distance == "euclidean" or not (held >= 0).all():  # what is negative or missing is refused below
        return
    if scale_of(held) == "amounts":
        warn(
            f"--distance {args.distance} is of counts or shares, and {args.input!r} holds neither; if these are "
            "logarithms, leave it out"
        )


def _values(table: Table, *, in_rows: bool) -> pd.DataFrame:
    values = pd.DataFrame(table.numbers, index=table.ids, columns=table.number_columns)
    return values if in_rows else values.T
