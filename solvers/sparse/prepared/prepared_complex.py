"""Solvers set up for complex matrices: vectors are stored as pairs of real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import validation
from relaxon.core.masked import fill_unused
from relaxon.core.solution import Callback, Solution
from relaxon.core.solve_options import SolveOptions
from relaxon.solvers.interface.request import Request, packed_vector
from relaxon.solvers.interface.verdict import Figures
from relaxon.solvers.sparse.prepared.figures import complex_figures
from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix
from relaxon.solvers.sparse.system.matrix_system import Array


def interleave(name: str, value: ArrayLike, unknowns: int) -> Array:
    """Return a vector `(unknowns,)` or a column, real or complex, as a new array of float64 pairs, `(2 unknowns,)` or a
    column. ValueError or TypeError, naming it, where it is malformed."""
    array = validation.real_or_complex_array(name, value, finite=False)
    vector = packed_vector(name, array, unknowns)
    if vector is None:
        raise ValueError(f"{name} must have shape ({unknowns},), got {array.shape}")
    validation.finite_entries(name, vector)
    pairs = np.array(vector, np.complex128, order="C", copy=True).view(np.float64)
    return pairs.reshape(-1, 1) if array.ndim == 2 else pairs


@dataclass(frozen=True, slots=True)
class PreparedComplexMatrix(PreparedMatrix):
    """A solver set up for one complex matrix, from `prepare`.

    `b` and `x0` are real or complex vectors `(n,)` or columns `(n, 1)`; `x` is complex128.
    """

    def request(self, b: ArrayLike, options: SolveOptions, x0: ArrayLike | None = None, name: str = "b") -> Request:
        validation.array_like(name, b)
        b, x0 = fill_unused(name, b, self._used), fill_unused("x0", x0, self._used)
        return self._real_request(b, options, x0, name)

    def _real_request(
        self, b: ArrayLike, options: SolveOptions, x0: ArrayLike | None, name: str, last: Request | None = None
    ) -> Request:
        side = interleave(name, b, self.unknowns)
        start = None if x0 is None else interleave("x0", x0, self.unknowns)
        return PreparedMatrix._real_request(self, side, options, start, name, last)

    def _real_answer(self, request: Request, callback: Callback | None, x0: ArrayLike | None = None) -> Solution:
        start = None if x0 is None else interleave("x0", x0, self.unknowns)
        return PreparedMatrix._real_answer(self, request, callback, start)

    def _vector(self, name: str, array: Any, out: Array | None = None) -> Array:
        pairs = np.asarray(array, np.float64).reshape(-1)
        if out is None:
            return pairs.copy()
        out[...] = pairs
        return out

    def _answered(self, x: Array, packed: bool) -> NDArray[Any]:
        return x.view(np.complex128)

    def _figures(self, b: Array, x: Array) -> Figures:
        return complex_figures(self.system, b.view(np.complex128), x.view(np.complex128))
