"""Files as sources, told by extension.

    .npy    .zarr    .h5, .hdf5 (path::dataset)    .h5ad    .csv, .tsv (.gz)    .parquet

A path flows in; a source of blocks flows out, of which nothing but the shape has been read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ...atomic import PathLike
from ...core.naming import nearest, some
from ...exceptions import BatchfixError
from .arrays import ArraySource
from .row_labels import RowLabels
from .source import Source

KINDS = ".npy, .zarr, .h5, .hdf5, .h5ad, .csv, .tsv, .csv.gz, .tsv.gz or .parquet"


def split(path: PathLike) -> tuple[Path, str | None]:
    """The file, and what is named inside it: 'runs.h5::raw/X' is the dataset 'raw/X' of runs.h5.

    Examples
    --------
    >>> split("runs.h5::raw/X")[1], split("runs.npy")[1]
    ('raw/X', None)
    """
    place, _, inside = str(path).partition("::")
    return Path(place), inside.strip("/") or None


def kind_of(path: PathLike) -> str:
    """Kind of a file by its extension: of those of one kind the first; .csv and .tsv may be gzipped.

    Raises
    ------
    BatchfixError
        It is none of those.
    """
    place, inside = split(path)
    name = place.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    kind = {".hdf5": ".h5", ".pq": ".parquet"}.get(kind, kind)
    zipped = name.endswith(".gz") and kind not in (".csv", ".tsv")
    if zipped or kind not in (".npy", ".zarr", ".h5", ".h5ad", ".csv", ".tsv", ".parquet"):
        raise BatchfixError(f"A table's name must end in {KINDS}, got {str(path)!r}. Rename or export it so.")
    if inside is not None and kind not in (".h5", ".zarr"):
        raise BatchfixError(f"Only .h5 and .zarr hold several arrays (path::name), got {str(path)!r}. Drop the name.")
    return kind


def needed(module: str) -> Any:
    """A package of the extra "files", or the sentence that names the extra."""
    top = module.partition(".")[0]
    try:
        import_module(top)
    except ModuleNotFoundError as error:
        if error.name != top:
            raise
        message = f"batchfix reads and writes such files with {top}: pip install 'batchfix[files]'"
        raise ModuleNotFoundError(message, name=top) from error
    return import_module(module)


class HdfSource(Source):
    """A dataset of an HDF5 file, which is open only while its blocks are read."""

    def __init__(self, place: Path, dataset: str | None, given: dict[str, Any]) -> None:
        self.place, self.dataset = place, dataset
        with self._array() as array:
            plan = ArraySource(array, given)
        self.n_rows, self.n_features, self.names = plan.n_rows, plan.n_features, plan.names
        self.dtype, self.chunk_rows, self.labels = plan.dtype, plan.chunk_rows, plan.labels

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        with self._array() as array:
            yield from ArraySource(array, {}).tables(rows)

    @contextmanager
    def _array(self) -> Iterator[Any]:
        h5py = needed("h5py")
        with reading(self.place), h5py.File(self.place, "r") as file:
            yield file[_choose(self.place, self.dataset, datasets_of(file))]


class ZarrSource(ArraySource):
    """A zarr array in a directory."""

    def __init__(self, place: Path, name: str | None, given: dict[str, Any]) -> None:
        self.place = place
        super().__init__(_zarr_array(place, name), given)

    def tables(self, rows: int) -> Iterator[tuple[Any, dict[str, Any], float]]:
        """See Source."""
        with reading(self.place):
            yield from super().tables(rows)


@contextmanager
def reading(place: Path) -> Iterator[None]:
    """What goes wrong in a file, as an error that names it."""
    try:
        yield
    except BatchfixError:
        raise
    except (OSError, EOFError, ValueError, KeyError, RuntimeError) as error:
        raise BatchfixError(
            f"{str(place)!r} cannot be read as what its name says ({said(error)}). Copy or export it again."
        ) from error


def said(error: Exception, most: int = 150) -> str:
    r"""What another library's error says: in one line, and not all of a long one.

    Examples
    --------
    >>> said(ValueError("no room\n  on the disk"), 10)
    'no room on'
    """
    return " ".join(str(error).split())[:most]


def mapped(place: Path) -> np.ndarray:
    """The array of a .npy file, not read yet."""
    with reading(place):
        array: np.ndarray = np.load(place, mmap_mode="r", allow_pickle=False)
        return array


def _zarr_array(place: Path, name: str | None) -> Any:
    zarr = needed("zarr")
    with reading(place):
        node = zarr.open(str(place), mode="r")
        if isinstance(node, zarr.Array) and name is None:
            return node
        return node[_choose(place, name, arrays_of(node))]


def datasets_of(file: Any) -> list[str]:
    """Paths of the datasets in an HDF5 file."""
    found: list[str] = []
    file.visititems(lambda name, each: found.append(name) if hasattr(each, "chunks") else None)
    return found


def arrays_of(node: Any) -> list[str]:
    """Paths of the arrays in a zarr group; none in an array."""
    members = node.members(max_depth=None) if hasattr(node, "members") else ()
    return [path for path, each in members if hasattr(each, "chunks")]


def _choose(place: Path, name: str | None, found: list[str]) -> str:
    """The array that was asked for, or the only one."""
    if name is None and len(found) == 1:
        return found[0]
    if name is None or name.strip("/") not in found:
        near = nearest(name, found) if name is not None else ""
        raise BatchfixError(
            f"{str(place)!r} must be told which of its arrays to take ({some(sorted(found), 8) or 'it has none'}), got "
            f"{name!r}{near}. Write path::name."
        )
    return name.strip("/")


def labels_of(given: dict[str, Any]) -> dict[str, RowLabels]:
    """Labels of all rows, by role."""
    return {role: RowLabels(value, role) for role, value in given.items()}
