"""Monitoring of a method: where it needs longer than another method would, that one continues from there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.choice.estimates import Estimate, format_seconds
from relaxon.solvers.sparse.engine import LOOK, DelegatingEngine, MatrixEngine, expected_left
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

WORTH_IT = 1.3
"""What a method still needs must be this many times what another takes, as both are estimates."""
SLOWS_DOWN = 2.0
"""An earlier method is expected to take this many times what its rate says: the first iterations reduce most."""
RESCUE = 100.0
"""Where a method stagnates, another may take this many times what the first was expected to."""
NOT_DEFINITE = "the matrix is not positive definite"
"""Beginning of failures that no other method for positive definite matrices can mend."""
MOST_CHANGES = 6
"""Changes of the method in one run, after which the present one continues to the end."""


class Alternatives(Protocol):
    """The methods that can take over from one."""

    def cheapest(self, seconds: float, shortfall: float = 1.0) -> Estimate | None:
        """Return the cheapest method, if it is expected to take less than that many seconds; `shortfall` is how many
        times the expected iterations the present one takes."""

    def follow(self, system: MatrixSystem, begun: str) -> Alternatives:
        """Return the alternatives for new values on the same pattern, where the solver of that name has begun."""

    def set_up(self, chosen: Estimate, seconds: float) -> MatrixEngine | None:
        """Set up the chosen method, None where it turns out too expensive; ValueError where it refuses the matrix."""


@dataclass(slots=True)
class Runner:
    """A method that is set up, with its expected cost and, once it has run, its rate of convergence."""

    engine: MatrixEngine
    estimate: Estimate
    rate: float | None = None
    """Logarithm of the residual's reduction in an iteration, 0 where there was none, None before a run."""

    def left(self, residual: float, tolerance: float) -> float:
        """Return the number of iterations expected from a residual; infinite where the rate is unknown."""
        return math.log(residual / tolerance) / self.rate if self.rate else math.inf


class Watched(DelegatingEngine):
    """`first` as long as it converges about as expected, then another of the `alternatives`, monitored in its turn, or
    an earlier one again where that was faster after all.

    Later right-hand sides begin with the method that ran last. The rate is the mean one of the run so far, and seconds
    are those of the estimates: no clock is read.
    """

    def __init__(
        self, system: MatrixSystem, first: MatrixEngine, estimate: Estimate, alternatives: Alternatives
    ) -> None:
        self.system, self.first, self.alternatives = system, first, alternatives
        self.second: MatrixEngine | None = None
        """The method that took over from `first`, None while none has."""
        self.runners = [Runner(first, estimate)]
        self.info = first.info
        self.default_max_iterations = max(first.default_max_iterations, 20_000)

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        running = self._running
        engine = running.engine.update(system)
        if engine is None:
            return None
        estimate = running.estimate
        updated = Watched(system, engine, estimate, self.alternatives.follow(system, estimate.solver))
        updated.reuses, updated.reason = engine.reuses, self.reason
        return updated

    @property
    def running(self) -> MatrixEngine:
        return self.second or self.first

    @property
    def _running(self) -> Runner:
        return next(one for one in self.runners if one.engine is self.running)

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        begun, done = len(monitor.history), 0
        running = self._running
        for changes in range(MOST_CHANGES + 1):
            watch = _Watch(monitor, running, self.runners, self.alternatives)
            iterative = running.estimate.iteration_seconds > 0
            monitor.watch = watch if iterative and changes < MOST_CHANGES else None
            try:
                result = running.engine.run(b, x, monitor, max_iterations - done)
            finally:
                monitor.watch = None
            self.failure = running.engine.failure
            done = len(monitor.history) - 1 - begun
            if done >= max_iterations or changes == MOST_CHANGES:
                return result
            if result is Result.STAGNATED and not self.failure.startswith(NOT_DEFINITE):
                watch.seconds = RESCUE * running.estimate.seconds
                watch.chosen = self.alternatives.cheapest(watch.seconds)
            elif result is not Result.MAX_ITERATIONS:
                return result
            if watch.chosen is None:
                return result
            try:
                following = self._following(watch.chosen, watch.seconds)
            except ValueError as error:  # a factor that finds the matrix indefinite
                self.failure = str(error)
                return result
            if following is None and result is Result.STAGNATED:
                return result
            monitor.history.pop()  # the next run records the residual where it begins
            if following is not None:
                self._hand_over(following, watch, done, result is Result.STAGNATED)
                running = following
        return result

    def _following(self, chosen: Runner | Estimate, seconds: float) -> Runner | None:
        if isinstance(chosen, Runner):
            return chosen
        engine = self.alternatives.set_up(chosen, seconds)
        if engine is None:
            return None
        self.runners.append(Runner(engine, chosen))
        return self.runners[-1]

    def _hand_over(self, following: Runner, watch: _Watch, done: int, stagnated: bool) -> None:
        name, again = following.estimate.solver, following is watch.chosen
        expected = "" if again else f" ({format_seconds(following.estimate.seconds)})"
        state = "stagnated after" if stagnated else "not done after"
        more = "" if stagnated else f", about {watch.left:.0f} more expected"
        went_on = f"{state} {done} iterations{more}: {name} went on{expected}"
        said = "" if again else following.engine.reason
        self.reason = "; ".join(part for part in (self.reason, went_on, said) if part)
        self.second = following.engine
        self.info = self.info | following.engine.info


class _Watch:
    """A periodic check of a run: whether another method would finish earlier."""

    def __init__(self, monitor: Monitor, running: Runner, runners: list[Runner], alternatives: Alternatives) -> None:
        self.monitor, self.running, self.alternatives = monitor, running, alternatives
        self.others = [one for one in runners if one is not running]
        self.begun = len(monitor.history)  # where the run records the residual that it begins with
        self.chosen: Runner | Estimate | None = None
        self.left, self.seconds = math.inf, math.inf

    def __call__(self) -> bool:
        history, tolerance = self.monitor.history[self.begun :], self.monitor.tolerance
        done = len(history) - 1
        if done < LOOK or done % LOOK:
            return False
        self.running.rate = max(math.log(history[0] / min(history)) / done, 0.0) if min(history) > 0 else None
        self.left = expected_left(history, tolerance)
        self.seconds = self.left * self.running.estimate.iteration_seconds / WORTH_IT
        shortfall = (done + self.left) / max(self.running.estimate.iterations, 1.0)
        self.chosen = self.alternatives.cheapest(self.seconds, shortfall)
        best = self.seconds if self.chosen is None else self.chosen.seconds
        for one in self.others:
            seconds = SLOWS_DOWN * one.left(history[-1], tolerance) * one.estimate.iteration_seconds
            if seconds < best:
                self.chosen, best = one, seconds
        return self.chosen is not None
