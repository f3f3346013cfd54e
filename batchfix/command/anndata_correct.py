"""AnnData files: `batchfix correct` of .h5ad, samples in rows.

    X or a layer, and columns of obs  ->  pp.correct, or block by block if it is too large  ->  a new file
    obs, var, uns, raw, all else      ->  copied as the file has them

The record of what was done, which pp.correct makes, goes to uns["batchfix"].
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd

from ..atomic import check_place
from .anndata_files import OpenAnnData, opened, refuse_other_files, refuse_table_options, with_nuisance
from .checks import check_batches, check_kept, check_options, check_output_is_new
from .large import fit_in_blocks, labels, streams, whole
from .methods import METHODS
from .models import save_as_asked
from .names import InputError
from .reports import report_correction
from .roles import Roles
from .steps import finish, make_corrector, say
from .summary import counts_of, describe, wrote
from .terminal import progress_bar


def correct_h5ad(args: argparse.Namespace) -> None:
    """Read, correct, write, and say what was done."""
    _check(args)
    existed = check_place(args.output, InputError).exists()
    check_output_is_new(args)
    with opened(args.input, args.layer) as adata:
        matrix = adata.matrix()
        roles = adata.roles(args)
        described = roles.labels(adata.cells(roles.kinds), adata.samples)
        batch, keep, _ = described
        check_batches(args, batch)
        check_kept(keep)
        corrector = make_corrector(args, batch)
        adata.warn_dense(matrix)
        by_columns = getattr(matrix, "format", None) == "csc"
        if by_columns:
            whole(args, f"a sparse matrix is stored by columns (csc), as {adata.name!r} of {args.input!r} is")
        if not by_columns and streams(args):
            _in_blocks(args, roles, corrector, adata, matrix, described)
            before = after = None
        else:
            before, after = _at_once(args, roles, corrector, adata, matrix, described)
        features = adata.features
        if len(set(features)) == len(features):
            corrector.feature_names_in_ = np.array(features, dtype=object)  # so that a saved model knows them
        say(args, [*describe(features, args.method, *described), wrote(args.output, existed)])
        save_as_asked(args, corrector, batch=roles.batch, ignore=[])
        report = None
        if args.report is not None:
            values, corrected = (pd.DataFrame(_dense(each), batch.index, features) for each in (before, after))
            report = report_correction(args, roles, corrector, values, corrected, described)
        done = {"samples": len(batch), "features": len(features), "batches": counts_of(batch)}
        finish(args, done | {"kept": roles.keep, "nuisance": roles.nuisance, "carried": []}, report)


def _check(args: argparse.Namespace) -> None:
    """Refuse what an AnnData cannot be asked for."""
    refuse_other_files(args)
    refuse_table_options(args, ("metadata", "samples", "ignore", "groups", "within", "by", "symbol"))
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


def _at_once(
    args: argparse.Namespace, roles: Roles, corrector: Any, adata: OpenAnnData, matrix: Any, described: Any
) -> tuple[Any, Any]:
    """Correct in memory and write; the matrix before and after."""
    from anndata import AnnData

    from .. import pp
    from ..adapters.anndata import provenance
    from ..adapters.sources.anndata import in_memory

    before = in_memory(matrix, str(adata.place)) if hasattr(matrix, "to_memory") else matrix[:]
    batch, keep, nuisance = described
    place, obs = adata.place, pd.concat([batch, keep], axis=1)
    obs.index = pd.RangeIndex(len(obs)).astype(str)
    holds: dict[str, Any] = {"X": before} if args.layer is None else {"layers": {args.layer: before}}
    old = adata.records
    bare = AnnData(obs=obs, uns={} if old is None else {provenance.NAME: old}, **holds)
    key, kept = roles.batch if len(roles.batch) > 1 else roles.batch[0], roles.keep or None
    if len(nuisance.columns):
        provenance.check(old)
        after = _without_nuisance(corrector, before, described, place)
        records = provenance.records(old, corrector, before.shape, key=key, keep=kept, read=place, written=place)
        records = with_nuisance(records, roles)
    else:
        pp.correct(bare, corrector, key=key, keep=kept, layer=args.layer)
        after, records = place.read(bare), bare.uns[provenance.NAME]
    with adata.written(args.output, records) as (new, _), progress_bar("writing"):
        from anndata.io import write_elem

        parent = new if args.layer is None else new.require_group("layers")
        write_elem(parent, adata.name.split("/", 1)[-1], after)
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


def _in_blocks(
    args: argparse.Namespace, roles: Roles, corrector: Any, adata: OpenAnnData, matrix: Any, described: Any
) -> None:
    """Correct and write block by block."""
    from ..adapters.anndata import provenance
    from ..adapters.anndata.matrices import Correction, rows_of
    from ..adapters.blocks import transform_blocks

    place = adata.place
    correction = Correction(corrector, None, None, str(place), matrix)
    correction.check()
    old = adata.records
    provenance.check(old)
    given = {role: each.reset_index(drop=True) for role, each in labels(*described).items()}
    source = rows_of(matrix, given, str(place))
    fit_in_blocks(args, corrector, source)
    key, kept = roles.batch if len(roles.batch) > 1 else roles.batch[0], roles.keep or None
    records = provenance.records(old, corrector, matrix.shape, key=key, keep=kept, read=place, written=place)
    with (
        adata.written_by_rows(args.output, with_nuisance(records, roles)) as write,
        progress_bar("writing") as progress,
    ):
        start = 0
        for block in transform_blocks(corrector, source, block_rows=args.block_rows, progress=progress):
            write(start, block.astype(correction.dtype, copy=False))
            start += len(block)


def _dense(matrix: Any) -> np.ndarray:
    found: np.ndarray = np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix)
    return found
