"""Sparse factorisations of matrices, whose size is known before they begin."""

from relaxon.solvers.sparse.direct.engine import DirectEngine
from relaxon.solvers.sparse.direct.solver import (
    DIRECT_LIMIT,
    DirectFactorisation,
    FactorTooLargeError,
    MatrixDirect,
)

__all__ = ["DIRECT_LIMIT", "DirectEngine", "DirectFactorisation", "FactorTooLargeError", "MatrixDirect"]
