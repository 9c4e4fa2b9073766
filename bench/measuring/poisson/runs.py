"""One system, many solvers: cold, interleaved, capped in time, and judged by a residual that no solver computes."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from relaxon.cli.residual import true_residual
from relaxon.core.solution import Result, Solution
from relaxon.solvers import gallery, prepare
from relaxon.solvers.gallery import Problem
from relaxon.solvers.grid.poisson_grid import PoissonGrid

GROWTH = {"scipy-direct": 2.5, "dcdm-cnn": 4 / 3, "cg": 4 / 3, "jacobi-cg": 4 / 3, "scipy-cg": 4 / 3, "ic-cg": 7 / 6}
"""How a solver's time grows with the unknowns, as a power, to tell beforehand what would take too long; else 1."""
WARM_UP_SIDE = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """`seconds` that a run may take (or be expected to); `largest` sides, by solver, that are tried at all."""

    seconds: float = math.inf
    largest: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """One cold set-up and solve; `setup` and `solve` in seconds, the residual recomputed here."""

    setup: float
    solve: float
    iterations: int
    result: str
    relative_residual: float
    honest: bool
    """Not (said CONVERGED, and the recomputed residual does not meet the tolerance)."""
    residuals: tuple[float, ...]
    fallbacks: int

    @property
    def seconds(self) -> float:
        return self.setup + self.solve


@dataclass(frozen=True, slots=True)
class Row:
    """A solver on a case and size. Without attempts, `skipped` says why; `note` says why they are fewer than asked."""

    case: str
    size: int
    unknowns: int
    solver: str
    rtol: float
    attempts: tuple[Attempt, ...] = ()
    warm_up: Attempt | None = None
    skipped: str = ""
    note: str = ""

    @property
    def seconds(self) -> float:
        """Median of set-up and solve together."""
        return statistics.median(attempt.seconds for attempt in self.attempts)

    @property
    def worst(self) -> Attempt:
        """The attempt that is reported beside the times: the one that came out worst."""
        return max(self.attempts, key=lambda a: (a.result != Result.CONVERGED.value, not a.honest, a.relative_residual))

    @property
    def honest(self) -> bool:
        warm_up = () if self.warm_up is None else (self.warm_up,)
        return all(attempt.honest for attempt in (*warm_up, *self.attempts))

    def as_dict(self) -> dict[str, Any]:
        """JSON values; times of all attempts, and the residual history of the worst."""
        values: dict[str, Any] = {
            **{name: getattr(self, name) for name in ("case", "size", "unknowns", "solver", "rtol")},
            "setup": [attempt.setup for attempt in self.attempts],
            "solve": [attempt.solve for attempt in self.attempts],
            "result": "",
            "honest": self.honest,
            "skipped": self.skipped,
            "note": self.note,
            "warm_up_seconds": None if self.warm_up is None else self.warm_up.seconds,
        }
        if self.attempts:
            worst = self.worst
            values |= {
                "seconds": self.seconds,
                "iterations": worst.iterations,
                "result": worst.result,
                "relative_residual": number(worst.relative_residual),
                "relative_residuals": [number(attempt.relative_residual) for attempt in self.attempts],
                "residuals": [number(residual) for residual in worst.residuals],
                "fallbacks": worst.fallbacks,
            }
        return values


def fresh(grid: PoissonGrid) -> PoissonGrid:
    """The same grid with nothing computed for it yet, so that a set-up finds no other one's work done."""
    sides = [(low, high) for low, high in grid.boundary]
    return PoissonGrid(grid.cells, grid.spacing, sides, grid.coefficient, grid.reaction, volume=grid.volume)


def attempt(problem: Problem, solver: str, rtol: float, limit: float = math.inf) -> Attempt:
    """One repeat; the solve is stopped at the iteration that passes `limit` seconds, set-up included."""
    grid = fresh(problem.grid)
    gc.collect()  # another solver's garbage is not this one's time
    start = time.perf_counter()
    prepared = prepare(grid, solver=solver)
    ready = time.perf_counter()
    solution = prepared.solve(problem.b, rtol=rtol, callback=lambda _: time.perf_counter() - start > limit)
    return judge(problem, solution, rtol, ready - start, time.perf_counter() - ready)


def judge(problem: Problem, solution: Solution, rtol: float, setup: float, solve: float) -> Attempt:
    """The outcome, with the residual of the returned solution recomputed on the problem as it was posed."""
    true = true_residual(problem.grid, problem.b, solution.x)
    return Attempt(
        setup=setup,
        solve=solve,
        iterations=solution.iterations,
        result=solution.result.value,
        relative_residual=true.relative if math.isfinite(true.relative) else math.inf,
        honest=solution.result is not Result.CONVERGED or true.meets(rtol),
        residuals=tuple(float(residual) for residual in solution.residuals),
        fallbacks=solution.fallbacks,
    )


class Contestant(Protocol):
    """Makes attempts in its own way: `measuring.poisson.other_build`."""

    def attempt(self, problem: Problem, solver: str, rtol: float, limit: float) -> Attempt: ...


class Contest:
    """Solvers on one system after another; remembers who is warm, and how long they took on smaller systems."""

    def __init__(
        self,
        solvers: Sequence[str],
        repeats: int,
        limits: Limits,
        others: Mapping[str, tuple[Contestant, str]] | None = None,
    ) -> None:
        """`others` take part under their names after the solvers, each with the solver that it runs."""
        self._others = dict(others or {})
        self.solvers, self.repeats, self.limits = (*solvers, *self._others), repeats, limits
        self.rows: list[Row] = []
        self._warm: dict[tuple[str, str], Attempt | str] = {}

    def run(self, case: str, size: int, rtol: float) -> list[Row]:
        """All solvers on one system, their repeats interleaved: one row each."""
        problem = gallery.make(case, size)
        found: dict[str, list[Attempt]] = {solver: [] for solver in self.solvers}
        skipped = {solver: self._reason_to_skip(case, size, problem.grid.unknowns, solver, rtol) for solver in found}
        notes = dict.fromkeys(found, "")
        for solver in (solver for solver in self.solvers if not skipped[solver]):
            warm = self._warmed(case, solver, rtol)
            skipped[solver] = warm if isinstance(warm, str) else ""
        gc.collect()
        gc.freeze()  # what the libraries keep need not be searched again before each attempt
        for repeat in range(self.repeats):
            first = repeat % len(self.solvers)  # nobody always runs in the wake of the same one
            for solver in (*self.solvers[first:], *self.solvers[:first]):
                if skipped[solver] or notes[solver]:
                    continue
                notes[solver] = self._no_more(found[solver])
                if not notes[solver]:
                    self._try(problem, solver, rtol, found, skipped, notes)
        rows = []
        for solver in self.solvers:
            before = self._warm.get((case, solver))
            warm_up = before if isinstance(before, Attempt) else None
            done = tuple(found[solver])
            unknowns = problem.grid.unknowns
            rows.append(Row(case, size, unknowns, solver, rtol, done, warm_up, skipped[solver], notes[solver]))
        self.rows += rows
        return rows

    def _try(
        self,
        problem: Problem,
        solver: str,
        rtol: float,
        found: dict[str, list[Attempt]],
        skipped: dict[str, str],
        notes: dict[str, str],
    ) -> None:
        """One attempt; what it raises becomes the reason why there are none, or no more."""
        try:
            found[solver].append(self._attempt(problem, solver, rtol, self.limits.seconds))
        except Exception as error:  # one solver's failure must not lose the others' results
            (notes if found[solver] else skipped)[solver] = _raised(error)

    def _attempt(self, problem: Problem, solver: str, rtol: float, limit: float = math.inf) -> Attempt:
        if solver not in self._others:
            return attempt(problem, solver, rtol, limit)
        contestant, own = self._others[solver]
        return contestant.attempt(problem, own, rtol, limit)

    def _warmed(self, case: str, solver: str, rtol: float) -> Attempt | str:
        """Run a small system of the same kind once, which compiles and loads; why that failed, where it did."""
        key = (case, solver)
        if key not in self._warm:
            try:
                self._warm[key] = self._attempt(gallery.make(case, WARM_UP_SIDE), solver, rtol)
            except Exception as error:  # as in _try
                self._warm[key] = _raised(error)
        return self._warm[key]

    def _no_more(self, done: list[Attempt]) -> str:
        """Why a solver's repeats end here; empty where they go on. Together they may take what a single run may."""
        spent = sum(a.seconds for a in done)
        if not done or spent + done[-1].seconds <= self.limits.seconds:
            return ""
        return f"{len(done)} of {self.repeats} repeats: {spent:.1f} s so far, --limit {self.limits.seconds:g} s"

    def _reason_to_skip(self, case: str, size: int, unknowns: int, solver: str, rtol: float) -> str:
        """Why a solver is left out, from its largest side and from its time on a smaller system of the same case."""
        largest = dict(self.limits.largest).get(solver, size)
        if size > largest:
            return f"skipped: over its largest size here, {largest}³ (--largest)"
        before = [r for r in self.rows if (r.case, r.solver, r.rtol) == (case, solver, rtol)]
        timed = [r for r in before if r.attempts]
        if not timed:
            return ""
        last = timed[-1]
        expected = last.seconds * (unknowns / last.unknowns) ** GROWTH.get(solver, 1.0)
        if expected <= self.limits.seconds:
            return ""
        return (
            f"skipped: would take about {expected:.3g} s, after {last.seconds:.3g} s at {last.size}³; "
            f"--limit {self.limits.seconds:g} s"
        )


def number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return float(value) if math.isfinite(value) else None


def _raised(error: Exception) -> str:
    """A refusal is a ValueError in the solver's own words; anything else is a failure."""
    return f"refused: {error}" if isinstance(error, ValueError) else f"failed: {type(error).__name__}: {error}"
