"""Poisson solvers on Cartesian grids: learned directions beside compiled classical references.

Importing this package loads NumPy only; SciPy, Numba and torch come with the first thing that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.solvers.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.solvers.compile_progress import CompileProgress, watch_compiling
    from relaxon.solvers.compiling import warm_up
    from relaxon.solvers.dcdm import DeepConjugateDirection, DeepConjugateDirectionCNN, DeepConjugateDirectionCycle
    from relaxon.solvers.dcdm.device import DeviceConjugateDirections
    from relaxon.solvers.dcdm.torch_cycle import LearnedCycle
    from relaxon.solvers.driver import prepare, solve, solve_many
    from relaxon.solvers.external import PyAMG, SciPyCG, SciPyDirect
    from relaxon.solvers.faces import boundary_source
    from relaxon.solvers.front import SingularSystemError
    from relaxon.solvers.grid import Boundary, CellType, PoissonGrid, Robin
    from relaxon.solvers.incomplete_cholesky import IncompleteCholeskyCG
    from relaxon.solvers.krylov import ConjugateGradient, JacobiCG
    from relaxon.solvers.matrix_files import MatrixFileError, read_matrix, read_vector
    from relaxon.solvers.multigrid import MultigridCG
    from relaxon.solvers.multigrid.constants import LearnedConstants
    from relaxon.solvers.naming import DeviceUnavailableError
    from relaxon.solvers.operator import PoissonOperator
    from relaxon.solvers.prepared import PreparedSolver
    from relaxon.solvers.registry import list_solvers
    from relaxon.solvers.separable import FastDiagonalisation
    from relaxon.solvers.set_up_summary import LevelSize, SetUpSummary
    from relaxon.solvers.solution import Callback, Progress, Result, Solution
    from relaxon.solvers.sparse import (
        AlgebraicMultigrid,
        AlgebraicMultigridCG,
        ConjugateDirectionsWith,
        DeepConjugateDirectionMultigrid,
        DirectFactorisation,
        MatrixDirect,
        MatrixIncompleteCholeskyCG,
        PreparedMatrix,
    )
    from relaxon.solvers.threads import get_num_threads, num_threads, set_num_threads

_HOME = {
    "AlgebraicMultigrid": "sparse",
    "AlgebraicMultigridCG": "sparse",
    "Boundary": "grid",
    "Callback": "solution",
    "CellType": "grid",
    "CompileProgress": "compile_progress",
    "ConjugateDirectionsWith": "sparse",
    "ConjugateGradient": "krylov",
    "DeepConjugateDirection": "dcdm",
    "DeepConjugateDirectionCNN": "dcdm",
    "DeepConjugateDirectionCycle": "dcdm",
    "DeepConjugateDirectionMultigrid": "sparse",
    "DeviceConjugateDirections": "dcdm.device",
    "DeviceUnavailableError": "naming",
    "DirectFactorisation": "sparse",
    "FastDiagonalisation": "separable",
    "IncompleteCholeskyCG": "incomplete_cholesky",
    "JacobiCG": "krylov",
    "MatrixDirect": "sparse",
    "MatrixFileError": "matrix_files",
    "MatrixIncompleteCholeskyCG": "sparse",
    "LearnedConstants": "multigrid.constants",
    "LearnedCycle": "dcdm.torch_cycle",
    "LevelSize": "set_up_summary",
    "MultigridCG": "multigrid",
    "PoissonGrid": "grid",
    "PoissonOperator": "operator",
    "PreparedMatrix": "sparse",
    "PreparedSolver": "prepared",
    "Progress": "solution",
    "PyAMG": "external",
    "Result": "solution",
    "Robin": "sides",
    "SciPyCG": "external",
    "SciPyDirect": "external",
    "SetUpSummary": "set_up_summary",
    "SingularSystemError": "front",
    "Solution": "solution",
    "boundary_source": "faces",
    "get_num_threads": "threads",
    "list_solvers": "registry",
    "num_threads": "threads",
    "prepare": "driver",
    "read_matrix": "matrix_files",
    "read_vector": "matrix_files",
    "set_num_threads": "threads",
    "solve": "driver",
    "solve_many": "driver",
    "warm_up": "compiling",
    "watch_compiling": "compile_progress",
}

__all__ = [
    "AlgebraicMultigrid",
    "AlgebraicMultigridCG",
    "Boundary",
    "Callback",
    "CellType",
    "CompileProgress",
    "ConjugateDirectionsWith",
    "ConjugateGradient",
    "DeepConjugateDirection",
    "DeepConjugateDirectionCNN",
    "DeepConjugateDirectionCycle",
    "DeepConjugateDirectionMultigrid",
    "DeviceConjugateDirections",
    "DeviceUnavailableError",
    "DirectFactorisation",
    "FastDiagonalisation",
    "IncompleteCholeskyCG",
    "JacobiCG",
    "LearnedConstants",
    "LearnedCycle",
    "LevelSize",
    "MatrixDirect",
    "MatrixFileError",
    "MatrixIncompleteCholeskyCG",
    "MultigridCG",
    "PoissonGrid",
    "PoissonOperator",
    "PreparedMatrix",
    "PreparedSolver",
    "Progress",
    "PyAMG",
    "Result",
    "Robin",
    "SciPyCG",
    "SciPyDirect",
    "SetUpSummary",
    "SingularSystemError",
    "Solution",
    "boundary_source",
    "get_num_threads",
    "list_solvers",
    "num_threads",
    "prepare",
    "read_matrix",
    "read_vector",
    "set_num_threads",
    "solve",
    "solve_many",
    "warm_up",
    "watch_compiling",
]


__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
