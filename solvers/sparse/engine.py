"""What a method for sparse matrices has to offer: a set-up that gives a `Prepared` on vectors `(n,) float64`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from relaxon.solvers.engine import Prepared
from relaxon.solvers.sparse.system import MatrixSystem

ALL_KINDS = ("spd", "symmetric-indefinite", "nonsymmetric", "hermitian", "complex-symmetric")
"""Of matrices, as `MatrixSystem.kind` says them."""


class MatrixSolver(ABC):
    """A method with its options (a frozen dataclass); `prepare_matrix` does what depends on the matrix alone.

    What it returns runs as `Prepared.run` says, on vectors of the unknowns in the place of arrays on a grid.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("numba", "scipy")
    """The modules that must be installed for it."""
    kinds: ClassVar[tuple[str, ...]] = ("spd",)
    """The kinds of matrices that it is for: others are refused before any work."""

    @abstractmethod
    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine: ...


class MatrixEngine(Prepared):
    """A method set up for one matrix."""
