"""The interface of solvers from other libraries, and the engine that judges and refines their results."""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from relaxon.core.extras import require
from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.direct.refinement import PROGRESS, refine
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

STRICTER = 0.9
"""Fraction of the tolerance that a library is asked for, as it may measure its recurrence instead of the residual."""


PeerFactor = Callable[[Array, float], tuple[Array, int]]
"""A library's set-up for one matrix: `solve(b, rtol)` returns an `x` with `‖b − A x‖ ≤ rtol ‖b‖` by the library's own
measure, and its iterations (1 for a factor). The library may have failed: the caller judges the result."""


class PeerSolver(MatrixSolver):
    """A method of another library; `set_up` does all its work before the first right-hand side.

    `Solution.iterations` counts its solves: where the residual, recomputed in float64, does not meet the tolerance, one
    more refines the result. `Solution.info["peer_iterations"]` is the total of the library's own iterations.
    """

    needs: ClassVar[tuple[str, ...]]
    """Required modules, by their import names."""
    definite: ClassVar[bool]
    """Whether it accepts only positive definite matrices: singular ones then get an equation `x_i = 0`."""

    @abstractmethod
    def set_up(self, matrix: Any) -> PeerFactor:
        """Set up the library for a canonical CSR matrix, float64 with int32 indices, which it must not modify.

        ValueError where it finds that the matrix is not one that it solves.
        """

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        require(self.needs, f"solver {self.name!r}")
        return PeerEngine(system, self.set_up(system.regular() if self.definite else system.matrix), self.name)


class PeerEngine(MatrixEngine):
    """The solves of another library, with iterative refinement."""

    default_max_iterations = 10

    def __init__(self, system: MatrixSystem, factor: PeerFactor, name: str) -> None:
        self.system, self.factor, self.name = system, factor, name
        self.info = {"nonzeros": float(system.matrix.nnz), "peer_iterations": 0.0}

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        self.failure = ""
        self.info["peer_iterations"] = 0.0

        def correction(r: Array, norm: float) -> Array | None:
            step, iterations = self.factor(r, min(STRICTER * monitor.tolerance / norm, PROGRESS))
            self.info["peer_iterations"] += iterations
            if np.isfinite(step).all():
                return step
            self.failure = f"{self.name} returned numbers that are not finite"
            return None

        return refine(self.system, correction, b, x, monitor, max_iterations)


def view_as_columns(matrix: Any) -> Any:
    """Return a symmetric CSR matrix in CSC form without a copy: its rows are its columns."""
    from scipy.sparse import csc_matrix

    return csc_matrix((matrix.data, matrix.indices, matrix.indptr), shape=matrix.shape)
