"""A parameter by the name of a method: `transform`, which is what the field calls a kind of log-ratio."""

from __future__ import annotations

from types import MethodType
from typing import Any

KEY = "_transform"


class MethodAndParameter:
    """A method whose name a parameter bears too: read, it is the method; written, the parameter."""

    def __init__(self, method: Any) -> None:
        self.method = method
        self.__doc__ = method.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self.method if instance is None else MethodType(self.method, instance)

    def __set__(self, instance: Any, value: Any) -> None:
        vars(instance)[KEY] = value


class TransformParameter:
    """Gives a transformer, and what is derived from it, a parameter `transform` beside the method.

    scikit-learn reads parameters by `get_params`, which looks into the instance.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)  # where scikit-learn wraps `transform`
        method = vars(cls).get("transform")
        if method is not None and not isinstance(method, MethodAndParameter):
            cls.transform = MethodAndParameter(method)  # type: ignore[attr-defined]  # of the classes derived from it

    @property
    def _asked(self) -> str:
        """The parameter."""
        value: str = vars(self)[KEY]
        return value

    def _own_params(self) -> dict[str, Any]:
        """Parameters of the constructor, `transform` among them as the name that was given."""
        names = self._get_param_names()  # type: ignore[attr-defined]  # an estimator's
        return {name: self._asked if name == "transform" else getattr(self, name) for name in names}
