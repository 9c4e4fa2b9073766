"""Solvers run one after the other on one system through gRPC; each answer is checked on this side of the wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.cli.residual import true_residual
from relaxon.cli.system import System
from relaxon.client import Client, RelaxonError
from relaxon.client._sync.poisson import RemoteGrid
from relaxon.core.solution import Progress, Solution
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.precompile.compiling import ITERATIONS, right_hand_side, small_grids

ALIASES = {"pyamg": ("pyamg-sa", "pyamg-rs")}
"""Names of `--compare` that stand for several solvers, each of which is run and reported."""
REFUSED = "refused"
"""The `result` of a comparison that the server would not run."""


@dataclass(frozen=True, slots=True)
class Run:
    """One solver's run on the system.

    `setup_seconds` is the server's work on the grid and the solver's own set-up. `wall_seconds` is what the caller
    waited from sending the grid to holding the solution; what is neither set-up nor solve is `transport_seconds`.
    `warm_up_seconds` went before, on compiling. `relative_residual` is the true one, recomputed here.
    """

    solver: str
    result: str
    iterations: int
    setup_seconds: float
    solve_seconds: float
    wall_seconds: float
    warm_up_seconds: float
    relative_residual: float
    reported_residual: float
    scaled_residual: float
    """Recomputed here as well, as the backward error: see `cli.residual.TrueResidual`."""
    backward_error: float
    reported_backward_error: float
    meets_tolerance: bool
    residuals: NDArray[np.float64]
    message: str
    x: NDArray[np.float64] | None

    @property
    def total_seconds(self) -> float:
        return self.setup_seconds + self.solve_seconds

    @property
    def transport_seconds(self) -> float:
        return max(0.0, self.wall_seconds - self.total_seconds)

    @property
    def converged(self) -> bool:
        """Whether the solver says that it converged, and the residual recomputed here agrees."""
        return self.result == "converged" and self.meets_tolerance

    def as_dict(self) -> dict[str, Any]:
        """JSON values: everything but the solution."""
        return {
            "solver": self.solver,
            "result": self.result,
            "converged": self.converged,
            "iterations": self.iterations,
            "setup_seconds": self.setup_seconds,
            "solve_seconds": self.solve_seconds,
            "total_seconds": self.total_seconds,
            "transport_seconds": self.transport_seconds,
            "wall_seconds": self.wall_seconds,
            "warm_up_seconds": self.warm_up_seconds,
            "relative_residual": _number(self.relative_residual),
            "reported_relative_residual": _number(self.reported_residual),
            "scaled_residual": _number(self.scaled_residual),
            "backward_error": _number(self.backward_error),
            "reported_backward_error": _number(self.reported_backward_error),
            "residuals": [_number(residual) for residual in self.residuals],
            "message": self.message,
        }


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Solver names, one or several with commas in each string, with the aliases spelt out; each once, in order."""
    single = (name.strip() for several in names for name in several.split(","))
    return tuple(dict.fromkeys(solver for name in single if name for solver in ALIASES.get(name, (name,))))


def kept_grid(client: Client, grid: PoissonGrid) -> RemoteGrid:
    """Have the server keep a grid as it was given."""
    return client.poisson.grid(
        grid.given_cells,
        grid.spacing,
        grid.boundary,
        grid.given_coefficient,
        grid.given_reaction,
        volume=grid.given_volume,
    )


def warm_up(client: Client, system: System, solver: str) -> float:
    """Run the solver on small systems of the same kind, so that its code is compiled and loaded; seconds it took."""
    start = time.perf_counter()
    for grid in small_grids(system.grid, solver):
        with kept_grid(client, grid) as session:
            session.solve(
                right_hand_side(grid),
                solver=solver,
                max_iterations=ITERATIONS,
                inconsistent="project",
                callback=_ignore,
            )
    return time.perf_counter() - start


def solve(
    client: Client,
    system: System,
    solver: str,
    rtol: float,
    max_iterations: int | None,
    callback: Callable[[Progress], object],
    warm_up_seconds: float,
) -> Run:
    """One timed run, on a grid made for it, so that no solver finds another one's work done."""
    grid = system.grid
    start = time.perf_counter()
    with kept_grid(client, grid) as session:
        solution = session.solve(system.b, solver=solver, rtol=rtol, max_iterations=max_iterations, callback=callback)
        wall = time.perf_counter() - start
        setup = session.setup_seconds + solution.setup_seconds
    return _checked(system, solver, solution, rtol, setup, wall, warm_up_seconds)


def refused(solver: str, error: RelaxonError) -> Run:
    """The place in the table of a comparison that could not be run."""
    nothing = np.empty(0)
    unknown = (np.nan,) * 5
    return Run(solver, REFUSED, 0, 0.0, 0.0, 0.0, 0.0, *unknown, False, nothing, str(error), None)


def _checked(
    system: System, solver: str, solution: Solution, rtol: float, setup: float, wall: float, warm_up_seconds: float
) -> Run:
    true = true_residual(system.grid, system.b, solution.x)
    return Run(
        solver=solver,
        result=solution.result.value,
        iterations=solution.iterations,
        setup_seconds=setup,
        solve_seconds=solution.solve_seconds,
        wall_seconds=wall,
        warm_up_seconds=warm_up_seconds,
        relative_residual=true.relative,
        reported_residual=solution.relative_residual,
        scaled_residual=true.scaled,
        backward_error=true.backward_error,
        reported_backward_error=solution.backward_error,
        meets_tolerance=true.meets(rtol),
        residuals=solution.residuals,
        message=solution.message,
        x=solution.x,
    )


def _ignore(progress: Progress) -> None:
    """A callback that does nothing, so that a warm-up takes the path of a watched solve."""


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if np.isfinite(value) else None
