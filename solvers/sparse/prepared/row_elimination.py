"""Unknowns that their own row decides, in matrices that are not symmetric: those of Dirichlet rows among them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from relaxon.solvers.interface.elimination import DECIDED, WEAK, MatrixElimination
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
from relaxon.solvers.sparse.system.properties import MatrixProperties


class RowElimination(MatrixElimination):
    """Where `|a_ii| ≥ 10⁴ Σ_{j≠i}|a_ij|`, and what couples an unknown there and back is as weak.

    Rows that hold their diagonal alone are such rows, whatever their columns hold: the rest may be symmetric again.
    """

    @classmethod
    def of(cls, system: MatrixSystem) -> RowElimination | None:
        """Return None where no unknown is decided."""
        a = abs(system.matrix)
        diagonal = np.abs(system.diagonal)
        decided = (diagonal > 0) & (diagonal >= DECIDED * (np.asarray(a.sum(axis=1)).ravel() - diagonal))
        if not decided.any():
            return None
        inverse = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
        shares = a.multiply(a.T).tocsr() @ inverse * inverse - (inverse > 0)
        decided &= shares * DECIDED <= 1.0 + WEAK
        return cls(system, decided) if decided.any() else None

    def __init__(self, system: MatrixSystem, decided: np.ndarray) -> None:
        super().__init__(system, decided)
        self._symmetric = False if system.symmetric is False else None

    def system(self) -> MatrixSystem:
        """Return the system of the other unknowns, of its own kind; there must be some."""
        left = self._system.matrix[self.index][:, self.index]
        rest = MatrixSystem.of(left, MatrixProperties(symmetric=self._symmetric))
        return replace(rest, kept=self.index, whole=len(self.decided))
