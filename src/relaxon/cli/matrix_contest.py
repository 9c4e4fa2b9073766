"""Solvers compared on one matrix, in this process or on a server.

Imported on first use, for their weight: the solvers of sparse matrices.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from relaxon.cli import remote
from relaxon.cli.contest import Answer, Order, Venue, Watch, ignore_progress
from relaxon.cli.errors import describe_missing
from relaxon.cli.matrix_system import FileMatrixSystem
from relaxon.cli.progress import LiveProgress, SolverLine
from relaxon.client import Client, RelaxonError
from relaxon.core.extras import MissingPackageError, find_extra, find_missing, install_command
from relaxon.core.solution import Solution
from relaxon.solvers.stress.matrix_residual import MatrixResidual, matrix_residual

if TYPE_CHECKING:
    from relaxon.solvers.sparse.engine import MatrixEngine


class MatrixVenue(Venue[FileMatrixSystem]):
    """A place where matrices are solved."""

    refusals = (MissingPackageError, TypeError, ValueError, MemoryError, RelaxonError)
    option = " with --matrix"
    warmed_on = "small matrices"
    recomputed = "in extended precision by a sum"

    def recompute(self, system: FileMatrixSystem, solution: Solution) -> MatrixResidual:
        return matrix_residual(system.matrix, system.b, solution.x)


class ThisProcess(MatrixVenue):
    """This process."""

    def list_solvers(self) -> dict[str, str]:
        from relaxon.solvers.sparse.choice.automatic import all_matrix_solvers

        missing = {name: find_missing(solver.needs) for name, solver in all_matrix_solvers().items()}
        return {
            name: f"it is not installed: {install_command(find_extra(lacks))}" if lacks else ""
            for name, lacks in missing.items()
        }

    def warm_up(self, system: FileMatrixSystem, solver: str, progress: LiveProgress, line: SolverLine) -> float:
        from relaxon.solvers import warm_up

        return warm_up(solver, system.matrix)

    def solve(
        self, system: FileMatrixSystem, solver: str, rtol: float, max_iterations: int | None, watch: Watch
    ) -> Answer:
        from relaxon.solvers import prepare

        start = time.perf_counter()
        prepared = prepare(system.matrix, solver=solver)
        setup = time.perf_counter() - start
        solution = prepared.solve(system.b, rtol=rtol, max_iterations=max_iterations, callback=watch)
        wall = time.perf_counter() - start
        return Answer(solution, setup, wall, find_order(prepared.engine, system.structure.unknowns))


class MatrixServer(MatrixVenue):
    """A server that solves with matrices."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list_solvers(self) -> dict[str, str]:
        from relaxon.solvers.sparse.peers import PEERS

        peers = dict.fromkeys(PEERS, "servers have no solvers of other libraries: leave --target out")
        known = self._client.linear.list_solvers()
        return peers | {
            one.name: "" if one.available else f"it {describe_missing(one.missing, one.extra)}" for one in known
        }

    def warm_up(self, system: FileMatrixSystem, solver: str, progress: LiveProgress, line: SolverLine) -> float:
        from relaxon.solvers.driver.warm_up import ITERATIONS, small_matrices

        start = time.perf_counter()
        for small in small_matrices():
            b = small @ np.arange(small.shape[0], dtype=np.float64)
            with self._client.linear.matrix(small) as kept:
                kept.solve(b, solver=solver, max_iterations=ITERATIONS, callback=ignore_progress)
        return time.perf_counter() - start

    def solve(
        self, system: FileMatrixSystem, solver: str, rtol: float, max_iterations: int | None, watch: Watch
    ) -> Answer:
        start = time.perf_counter()
        with self._client.linear.matrix(system.matrix) as kept:
            solution = kept.solve(system.b, solver=solver, rtol=rtol, max_iterations=max_iterations, callback=watch)
            return Answer(solution, kept.setup_seconds + solution.setup_seconds, time.perf_counter() - start)


def find_order(engine: MatrixEngine, unknowns: int) -> Order:
    """Return the order in which multigrid took the rows; None where it is the matrix's, or that of a part of it."""
    order = engine.row_order
    return None if order is None or len(order) != unknowns else np.asarray(order, np.int64)


@contextmanager
def open_venue(args: argparse.Namespace) -> Iterator[MatrixVenue]:
    """Give the server that the arguments name, or this process where they name none."""
    if args.target is None:
        yield ThisProcess()
        return
    with remote.connect(args, remote.DEFAULT_SECONDS) as client:
        yield MatrixServer(client)
