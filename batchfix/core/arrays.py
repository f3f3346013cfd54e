"""Which library an array belongs to: numpy, torch, or any other that keeps the array API standard.

An array flows in; the module with its functions flows out.

Most of the core is written with operators alone and needs no module. On the few named functions left (any, clip, where,
sum, zeros_like and their like) numpy, torch and the standard agree, so these lines do, and array-api-compat would be a
dependency for nothing. torch is never imported here: who holds a tensor has imported it.
"""

from __future__ import annotations

import sys
from typing import Any

# An array of any such library. The standard has no type to name it by, so the checker is told nothing.
Array = Any


def array_namespace(*values: Array) -> Any:
    """The module of the first array among the values; Python numbers are passed over.

    Raises
    ------
    TypeError
        If none of the values is an array.

    Examples
    --------
    >>> import numpy as np
    >>> array_namespace(1.0, np.ones(3)).__name__
    'numpy'
    """
    torch = sys.modules.get("torch")
    for value in values:
        if hasattr(value, "__array_namespace__"):
            return value.__array_namespace__()
        if torch is not None and isinstance(value, torch.Tensor):
            return torch
    kinds = ", ".join(sorted({type(value).__name__ for value in values})) or "nothing"
    raise TypeError(f"Expected a numpy array, a torch tensor or another standard array; got {kinds}. Convert it first.")
