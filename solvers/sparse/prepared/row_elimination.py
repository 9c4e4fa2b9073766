"""Elimination of unknowns that their own row decides, such as those of Dirichlet rows, in nonsymmetric matrices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from relaxon.solvers.interface.elimination import DECIDED, WEAK, MatrixElimination
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
from relaxon.solvers.sparse.system.properties import MatrixProperties


class RowElimination(MatrixElimination):
    """The elimination of unknowns with `|a_ii| ≥ 10⁴ Σ_{j≠i}|a_ij|` whose couplings, there and back, are as weak.

    Rows with only a diagonal entry are among them whatever their columns hold, so that the rest may be symmetric.
    """

    @classmethod
    def of(cls, system: MatrixSystem) -> RowElimination | None:
        """Return the elimination for a system, None where no unknown is decided."""
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
        """Return the system of the other unknowns, of which there must be some; its kind is determined anew."""
        left = self._system.matrix[self.index][:, self.index]
        rest = MatrixSystem.of(left, MatrixProperties(symmetric=self._symmetric))
        return replace(rest, kept=self.index, whole=len(self.decided))
