"""Solvers run one after another on one system; each answer is judged by a residual recomputed here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from relaxon.cli.errors import CommandError, UsageError
from relaxon.cli.progress import LiveProgress, SolverLine
from relaxon.client import RelaxonError, Unavailable
from relaxon.core.solution import Progress, Solution

if TYPE_CHECKING:
    from relaxon.cli.grid_system import GridSystem
    from relaxon.cli.matrix_system import FileMatrixSystem
    from relaxon.cli.residual import TrueResidual
    from relaxon.solvers.stress import MatrixResidual

ALIASES = {"pyamg": ("pyamg-sa", "pyamg-rs")}
"""Names of `--compare` that stand for several solvers; each of these is run and reported."""
REFUSED = "refused"
"""The `result` of a comparison that could not be run."""

REPORTED = (
    *("solver", "result", "converged", "iterations", "setup_seconds", "solve_seconds", "total_seconds"),
    *("transport_seconds", "wall_seconds", "warm_up_seconds", "relative_residual", "reported_residual"),
    *("scaled_residual", "backward_error", "reported_backward_error"),
)
"""The figures of a run in JSON, in this order."""
RENAMED = {"reported_residual": "reported_relative_residual"}
"""Those that have another name there."""
Watch = Callable[[Progress], object]
Order = NDArray[np.int64] | None
"""The order in which a solver took the rows of a matrix; None for their own order."""
System = TypeVar("System", "GridSystem", "FileMatrixSystem")


@dataclass(frozen=True, slots=True)
class Run:
    """One solver's run on the system.

    `setup_seconds` is the server's work on the system and the solver's own set-up. `wall_seconds` is how long the
    caller waited, from sending the system to holding the solution; `transport_seconds` is the part of it that is
    neither set-up nor solve. Compiling took `warm_up_seconds` before that. `relative_residual`, `scaled_residual` and
    `backward_error` are recomputed here; see `relaxon.cli.residual.TrueResidual`.
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
    backward_error: float
    reported_backward_error: float
    meets_tolerance: bool
    residuals: NDArray[np.float64]
    message: str
    x: NDArray[Any] | None

    @property
    def total_seconds(self) -> float:
        """The seconds of set-up and solve."""
        return self.setup_seconds + self.solve_seconds

    @property
    def transport_seconds(self) -> float:
        """The seconds that the caller waited beyond set-up and solve."""
        return max(0.0, self.wall_seconds - self.total_seconds)

    @property
    def converged(self) -> bool:
        """Whether the solver reports convergence and the residual recomputed here agrees."""
        return self.result == "converged" and self.meets_tolerance

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the solution as JSON values."""
        found = {RENAMED.get(name, name): getattr(self, name) for name in REPORTED}
        finite = {name: _json_number(value) if isinstance(value, float) else value for name, value in found.items()}
        return finite | {"residuals": [_json_number(residual) for residual in self.residuals], "message": self.message}


@dataclass(frozen=True, slots=True)
class Answer:
    """A solution, what it took, and the order in which the solver took the rows."""

    solution: Solution
    setup_seconds: float
    wall_seconds: float
    order: Order = None


class Venue(ABC, Generic[System]):
    """A place where systems of one kind are solved: a server, or this process."""

    refusals: ClassVar[tuple[type[Exception], ...]] = (RelaxonError,)
    """The errors of a system or a solver that the venue does not take."""
    option: ClassVar[str] = ""
    """What to add, in a message about unknown solvers, to say which kind of solvers is known."""
    warmed_on: ClassVar[str]
    """What a warm-up solves."""
    recomputed: ClassVar[str]
    """How residuals are recomputed."""
    requires_all: ClassVar[bool] = False
    """Whether every solver of a comparison has to be available, rather than the first only."""

    @abstractmethod
    def list_solvers(self) -> dict[str, str]:
        """Return the names of solvers, each with the reason why it cannot run; empty where it can."""

    def is_on_device(self, solver: str, known: Iterable[str]) -> bool:
        """Return whether a name that is not listed is a known solver on some device, for the venue to judge."""
        return False

    @abstractmethod
    def warm_up(self, system: System, solver: str, progress: LiveProgress, line: SolverLine) -> float:
        """Compile and load what a solver runs, and return the seconds that it took."""

    @abstractmethod
    def solve(self, system: System, solver: str, rtol: float, max_iterations: int | None, watch: Watch) -> Answer:
        """Solve for one right-hand side, set-up included."""

    @abstractmethod
    def recompute(self, system: System, solution: Solution) -> TrueResidual | MatrixResidual:
        """Return the residual of a solution, computed by code that no solver uses."""


def expand_names(names: Iterable[str]) -> tuple[str, ...]:
    """Split names at commas, replace aliases, and return each solver once, in order."""
    single = (name.strip() for several in names for name in several.split(","))
    return tuple(dict.fromkeys(solver for name in single if name for solver in ALIASES.get(name, (name,))))


def check_solvers(venue: Venue[Any], solvers: Sequence[str]) -> dict[str, str]:
    """Return why solvers cannot run, by name; raise where one is unknown, or cannot run and has to."""
    known = venue.list_solvers()
    reasons: dict[str, str] = {}
    for solver in solvers:
        reason = "" if venue.is_on_device(solver, known) else known.get(solver)
        if reason is None:
            near = get_close_matches(solver, [*known, *ALIASES], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"--solver and --compare must be of {', '.join(known)}{venue.option}, got {solver!r}{hint}"
            )
        if reason and (venue.requires_all or solver == solvers[0]):
            raise CommandError(f"{solver} cannot run: {reason}")
        if reason:
            reasons[solver] = reason
    return reasons


@contextmanager
def explain_refusals(venue: Venue[Any]) -> Iterator[None]:
    """Raise CommandError, with the words of the venue, for what it does not take."""
    try:
        yield
    except venue.refusals as error:
        kind = f"{type(error).__name__}: " if isinstance(error, RelaxonError) else ""
        raise CommandError(f"{kind}{error}") from error


def run_one(
    venue: Venue[System],
    system: System,
    solver: str,
    rtol: float,
    max_iterations: int | None,
    progress: LiveProgress,
    *,
    named: bool = True,
) -> tuple[Run, Order]:
    """Warm a solver up and time one run; return also the order in which it took the rows.

    A refusal is raised for the named solver, and reported as a run for one that it is compared with.
    """
    line = progress.start(solver, "loading kernels …")
    try:
        seconds = venue.warm_up(system, solver, progress, line)
        progress.console.print(
            f"{solver}: compiled and loaded on {venue.warmed_on} in {seconds:.1f} s, not counted below",
            style="dim",
            highlight=False,
        )
        line.say("setting up …")
        return solve_and_check(venue, system, solver, rtol, max_iterations, line, seconds)
    except Unavailable:
        raise
    except venue.refusals as error:
        if named:
            raise
        return refuse(solver, str(error)), None
    finally:
        line.finish()


def solve_and_check(
    venue: Venue[System],
    system: System,
    solver: str,
    rtol: float,
    max_iterations: int | None,
    watch: Watch,
    warm_up_seconds: float,
) -> tuple[Run, Order]:
    """Return one timed run, judged by a recomputed residual, and the order in which the solver took the rows."""
    answer = venue.solve(system, solver, rtol, max_iterations, watch)
    solution = answer.solution
    true = venue.recompute(system, solution)
    run = Run(
        solver=solver,
        result=solution.result.value,
        iterations=solution.iterations,
        setup_seconds=answer.setup_seconds,
        solve_seconds=solution.solve_seconds,
        wall_seconds=answer.wall_seconds,
        warm_up_seconds=warm_up_seconds,
        relative_residual=true.relative,
        reported_residual=solution.relative_residual,
        scaled_residual=true.scaled or 0.0,
        backward_error=true.backward_error,
        reported_backward_error=solution.backward_error,
        meets_tolerance=true.meets(rtol),
        residuals=solution.residuals,
        message=solution.message,
        x=solution.x,
    )
    return run, answer.order


def refuse(solver: str, reason: str) -> Run:
    """Return the entry of a comparison that could not be run."""
    unknown = (np.nan,) * 5
    return Run(solver, REFUSED, 0, 0.0, 0.0, 0.0, 0.0, *unknown, False, np.empty(0), reason, None)


def ignore_progress(progress: Progress) -> None:
    """Do nothing: a warm-up with this callback takes the code path of a watched solve."""


def _json_number(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON lacks."""
    return float(value) if np.isfinite(value) else None
