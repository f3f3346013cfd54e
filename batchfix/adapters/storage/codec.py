"""Codec: fitted objects become what JSON can hold beside a list of arrays, and come back.

None, bool, int, float, str and lists stand for themselves. All else is an object whose "$" says what it is:

    {"$": "array", "at": 3}                                      the fourth array of the file
    {"$": "object", "class": "Affine", "fields": {...}}          of one of the classes that were named, no other
    {"$": "tuple" | "dict" | "number" | "float" | "text" | "objects" | "slice" | "time" | ...}

Encoding walks the attributes of an object and refuses by name what it has no place for. Decoding makes only what is
listed here and the classes it was given, so that a file can make nothing else, whatever is in it.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from . import frames
from .archive import ArchiveError
from .declared import check_types

Classes = Mapping[str, type]

_PLAIN_ARRAY = "biufUSMm"
WIDEST = 1 << 16
"""Numbers for which one may stand in a file; more if the file holds more: those of a model stand beside its sums."""
_DTYPE = re.compile(r"[<>|=][biufSUMm]\d{1,9}(\[\d{0,9}[A-Za-z]{1,7}\])?")


class Encoder:
    """Turns objects into what JSON can hold; `arrays` are those that stand beside it, each once.

    Examples
    --------
    >>> encoder = Encoder({})
    >>> encoder.encode({"a": (1, np.arange(3))}, "x")
    {'$': 'dict', 'items': [['a', {'$': 'tuple', 'items': [1, {'$': 'array', 'at': 0}]}]]}
    >>> Decoder({}, encoder.arrays).decode(_)
    {'a': (1, array([0, 1, 2]))}
    """

    def __init__(self, classes: Classes) -> None:
        self.classes = classes
        self.arrays: list[np.ndarray] = []
        self._known: dict[int, dict[str, Any]] = {}  # by the id of an array that `_alive` keeps so
        self._alive: list[np.ndarray] = []

    def encode(self, value: Any, where: str) -> Any:
        """Encode a value that is found at `where`, which an error names."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"$": "float", "is": repr(value)}
        if type(value) is list:
            return [self.encode(each, f"{where}[{k}]") for k, each in enumerate(value)]
        if type(value) is tuple:
            return {"$": "tuple", "items": self.encode(list(value), where)}
        if type(value) is dict:
            pairs = [[self.encode(k, where), self.encode(v, f"{where}[{k!r}]")] for k, v in value.items()]
            return {"$": "dict", "items": pairs}
        if type(value) is slice:
            return {"$": "slice", "items": self.encode([value.start, value.stop, value.step], where)}
        if type(value) is np.ndarray:
            return self._array(value, where)
        if isinstance(value, np.generic):
            return self._scalar(value, where)
        name = self._class_of(value)
        if name is not None:
            return self._object(value, name, where)
        found = frames.taken_apart(value)
        if found is not None:
            tag, parts = found
            return {"$": tag} | {name: self.encode(part, f"{where}.{name}") for name, part in parts.items()}
        raise self._refusal(value, where)

    def _class_of(self, value: Any) -> str | None:
        """The name under which a value's class was named; a class of the same name that adds no field stands for it."""
        cls = self.classes.get(type(value).__name__)
        if cls is None or not isinstance(value, cls):
            return None
        if type(value) is cls:
            return cls.__name__
        same = dataclasses.is_dataclass(value) and dataclasses.fields(value) == dataclasses.fields(cls)
        return cls.__name__ if same else None

    def _object(self, value: Any, name: str, where: str) -> dict[str, Any]:
        if isinstance(value, BaseEstimator):
            fields = vars(value)
        else:
            fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        encoded = {name: self.encode(each, f"{where}.{name}") for name, each in fields.items()}
        return {"$": "object", "class": name, "fields": encoded}

    def _array(self, array: np.ndarray, where: str) -> dict[str, Any]:
        if array.dtype == object:
            items = [self.encode(each, f"{where}[{k}]") for k, each in enumerate(array.ravel().tolist())]
            return {"$": "objects", "shape": list(array.shape), "items": items}
        if not _is_plain(array.dtype):
            raise self._refusal(array.dtype, where)
        if id(array) in self._known:
            return dict(self._known[id(array)])
        found: dict[str, Any] = {"$": "array", "at": len(self.arrays)}
        stored = _stored(array)
        if stored.shape != array.shape:  # one value stands for many
            found["shape"] = list(array.shape)
        elif not array.flags.writeable:
            found["readonly"] = True
        self.arrays.append(stored)
        self._known[id(array)] = found
        self._alive.append(array)
        return found

    def _scalar(self, value: np.generic, where: str) -> dict[str, Any]:
        if isinstance(value, np.str_):
            return {"$": "text", "is": str(value)}
        if not _is_plain(value.dtype):
            raise self._refusal(value, where)
        return {"$": "number", "dtype": value.dtype.str, "bytes": value.tobytes().hex()}

    def _refusal(self, value: Any, where: str) -> ArchiveError:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return ArchiveError(
            f"What is saved must be made of numbers, text, dates, arrays, tables and classes of batchfix, and {where} "
            f"is a {kind}: {_short(value)}. Give it in one of these forms and fit again."
        )


class Decoder:
    """Turns what `Encoder` made back into objects, which share the arrays.

    Raises ValueError, TypeError, KeyError and their like for what no encoder makes.
    """

    def __init__(self, classes: Classes, arrays: list[np.ndarray]) -> None:
        self.classes = classes
        self.arrays = arrays
        self._made: dict[int, np.ndarray] = {}

    def decode(self, found: Any) -> Any:
        """Decode a value."""
        if found is None or isinstance(found, bool | int | float | str):
            return found
        if isinstance(found, list):
            return [self.decode(each) for each in found]
        tag, parts = found["$"], {name: each for name, each in found.items() if name != "$"}
        if tag in ("array", "object", "objects", "number", "float", "text", "tuple", "dict", "slice"):
            return getattr(self, f"_make_{tag}")(**parts)
        return frames.put_together(tag, {name: self.decode(each) for name, each in parts.items()})

    def _make_tuple(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(self.decode(each) for each in _listed(items))

    def _make_dict(self, items: list[Any]) -> dict[Any, Any]:
        return {self.decode(key): self.decode(value) for key, value in _listed(items)}

    def _make_slice(self, items: list[Any]) -> slice:
        start, stop, step = _listed(items)
        if not all(each is None or type(each) is int for each in (start, stop, step)):
            raise ValueError("a slice must have whole numbers")
        return slice(start, stop, step)

    def _make_float(self, **parts: Any) -> float:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[parts["is"]]

    def _make_text(self, **parts: Any) -> np.str_:
        if not isinstance(parts["is"], str):
            raise ValueError("a text must be one")
        return np.str_(parts["is"])

    def _make_number(self, dtype: Any, **parts: Any) -> Any:
        if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
            raise ValueError(f"{dtype!r} is no dtype of numbers")
        (value,) = np.frombuffer(bytes.fromhex(parts["bytes"]), dtype=np.dtype(dtype))
        return value

    def _make_objects(self, shape: list[int], items: list[Any]) -> np.ndarray:
        array = np.empty(len(_listed(items)), dtype=object)
        for k, each in enumerate(items):
            array[k] = self.decode(each)
        return array.reshape(_shape(shape))

    def _make_array(self, at: int, shape: list[int] | None = None, readonly: bool = False) -> np.ndarray:
        if type(at) is not int or not 0 <= at < len(self.arrays):
            raise ValueError(f"there is no array {at!r}")
        if at not in self._made:
            array = self.arrays[at]
            if shape is not None:
                if math.prod(_shape(shape)) > max(WIDEST, sum(each.size for each in self.arrays)):
                    raise ValueError(f"no array of a model is as large as {shape!r} beside what the file holds")
                array = np.broadcast_to(array, shape)
            elif readonly:
                array.flags.writeable = False
            self._made[at] = array
        return self._made[at]

    def _make_object(self, **parts: Any) -> Any:
        name: Any = parts["class"]
        fields = {key: self.decode(each) for key, each in parts["fields"].items()}
        if not isinstance(name, str) or name not in self.classes:
            raise ValueError(f"{name!r} is no class that a saved model may have")
        cls = self.classes[name]
        return _estimator(cls, fields) if issubclass(cls, BaseEstimator) else _dataclass(cls, fields)


def _estimator(cls: type, state: dict[str, Any]) -> Any:
    """An estimator with these attributes; parameters that a later version has are at their defaults."""
    for name in state:
        inherited = getattr(cls, name, None)
        if not name.isidentifier() or name.startswith("__") or callable(inherited) or isinstance(inherited, property):
            raise ValueError(f"{name!r} is no attribute of a fitted {cls.__name__}")
    made = cls()
    parameters = made.get_params(deep=False)  # which have constraints of their own
    check_types(cls, {name: value for name, value in state.items() if name not in parameters})
    vars(made).update(state)
    made._validate_params()
    return made


def _dataclass(cls: type, fields: dict[str, Any]) -> Any:
    """An instance made by its constructor, which checks what it is given."""
    known = [field.name for field in dataclasses.fields(cls)]
    strange = [name for name in fields if name not in known]
    if strange:
        raise ValueError(f"{strange[0]!r} is no field of {cls.__name__}")
    check_types(cls, fields)
    if "knots" in known:  # given one by one
        return cls(*fields["knots"])
    return cls(**fields)


def _is_plain(dtype: np.dtype[Any]) -> bool:
    """Whether an array of it is read alike on every machine."""
    return dtype.kind in _PLAIN_ARRAY and not (dtype.kind == "f" and dtype.itemsize > 8)


def _stored(array: np.ndarray) -> np.ndarray:
    """One value of each axis along which one value stands for all, as `broadcast_to` makes them of tables."""
    if array.ndim == 1:
        return array
    one = [step == 0 and n > 1 for n, step in zip(array.shape, array.strides, strict=True)]
    return array[tuple(slice(0, 1) if each else slice(None) for each in one)] if any(one) else array


def _shape(shape: Any) -> tuple[int, ...]:
    if not all(type(n) is int and n >= 0 for n in _listed(shape)):
        raise ValueError(f"{shape!r} is no shape")
    return tuple(shape)


def _listed(items: Any) -> list[Any]:
    if not isinstance(items, list):
        raise ValueError(f"a list was expected, not a {type(items).__name__}")
    return items


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
