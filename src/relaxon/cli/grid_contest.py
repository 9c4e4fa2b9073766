"""Solvers compared on a grid, on a server."""

# Imported on first use, for its weight: `server.app`.

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from relaxon.cli import remote
from relaxon.cli.contest import Answer, Venue, Watch, ignore_progress
from relaxon.cli.errors import describe_missing
from relaxon.cli.grid_system import GridSystem
from relaxon.cli.progress import LiveProgress, SolverLine
from relaxon.cli.residual import TrueResidual, true_residual
from relaxon.client import Client, RemoteGrid, connect
from relaxon.core.solution import Solution
from relaxon.solvers import watch_compiling
from relaxon.solvers.driver.warm_up import ITERATIONS, right_hand_side, small_grids
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.precompile.compiling import compile_seconds, kind_of

ANNOUNCED_SECONDS = 1.0
"""The expected time of compiling above which it is announced."""


class GridServer(Venue[GridSystem]):
    """A server that solves on grids."""

    warmed_on = "a small system"
    recomputed = "in float64 by an operator"
    requires_all = True

    def __init__(self, client: Client, local: bool) -> None:
        """`local` where the server's kernels are compiled on this machine, for this command."""
        self._client = client
        self._local = local

    def list_solvers(self) -> dict[str, str]:
        listed = sorted(self._client.poisson.list_solvers(), key=lambda solver: solver.name)
        return {one.name: "" if one.available else f"it {describe_missing(one.missing, one.extra)}" for one in listed}

    def is_on_device(self, solver: str, known: Iterable[str]) -> bool:
        name, at, _ = solver.partition("@")
        return bool(at) and name in known

    def warm_up(self, system: GridSystem, solver: str, progress: LiveProgress, line: SolverLine) -> float:
        if self._local and compile_seconds(kind_of(solver, system.grid)) > ANNOUNCED_SECONDS:
            text = f"{solver}: compiled once on a machine; `relaxon compile {solver}` does it ahead"
            progress.console.print(text, style="dim", highlight=False, markup=False)
        start = time.perf_counter()
        with watch_compiling(lambda state: line.say(str(state))):
            for grid in small_grids(system.grid, solver):
                with self._keep(grid) as kept:
                    kept.solve(
                        right_hand_side(grid),
                        solver=solver,
                        max_iterations=ITERATIONS,
                        inconsistent="project",
                        callback=ignore_progress,
                    )
        return time.perf_counter() - start

    def solve(self, system: GridSystem, solver: str, rtol: float, max_iterations: int | None, watch: Watch) -> Answer:
        start = time.perf_counter()
        # On a grid made for this run, so that no solver profits from the work of another.
        with self._keep(system.grid) as kept:
            solution = kept.solve(system.b, solver=solver, rtol=rtol, max_iterations=max_iterations, callback=watch)
            return Answer(solution, kept.setup_seconds + solution.setup_seconds, time.perf_counter() - start)

    def recompute(self, system: GridSystem, solution: Solution) -> TrueResidual:
        return true_residual(system.grid, system.b, solution.x)

    def _keep(self, grid: PoissonGrid) -> RemoteGrid:
        """Have the server keep a grid as the user gave it."""
        return self._client.poisson.grid(
            grid.given_cells,
            grid.spacing,
            grid.boundary,
            grid.given_coefficient,
            grid.given_reaction,
            volume=grid.given_volume,
        )


@contextmanager
def open_venue(args: argparse.Namespace, progress: LiveProgress) -> Iterator[GridServer]:
    """Connect to the server that the arguments name, or to one that lives as long as the block."""
    if args.target is not None:
        with remote.connect(args, remote.DEFAULT_SECONDS) as client:
            yield GridServer(client, local=False)
        return
    from relaxon.server.app import EmbeddedServer

    with EmbeddedServer() as server, connect(server.target) as client:
        progress.console.print(f"server started on {server.target}", style="dim", highlight=False)
        yield GridServer(client, local=True)
