"""Systems given as SciPy sparse matrices, behind the same `solve` as grids."""

from relaxon.solvers.sparse.algebraic import AlgebraicMultigridCG
from relaxon.solvers.sparse.amg import AlgebraicMultigrid
from relaxon.solvers.sparse.choice import MATRIX_SOLVERS, Automatic
from relaxon.solvers.sparse.direct import DirectFactorisation, FactorTooLargeError, MatrixDirect
from relaxon.solvers.sparse.directions import ConjugateDirectionsWith
from relaxon.solvers.sparse.driver import PreparedMatrix
from relaxon.solvers.sparse.engine import MatrixSolver
from relaxon.solvers.sparse.general.bicgstab import MatrixBiCGStab
from relaxon.solvers.sparse.general.gmres import MatrixGMRES
from relaxon.solvers.sparse.general.minres import MatrixMINRES
from relaxon.solvers.sparse.incomplete_cholesky import MatrixIncompleteCholeskyCG
from relaxon.solvers.sparse.krylov import MatrixCG, MatrixJacobiCG
from relaxon.solvers.sparse.system import MatrixSystem

__all__ = [
    "MATRIX_SOLVERS",
    "AlgebraicMultigrid",
    "AlgebraicMultigridCG",
    "Automatic",
    "ConjugateDirectionsWith",
    "DirectFactorisation",
    "FactorTooLargeError",
    "MatrixBiCGStab",
    "MatrixCG",
    "MatrixDirect",
    "MatrixGMRES",
    "MatrixIncompleteCholeskyCG",
    "MatrixJacobiCG",
    "MatrixMINRES",
    "MatrixSolver",
    "MatrixSystem",
    "PreparedMatrix",
]
