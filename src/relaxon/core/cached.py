"""A property that is computed once for each object, without a lock."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

Value = TypeVar("Value", covariant=True)


class cached_property(Generic[Value]):
    """As `functools.cached_property` from Python 3.12 on: where several threads ask at once, each may compute the
    value, and all get the same one.

    Python 3.11's holds a lock of the whole class meanwhile: other objects' values wait for it, and a child that is
    forked then waits for ever.
    """

    def __init__(self, compute: Callable[[Any], Value]) -> None:
        self._compute = compute
        functools.update_wrapper(self, compute)  # type: ignore[arg-type]  # its name and documentation

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> Value: ...

    def __get__(self, instance: object | None, owner: type | None = None) -> Self | Value:
        if instance is None:
            return self
        value: Value = instance.__dict__.setdefault(self._name, self._compute(instance))
        return value
