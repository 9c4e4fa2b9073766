"""Systems given as SciPy sparse matrices, behind the same `solve` as grids."""

from relaxon.solvers.sparse.amg import AlgebraicMultigrid, Constants
from relaxon.solvers.sparse.choice.automatic import MATRIX_SOLVERS, Automatic
from relaxon.solvers.sparse.direct import DirectFactorisation, FactorTooLargeError, MatrixDirect
from relaxon.solvers.sparse.engine import MatrixSolver
from relaxon.solvers.sparse.krylov.bicgstab import MatrixBiCGStab
from relaxon.solvers.sparse.krylov.conjugate_directions import ConjugateDirectionsWith
from relaxon.solvers.sparse.krylov.conjugate_gradients import MatrixCG, MatrixIncompleteCholeskyCG, MatrixJacobiCG
from relaxon.solvers.sparse.krylov.gmres import MatrixGMRES
from relaxon.solvers.sparse.krylov.minres import MatrixMINRES
from relaxon.solvers.sparse.krylov.pyamg_cycle import AlgebraicMultigridCG
from relaxon.solvers.sparse.learned import DeepConjugateDirectionMultigrid
from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

__all__ = [
    "MATRIX_SOLVERS",
    "AlgebraicMultigrid",
    "AlgebraicMultigridCG",
    "Automatic",
    "ConjugateDirectionsWith",
    "Constants",
    "DeepConjugateDirectionMultigrid",
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
