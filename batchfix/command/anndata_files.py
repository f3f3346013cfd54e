"""AnnData files: `batchfix correct` of .h5ad, samples in rows.

    X or a layer, and columns of obs  ->  pp.correct, or block by block if it is too large  ->  a new file
    obs, var, uns, raw, all else      ->  copied as the file has them

The record of what was done, which pp.correct makes, goes to uns["batchfix"].
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atomic import check_place, replacing
from .checks import check_batches, check_kept, check_options, check_output_is_new
from .large import fit_in_blocks, in_bytes, labels, streams, whole
from .methods import METHODS
from .models import save_as_asked
from .names import InputError
from .reports import report_correction
from .roles import Roles
from .steps import finish, make_corrector, say
from .summary import counts_of, describe, wrote
from .terminal import progress_bar, warn


def is_h5ad(path: str) -> bool:
    """Whether a file's name says that it is an AnnData."""
    return path.lower().endswith(".h5ad")


def correct_h5ad(args: argparse.Namespace) -> None:
    """Read, correct, write, and say what was done."""
    _check(args)
    existed = check_place(args.output, InputError).exists()
    check_output_is_new(args)
    with _opened(args.input) as file:
        obs, var = (_frame(args.input, file[name]) for name in ("obs", "var"))
        matrix = _matrix(args, file)
        _check_shape(args, matrix, (len(obs), len(var)))
        roles = Roles.from_arguments(
            # as if obs were the metadata's table: its ids are the names of the samples
            argparse.Namespace(**vars(args) | {"metadata": args.input}),
            ["", *map(str, obs.columns)],
            [],
        )
        cells = {name: words_of(obs[name]) for name in roles.kinds}
        batch, keep, nuisance = roles.labels(cells, [str(name) for name in obs.index])
        check_batches(args, batch)
        check_kept(keep)
        corrector = make_corrector(args, batch)
        described = (batch, keep, nuisance)
        _warn_dense(args, matrix)
        by_columns = getattr(matrix, "format", None) == "csc"
        if by_columns:
            whole(args, f"a sparse matrix is stored by columns (csc), as {_name(args)!r} of {args.input!r} is")
        if not by_columns and streams(args):
            _in_blocks(args, roles, corrector, file, matrix, described)
            before = after = None
        else:
            before, after = _at_once(args, roles, corrector, file, matrix, described)
        features = [str(name) for name in var.index]
        if len(set(features)) == len(features):
            corrector.feature_names_in_ = np.array(features, dtype=object)  # so that a saved model knows them
        say(args, [*describe(features, args.method, *described), wrote(args.output, existed)])
        save_as_asked(args, corrector, batch=roles.batch, ignore=[])
        report = None
        if args.report is not None:
            values, corrected = (pd.DataFrame(_dense(each), batch.index, features) for each in (before, after))
            report = report_correction(args, roles, corrector, values, corrected, described)
        done = {"samples": len(obs), "features": len(features), "batches": counts_of(batch)}
        finish(args, done | {"kept": roles.keep, "nuisance": roles.nuisance, "carried": []}, report)


def words_of(column: pd.Series) -> list[str]:
    """A column of obs as a text file would have it, nothing where there is nothing.

    Examples
    --------
    >>> words_of(pd.Series(["a", None], dtype="category")), words_of(pd.Series([0.5, np.nan]))
    (['a', ''], ['0.5', ''])
    """
    return ["" if lost else str(cell) for cell, lost in zip(column.tolist(), column.isna(), strict=True)]


def _check(args: argparse.Namespace) -> None:
    """Refuse what an AnnData cannot be asked for."""
    for path, what in ((args.input, "TABLE"), (args.output, "the output")):
        if not is_h5ad(path):
            raise InputError(
                f"an .h5ad file is corrected to an .h5ad file, and {what} is {path!r}; name an .h5ad file there too"
            )
    for name in ("metadata", "samples", "ignore", "groups", "within", "by", "symbol"):
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name} is for tables in text or parquet files, and {args.input!r} holds samples in rows with what "
                "describes them, in obs; leave it out, and name columns of obs"
            )
    method = METHODS[args.method]
    if method.peers is not None or method.composition is not None:
        able = [name for name, each in METHODS.items() if each.peers is None and each.composition is None]
        raise InputError(
            f"--method {args.method} is for tables in text or parquet files; of an .h5ad file choose one of "
            f"{', '.join(able)}"
        )
    if not args.batch:
        raise InputError(
            "the following arguments are required: --batch; name the column of obs that tells batches apart"
        )
    check_options(args)
    if find_spec("anndata") is None:
        raise InputError("batchfix reads and writes .h5ad files with anndata: pip install 'batchfix[anndata]'")


@contextmanager
def _opened(path: str) -> Iterator[Any]:
    """The HDF5 file of an AnnData; what goes wrong in it is an error that names it."""
    from h5py import File

    from ..adapters.sources.files import reading

    if not Path(path).exists():
        raise InputError(f"{path!r} does not exist (looked in {str(Path.cwd())!r}); check its name")
    with reading(Path(path)):
        file = File(path, "r")
    with file:
        if "obs" not in file or "var" not in file:
            raise InputError(f"{path!r} must be an AnnData, and has no obs or var; export it again")
        yield file


def _frame(path: str, element: Any) -> pd.DataFrame:
    """A table of an AnnData, obs or var."""
    from anndata.io import read_elem

    from ..adapters.sources.files import reading

    with reading(Path(path)):
        found = read_elem(element)
    if not isinstance(found, pd.DataFrame):
        raise InputError(f"{path!r} must hold obs and var as tables, and {element.name[1:]} is none; export it again")
    return found


def _place(args: argparse.Namespace) -> Any:
    from ..adapters.sources.obs import Place

    return Place.of(args.layer, None)


def _name(args: argparse.Namespace) -> str:
    """Path of the matrix in the file."""
    return "X" if args.layer is None else f"layers/{args.layer}"


def _matrix(args: argparse.Namespace, file: Any) -> Any:
    """What is corrected, not read yet: an HDF5 dataset, or a sparse matrix on disk."""
    from anndata.io import sparse_dataset

    from ..adapters.sources.files import reading
    from ..core.naming import nearest, some

    group = file.get("layers")
    layers = list(group) if isinstance(group, Mapping) else []
    if args.layer is None and "X" not in file:
        raise InputError(
            f"{args.input!r} holds no 'X'; name one of its layers with --layer ({some(layers, 8) or 'none'})"
        )
    if args.layer is not None and args.layer not in layers:
        raise InputError(
            f"--layer must name a layer of {args.input!r}, and {args.layer!r} is none{nearest(args.layer, layers)}; "
            f"there {'are ' + some(layers, 8) if layers else 'is none'}"
        )
    element = file[_name(args)]
    if str(element.attrs.get("encoding-type", "")) in ("csr_matrix", "csc_matrix"):
        with reading(Path(args.input)):
            return sparse_dataset(element)
    return element


def _check_shape(args: argparse.Namespace, matrix: Any, shape: tuple[int, int]) -> None:
    """Refuse what is no matrix of the samples in obs and the features in var, and a matrix of nothing."""
    found = tuple(getattr(matrix, "shape", ()))
    what = f"{_name(args)!r} of {args.input!r}"
    if found != shape:
        raise InputError(
            f"{what} must have {shape[0]} rows, as obs has, and {shape[1]} columns, as var has, and its shape is "
            f"{found}; export it again"
        )
    if 0 in shape:
        raise InputError(f"{what} must have rows and columns, and its shape is {found}; look at how it was cut out")


def _at_once(
    args: argparse.Namespace, roles: Roles, corrector: Any, file: Any, matrix: Any, described: Any
) -> tuple[Any, Any]:
    """Correct in memory and write; the matrix before and after."""
    from anndata import AnnData

    from .. import pp
    from ..adapters.anndata import provenance

    before = matrix[:] if not hasattr(matrix, "to_memory") else matrix.to_memory()
    batch, keep, nuisance = described
    place, obs = _place(args), pd.concat([batch, keep], axis=1)
    obs.index = pd.RangeIndex(len(obs)).astype(str)
    holds: dict[str, Any] = {"X": before} if args.layer is None else {"layers": {args.layer: before}}
    old = _records(file)
    adata = AnnData(obs=obs, uns={} if old is None else {provenance.NAME: old}, **holds)
    key, kept = roles.batch if len(roles.batch) > 1 else roles.batch[0], roles.keep or None
    if len(nuisance.columns):
        provenance.check(old)
        after = _without_nuisance(corrector, before, described, place)
        records = provenance.records(old, corrector, before.shape, key=key, keep=kept, read=place, written=place)
        records = _with_nuisance(records, roles)
    else:
        pp.correct(adata, corrector, key=key, keep=kept, layer=args.layer)
        after, records = place.read(adata), adata.uns[provenance.NAME]
    with _new(args, file, records) as (new, _), progress_bar("writing"):
        from anndata.io import write_elem

        parent = new if args.layer is None else new.require_group("layers")
        write_elem(parent, _name(args).split("/", 1)[-1], after)
    return before, after


def _without_nuisance(corrector: Any, matrix: Any, described: Any, place: Any) -> Any:
    """Correct with nuisance columns, which pp.correct does not take, as it does without them."""
    from scipy import sparse

    from ..adapters.anndata import kinds
    from ..adapters.anndata.sparse import dense_of, float_type
    from ..adapters.sources.anndata import checked

    kinds.check(matrix, corrector, str(place))
    if sparse.issparse(matrix):
        matrix = dense_of(checked(matrix, str(place)), str(place), float_type(matrix))
    batch, keep, nuisance = (frame.reset_index(drop=True) for frame in described)
    return corrector.fit_transform(matrix, **labels(batch, keep, nuisance))


def _in_blocks(args: argparse.Namespace, roles: Roles, corrector: Any, file: Any, matrix: Any, described: Any) -> None:
    """Correct and write block by block."""
    from ..adapters.anndata import provenance
    from ..adapters.anndata.matrices import Correction, rows_of
    from ..adapters.blocks import transform_blocks
    from ..adapters.sinks.chunks import HdfSink

    place = _place(args)
    correction = Correction(corrector, None, None, str(place), matrix)
    correction.check()
    old = _records(file)
    provenance.check(old)
    given = {role: each.reset_index(drop=True) for role, each in labels(*described).items()}
    source = rows_of(matrix, given, str(place))
    fit_in_blocks(args, corrector, source)
    key, kept = roles.batch if len(roles.batch) > 1 else roles.batch[0], roles.keep or None
    records = provenance.records(old, corrector, matrix.shape, key=key, keep=kept, read=place, written=place)
    with _new(args, file, _with_nuisance(records, roles)) as (new, check), progress_bar("writing") as progress:
        sink, start = HdfSink(new, _name(args), matrix.shape[0], check), 0
        for block in transform_blocks(corrector, source, block_rows=args.block_rows, progress=progress):
            sink.write(start, block.astype(correction.dtype, copy=False))
            start += len(block)
        sink.end()
        sink.array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def _warn_dense(args: argparse.Namespace, matrix: Any) -> None:
    """Say that a sparse matrix will be a dense one, and how large."""
    from ..adapters.anndata.kinds import is_sparse
    from ..adapters.anndata.sparse import float_type

    if is_sparse(matrix):
        dtype = float_type(matrix)
        size = in_bytes(matrix.shape[0] * matrix.shape[1] * dtype.itemsize)
        warn(f"{_name(args)!r} of {args.input!r} is sparse, and corrected it is dense: {size} of {dtype}.")


@contextmanager
def _new(args: argparse.Namespace, file: Any, records: Any) -> Iterator[Any]:
    """A file with all but the matrix, which is to be written; it takes its place when it is whole."""
    from anndata.io import write_elem

    from ..adapters.sinks.anndata import copy_but
    from ..adapters.sinks.chunks import hdf_file

    with replacing(args.output, InputError, buffering=0) as out, hdf_file(out) as (new, check):
        copy_but(file, new, but=_name(args))
        uns = new.require_group("uns")
        uns.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
        if "batchfix" in uns:
            del uns["batchfix"]
        write_elem(uns, "batchfix", records)
        yield new, check
        check()


def _records(file: Any) -> Any:
    """What uns says of earlier corrections, None if nothing."""
    from anndata.io import read_elem

    return read_elem(file["uns/batchfix"]) if "uns/batchfix" in file else None


def _with_nuisance(records: dict[str, dict[str, Any]], roles: Roles) -> dict[str, dict[str, Any]]:
    """The records, the newest of which names the nuisance columns if there are any."""
    if not roles.nuisance:
        return records
    newest = max(records, key=lambda name: int(records[name]["run"]))
    return records | {newest: records[newest] | {"nuisance": ", ".join(roles.nuisance)}}


def _dense(matrix: Any) -> np.ndarray:
    found: np.ndarray = np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)
    return found
