"""A property that is computed once per object, without a lock."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

Value = TypeVar("Value", covariant=True)


class cached_property(Generic[Value]):
    """`functools.cached_property` as of Python 3.12: several threads may compute the value, but all get the same one.

    The property of Python 3.11 holds a lock of the whole class during the computation: the values of other objects wait
    for it, and a child that is forked meanwhile deadlocks.
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
