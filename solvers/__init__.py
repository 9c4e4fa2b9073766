"""Poisson solvers on Cartesian grids: learned directions beside compiled classical references.

Importing this package loads NumPy only; SciPy, Numba and torch come with the first thing that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports
from relaxon.solvers.grid import hooks

if TYPE_CHECKING:
    from relaxon.core.compile_progress import CompileProgress as CompileProgress
    from relaxon.core.compile_progress import watch_compiling as watch_compiling
    from relaxon.core.naming import DeviceUnavailableError as DeviceUnavailableError
    from relaxon.core.set_up_summary import LevelSize as LevelSize
    from relaxon.core.set_up_summary import SetUpSummary as SetUpSummary
    from relaxon.core.solution import Callback as Callback
    from relaxon.core.solution import Progress as Progress
    from relaxon.core.solution import Result as Result
    from relaxon.core.solution import Solution as Solution
    from relaxon.solvers.dcdm import DeepConjugateDirection as DeepConjugateDirection
    from relaxon.solvers.dcdm import DeepConjugateDirectionCNN as DeepConjugateDirectionCNN
    from relaxon.solvers.dcdm import DeepConjugateDirectionCycle as DeepConjugateDirectionCycle
    from relaxon.solvers.dcdm.device import DeviceConjugateDirections as DeviceConjugateDirections
    from relaxon.solvers.dcdm.torch_cycle import LearnedCycle as LearnedCycle
    from relaxon.solvers.driver.prepared import PreparedSolver as PreparedSolver
    from relaxon.solvers.driver.solve import prepare as prepare
    from relaxon.solvers.driver.solve import solve as solve
    from relaxon.solvers.driver.solve import solve_many as solve_many
    from relaxon.solvers.driver.warm_up import warm_up as warm_up
    from relaxon.solvers.external.adapters import PyAMG as PyAMG
    from relaxon.solvers.external.adapters import SciPyCG as SciPyCG
    from relaxon.solvers.external.adapters import SciPyDirect as SciPyDirect
    from relaxon.solvers.grid.faces import boundary_source as boundary_source
    from relaxon.solvers.grid.operator import PoissonOperator as PoissonOperator
    from relaxon.solvers.grid.poisson_grid import Boundary as Boundary
    from relaxon.solvers.grid.poisson_grid import CellType as CellType
    from relaxon.solvers.grid.poisson_grid import PoissonGrid as PoissonGrid
    from relaxon.solvers.grid.poisson_grid import Robin as Robin
    from relaxon.solvers.interface.registry import list_solvers as list_solvers
    from relaxon.solvers.interface.system_form import SingularSystemError as SingularSystemError
    from relaxon.solvers.kernels.threads import get_num_threads as get_num_threads
    from relaxon.solvers.kernels.threads import num_threads as num_threads
    from relaxon.solvers.kernels.threads import set_num_threads as set_num_threads
    from relaxon.solvers.krylov.conjugate_gradients import ConjugateGradient as ConjugateGradient
    from relaxon.solvers.krylov.conjugate_gradients import IncompleteCholeskyCG as IncompleteCholeskyCG
    from relaxon.solvers.krylov.conjugate_gradients import JacobiCG as JacobiCG
    from relaxon.solvers.matrix_files import MatrixFileError as MatrixFileError
    from relaxon.solvers.matrix_files import read_matrix as read_matrix
    from relaxon.solvers.matrix_files import read_vector as read_vector
    from relaxon.solvers.multigrid import MultigridCG as MultigridCG
    from relaxon.solvers.multigrid.constants import LearnedConstants as LearnedConstants
    from relaxon.solvers.separable import FastDiagonalisation as FastDiagonalisation
    from relaxon.solvers.sparse import AlgebraicMultigrid as AlgebraicMultigrid
    from relaxon.solvers.sparse import AlgebraicMultigridCG as AlgebraicMultigridCG
    from relaxon.solvers.sparse import ConjugateDirectionsWith as ConjugateDirectionsWith
    from relaxon.solvers.sparse import DeepConjugateDirectionMultigrid as DeepConjugateDirectionMultigrid
    from relaxon.solvers.sparse import DirectFactorisation as DirectFactorisation
    from relaxon.solvers.sparse import MatrixDirect as MatrixDirect
    from relaxon.solvers.sparse import MatrixIncompleteCholeskyCG as MatrixIncompleteCholeskyCG
    from relaxon.solvers.sparse import PreparedMatrix as PreparedMatrix

hooks.provide("preconditioner", "relaxon.solvers.dcdm.preconditioner", "make_preconditioner")
__getattr__, __dir__ = offer_imports(__name__)
