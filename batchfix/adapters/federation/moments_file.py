"""Moments file: what sites exchange becomes one file, and a file a corrector that is not solved yet.

A corrector and its statistics flow in; out comes an archive (see `archive`) of kind "batchfix moments", version 1:

    manifest.json
        class, parameters, features, batches, design_columns      in words
        min_cell, min_missing, min_nonzero                        what save_moments was asked for
        moments         the number of each array by its name: {"rows": 0, "n": 3, ...} (see `moment_arrays`)
        labels          batch labels, design columns, rounding unit of the values     as codec encodes them
        corrector       parameters, and what fit was told of columns                  likewise
    a0.npy, a1.npy, ...

Only what is named here is written: what a corrector may remember besides stays where it is.
"""

from __future__ import annotations

import copy as copying
import logging
from importlib.metadata import version
from typing import Any

from ...atomic import PathLike
from ...core.design import Factor, Number, repr_label
from ...core.partition import BinaryPartition
from ...core.statistics import BatchStatistics
from ...core.zeros import HalfMinimum, Keep, MultiplicativeReplacement, Pseudocount
from ...correctors import BatchCorrector, ComBat, CompositionalCorrector, LinearCorrector, LogRatio
from ..storage.archive import ArchiveError, read_archive, write_archive
from ..storage.codec import Decoder, Encoder
from ..storage.shapes import check_shapes
from .moment_arrays import from_arrays, to_arrays

logger = logging.getLogger(__name__)

KIND = "batchfix moments"
FORMAT_VERSION = 1

CORRECTORS: dict[str, type] = {
    cls.__name__: cls for cls in (BatchCorrector, ComBat, CompositionalCorrector, LinearCorrector)
}
"""Whose moments may be exchanged."""

CLASSES: dict[str, type] = CORRECTORS | {
    cls.__name__: cls
    for cls in (
        *(BinaryPartition, Factor, HalfMinimum, Keep, LogRatio),
        *(MultiplicativeReplacement, Number, Pseudocount),
    )
}
"""What may be inside a file."""

TOLD = {
    *("_batch_names", "_consumed", "_features", "_fitted_kind", "_inner", "_labelled", "_named", "_numbered"),
    *("_ratio_names", "_removes", "_transform", "feature_names_in_", "log_ratio_", "n_features_in_", "scale_of_input_"),
}
"""What is written of a corrector besides parameters and moments: what it was told of columns."""


def write_moments(corrector: Any, statistics: BatchStatistics, path: PathLike, notes: dict[str, Any]) -> None:
    """Write a corrector's statistics (or what is left of them), and what it was told of columns."""
    encoder = Encoder(CLASSES)
    arrays = {name: encoder.encode(each, name)["at"] for name, each in to_arrays(statistics).items()}
    labels = {"batches": statistics.batches, "columns": statistics.columns}
    labels |= {"eps": statistics.eps, "by_cell": statistics.by_cell}
    manifest = _in_words(corrector, statistics) | notes
    manifest |= {"moments": arrays, "labels": encoder.encode(labels, "labels")}
    manifest["corrector"] = encoder.encode(_told(corrector), type(corrector).__name__)
    write_archive(path, KIND, FORMAT_VERSION, manifest, encoder.arrays)


def read_moments(path: PathLike) -> Any:
    """The corrector of one file, unsolved; errors are those of `load_moments`."""
    manifest, arrays = read_archive(path, KIND, FORMAT_VERSION)
    try:
        decoder = Decoder(CLASSES, arrays)
        corrector: Any = decoder.decode(manifest["corrector"])
        if type(corrector) is not CORRECTORS[manifest["class"]]:
            raise ValueError(f"the class is not {manifest['class']!r}")
        inner: Any = getattr(corrector, "corrector_", corrector)
        if type(inner) not in CORRECTORS.values() or isinstance(inner, CompositionalCorrector):
            raise ValueError(f"the class inside is {type(inner).__name__!r}")
        moments = {name: arrays[at] for name, at in manifest["moments"].items()}
        inner.statistics_ = from_arrays(moments, **decoder.decode(manifest["labels"]))
        inner._solution, inner._adapted = None, ()
        check_shapes(corrector)
        by = manifest["batchfix_version"]
    except Exception as error:  # whatever a file that no save_moments wrote makes of our constructors
        said = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise ArchiveError(
            f"{str(path)!r} must hold moments as batchfix saves them, and does not ({said}). Nothing of it was used; "
            "save it again."
        ) from error
    if by != version("batchfix"):
        logger.info("%s was saved by batchfix %s, and this is %s", path, by, version("batchfix"))
    return corrector


def _told(corrector: Any) -> Any:
    """A corrector as it is, but for its statistics and all that follows from them."""
    told = copying.copy(corrector)
    told.__dict__ = {
        name: value for name, value in vars(corrector).items() if name in TOLD | set(corrector.get_params(deep=False))
    }
    if hasattr(corrector, "corrector_"):
        told.corrector_ = _told(corrector.corrector_)
    return told


def _in_words(corrector: Any, statistics: BatchStatistics) -> dict[str, Any]:
    """What a person who opens the file wants to know; nothing is read from it but the class and the version."""
    columns = {
        c.name: [repr_label(level) for level in c.levels] if isinstance(c, Factor) else "number"
        for c in statistics.columns
    }
    inner = getattr(corrector, "corrector_", corrector)
    return {
        "batchfix_version": version("batchfix"),
        "class": type(corrector).__name__,
        "parameters": {k: " ".join(repr(v).split()) for k, v in corrector.get_params(deep=False).items()},
        "features": [str(name) for name in inner.get_feature_names_out()],
        "batches": [repr_label(label) for label in statistics.batches],
        "design_columns": columns,
    }
