"""Kernels that make no arrays: compiled without Numba's counting of references.

Counting costs an atomic operation for each row that a kernel takes a view of, which at 128³ is a third of the time of
`A x`, and code to compile. Such a kernel can neither make an array nor return one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from relaxon.solvers.kernels.compiled import FAST, SERIAL_CELLS, Shared, kernel

lean = kernel(fastmath=FAST, error_model="numpy", counted=False)
"""The decorator of a kernel that makes no arrays. Nothing is raised where it divides by zero."""
inlined = kernel(fastmath=FAST, error_model="numpy", counted=False, forceinline=True)
"""Of what other kernels do to a row a time, where a call would cost as much as the row."""


def lean_shared(
    over: Literal["rows", "planes", "entries"], of: str, sums: int = 0
) -> Callable[[Callable[..., Any]], Shared]:
    """As `relaxon.solvers.kernels.compiled.shared`, for a kernel that makes no arrays."""
    return lambda function: Shared(lean(function), over, of, sums, SERIAL_CELLS)
