"""For codes that run on PETSc: cycles of grids and of any matrix as preconditioners, the outer iteration as a Krylov
method.

All are of PETSc's types "python": a program that embeds petsc4py chooses them by an option.

    -pc_type python -pc_python_type relaxon.solvers.petsc.LearnedCycle
    -pc_type python -pc_python_type relaxon.solvers.petsc.AlgebraicCycle
    -ksp_type python -ksp_python_type relaxon.solvers.petsc.DeepConjugateDirections
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.solvers.petsc.algebraic import AlgebraicCycle
    from relaxon.solvers.petsc.directions import DeepConjugateDirections
    from relaxon.solvers.petsc.preconditioner import LearnedCycle
    from relaxon.solvers.petsc.recognition import AnyGrid, Recognised, read_any_grid, recognise

_MODULES = {
    "algebraic": "AlgebraicCycle",
    "directions": "DeepConjugateDirections",
    "preconditioner": "LearnedCycle",
    "recognition": "AnyGrid Recognised read_any_grid recognise",
}
_HOME = {name: module for module, names in _MODULES.items() for name in names.split()}
__all__ = sorted(_HOME)
__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
