"""For codes that run on PETSc: cycles of grids and of any matrix as preconditioners, the outer iteration as a Krylov
method.

All are of PETSc's types "python": a program that embeds petsc4py chooses them by an option.

    -pc_type python -pc_python_type relaxon.solvers.petsc.LearnedCycle
    -pc_type python -pc_python_type relaxon.solvers.petsc.AlgebraicCycle
    -ksp_type python -ksp_python_type relaxon.solvers.petsc.DeepConjugateDirections
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relaxon.solvers.petsc.algebraic import AlgebraicCycle
    from relaxon.solvers.petsc.directions import DeepConjugateDirections
    from relaxon.solvers.petsc.preconditioner import LearnedCycle
    from relaxon.solvers.petsc.recognition import Recognised, recognise
    from relaxon.solvers.petsc.varying_recognition import AnyGrid, read_any_grid

_HOMES = {
    "AlgebraicCycle": "algebraic",
    "AnyGrid": "varying_recognition",
    "DeepConjugateDirections": "directions",
    "LearnedCycle": "preconditioner",
    "Recognised": "recognition",
    "read_any_grid": "varying_recognition",
    "recognise": "recognition",
}
__all__ = [
    "AlgebraicCycle",
    "AnyGrid",
    "DeepConjugateDirections",
    "LearnedCycle",
    "Recognised",
    "read_any_grid",
    "recognise",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
