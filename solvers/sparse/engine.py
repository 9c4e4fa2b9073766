"""What a method for sparse matrices has to offer: a set-up that gives a `Prepared` on vectors `(n,) float64`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from relaxon.solvers.engine import Prepared
from relaxon.solvers.sparse.system import Array, MatrixSystem

Precondition = Callable[[Array, Array], None]
"""`precondition(r, z)` writes `z ← M r`; `r` must stay as it is."""


class MatrixSolver(ABC):
    """A method with its options (a frozen dataclass); `prepare_matrix` does what depends on the matrix alone.

    What it returns runs as `Prepared.run` says, on vectors of the unknowns in the place of arrays on a grid.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("numba", "scipy")
    """The modules that must be installed for it."""

    @abstractmethod
    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine: ...


class MatrixEngine(Prepared):
    """A method set up for one matrix."""

    def preconditioner(self) -> Precondition | None:
        """Return a fixed linear map, symmetric and positive definite, that is about the inverse of the matrix.

        It has memory of its own, so that it may be called inside a solve of the same engine. None where the method
        has no such map.
        """
        return None
