"""Adding: methods that are there only where statistics add up."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any


class WhereItAdds:
    """A method that is absent where its object's `_check_adds` raises an AttributeError that says why."""

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __get__(self, corrector: Any, owner: type | None = None) -> Callable[..., Any]:
        if corrector is None:
            return self.method
        corrector._check_adds()
        return MethodType(self.method, corrector)
