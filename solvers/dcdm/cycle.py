"""Conjugate directions from a V-cycle whose constants were learned: linear, aware of the geometry, a few numbers.

Where κ is 1 the direction is the fused cycle of `relaxon.solvers.multigrid`. Its constants were trained on small random
geometries, on the residual after a few steps of the outer iteration; they serve any grid. Elsewhere the direction is
one of a few cycles for any couplings, which a trained network chooses for the grid: see
`relaxon.solvers.dcdm.coupling_choice`.
"""

# Imported on first use, for weight or because it imports this module in turn: `solvers.multigrid.preconditioner`.

from __future__ import annotations

import json
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.dcdm.coupled import CoupledDirections
from relaxon.solvers.dcdm.coupling_choice import CouplingChoice, make_coupling_cycle
from relaxon.solvers.dcdm.fused import MAX_WINDOW, FusedDirections
from relaxon.solvers.dcdm.outer import ConjugateDirections, Direction
from relaxon.solvers.dcdm.rescue import Rescued, solve_long_cells
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Prepared, Solver
from relaxon.solvers.multigrid.constants import LearnedConstants, from_record
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.multigrid.fused import FusedCycle
from relaxon.solvers.multigrid.swept import SweptCycle

MAX_ITERATIONS = 500


class CycleDirection(Direction):
    """`f(r)` by one cycle, for any coefficients."""

    def __init__(self, operator: PoissonOperator, choice: CouplingChoice | None = None) -> None:
        self.cycle = make_coupling_cycle(operator, choice)

    def __call__(self, r: NDArray[np.float64]) -> NDArray[Any]:
        return self.cycle.direction(r)

    def twin(self) -> Direction | None:
        cycle = self.cycle.twin()
        if cycle is None:
            return None
        made = copy(self)
        made.cycle = cycle
        return made


@dataclass(frozen=True, slots=True)
class DeepConjugateDirectionCycle(Solver):
    """Conjugate directions from the learned cycle.

    Parameters
    ----------
    constants : of the cycle; None for the shipped ones, trained as `cycle.json` beside them says.
    choice : of the cycle where κ, σ, widths or sides are not the plain ones; None for the shipped one, trained as
        `couplings.json` says.
    window : directions to orthogonalise against, ≥ 0. The cycle is symmetric: one does as well as the paper's two.
    rescue : hand over to a factorisation, or on large systems to algebraic multigrid, where the cycle is slow (mazes,
        wild coefficients); its iterations are counted in `Solution.fallbacks`, and `Solution.message` names it.
    """

    constants: LearnedConstants | None = None
    window: int = 1
    rescue: bool = True
    choice: CouplingChoice | None = None
    name: ClassVar[str] = "dcdm"
    summary: ClassVar[str] = "deep conjugate directions, learned multigrid cycle"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return self._prepared(operator, None)

    def cycle(self, operator: PoissonOperator) -> SingleCycle:
        """Return the V-cycle, which is linear and symmetric."""
        # Here, as that module needs this one.
        from relaxon.solvers.multigrid.preconditioner import FusedPreconditioner

        grid = operator.grid
        if not grid.constant:
            return make_coupling_cycle(operator, self.choice)
        constants = constants_for(grid.ndim) if self.constants is None else {self.constants.ndim: self.constants}
        return FusedPreconditioner(FusedCycle(operator, constants))

    def update(self, prepared: Prepared, operator: PoissonOperator) -> Prepared:
        inner = prepared.first if isinstance(prepared, Rescued) else prepared
        return self._prepared(operator, inner if isinstance(inner, FusedDirections) else None)

    def _prepared(self, operator: PoissonOperator, before: FusedDirections | None) -> Prepared:
        grid = operator.grid
        if grid.constant and self.window <= MAX_WINDOW:
            constants = constants_for(grid.ndim) if self.constants is None else {self.constants.ndim: self.constants}
            cycle = FusedCycle(operator, constants)
            fused = FusedDirections(operator, cycle, self.window, MAX_ITERATIONS, before)
            return self._rescue(fused, operator)
        if self.rescue and self.choice is None and (direct := solve_long_cells(operator)) is not None:
            return direct
        direction = CycleDirection(operator, self.choice)
        if self.window == 1 and isinstance(direction.cycle, SweptCycle) and not operator.wrap.any():
            return self._rescue(CoupledDirections(operator, direction.cycle, MAX_ITERATIONS), operator)
        prepared: Prepared = ConjugateDirections(operator, direction, self.window, MAX_ITERATIONS)
        prepared.info |= direction.cycle.info
        return self._rescue(prepared, operator)

    def _rescue(self, prepared: Prepared, operator: PoissonOperator) -> Prepared:
        return Rescued(prepared, operator) if self.rescue else prepared


def constants_for(ndim: int) -> dict[int, LearnedConstants]:
    """Return the shipped constants for grids of so many dimensions, by the number of axes that are coarsened."""
    return {dimension: shipped(dimension) for dimension in (2, 3) if dimension <= ndim}


def record() -> dict[str, Any]:
    """Return the shipped constants with how they were trained, by the number of dimensions ("2", "3")."""
    path = resources.files("relaxon.solvers.dcdm") / "weights" / "cycle.json"
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@lru_cache(maxsize=2)
def shipped(ndim: int) -> LearnedConstants:
    """Return the shipped constants for two or three dimensions."""
    return from_record(record()["models"][str(ndim)])
