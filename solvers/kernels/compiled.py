"""The decorators of compiled kernels, and their division among threads.

A kernel is compiled once, as serial code that releases the GIL, and cached on disk. `shared` turns a kernel over a run
of rows, planes or entries into a function over all of them, whose runs go to the threads of
`relaxon.solvers.kernels.threads`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray

from relaxon.solvers.kernels.cache import enable_cache
from relaxon.solvers.kernels.threads import Kernel, Work, divide, get_num_threads

FAST = {"reassoc", "contract", "nsz"}
"""Fast-math flags: sums may be reordered (so that they vectorise) and products fused; NaN and infinity are
preserved."""
ONE = np.uint64(1)
SERIAL_CELLS = 40_000
"""Arrays with fewer entries are processed by the calling thread, as waking another one takes longer. A solve on 32³
cells takes 4 ms in one thread, and 6 ms in two."""


def kernel(
    *, fastmath: bool | set[str] = False, error_model: str = "python", counted: bool = True, forceinline: bool = False
) -> Any:
    """Return the decorator of kernels with these options of Numba: serial, without the GIL, cached on disk.

    Without `counted`, references to arrays are not counted: such a kernel can neither create nor return an array.
    """
    options: dict[str, Any] = {"fastmath": fastmath, "error_model": error_model, "no_cfunc_wrapper": True}
    options |= {} if counted else {"_nrt": False}
    options |= {"forceinline": True} if forceinline else {}
    decorate = njit(nogil=True, **options)
    return lambda function: enable_cache(decorate(function))


# Kernels allocate nothing: work space is passed to them, as each kind of array created in a kernel takes a tenth of a
# second to compile.
plain = kernel(fastmath=FAST, error_model="numpy")
"""The usual decorator of kernels: serial, cached on disk, without the GIL. Division by zero raises nothing: the result
is infinite or NaN, and 0 for integers."""


def kernel_part(*, fastmath: bool | set[str] = False, error_model: str = "python", counted: bool = True) -> Any:
    """Return the decorator of functions that only kernels call: compiled into each kernel, without their own file.

    They are inlined: otherwise a process that compiled a kernel might call another kernel's copy of the function, with
    other rounding, than a process that loaded the kernel from disk.
    """
    options: dict[str, Any] = {"fastmath": fastmath, "error_model": error_model, "forceinline": True}
    options |= {"no_cfunc_wrapper": True, "no_cpython_wrapper": True}
    options |= {} if counted else {"_nrt": False}
    return njit(**options)


part = kernel_part(fastmath=FAST, error_model="numpy")
"""The decorator of functions that only kernels decorated with `plain` call."""

spliced: Any = njit(inline="always")
"""The decorator of functions whose source is put into the kernel that calls them, before it is compiled: sooner done
than a part's, which is compiled once by itself. They take the options of that kernel."""


@kernel()
def column_sum(parts, column, start, stop):  # type: ignore[no-untyped-def]
    """Return `Σ parts[start:stop, column]`, added in order so that it does not depend on the number of threads."""
    total = 0.0
    for i in range(start, stop):
        total += parts[i, column]
    return total


def divided_sums(
    kernel: Kernel, count: int, sums: int, *args: Any, chunks: int, work: Work | None = None
) -> tuple[float, ...]:
    """Run a kernel that writes `sums` sums for each row or plane into its last argument, and return the totals."""
    parts = np.empty((count, sums))
    divide(kernel, count, *args, parts, chunks=chunks, work=work)
    return tuple(column_sum(parts, s, 0, count) for s in range(sums))


def threads_for(cells: int) -> int:
    """Return among how many threads work on that many cells is divided."""
    return get_num_threads() if cells >= SERIAL_CELLS else 1


class Shared:
    """A kernel over rows, planes or entries that divides itself among threads.

    Attributes
    ----------
    kernel : the compiled serial function `(start, stop, *args)`, followed by `parts (count, sums) float64` where it
        sums, for use in other kernels.
    """

    def __init__(
        self, kernel: Kernel, over: Literal["rows", "planes", "entries"], of: str, sums: int, serial_below: int
    ) -> None:
        self.kernel = kernel
        self._axes = 2 if over == "rows" else 1
        self._place = list(inspect.signature(getattr(kernel, "py_func", kernel)).parameters).index(of) - 2
        self._over, self._of, self._sums, self._serial_below = over, of, sums, serial_below
        self.__doc__ = kernel.__doc__
        self.__name__ = kernel.__name__
        self.__module__ = kernel.__module__

    def __call__(self, *args: Any) -> Any:
        array: NDArray[Any] = args[self._place]
        count = math.prod(array.shape[: self._axes])
        chunks = get_num_threads() if array.size >= self._serial_below else 1
        if not self._sums:
            divide(self.kernel, count, *args, chunks=chunks)
            return None
        found = divided_sums(self.kernel, count, self._sums, *args, chunks=chunks)
        return found if self._sums > 1 else found[0]

    @property
    def py_func(self) -> Shared:
        """The same function with the kernel in interpreted Python, for tests."""
        kernel = self.kernel.py_func  # type: ignore[attr-defined]
        return Shared(kernel, self._over, self._of, self._sums, self._serial_below)


def shared(
    over: Literal["rows", "planes", "entries"], of: str, sums: int = 0, serial_below: int = SERIAL_CELLS
) -> Callable[[Callable[..., Any]], Shared]:
    """Return the decorator of kernels `(start, stop, *args[, parts])` that are divided among threads.

    Parameters
    ----------
    over : what `start … stop − 1` count: rows or planes of an array with three axes, or entries along its first axis.
    of : the name of the array argument that is counted.
    sums : the number of sums that the kernel writes into `parts[row]`; the function returns their totals, one as a
        float, several as a tuple, added in the order of the rows.
    serial_below : the size of the array below which the calling thread does everything.
    """
    return lambda function: Shared(plain(function), over, of, sums, serial_below)
