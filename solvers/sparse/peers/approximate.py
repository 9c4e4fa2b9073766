"""The randomised approximate Cholesky factor of a Laplacian by apxchol."""
# Imported on first use, for its weight: apxchol.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from relaxon.core import validation
from relaxon.solvers.sparse.peers.peer import PeerFactor, PeerSolver
from relaxon.solvers.sparse.system.matrix_system import Array

MAX_ITERATIONS = 1_000
"""Limit of conjugate gradients within one solve."""


@dataclass(frozen=True, slots=True)
class ApproximateCholesky(PeerSolver):
    """CG with apxchol's factor, only for graph Laplacians and diagonally dominant matrices without positive couplings.

    Parameters
    ----------
    seed : seed of its samples, ≥ 0.

    According to its documentation, results are reproducible on one thread only.
    """

    seed: int = 42
    name: ClassVar[str] = "apxchol"
    summary: ClassVar[str] = "CG with a randomised approximate Cholesky factor, for Laplacians"
    needs: ClassVar[tuple[str, ...]] = ("apxchol",)
    definite: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.seed != 0:
            validation.positive_int("seed", self.seed)

    def set_up(self, matrix: Any) -> PeerFactor:
        """Compute the factor."""
        import apxchol

        factor = apxchol.factorize(matrix, seed=self.seed, keep_factor=False)

        def solve(b: Array, rtol: float) -> tuple[Array, int]:
            found = factor.solve(b, rtol=rtol, maxiter=MAX_ITERATIONS)
            return np.asarray(found.x), int(found.iters)

        return solve
