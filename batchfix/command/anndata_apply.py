"""AnnData files: `batchfix apply` of .h5ad, block by block, samples in rows.

X or a layer, and columns of obs  ->  the model's transform  ->  a new file, with all else as the file has it
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd

from ..adapters.storage import SavedModel
from .anndata_files import OpenAnnData, opened, refuse_other_files, refuse_table_options, with_nuisance
from .features import features_of, in_order
from .models import noted
from .names import InputError
from .needs import Needs
from .roles import Roles
from .terminal import progress_bar


def apply_h5ad(args: argparse.Namespace, saved: SavedModel) -> dict[str, Any]:
    """Correct the samples of an AnnData; what was done, for a person or a program."""
    refuse_other_files(args)
    refuse_table_options(args, ("metadata", "samples", "ignore"))
    if not hasattr(saved.corrector, "handle_unknown"):
        raise InputError(
            f"a {type(saved.corrector).__name__} is applied to tables in text or parquet files, and {args.input!r} is "
            "an AnnData; in Python, model.transform(adata.to_df()) does it"
        )
    needs = Needs.of(saved.corrector)
    unknown = args.unknown or needs.core.handle_unknown
    needs.core.set_params(handle_unknown=unknown)
    with opened(args.input, args.layer) as adata:
        matrix = adata.matrix()
        roles = needs.roles(args.batch, noted(saved, "batch"), adata.header, args.input)
        batch, keep, nuisance = roles.labels(adata.cells(roles.kinds), adata.samples)
        batch, keep, nuisance = needs.batches(batch), needs.typed(keep), needs.typed(nuisance)
        new = needs.new(batch)
        needs.check_new(batch, unknown)
        order = _order(args, saved, adata.features)
        adata.warn_dense(matrix)
        learns = unknown == "adapt" and any(new.values())  # from all samples of a batch in one call
        rows = len(batch) if learns else None
        _write(args, adata, needs, roles, matrix, (batch, keep, nuisance), order, rows)
    return needs.done(roles, batch, len(order), unknown)


def _order(args: argparse.Namespace, saved: SavedModel, features: list[str]) -> list[str]:
    """Names of the features in the order of the model, which must be those of the file and give as many."""
    wanted, width = features_of(saved.corrector)
    if wanted is not None and len(set(features)) != len(features):
        raise InputError(f"the names in var of {args.input!r} must differ, to be found by name; rename the equal ones")
    order = in_order(args.input, features, wanted, width, what="variable")
    made = len(saved.corrector.get_feature_names_out())
    if made != len(features):
        raise InputError(
            f"an .h5ad file must keep its columns, and the model makes {made} of {len(features)}; in Python, "
            "model.transform(adata.to_df(), ...) gives them"
        )
    return order


def _write(
    args: argparse.Namespace,
    adata: OpenAnnData,
    needs: Needs,
    roles: Roles,
    matrix: Any,
    described: tuple[pd.DataFrame, ...],
    order: list[str],
    rows: int | None,
) -> None:
    """Correct `rows` samples at a time (None: a block's), and write them beside all else that the file holds."""
    from ..adapters.anndata import provenance
    from ..adapters.anndata.kinds import check_real
    from ..adapters.anndata.matrices import dtype_of, rows_of
    from ..adapters.sources.anndata import in_memory
    from ..adapters.streaming.stream import located

    place, old = adata.place, adata.records
    check_real(matrix, str(place))
    provenance.check(old)
    there = {name: k for k, name in enumerate(adata.features)}
    places = [there[name] for name in order] if len(there) == len(order) else list(range(len(order)))
    key = ", ".join(roles.batch) or None
    records = provenance.records(
        old, needs.corrector, matrix.shape, key=key, keep=roles.keep or None, read=place, written=place
    )
    records = with_nuisance(records, roles)
    dtype = dtype_of(matrix)
    if getattr(matrix, "format", None) == "csc":  # whose rows do not lie together
        matrix = in_memory(matrix, str(place)).tocsr()
    index = pd.RangeIndex(len(adata.obs)).astype(str)  # names of samples may be equal
    described = tuple(frame.set_axis(index) for frame in described)
    with (
        adata.written_by_rows(args.output, records) as write,
        progress_bar("writing") as progress,
    ):
        for block in rows_of(matrix, {}, str(place)).blocks(rows):
            some = slice(block.start, block.stop)
            values = pd.DataFrame(np.asarray(block.X)[:, places], index=index[some], columns=order)
            corrected = np.empty(values.shape, dtype=dtype)
            with located(block):
                corrected[:, places] = needs.transform(values, *(frame.iloc[some] for frame in described)).to_numpy()
            write(block.start, corrected)
            progress(block.share)
