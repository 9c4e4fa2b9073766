"""Solvers run one after the other on one matrix, in this process or on a server; each answer is checked here."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.cli.contest import ALIASES, REFUSED, Run
from relaxon.cli.errors import CommandError, UsageError, lacking
from relaxon.cli.matrix_system import FileSystem
from relaxon.core.extras import MissingPackageError, find_extra, find_missing, install_command
from relaxon.core.solution import Progress, Solution
from relaxon.solvers.stress.matrix_residual import matrix_residual

if TYPE_CHECKING:
    from relaxon.client import Client
    from relaxon.solvers.sparse.engine import MatrixEngine

Watch = Callable[[Progress], object]


@dataclass(frozen=True, slots=True)
class Answer:
    """A solution, the seconds of its set-up, and the order in which the solver took the rows; None for the file's."""

    solution: Solution
    setup_seconds: float
    order: NDArray[np.int64] | None = None


class Place(ABC):
    """Where matrices are solved."""

    @abstractmethod
    def list_solvers(self) -> dict[str, str]:
        """Return the names of matrix solvers, each with why it cannot run; empty where it can."""

    @abstractmethod
    def warm_up(self, system: FileSystem, solver: str) -> float:
        """Compile and load what a solver runs, and return the seconds."""

    @abstractmethod
    def solve(self, system: FileSystem, solver: str, rtol: float, max_iterations: int | None, watch: Watch) -> Answer:
        """Return what came of one right-hand side, set-up included."""


class Here(Place):
    """This process."""

    def list_solvers(self) -> dict[str, str]:
        from relaxon.solvers.sparse.peers import all_matrix_solvers

        missing = {name: find_missing(solver.needs) for name, solver in all_matrix_solvers().items()}
        return {
            name: f"it is not installed: {install_command(find_extra(lacks))}" if lacks else ""
            for name, lacks in missing.items()
        }

    def warm_up(self, system: FileSystem, solver: str) -> float:
        from relaxon.solvers import warm_up

        return warm_up(solver, system.matrix)

    def solve(self, system: FileSystem, solver: str, rtol: float, max_iterations: int | None, watch: Watch) -> Answer:
        from relaxon.solvers import prepare

        start = time.perf_counter()
        prepared = prepare(system.matrix, solver=solver)
        seconds = time.perf_counter() - start
        solution = prepared.solve(system.b, rtol=rtol, max_iterations=max_iterations, callback=watch)
        return Answer(solution, seconds, find_order(prepared.engine, system.structure.unknowns))


class OnServer(Place):
    """A server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def list_solvers(self) -> dict[str, str]:
        from relaxon.solvers.sparse.peers import PEERS

        here = dict.fromkeys(PEERS, "servers have no solvers of other libraries: leave --target out")
        known = self._client.linear.list_solvers()
        return here | {one.name: "" if one.available else lacking(one.missing, one.extra) for one in known}

    def warm_up(self, system: FileSystem, solver: str) -> float:
        from relaxon.solvers.precompile.compiling import ITERATIONS, small_matrices

        start = time.perf_counter()
        for small in small_matrices():
            b = small @ np.arange(small.shape[0], dtype=np.float64)
            with self._client.linear.matrix(small) as kept:
                kept.solve(b, solver=solver, max_iterations=ITERATIONS, callback=_ignore)
        return time.perf_counter() - start

    def solve(self, system: FileSystem, solver: str, rtol: float, max_iterations: int | None, watch: Watch) -> Answer:
        with self._client.linear.matrix(system.matrix) as kept:
            solution = kept.solve(system.b, solver=solver, rtol=rtol, max_iterations=max_iterations, callback=watch)
            return Answer(solution, kept.setup_seconds + solution.setup_seconds)


def find_order(engine: MatrixEngine, unknowns: int) -> NDArray[np.int64] | None:
    """Return the order that multigrid put the rows in; None where it is the matrix's, or is of a part of it."""
    order = engine.row_order
    return None if order is None or len(order) != unknowns else np.asarray(order, np.int64)


@contextmanager
def explain_refusals() -> Iterator[None]:
    """Raise CommandError for what a solver or a server refuses, with its own words."""
    from relaxon.client import RelaxonError

    try:
        yield
    except MissingPackageError as error:
        raise CommandError(str(error)) from error
    except (TypeError, ValueError, MemoryError, RelaxonError) as error:
        raise CommandError(
            f"{type(error).__name__}: {error}" if isinstance(error, RelaxonError) else str(error)
        ) from error


def check_solvers(place: Place, solvers: Sequence[str]) -> dict[str, str]:
    """Return why solvers other than the first cannot run, by name; raise where one is unknown, or the first cannot."""
    known = place.list_solvers()
    reasons: dict[str, str] = {}
    for solver in solvers:
        reason = known.get(solver)
        if reason is None:
            near = get_close_matches(solver, [*known, *ALIASES], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"--solver and --compare must be of {', '.join(known)} with --matrix, got {solver!r}{hint}"
            )
        if reason and solver == solvers[0]:
            raise CommandError(f"{solver} cannot run: {reason}")
        if reason:
            reasons[solver] = reason
    return reasons


def solve_and_check(
    place: Place,
    system: FileSystem,
    solver: str,
    rtol: float,
    max_iterations: int | None,
    watch: Watch,
    warm_up_seconds: float,
) -> tuple[Run, NDArray[np.int64] | None]:
    """Return one timed run, judged by residuals recomputed here, and the order of the rows that it used."""
    start = time.perf_counter()
    answer = place.solve(system, solver, rtol, max_iterations, watch)
    solution = answer.solution
    wall = time.perf_counter() - start
    true = matrix_residual(system.matrix, system.b, solution.x)
    run = Run(
        solver=solver,
        result=solution.result.value,
        iterations=solution.iterations,
        setup_seconds=answer.setup_seconds,
        solve_seconds=solution.solve_seconds,
        wall_seconds=wall,
        warm_up_seconds=warm_up_seconds,
        relative_residual=true.relative,
        reported_residual=solution.relative_residual,
        scaled_residual=0.0 if true.scaled is None else true.scaled,
        backward_error=true.backward_error,
        reported_backward_error=solution.backward_error,
        meets_tolerance=true.meets(rtol),
        residuals=solution.residuals,
        message=solution.message,
        x=solution.x,
    )
    return run, answer.order


def refuse(solver: str, reason: str) -> Run:
    """Return the place in the table of a comparison that could not be run."""
    unknown = (np.nan,) * 5
    return Run(solver, REFUSED, 0, 0.0, 0.0, 0.0, 0.0, *unknown, False, np.empty(0), reason, None)


def _ignore(progress: Progress) -> None:
    """Do nothing, so that a warm-up takes the path of a watched solve."""
