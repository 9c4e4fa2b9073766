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
    from relaxon.solvers.krylov.conjugate_gradients import ConjugateGradient, IncompleteCholeskyCG, JacobiCG
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

_MODULES = {
    "dcdm": "DeepConjugateDirection DeepConjugateDirectionCNN DeepConjugateDirectionCycle",
    "dcdm.device": "DeviceConjugateDirections",
    "dcdm.torch_cycle": "LearnedCycle",
    "driver.prepared": "PreparedSolver",
    "driver.solve": "prepare solve solve_many",
    "driver.warm_up": "warm_up",
    "external.adapters": "PyAMG SciPyCG SciPyDirect",
    "grid.faces": "boundary_source",
    "grid.operator": "PoissonOperator",
    "grid.poisson_grid": "Boundary CellType PoissonGrid",
    "grid.sides": "Robin",
    "interface.registry": "list_solvers",
    "interface.system_form": "SingularSystemError",
    "kernels.threads": "get_num_threads num_threads set_num_threads",
    "krylov.conjugate_gradients": "ConjugateGradient IncompleteCholeskyCG JacobiCG",
    "matrix_files": "MatrixFileError read_matrix read_vector",
    "multigrid": "MultigridCG",
    "multigrid.constants": "LearnedConstants",
    "relaxon.core.compile_progress": "CompileProgress watch_compiling",
    "relaxon.core.naming": "DeviceUnavailableError",
    "relaxon.core.set_up_summary": "LevelSize SetUpSummary",
    "relaxon.core.solution": "Callback Progress Result Solution",
    "separable": "FastDiagonalisation",
    "sparse": (
        "AlgebraicMultigrid AlgebraicMultigridCG ConjugateDirectionsWith DeepConjugateDirectionMultigrid "
        "DirectFactorisation MatrixDirect MatrixIncompleteCholeskyCG PreparedMatrix"
    ),
}
"""The names that each module offers here on first use."""
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_HOME)

hooks.provide("preconditioner", "relaxon.solvers.dcdm.preconditioner", "make_preconditioner")
__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
