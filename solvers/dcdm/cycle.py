"""Conjugate directions from a V-cycle whose constants were learned: linear, aware of the geometry, a few numbers.

The direction is the geometric multigrid cycle of `relaxon.solvers.multigrid` with a damping of its own for each sweep
and an over-correction of the coarse step, for the finest level and for the others. They are trained on the residual
that the outer iteration is left with, on small random geometries, and hold for any grid.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.dcdm.outer import WINDOW, ConjugateDirections, Direction
from relaxon.solvers.engine import Monitor, Solver
from relaxon.solvers.grid import PoissonGrid
from relaxon.solvers.multigrid import CycleConstants, VCycle
from relaxon.solvers.operator import PoissonOperator

SWEEPS = 2
MAX_ITERATIONS = 500
START = (0.857,) * (4 * SWEEPS) + (1.0, 1.0)
"""Where training starts: the best damping of plain Jacobi, no over-correction."""


class CycleDirection(Direction):
    """`f(r)` by one cycle in float32."""

    def __init__(self, operator: PoissonOperator, constants: CycleConstants) -> None:
        self.cycle = VCycle(operator, "jacobi", SWEEPS, constants)

    def __call__(self, r: NDArray[np.float64]) -> NDArray[np.float32]:
        return self.cycle.unscaled(r)


@dataclass(frozen=True, slots=True)
class DeepConjugateDirectionCycle(Solver):
    """Conjugate directions from the learned cycle.

    Parameters
    ----------
    constants : of the cycle; None for the shipped ones, trained as `cycle.json` beside them says.
    window : directions to orthogonalise against, ≥ 0.
    """

    constants: CycleConstants | None = None
    window: int = WINDOW
    name: ClassVar[str] = "dcdm"
    summary: ClassVar[str] = "deep conjugate directions, learned multigrid cycle"

    def prepare(self, operator: PoissonOperator) -> ConjugateDirections:
        constants = self.constants
        if constants is None:
            # Trained for κ = 1. Where κ jumps, a symmetric cycle keeps more of the conjugacy that the window forgets.
            trained = operator.grid.coefficient is None
            constants = shipped_constants(operator.grid.ndim) if trained else CycleConstants.symmetric(SWEEPS)
        direction = CycleDirection(operator, constants)
        prepared = ConjugateDirections(operator, direction, self.window, MAX_ITERATIONS)
        prepared.info |= direction.cycle.info
        return prepared


def unpacked(values: Iterable[float]) -> CycleConstants:
    """Constants from ten numbers: before and after on the finest level, on the others, then two over-corrections."""
    v = tuple(float(value) for value in values)
    s = SWEEPS
    return CycleConstants((v[:s], v[2 * s : 3 * s]), (v[s : 2 * s], v[3 * s : 4 * s]), (v[4 * s], v[4 * s + 1]))


def cycle_metadata() -> dict[str, Any]:
    """How the shipped constants were trained, and what they are, by the number of dimensions."""
    path = resources.files("relaxon.solvers.dcdm") / "weights" / "cycle.json"
    metadata: dict[str, Any] = json.loads(path.read_text())
    return metadata


def shipped_constants(ndim: int) -> CycleConstants:
    """The trained constants for two or three dimensions."""
    return unpacked(cycle_metadata()["constants"][str(ndim)])


@dataclass(frozen=True, slots=True)
class CycleTraining:
    """Settings of a training run: `problems` random geometries of `size` cells a side, `iterations` of the method."""

    ndim: int = 3
    size: int = 24
    problems: int = 10
    iterations: int = 5
    evaluations: int = 400
    seed: int = 0


def train_cycle(settings: CycleTraining) -> dict[str, Any]:
    """Constants that minimise the mean log₁₀ of the residual's reduction, by Nelder and Mead's simplex method (1965).

    The returned record holds the constants, the objective before and after, and the seconds taken.
    """
    from scipy.optimize import minimize

    began = time.perf_counter()
    cases = [_case(settings, index) for index in range(settings.problems)]

    def objective(values: NDArray[np.float64]) -> float:
        if values.min() < 0.1 or values.max() > 3.0:
            return 0.0
        constants = unpacked(values)
        return float(np.mean([_decades(grid, b, constants, settings.iterations) for grid, b in cases]))

    before = objective(np.array(START))
    found = minimize(objective, START, method="Nelder-Mead", options={"maxfev": settings.evaluations, "adaptive": True})
    return {
        "constants": [round(float(v), 4) for v in found.x],
        "decades_untrained": before,
        "decades": float(found.fun),
        "evaluations": int(found.nfev),
        "seconds": time.perf_counter() - began,
    }


def _case(settings: CycleTraining, index: int) -> tuple[PoissonGrid, NDArray[np.float64]]:
    from relaxon.solvers import gallery

    kind = ("box", "spheres", "pool", "random", "neumann")[index % 5]
    problem = gallery.make(kind, settings.size, settings.ndim, settings.seed + index)
    return problem.grid, problem.b.reshape(problem.grid.shape3)


def _decades(grid: PoissonGrid, b: NDArray[np.float64], constants: CycleConstants, iterations: int) -> float:
    """log₁₀ of the residual's reduction after so many iterations."""
    monitor = Monitor(0.0)
    engine = DeepConjugateDirectionCycle(constants).prepare(grid.operator())
    engine.run(b, np.zeros_like(b), monitor, iterations)
    return float(np.log10(monitor.history[-1] / monitor.history[0]))
