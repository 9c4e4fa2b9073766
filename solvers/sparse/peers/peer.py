"""What another library's solver has to offer here, and the engine that judges each of its answers."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Protocol

import numpy as np

from relaxon.core.extras import require
from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.direct.refinement import PROGRESS, refine
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

STRICTER = 0.9
"""Of the tolerance, asked of a library that measures its own recurrence in the place of the residual."""


class PeerFactor(Protocol):
    """A library's set-up for one matrix."""

    def solve(self, b: Array, rtol: float) -> tuple[Array, int]:
        """Return about `A⁻¹ b`, with `‖b − A x‖ ≤ rtol ‖b‖` by its own measure, and its iterations (1 for a factor).

        What it returns may have failed: the caller judges it.
        """


class PeerSolver(MatrixSolver):
    """A method of another library; `set_up` is all that it does before the first right-hand side.

    `Solution.iterations` counts its answers, each of which is refined by the next where the residual, recomputed in
    float64, does not meet the tolerance; `Solution.info["peer_iterations"]` is the sum of the iterations within.
    """

    needs: ClassVar[tuple[str, ...]]
    """Modules that must be installed, by their import names."""
    definite: ClassVar[bool]
    """Whether it takes positive definite matrices only: singular ones then get an equation `x_i = 0`."""

    @abstractmethod
    def set_up(self, matrix: Any) -> PeerFactor:
        """Set the library up for a canonical CSR matrix, float64 with int32 indices, which it must not change.

        ValueError where it finds the matrix not to be what it is for.
        """

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        require(self.needs, f"solver {self.name!r}")
        return PeerEngine(system, self.set_up(system.regular() if self.definite else system.matrix), self.name)


class PeerEngine(MatrixEngine):
    """Answers of another library, refined while that helps."""

    default_max_iterations = 10

    def __init__(self, system: MatrixSystem, factor: PeerFactor, name: str) -> None:
        self.system, self.factor, self.name = system, factor, name
        self.info = {"nonzeros": float(system.matrix.nnz), "peer_iterations": 0.0}

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        self.failure = ""
        self.info["peer_iterations"] = 0.0

        def correction(r: Array, norm: float) -> Array | None:
            step, iterations = self.factor.solve(r, min(STRICTER * monitor.tolerance / norm, PROGRESS))
            self.info["peer_iterations"] += iterations
            if np.isfinite(step).all():
                return step
            self.failure = f"{self.name} returned numbers that are not finite"
            return None

        return refine(self.system, correction, b, x, monitor, max_iterations)
