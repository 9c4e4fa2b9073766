"""The table of kernels that each kind of solve runs, with the types of their arguments, to be compiled in advance.

The table, `kernels.json`, is written by `python -m relaxon.solvers.precompile.record`, and a test compares it with what
solves really run. A missing kernel is compiled when it is first called; a superfluous one costs only time.
"""
# Imported on first use, for its weight: numba.

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("kernels.json")
ARRAY = re.compile(r"(\w+)\[(\d+)([CFA])\](r?u?)")
Types = tuple[Any, ...]
"""A signature in JSON's values: see `encode`."""


@dataclass(frozen=True, slots=True)
class CompileTask:
    """The compilation of one kernel for one signature."""

    module: str
    """Its module, within the package."""
    name: str
    types: Types
    calls: tuple[int, ...]
    """The numbers of the tasks for the kernels it calls."""
    seconds: float
    """Processor time on the machine that wrote the table, without that of the kernels it calls."""

    def kernel(self) -> Any:
        """Return the kernel's dispatcher; AttributeError or ImportError where there is no kernel of that name."""
        return find_kernel(self.module, self.name)

    def signature(self) -> tuple[Any, ...]:
        """Return its types as Numba types."""
        return tuple(decode(one) for one in self.types)


@dataclass(frozen=True, slots=True)
class KernelTable:
    """All tasks, and for each kind of solve the numbers of the kernels that Python calls."""

    tasks: tuple[CompileTask, ...]
    kinds: dict[str, tuple[int, ...]]

    def list_needed(self, called: Sequence[int]) -> list[int]:
        """Return the numbers of tasks and of all kernels that they call, in the order of the table."""
        found: set[int] = set()
        waiting = list(called)
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting += self.tasks[number].calls
        return sorted(found)


@functools.cache
def load_table() -> KernelTable:
    """Return the shipped table; an empty one where its file does not exist."""
    try:
        content = json.loads(FILE.read_text("utf-8"))
    except OSError:
        return KernelTable((), {})
    tasks = (
        CompileTask(one["module"], one["name"], tuple(one["types"]), tuple(one["calls"]), one["seconds"])
        for one in content["kernels"]
    )
    return KernelTable(tuple(tasks), {kind: tuple(numbers) for kind, numbers in content["kinds"].items()})


def grid_kind(solver: str, ndim: int, varying: bool) -> str:
    """Return the table's name for solves by a solver on grids with that many dimensions, where κ is an array or 1."""
    return f"{solver} {ndim}D{' varying' if varying else ''}"


def matrix_kind(solver: str) -> str:
    """Return the table's name for solves by a solver with a sparse matrix."""
    return f"{solver} matrix"


def find_kernel(module: str, name: str) -> Any:
    """Return the dispatcher of a kernel, which a function that divides it among threads may wrap."""
    found = getattr(import_module(f"relaxon.{module}"), name)
    return found if hasattr(found, "py_func") and hasattr(found, "overloads") else found.kernel


def encode(kind: Any) -> Any:
    """Return a Numba type as JSON values; ValueError for one that is no argument of kernels.

    A scalar is its name, an array `float64[3C]` (of dtype, dimensions and layout; `r` for read-only and `u` for not
    aligned follow), a tuple the list of its parts, a named tuple that list under the dotted name of its class within
    the package.

    Examples
    --------
    >>> from numba import types
    >>> encode(types.Array(types.float64, 3, "C", readonly=True)), encode(types.UniTuple(types.int64, 2))
    ('float64[3C]r', ['int64', 'int64'])
    """
    types = _numba_types()
    if isinstance(kind, types.Array):
        flags = ("" if kind.mutable else "r") + ("" if kind.aligned else "u")
        return f"{encode(kind.dtype)}[{kind.ndim}{kind.layout}]{flags}"
    if isinstance(kind, types.BaseTuple):
        parts = [encode(one) for one in kind]
        if not isinstance(kind, types.BaseNamedTuple):
            return parts
        named = kind.instance_class
        return {f"{named.__module__.removeprefix('relaxon.')}.{named.__qualname__}": parts}
    if isinstance(kind, types.Literal | types.Omitted):
        return {type(kind).__name__: kind.literal_value if isinstance(kind, types.Literal) else kind.value}
    if getattr(types, str(kind), None) == kind:
        return str(kind)
    raise ValueError(f"kind must be an array, a tuple, a literal or a scalar, got {kind}")


def decode(spelt: Any) -> Any:
    """Return the type that `encode` encodes as these values."""
    types = _numba_types()
    if isinstance(spelt, str):
        array = ARRAY.fullmatch(spelt)
        if array is None:
            return getattr(types, spelt)
        dtype, ndim, layout, flags = array.groups()
        return types.Array(getattr(types, dtype), int(ndim), layout, "r" in flags, aligned="u" not in flags)
    if isinstance(spelt, dict):
        ((what, value),) = spelt.items()
        if "." in what:
            module, _, name = what.rpartition(".")
            named = getattr(import_module(f"relaxon.{module}"), name)
            return types.NamedTuple([decode(one) for one in value], named)
        return types.Omitted(value) if what == "Omitted" else types.literal(value)
    return types.Tuple([decode(one) for one in spelt])


def _numba_types() -> Any:
    from numba import types

    return types


def freeze(values: Any) -> Any:
    """Return values of `encode` in a hashable form."""
    if isinstance(values, dict):
        return tuple((name, freeze(value)) for name, value in values.items())
    return tuple(freeze(one) for one in values) if isinstance(values, list) else values
