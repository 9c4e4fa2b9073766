"""Decorators of kernels that create no arrays, compiled without Numba's reference counting.

Counting costs an atomic operation for each view of a row, which at 128³ is a third of the time of `A x`, and code to
compile. Such a kernel can neither create nor return an array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from relaxon.solvers.kernels.compiled import FAST, SERIAL_CELLS, Shared, kernel

lean = kernel(fastmath=FAST, error_model="numpy", counted=False)
"""The decorator of kernels that create no arrays. Division by zero raises nothing."""
inlined = kernel(fastmath=FAST, error_model="numpy", counted=False, forceinline=True)
"""The decorator of kernels that others call for each row, where a call would cost as much as the row."""


def lean_shared(
    over: Literal["rows", "planes", "entries"], of: str, sums: int = 0
) -> Callable[[Callable[..., Any]], Shared]:
    """Return the decorator `relaxon.solvers.kernels.compiled.shared` for kernels that create no arrays."""
    return lambda function: Shared(lean(function), over, of, sums, SERIAL_CELLS)
