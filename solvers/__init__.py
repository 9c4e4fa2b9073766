"""Poisson solvers on Cartesian grids: learned directions beside compiled classical references.

Importing this package loads NumPy only; SciPy, Numba and torch come with the first thing that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily
from relaxon.solvers.grid import hooks

if TYPE_CHECKING:
    from relaxon.core.compile_progress import CompileProgress, watch_compiling
    from relaxon.core.naming import DeviceUnavailableError
    from relaxon.core.set_up_summary import LevelSize, SetUpSummary
    from relaxon.core.solution import Callback, Progress, Result, Solution
    from relaxon.solvers.dcdm import DeepConjugateDirection, DeepConjugateDirectionCNN, DeepConjugateDirectionCycle
    from relaxon.solvers.dcdm.device import DeviceConjugateDirections
    from relaxon.solvers.dcdm.torch_cycle import LearnedCycle
    from relaxon.solvers.driver.prepared import PreparedSolver
    from relaxon.solvers.driver.solve import prepare, solve, solve_many
    from relaxon.solvers.driver.warm_up import warm_up
    from relaxon.solvers.external.adapters import PyAMG, SciPyCG, SciPyDirect
    from relaxon.solvers.grid.faces import boundary_source
    from relaxon.solvers.grid.operator import PoissonOperator
    from relaxon.solvers.grid.poisson_grid import Boundary, CellType, PoissonGrid, Robin
    from relaxon.solvers.interface.registry import list_solvers
    from relaxon.solvers.interface.system_form import SingularSystemError
    from relaxon.solvers.kernels.threads import get_num_threads, num_threads, set_num_threads
    from relaxon.solvers.krylov.conjugate_gradients import ConjugateGradient, JacobiCG
    from relaxon.solvers.krylov.incomplete_cholesky import IncompleteCholeskyCG
    from relaxon.solvers.matrix_files import MatrixFileError, read_matrix, read_vector
    from relaxon.solvers.multigrid import MultigridCG
    from relaxon.solvers.multigrid.constants import LearnedConstants
    from relaxon.solvers.separable import FastDiagonalisation
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

_HOME = {
    "AlgebraicMultigrid": "sparse",
    "AlgebraicMultigridCG": "sparse",
    "Boundary": "grid.poisson_grid",
    "Callback": "relaxon.core.solution",
    "CellType": "grid.poisson_grid",
    "CompileProgress": "relaxon.core.compile_progress",
    "ConjugateDirectionsWith": "sparse",
    "ConjugateGradient": "krylov.conjugate_gradients",
    "DeepConjugateDirection": "dcdm",
    "DeepConjugateDirectionCNN": "dcdm",
    "DeepConjugateDirectionCycle": "dcdm",
    "DeepConjugateDirectionMultigrid": "sparse",
    "DeviceConjugateDirections": "dcdm.device",
    "DeviceUnavailableError": "relaxon.core.naming",
    "DirectFactorisation": "sparse",
    "FastDiagonalisation": "separable",
    "IncompleteCholeskyCG": "krylov.incomplete_cholesky",
    "JacobiCG": "krylov.conjugate_gradients",
    "MatrixDirect": "sparse",
    "MatrixFileError": "matrix_files",
    "MatrixIncompleteCholeskyCG": "sparse",
    "LearnedConstants": "multigrid.constants",
    "LearnedCycle": "dcdm.torch_cycle",
    "LevelSize": "relaxon.core.set_up_summary",
    "MultigridCG": "multigrid",
    "PoissonGrid": "grid.poisson_grid",
    "PoissonOperator": "grid.operator",
    "PreparedMatrix": "sparse",
    "PreparedSolver": "driver.prepared",
    "Progress": "relaxon.core.solution",
    "PyAMG": "external.adapters",
    "Result": "relaxon.core.solution",
    "Robin": "grid.sides",
    "SciPyCG": "external.adapters",
    "SciPyDirect": "external.adapters",
    "SetUpSummary": "relaxon.core.set_up_summary",
    "SingularSystemError": "interface.system_form",
    "Solution": "relaxon.core.solution",
    "boundary_source": "grid.faces",
    "get_num_threads": "kernels.threads",
    "list_solvers": "interface.registry",
    "num_threads": "kernels.threads",
    "prepare": "driver.solve",
    "read_matrix": "matrix_files",
    "read_vector": "matrix_files",
    "set_num_threads": "kernels.threads",
    "solve": "driver.solve",
    "solve_many": "driver.solve",
    "warm_up": "driver.warm_up",
    "watch_compiling": "relaxon.core.compile_progress",
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


hooks.provide("preconditioner", "relaxon.solvers.dcdm.preconditioner", "make_preconditioner")
__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
