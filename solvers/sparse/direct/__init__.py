"""Sparse factors of matrices, with the size of each known before it is begun."""

from relaxon.solvers.sparse.direct.engine import DirectEngine
from relaxon.solvers.sparse.direct.solver import (
    DIRECT_LIMIT,
    DirectFactorisation,
    FactorTooLargeError,
    MatrixDirect,
)

__all__ = ["DIRECT_LIMIT", "DirectEngine", "DirectFactorisation", "FactorTooLargeError", "MatrixDirect"]
