"""Storage: a fitted corrector becomes one file, and a file a fitted corrector.

    save_model(corrector, path)            load_model(path) -> corrector

The file is an archive (see `archive`) of kind "batchfix model": JSON and arrays, never a pickle. Its manifest says in
words what it is (class, parameters, features, dtype, version of batchfix); the fitted attributes are encoded one by one
(see `codec`). What comes back corrects bit for bit as what was saved, and goes on learning, adapting and merging.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ... import correctors
from ...atomic import PathLike
from ...core.affine import Affine, Frame
from ...core.comoments import CoMoments
from ...core.design import Factor, Number
from ...core.expanding import Expanding
from ...core.exponential import Exponential
from ...core.hierarchy import ShrinkageSums
from ...core.least_squares import LinearFit
from ...core.moments import Moments
from ...core.partition import BinaryPartition
from ...core.peers import Levels
from ...core.renorm import Bridged, Population
from ...core.rolling import Rolling
from ...core.schedule import Schedule
from ...core.shrinkage import Posterior, Prior
from ...core.statistics import BatchStatistics
from ...core.ties import Ties
from ...core.windows import Bridge, State, Window
from ...core.zeros import HalfMinimum, Keep, MultiplicativeReplacement, Pseudocount
from ...correctors.applying import Solution
from ...correctors.grouping import Grouping
from .archive import ArchiveError, read_archive, write_archive
from .attributes import check_attributes
from .codec import Decoder, Encoder
from .shapes import check_shapes

logger = logging.getLogger(__name__)

KIND = "batchfix model"
FORMAT_VERSION = 1

CORRECTORS: dict[str, type] = {name: getattr(correctors, name) for name in correctors.__all__}
"""What a saved model may be."""

CLASSES: dict[str, type] = CORRECTORS | {
    cls.__name__: cls
    for cls in (
        *(
            Affine,
            BatchStatistics,
            BinaryPartition,
            Bridge,
            Bridged,
            CoMoments,
            Expanding,
            Exponential,
            Factor,
            Frame,
            Grouping,
        ),
        *(HalfMinimum, Keep, Levels, LinearFit, Moments, MultiplicativeReplacement, Number, Population, Posterior),
        *(Prior, Pseudocount, Rolling, Schedule, ShrinkageSums, Solution, State, Ties, Window),
    )
}
"""What may be inside one."""


@dataclass(frozen=True)
class SavedModel:
    """A model and what was written beside it.

    Attributes
    ----------
    corrector : fitted corrector
    batchfix_version : str
        Of the batchfix that wrote the file.
    notes : dict
        What the caller of `save_model` wished to be kept: the command keeps the roles of columns there.
    """

    corrector: Any
    batchfix_version: str
    notes: dict[str, Any] = field(default_factory=dict)


def save_model(corrector: Any, path: PathLike, *, notes: dict[str, Any] | None = None) -> None:
    """Write a fitted corrector to one file of JSON and arrays, which `load_model` reads.

    The file appears under its name only when it is whole; an old one is replaced in one step. Equal models give equal
    bytes. It holds statistics, labels and names of features, and no rows (but `CausalCorrector`'s rolling window does:
    they are its past).

    Parameters
    ----------
    corrector : any fitted corrector of batchfix
    path : file; any name will do, such as "january.batchfix"
    notes : dict of what JSON can hold and gives back as it was, kept beside the model

    Raises
    ------
    ArchiveError
        Not a corrector of batchfix (derived classes are not), something in it or in the notes that cannot be stored,
        or a place that cannot be written.
    NotFittedError
        The corrector is not fitted.

    Examples
    --------
    >>> import tempfile, pathlib, numpy as np
    >>> X, batch = np.array([[1.0], [3.0], [11.0], [13.0]]), ["a", "a", "b", "b"]
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "january.batchfix"
    >>> save_model(correctors.LinearCorrector().fit(X, batch=batch), path)
    >>> load_model(path).transform([[2.0]], batch=["b"]).tolist()
    [[-3.0]]
    """
    if type(corrector) not in CORRECTORS.values():
        raise ArchiveError(
            f"A saved model must be one of {', '.join(CORRECTORS)}, got {type(corrector).__module__}."
            f"{type(corrector).__qualname__}. Save the corrector inside it, or pickle what is your own."
        )
    check_is_fitted(corrector)
    notes = {} if notes is None else notes
    _check_notes(notes)
    encoder = Encoder(CLASSES)
    encoded = encoder.encode(corrector, type(corrector).__name__)
    try:
        _made(encoded, encoder.arrays)  # what could not be loaded is not written
    except Exception as error:  # whatever decoding says of attributes that somebody changed
        raise ArchiveError(
            f"What is saved must be as fit left it, and this {type(corrector).__name__} is not ({_said(error)}). Set "
            "parameters that it takes, and fit again."
        ) from error
    manifest = {"batchfix_version": version("batchfix")} | _in_words(corrector) | {"notes": notes, "model": encoded}
    write_archive(path, KIND, FORMAT_VERSION, manifest, encoder.arrays)


def load_model(path: PathLike) -> Any:
    """Read a fitted corrector that `save_model` wrote.

    Nothing in the file is run: only correctors, their statistics and plain values are made of it, whoever wrote it.

    Raises
    ------
    ArchiveError
        No such file, a damaged one, one of another kind or of a later format, or one that was made to mislead.
    """
    return read_model(path).corrector


def read_model(path: PathLike) -> SavedModel:
    """Read a fitted corrector and what was written beside it; errors are those of `load_model`."""
    manifest, arrays = read_archive(path, KIND, FORMAT_VERSION)
    try:
        corrector = _made(manifest["model"], arrays)
        notes, by = manifest["notes"], manifest["batchfix_version"]
        if type(corrector).__name__ != manifest["class"]:
            raise ValueError(f"the class of the model is not {manifest['class']!r}")
        if not isinstance(notes, dict) or not isinstance(by, str):
            raise ValueError("notes or version are missing")
    except Exception as error:  # whatever a file that no save_model wrote makes of our constructors
        raise ArchiveError(
            f"{str(path)!r} must hold a model as batchfix saves it, and does not ({_said(error)}). Nothing of it was "
            "used; save it again."
        ) from error
    if by != version("batchfix"):
        logger.info(
            "%s was saved by batchfix %s, and this is %s: the format is the same", path, by, version("batchfix")
        )
    return SavedModel(corrector, by, notes)


def _made(encoded: Any, arrays: list[np.ndarray]) -> Any:
    """A corrector, fitted, whose attributes are of their types and whose arrays fit together; or some exception."""
    corrector = Decoder(CLASSES, arrays).decode(encoded)
    if type(corrector) not in CORRECTORS.values():
        raise ValueError(f"the class of the model is {type(corrector).__name__!r}")
    check_is_fitted(corrector)
    check_attributes(corrector)
    check_shapes(corrector)
    return corrector


def _check_notes(notes: Any) -> None:
    """Refuse notes that would not come back as they are."""
    try:
        kept = isinstance(notes, dict) and bool(json.loads(json.dumps(notes, allow_nan=False)) == notes)
    except (TypeError, ValueError, RecursionError):
        kept = False
    if not kept:
        raise ArchiveError(
            "notes must be a dict with text for keys, of finite numbers, text, lists and dicts, got "
            f"{' '.join(repr(notes).split()):.80}. Make lists of tuples, and take .item() of numpy's numbers."
        )


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def _in_words(corrector: Any) -> dict[str, Any]:
    """What a person who opens the file wants to know; nothing is read from it but the class."""
    names = getattr(corrector, "feature_names_in_", None)
    statistics = getattr(corrector, "statistics_", None)
    return {
        "class": type(corrector).__name__,
        "parameters": {name: _words(value) for name, value in corrector.get_params(deep=False).items()},
        "features": corrector.n_features_in_ if names is None else [str(name) for name in names],
        "dtype": None if statistics is None else "float64" if statistics.eps < 1e-10 else "float32",
    }


def _words(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, BaseEstimator):
        return type(value).__name__
    text = " ".join(repr(value).split())
    return text if len(text) <= 200 else f"{text[:197]}..."
