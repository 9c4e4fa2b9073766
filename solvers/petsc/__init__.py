"""For codes that run on PETSc: cycles of grids and of any matrix as preconditioners, the outer iteration as a Krylov
method.

All are of PETSc's types "python": a program that embeds petsc4py chooses them by an option.

    -pc_type python -pc_python_type relaxon.solvers.petsc.LearnedCycle
    -pc_type python -pc_python_type relaxon.solvers.petsc.AlgebraicCycle
    -ksp_type python -ksp_python_type relaxon.solvers.petsc.DeepConjugateDirections
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.solvers.petsc.algebraic import AlgebraicCycle as AlgebraicCycle
    from relaxon.solvers.petsc.directions import DeepConjugateDirections as DeepConjugateDirections
    from relaxon.solvers.petsc.preconditioner import LearnedCycle as LearnedCycle
    from relaxon.solvers.petsc.recognition import AnyGrid as AnyGrid
    from relaxon.solvers.petsc.recognition import Recognised as Recognised
    from relaxon.solvers.petsc.recognition import read_any_grid as read_any_grid
    from relaxon.solvers.petsc.recognition import recognise as recognise

__getattr__, __dir__ = offer_imports(__name__)
