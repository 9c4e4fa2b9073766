"""Which solver for which grid: the automatic choice, with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.engine import Prepared, Solver
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.separable import FastDiagonalisation
from relaxon.solvers.separable.axes import NotSeparableError, axes_of
from relaxon.solvers.separable.system import SeparableSystem, estimate_nanoseconds

CONSTANT_CYCLES, VARYING_CYCLES = 55.0, 400.0
"""Nanoseconds a cell that `dcdm` takes to 1e-6 at 128³, set-up included, in one thread: on a box with κ = 1, and the
least of what was seen where κ varies. `bench/against.py` measures it beside the direct solver."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A solver by its name, and in a sentence why it."""

    solver: str
    reason: str
    system: SeparableSystem | None = None
    """What the direct solver is set up with, where it is the one."""


@dataclass(frozen=True, slots=True)
class AutomaticGridSolver(Solver):
    """Fast diagonalisation where the grid is a box that it solves and takes less time, else the default, `dcdm`.

    Clocks are not looked at: the same grid is solved by the same steps. `Solution.message` has the choice and why.
    """

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "chooses by the grid, and says why"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return self._prepared(operator, None)

    def cycle(self, operator: PoissonOperator) -> SingleCycle:
        """Return the V-cycle of `dcdm`, which is linear and symmetric."""
        return DeepConjugateDirectionCycle().cycle(operator)

    def update(self, prepared: Prepared, operator: PoissonOperator) -> Prepared:
        return self._prepared(operator, prepared)

    def _prepared(self, operator: PoissonOperator, before: Prepared | None) -> Prepared:
        choice = choose(operator)
        if choice.system is not None:
            engine = FastDiagonalisation().engine(operator, choice.system)
        elif before is None:
            engine = DeepConjugateDirectionCycle().prepare(operator)
        else:
            engine = DeepConjugateDirectionCycle().update(before, operator)
        engine.reason = f"auto chose {choice.solver}: {choice.reason}"
        return engine


def choose(operator: PoissonOperator) -> Choice:
    """Return the solver that is expected to take the least time on a grid."""
    other = DeepConjugateDirectionCycle.name
    try:
        axes = axes_of(operator)
    except NotSeparableError as error:
        return Choice(other, f"no direct solver fits, {error}")
    cycles = CONSTANT_CYCLES if operator.constant else VARYING_CYCLES
    expected = estimate_nanoseconds(axes)
    if expected > cycles:
        return Choice(other, f"{cycles:.0f} ns a cell expected, {expected:.0f} of fast diagonalisation for these sides")
    system = SeparableSystem(axes, operator.grid.nullspace.dimension > 0)
    return Choice(FastDiagonalisation.name, "a box, whose operator is a sum of products along its axes", system)


def likely_solver(grid: PoissonGrid) -> str:
    """Return the name of the solver that is about to be chosen, without any computing: what is compiled ahead."""
    box = grid.unknowns == grid.cells.size and grid.operator().constant
    return FastDiagonalisation.name if box else DeepConjugateDirectionCycle.name
