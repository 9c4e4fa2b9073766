"""What a method for sparse matrices has to offer: a set-up that gives a `Prepared` on vectors `(n,) float64`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from numpy.typing import NDArray

from relaxon.solvers.interface.engine import Prepared
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

Precondition = Callable[[Array, Array], None]
"""`precondition(r, z)` writes `z ← M r`; `r` must stay as it is."""

ALL_KINDS = ("spd", "symmetric-indefinite", "nonsymmetric", "hermitian", "complex-symmetric")
"""Of matrices, as `MatrixSystem.kind` says them."""


class MatrixSolver(ABC):
    """A method with its options (a frozen dataclass); `prepare_matrix` does what depends on the matrix alone.

    What it returns runs as `Prepared.run` says, on vectors of the unknowns in the place of arrays on a grid.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]] = ("spd",)
    """The kinds of matrices that it is for: others are refused before any work."""
    needs: ClassVar[tuple[str, ...]] = ("numba", "scipy")
    """The modules that must be installed for it."""

    @abstractmethod
    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine: ...


class MatrixEngine(Prepared):
    """A method set up for one matrix."""

    reuses: bool = False
    """Whether it goes on with choices, such as aggregates, that were made for an earlier matrix's values."""

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        """Return the method set up for new values on the same pattern, by what of this set-up does not depend on
        values; None where it has to be set up anew. This one stays as it is.

        ValueError, naming `operator`, where the method refuses the values.
        """
        return None

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        """Rows and nonzeros of each level's matrix, from fine to coarse; none where there are no levels."""
        return ()

    @property
    def row_order(self) -> NDArray[Any] | None:
        """Which of the matrix's rows the method has as its row `i`, `(n,)`; None where they are the same."""
        return None

    def preconditioner(self) -> Precondition | None:
        """Return a fixed linear map, symmetric and positive definite, that is about the inverse of the matrix.

        It has memory of its own, so that it may be called inside a solve of the same engine. None where the method
        has no such map.
        """
        return None


class DelegatingEngine(MatrixEngine):
    """An engine around others: what is asked of a set-up is asked of that one which begins with the next run."""

    @property
    @abstractmethod
    def running(self) -> MatrixEngine:
        """The engine that begins with the next right-hand side."""

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
