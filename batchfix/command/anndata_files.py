"""AnnData files for the commands: what an .h5ad file holds, samples in rows, and a new one that is like it.

obs                ->  what describes the samples, as a table of text would
X or a layer       ->  the matrix, not read yet
all else           ->  copied, when a new file is written
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..atomic import replacing
from .names import InputError
from .roles import Roles
from .summary import in_bytes
from .terminal import warn


def is_h5ad(path: str | None) -> bool:
    """Whether a file's name says that it is an AnnData."""
    return path is not None and path.lower().endswith(".h5ad")


def add_layer_option(parser: argparse.ArgumentParser, verb: str) -> None:
    """Register --layer; `verb` is what is done to it."""
    parser.add_argument("--layer", metavar="NAME", help=f"of an .h5ad file: {verb} this layer and not X")


def check_layer(args: argparse.Namespace) -> None:
    """Refuse --layer of a table."""
    if args.layer is not None:
        raise InputError(f"--layer names a matrix of an .h5ad file, and {args.input!r} is none; leave it out")


def refuse_table_options(args: argparse.Namespace, names: Iterable[str]) -> None:
    """Refuse options that speak of tables in text or parquet files."""
    for name in names:
        if getattr(args, name) is not None:
            raise InputError(
                f"--{name} is for tables in text or parquet files, and {args.input!r} holds samples in rows with what "
                "describes them, in obs; leave it out, and name columns of obs"
            )


def refuse_other_files(args: argparse.Namespace) -> None:
    """Refuse an .h5ad file on one side alone."""
    for path, what in ((args.input, "TABLE"), (args.output, "the output")):
        if not is_h5ad(path):
            raise InputError(
                f"an .h5ad file is corrected to an .h5ad file, and {what} is {path!r}; name an .h5ad file there too"
            )


def words_of(column: pd.Series) -> list[str]:
    """A column of obs as a text file would have it, nothing where there is nothing.

    Examples
    --------
    >>> words_of(pd.Series(["a", None], dtype="category")), words_of(pd.Series([0.5, np.nan]))
    (['a', ''], ['0.5', ''])
    """
    return ["" if lost else str(cell) for cell, lost in zip(column.tolist(), column.isna(), strict=True)]


@dataclass(frozen=True, eq=False)
class OpenAnnData:
    """An .h5ad file that is open for reading.

    Attributes
    ----------
    path : str
    layer : str or None
        What is read in place of X.
    file : h5py File
    obs, var : DataFrame
    """

    path: str
    layer: str | None
    file: Any
    obs: pd.DataFrame
    var: pd.DataFrame

    @property
    def header(self) -> list[str]:
        """Names as a table of the samples has them: the ids' own first, which is empty."""
        return ["", *map(str, self.obs.columns)]

    @property
    def samples(self) -> list[str]:
        """Names of the samples."""
        return [str(name) for name in self.obs.index]

    @property
    def features(self) -> list[str]:
        """Names of the features."""
        return [str(name) for name in self.var.index]

    def cells(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Columns of obs as text, by name."""
        return {name: words_of(self.obs.iloc[:, self.header.index(name) - 1]) for name in names}

    def roles(self, args: argparse.Namespace) -> Roles:
        """What columns of obs are, as if it were the table of metadata."""
        return Roles.from_arguments(argparse.Namespace(**vars(args) | {"metadata": self.path}), self.header, [])

    # ---- the matrix

    @property
    def name(self) -> str:
        """Path of the matrix in the file."""
        return "X" if self.layer is None else f"layers/{self.layer}"

    @property
    def place(self) -> Any:
        """The matrix as records name it."""
        from ..adapters.sources.obs import Place

        return Place.of(self.layer, None)

    def matrix(self) -> Any:
        """What is corrected, not read yet: an HDF5 dataset, or a sparse matrix on disk."""
        from anndata.io import sparse_dataset

        from ..adapters.sources.files import reading
        from ..core.naming import nearest, some

        group = self.file.get("layers")
        layers = list(group) if isinstance(group, Mapping) else []
        if self.layer is None and "X" not in self.file:
            raise InputError(
                f"{self.path!r} holds no 'X'; name one of its layers with --layer ({some(layers, 8) or 'none'})"
            )
        if self.layer is not None and self.layer not in layers:
            raise InputError(
                f"--layer must name a layer of {self.path!r}, and {self.layer!r} is none{nearest(self.layer, layers)}; "
                f"there {'are ' + some(layers, 8) if layers else 'is none'}"
            )
        found = self.file[self.name]
        if str(found.attrs.get("encoding-type", "")) in ("csr_matrix", "csc_matrix"):
            with reading(Path(self.path)):
                found = sparse_dataset(found)
        self._check_shape(tuple(getattr(found, "shape", ())))
        return found

    def values(self) -> pd.DataFrame:
        """The matrix, dense and in memory."""
        from ..adapters.anndata.kinds import check_real
        from ..adapters.sources.anndata import in_memory

        matrix = self.matrix()
        check_real(matrix, str(self.place))
        if hasattr(matrix, "to_memory"):
            matrix = in_memory(matrix, str(self.place)).toarray()
        return pd.DataFrame(np.asarray(matrix[:], dtype=np.float64), self.samples, self.features, copy=False)

    def warn_dense(self, matrix: Any) -> None:
        """Say that a sparse matrix will be a dense one, and how large."""
        from ..adapters.anndata.kinds import is_sparse
        from ..adapters.anndata.sparse import float_type

        if is_sparse(matrix):
            dtype = float_type(matrix)
            size = in_bytes(matrix.shape[0] * matrix.shape[1] * dtype.itemsize)
            warn(f"{self.name!r} of {self.path!r} is sparse, and corrected it is dense: {size} of {dtype}.")

    def _check_shape(self, found: tuple[int, ...]) -> None:
        """Refuse what is no matrix of the samples in obs and the features in var, and a matrix of nothing."""
        shape, what = (len(self.obs), len(self.var)), f"{self.name!r} of {self.path!r}"
        if found != shape:
            raise InputError(
                f"{what} must have {shape[0]} rows, as obs has, and {shape[1]} columns, as var has, and its shape is "
                f"{found}; export it again"
            )
        if 0 in shape:
            raise InputError(f"{what} must have rows and columns, and its shape is {found}; look at how it was cut out")

    # ---- a new file

    @property
    def records(self) -> Any:
        """What uns says of earlier corrections, None if nothing."""
        from anndata.io import read_elem

        return read_elem(self.file["uns/batchfix"]) if "uns/batchfix" in self.file else None

    @contextmanager
    def written(self, output: str, records: Any) -> Iterator[Any]:
        """A file with all but the matrix, which is to be written; it takes its place when it is whole."""
        from anndata.io import write_elem

        from ..adapters.sinks.anndata import copy_but
        from ..adapters.sinks.chunks import hdf_file

        with replacing(output, InputError, buffering=0) as out, hdf_file(out) as (new, check):
            copy_but(self.file, new, but=self.name)
            uns = new.require_group("uns")
            uns.attrs.update({"encoding-type": "dict", "encoding-version": "0.1.0"})
            if "batchfix" in uns:
                del uns["batchfix"]
            write_elem(uns, "batchfix", records)
            yield new, check
            check()

    @contextmanager
    def written_by_rows(self, output: str, records: Any) -> Iterator[Any]:
        """The same; what is yielded writes rows of the matrix, given the place of the first."""
        from ..adapters.sinks.chunks import HdfSink

        with self.written(output, records) as (new, check):
            sink = HdfSink(new, self.name, len(self.obs), check)
            yield sink.write
            sink.end()
            sink.array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


@contextmanager
def opened(path: str, layer: str | None = None) -> Iterator[OpenAnnData]:
    """Open an .h5ad file; what goes wrong in it is an error that names it."""
    if find_spec("anndata") is None:
        raise InputError("batchfix reads and writes .h5ad files with anndata: pip install 'batchfix[anndata]'")
    from h5py import File

    from ..adapters.sources.files import reading

    if not Path(path).exists():
        raise InputError(f"{path!r} does not exist (looked in {str(Path.cwd())!r}); check its name")
    with reading(Path(path)):
        file = File(path, "r")
    with file:
        if "obs" not in file or "var" not in file:
            raise InputError(f"{path!r} must be an AnnData, and has no obs or var; export it again")
        yield OpenAnnData(path, layer, file, _frame(path, file["obs"]), _frame(path, file["var"]))


def _frame(path: str, element: Any) -> pd.DataFrame:
    """A table of an AnnData, obs or var."""
    from anndata.io import read_elem

    from ..adapters.sources.files import reading

    with reading(Path(path)):
        found = read_elem(element)
    if not isinstance(found, pd.DataFrame):
        raise InputError(f"{path!r} must hold obs and var as tables, and {element.name[1:]} is none; export it again")
    return found


def with_nuisance(records: dict[str, dict[str, Any]], roles: Roles) -> dict[str, dict[str, Any]]:
    """The records, the newest of which names the nuisance columns if there are any."""
    if not roles.nuisance:
        return records
    newest = max(records, key=lambda name: int(records[name]["run"]))
    return records | {newest: records[newest] | {"nuisance": ", ".join(roles.nuisance)}}
