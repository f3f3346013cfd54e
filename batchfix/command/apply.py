"""`batchfix apply`: new samples, corrected with a model that was saved."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pandas as pd

from ..adapters.storage import SavedModel, read_model
from ..adapters.tables import check_output, read_header, write_table
from ..atomic import check_place
from ..exceptions import BatchfixError
from .anndata_apply import apply_h5ad
from .anndata_files import add_layer_option, check_layer, is_h5ad
from .checks import check_output_is_new
from .features import features_of, in_order
from .models import check_differ, noted
from .names import InputError, check_name, split
from .needs import Needs
from .peers_apply import apply_peers
from .reading import OF_SAMPLES, refuse_h5ad
from .steps import filled, read_samples
from .summary import count, wrote
from .terminal import add_json_option, print_json, progress_bar

UNKNOWN = ("adapt", "pooled", "nan", "error")


def add_apply(commands: Any) -> None:
    """Register `batchfix apply`."""
    parser = commands.add_parser(
        "apply",
        help="correct new samples with a saved model",
        description="Correct new samples with a model that `batchfix correct --save-model` (or save_model in Python)\n"
        "wrote. TABLE is laid out as for correct, in a text, parquet or .h5ad file; its features are found by name\n"
        "and written in the order of the model (of an .h5ad file: in its own). Columns that the model kept, and needs\n"
        "of each sample, are found by their names, in an .h5ad file in obs.",
        epilog="examples:\n"
        "  batchfix correct january.csv -o fixed.csv --batch run --keep group --save-model lab.batchfix\n"
        "  batchfix apply february.csv --model lab.batchfix -o fixed2.csv --unknown adapt\n\n"
        "COLUMNS are names separated by commas; quote a name that holds one: '\"a,b\",c'.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("input", metavar="TABLE", help="the table of new samples")
    parser.add_argument("--model", metavar="FILE", required=True, help="the saved model")
    parser.add_argument("-o", "--output", metavar="FILE", required=True, help="where the corrected table goes")
    parser.add_argument("--metadata", metavar="TABLE", help="a table of samples: ids, then batch, group, ...")
    parser.add_argument(
        "--samples",
        choices=["rows", "columns"],
        help="where TABLE has its samples; needed with --metadata if its ids do not tell",
    )
    column = partial(parser.add_argument, action="append", default=None, metavar="COLUMNS")
    column("--batch", help="the batch of each sample (default: the column that the model was saved with)")
    column(
        "--ignore", help="columns of TABLE to carry along unchanged, beside those that were when the model was saved"
    )
    add_layer_option(parser, "correct")
    parser.add_argument(
        "--unknown",
        choices=UNKNOWN,
        help="batches that the model does not know: adapt learns them from their samples, pooled takes them for an "
        "average batch, nan leaves them empty (default: as the model says, and that is an error unless it says else)",
    )
    add_json_option(parser, run_apply)


def run_apply(args: argparse.Namespace) -> None:
    """Read the model and the table, correct, write, and say what was done."""
    saved = read_model(args.model)
    of_anndata = is_h5ad(args.input) or is_h5ad(args.output)
    existed = (check_place(args.output, InputError) if of_anndata else check_output(args.output)).exists()
    check_output_is_new(args)
    check_differ(args.output, "the output", [args.model])
    work = apply_h5ad if of_anndata else _apply_to_table
    done = {"model": args.model, "corrector": type(saved.corrector).__name__, "version": saved.batchfix_version}
    with _holding_together(args.model):
        done |= work(args, saved) | {"output": args.output}
    if args.json:
        print_json(done)
    else:
        print("\n".join(_said(done, existed)))


def _apply_to_table(args: argparse.Namespace, saved: SavedModel) -> dict[str, Any]:
    """Correct a table in a text or parquet file."""
    check_layer(args)
    header = read_header(args.input)
    ignored = split(args.ignore, header[1:])
    for name in ignored:
        check_name(name, header, args.input)
    work = _apply_samples if hasattr(saved.corrector, "handle_unknown") else apply_peers
    return work(args, saved, header, ignored)


def _apply_samples(
    args: argparse.Namespace, saved: SavedModel, header: list[str], ignored: list[str]
) -> dict[str, Any]:
    """Correct samples that are in batches; what was done, for a person or a program."""
    refuse_h5ad(args.metadata, OF_SAMPLES)
    needs = Needs.of(saved.corrector)
    where = args.metadata or args.input
    described = header if args.metadata is None else read_header(where)
    unknown = args.unknown or needs.core.handle_unknown
    needs.core.set_params(handle_unknown=unknown)
    roles = needs.roles(args.batch, noted(saved, "batch"), described, where)
    wanted = features_of(saved.corrector)
    if args.metadata is None:
        twice = [name for name in ignored if name in roles.kinds]
        if twice:
            raise InputError(f"the model needs column {twice[0]!r}, and --ignore names it; leave it out of --ignore")
        idle = [*noted(saved, "ignore"), *(column.name for column in needs.columns)]
        ignored += [name for name in dict.fromkeys(idle) if name in header[1:] and name not in {*ignored, *roles.kinds}]
        beside = {*roles.kinds, *ignored}
        in_order(args.input, [name for name in header[1:] if name not in beside], *wanted, what="column")
    table, in_rows, samples, cells = read_samples(args, roles, ignored)
    values = pd.DataFrame(table.numbers, index=table.ids, columns=table.number_columns)
    values = values if in_rows else values.T
    order = in_order(args.input, list(values.columns), *wanted, what="column" if in_rows else "row")
    values = values[order]
    batch, keep, nuisance = roles.labels(cells, samples)
    batch, keep, nuisance = needs.batches(batch), needs.typed(keep), needs.typed(nuisance)
    needs.check_new(batch, unknown)
    corrected = needs.transform(values, batch, keep, nuisance)
    if getattr(saved.corrector, "output", None) == "counts":
        corrected = corrected.astype(int)
    with progress_bar("writing") as progress:
        write_table(filled(table, corrected, in_rows=in_rows), args.output, progress=progress)
    return needs.done(roles, batch, len(order), unknown) | {"carried": list(table.text)}


@contextmanager
def _holding_together(path: str) -> Iterator[None]:
    """Say of a model, which anybody may have edited, that it cannot correct, where its parts do not fit each other."""
    try:
        yield
    except BatchfixError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise InputError(
            f"the model in {path!r} must be as batchfix saved it, and its parts do not fit each other "
            f"({type(error).__name__}: {error}); save it again, and if nobody changed it, please report this"
        ) from error


def _said(done: dict[str, Any], existed: bool) -> list[str]:
    """The same in words."""
    rows = count(done["samples"], "sample") if "samples" in done else count(done["rows"], "row")
    lines = [f"{rows} x {count(done['features'], 'feature')} corrected by {done['corrector']} of {done['model']}"]
    for name, batches in done.get("batches", {}).items():
        shown = [f"{each!r} ({b['samples']}{'' if b['known'] else ', new'})" for each, b in batches.items()]
        more = ", ..." if len(shown) > 8 else ""
        lines.append(f"{name}: {count(len(shown), 'batch', 'batches')}: {', '.join(shown[:8])}{more}")
    if done.get("unknown"):
        how = {"adapt": "learned from their samples", "pooled": "taken for an average batch", "nan": "left empty"}
        lines.append(f"new batches: {how[done['unknown']]}")
    lines += [f"{word}: {', '.join(done[word])}" for word in ("kept", "nuisance") if done.get(word)]
    if done["carried"]:
        lines.append(f"carried unchanged: {', '.join(done['carried'])}")
    return [*lines, wrote(done["output"], existed)]
