"""The automatic choice of a solver for a grid, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Prepared, Solver
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.separable import FastDiagonalisation
from relaxon.solvers.separable.axes import NotSeparableError, axes_of
from relaxon.solvers.separable.system import SeparableSystem, estimate_nanoseconds

CONSTANT_CYCLES, VARYING_CYCLES = 55.0, 400.0
"""Nanoseconds per cell that `dcdm` takes to 1e-6 at 128³ in one thread, set-up included: on a box with κ = 1, and the
smallest time seen where κ varies. `bench/against.py` measures them beside the direct solver."""


@dataclass(frozen=True, slots=True)
class GridSolverChoice:
    """The name of a solver, and one sentence on why it was chosen."""

    solver: str
    reason: str
    system: SeparableSystem | None = None
    """The system that the direct solver is set up with, if that was chosen."""


@dataclass(frozen=True, slots=True)
class AutomaticGridSolver(Solver):
    """Fast diagonalisation if the grid is a box that it solves in less time, otherwise the default, `dcdm`.

    No clock is read: the same grid is always solved by the same steps. `Solution.message` has the choice and the
    reason.
    """

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "chooses by the grid, and says why"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return self._set_up(operator, None)

    def cycle(self, operator: PoissonOperator) -> SingleCycle:
        """Return the V-cycle of `dcdm`, which is linear and symmetric."""
        return DeepConjugateDirectionCycle().cycle(operator)

    def update(self, prepared: Prepared, operator: PoissonOperator) -> Prepared:
        return self._set_up(operator, prepared)

    def _set_up(self, operator: PoissonOperator, before: Prepared | None) -> Prepared:
        choice = choose(operator)
        if choice.system is not None:
            engine = FastDiagonalisation().engine(operator, choice.system)
        elif before is None:
            engine = DeepConjugateDirectionCycle().prepare(operator)
        else:
            engine = DeepConjugateDirectionCycle().update(before, operator)
        engine.reason = f"auto chose {choice.solver}: {choice.reason}"
        return engine


def choose(operator: PoissonOperator) -> GridSolverChoice:
    """Return the solver that is expected to take the least time on a grid."""
    other = DeepConjugateDirectionCycle.name
    try:
        axes = axes_of(operator)
    except NotSeparableError as error:
        return GridSolverChoice(other, f"no direct solver fits, {error}")
    cycles = CONSTANT_CYCLES if operator.constant else VARYING_CYCLES
    expected = estimate_nanoseconds(axes)
    if expected > cycles:
        return GridSolverChoice(
            other, f"{cycles:.0f} ns a cell expected, {expected:.0f} of fast diagonalisation for these sides"
        )
    system = SeparableSystem(axes, operator.grid.nullspace.dimension > 0)
    return GridSolverChoice(
        FastDiagonalisation.name, "a box, whose operator is a sum of products along its axes", system
    )
