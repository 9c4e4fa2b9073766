"""The interface of solvers of sparse matrices: a set-up that returns a `Prepared` on vectors `(n,) float64`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

from numpy.typing import NDArray

from relaxon.solvers.interface.engine import Prepared
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

Precondition = Callable[[Array, Array], None]
"""`precondition(r, z)` writes `z ← M r` and must not modify `r`."""

ALL_KINDS = ("spd", "symmetric-indefinite", "nonsymmetric", "hermitian", "complex-symmetric")
"""The kinds of matrices, as `MatrixSystem.kind` names them."""


class MatrixSolver(ABC):
    """A method with its options (a frozen dataclass); `prepare_matrix` does whatever depends on the matrix alone.

    The engine that it returns runs as `Prepared.run` describes, on vectors of the unknowns instead of arrays on a grid.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ("spd",)
    """The kinds of matrices it accepts: others are refused before any work."""
    needs: ClassVar[tuple[str, ...]] = ("numba", "scipy")
    """The modules it requires."""

    @abstractmethod
    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine: ...


class MatrixEngine(Prepared):
    """A method set up for one matrix."""

    reuses: bool = False
    """Whether it reuses choices, such as aggregates, that were made for the values of an earlier matrix."""

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        """Return the method set up for new values on the same pattern, reusing what does not depend on values.

        None where it has to be set up from scratch. This engine is not modified. ValueError, naming `operator`, where
        the method refuses the values.
        """
        return None

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows and nonzeros of each level's matrix, from fine to coarse; empty where there are no levels."""
        return ()

    @property
    def row_order(self) -> NDArray[Any] | None:
        """The matrix's row that is the method's row `i`, `(n,)`; None where the orders are the same."""
        return None

    def preconditioner(self) -> Precondition | None:
        """Return a fixed linear map, symmetric and positive definite, that approximates the inverse of the matrix.

        It has work space of its own, so that it may be called during a solve of the same engine. None where the method
        has no such map.
        """
        return None


class DelegatingEngine(MatrixEngine):
    """An engine that wraps others: questions about the set-up go to the one that begins the next run."""

    @property
    @abstractmethod
    def running(self) -> MatrixEngine:
        """The engine with which the next right-hand side begins."""

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        return self.running.level_sizes

    @property
    def row_order(self) -> NDArray[Any] | None:
        return self.running.row_order

    def preconditioner(self) -> Precondition | None:
        return self.running.preconditioner()

    def look_ahead(self, sides: Sequence[tuple[Array, Array]], tolerances: Sequence[float] | None) -> None:
        self.running.look_ahead(sides, tolerances)


class ConjugateDirection(NamedTuple):
    """A direction `d`, its image `A d`, its curvature `dᵀAd` and its projection `dᵀr`; arrays for several columns."""

    d: NDArray[Any]
    image: NDArray[Any]
    curvature: Any
    projection: Any


LOOK = 10
"""Iterations between two looks at the rate of convergence."""
SLOW = 10.0
"""A residual that has not decreased is taken to need this many times the iterations so far."""


def expected_left(history: Sequence[float], tolerance: float) -> float:
    """Return how many more iterations a run with these residual norms is expected to take, at its mean rate.

    The least residual so far counts, as the residual of conjugate gradients oscillates.
    """
    done, first, least = len(history) - 1, history[0], min(history)
    if not 0 < least < first:
        return SLOW * done
    return min(done * math.log(least / tolerance) / math.log(first / least), SLOW * SLOW * done)
