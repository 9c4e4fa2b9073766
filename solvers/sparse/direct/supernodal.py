"""rslab (extra: direct): a supernodal `LDLᵀ` with Bunch–Kaufman pivots for symmetric matrices, `LU` for others."""
# Imported on first use, for their weight: rslab, scipy.

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.threads import get_num_threads
from relaxon.solvers.sparse.direct.factoriser import (
    DEFINITE,
    SYMMETRIC,
    FactorError,
    Factoriser,
    NumericFactor,
    indefinite_error,
)
from relaxon.solvers.sparse.direct.symbolic import FactorSize

ONE_TRIANGLE = (*SYMMETRIC, "complex-symmetric")
"""Kinds with `A = Aᵀ`."""
DISSECTED_FROM = 1e6
"""Operations a row from which nested dissection is tried besides minimum fill: the order takes some ten times as long,
and saves half of the operations in three dimensions (`bench/direct.py`)."""
OWN_BYTES = 5.0
"""Bytes for a byte of the matrix's values: SciPy's copy of its triangle, before the library's own copies."""


_pools: set[int] = set()
"""Sizes of rslab's thread pools in this process: it creates one for each number of threads requested."""
_lost: set[int] = set()
"""Sizes of the pools lost in a fork of this process: rslab would wait for their threads for ever."""


def _threads() -> int:
    """Return the number of threads to request: those of a solve, or a few more where their pool was lost in a fork."""
    count = get_num_threads()
    while count in _lost:
        count += 1
    _pools.add(count)
    return count


def _lose_pools() -> None:
    _lost.update(_pools)
    _pools.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_lose_pools)


class SupernodalFactoriser(Factoriser):
    """rslab's analysis of a pattern: by minimum fill, or by nested dissection where that is worth its time.

    The factor has the same bits at any number of threads.
    """

    library: ClassVar[str] = "rslab"

    def __init__(self, matrix: Any, kind: str = DEFINITE) -> None:
        self.kind = kind
        self._general: SupernodalFactoriser | None = None
        self._path = "ldlt" if kind in ONE_TRIANGLE else "lu"
        self._dtype = np.dtype(matrix.dtype).name
        self._symbolic = self._analyse(matrix, "amf")
        work = self._work(self._symbolic)
        if work > DISSECTED_FROM * matrix.shape[0]:
            dissected = self._analyse(matrix, "metis")
            less = self._work(dissected)
            if less < work:
                self._symbolic, work = dissected, less
        plan = self._symbolic.memory_plan(self._dtype, threads=_threads())
        held = float(plan["peak_bytes"]) + OWN_BYTES * matrix.data.nbytes
        self.size = FactorSize(float(self._symbolic.factor_nnz), work, held)

    def _analyse(self, matrix: Any, ordering: str) -> Any:
        import rslab

        level = rslab.log_level()
        rslab.set_log_level("error")  # a structurally singular matrix is an error here, not a line on the terminal
        try:
            return rslab.analyze(self._columns(matrix), path=self._path, ordering=ordering, threads=_threads())
        finally:
            rslab.set_log_level(level)

    def _work(self, symbolic: Any) -> float:
        return float(symbolic.estimate_memory(self._dtype)["factor_flops"])

    def _columns(self, matrix: Any) -> Any:
        """Return the matrix by columns; those of a symmetric one are its rows, without a copy."""
        from scipy.sparse import csc_array

        if self._path == "lu":
            return matrix.tocsc()
        return csc_array((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)

    def factor(self, matrix: Any) -> NumericFactor:
        if self._general is not None:
            return self._general.factor(matrix)
        try:
            made = self._symbolic.factor(self._columns(matrix), threads=_threads())
        except RuntimeError as error:
            if self.kind == DEFINITE or self._path == "lu":
                raise FactorError(f"its factor fails: {error}") from error
            # Pivots are sought only within a supernode, so that a regular saddle point may be refused; LU seeks them in
            # all rows, at about twice the cost.
            self._general = SupernodalFactoriser(matrix, "nonsymmetric")
            return self._general.factor(matrix)
        if self.kind == DEFINITE:
            _, negative, zero = made.inertia
            if negative or zero:
                raise indefinite_error(negative + zero, matrix.shape[0])
        return SupernodalFactor(made)


class SupernodalFactor(NumericFactor):
    """A factor held by rslab."""

    def __init__(self, made: Any) -> None:
        self._made = made
        self.entries = float(made.factor_nnz)

    def solve(self, b: NDArray[Any]) -> NDArray[Any]:
        if b.ndim == 1:
            found: NDArray[Any] = self._made.solve(b)
        else:
            found = self._made.solve_many(np.ascontiguousarray(b))
        return found
