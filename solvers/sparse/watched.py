"""A method that is watched: where what it still needs is more than another would take, that one goes on from there."""

from __future__ import annotations

import math
from typing import Protocol

from relaxon.solvers.engine import Monitor
from relaxon.solvers.solution import Result
from relaxon.solvers.sparse.engine import MatrixEngine
from relaxon.solvers.sparse.estimates import Estimate, seconds_said
from relaxon.solvers.sparse.system import Array, MatrixSystem

LOOK = 10
"""Iterations after which the rate of convergence is looked at, again and again."""
WORTH_IT = 1.3
"""What a method still needs must be so many times what another takes: both are estimates."""
SLOW = 10.0
"""Times the iterations so far are expected to be left where the residual has not gone down."""


class Alternatives(Protocol):
    """What can go on in a method's place."""

    def cheapest(self, seconds: float) -> Estimate | None:
        """Return what is expected to take less than so many seconds, and least."""

    def set_up(self, chosen: Estimate, seconds: float) -> MatrixEngine | None:
        """Set it up, where it then still takes less; ValueError where the matrix is none for it."""


class Watched(MatrixEngine):
    """`first` as long as it converges about as was expected, then what `alternatives` set up, watched in its turn.

    What went on is what begins with later right-hand sides. The rate is the mean one of the run so far, the seconds are
    those of the estimates: no clock is asked.
    """

    def __init__(
        self, system: MatrixSystem, first: MatrixEngine, estimate: Estimate, alternatives: Alternatives
    ) -> None:
        self.system, self.first, self.estimate, self.alternatives = system, first, estimate, alternatives
        self.second: MatrixEngine | None = None
        """What went on in the place of `first`."""
        self.info = first.info
        self.default_max_iterations = max(first.default_max_iterations, 20_000)

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        begun, done = len(monitor.history), 0
        while True:
            engine = self.second or self.first
            watch = _Watch(monitor, self.estimate, self.alternatives)
            monitor.watch = watch if self.estimate.iteration_seconds > 0 else None
            try:
                result = engine.run(b, x, monitor, max_iterations - done)
            finally:
                monitor.watch = None
            self.failure = engine.failure
            if watch.chosen is None or result is not Result.MAX_ITERATIONS:
                return result
            done = len(monitor.history) - 1 - begun
            if done >= max_iterations:
                return result
            try:
                following = self.alternatives.set_up(watch.chosen, watch.seconds)
            except ValueError as error:  # a factor that finds the matrix indefinite
                self.failure = str(error)
                return result
            monitor.history.pop()  # the next run records the residual where it begins
            if following is not None:
                self._hand_over(following, watch, done)

    def _hand_over(self, following: MatrixEngine, watch: _Watch, done: int) -> None:
        chosen = watch.chosen
        assert chosen is not None
        more = "" if math.isinf(watch.left) else f", about {watch.left:.0f} more expected"
        went_on = f"not done after {done} iterations{more}: {chosen.solver} went on ({seconds_said(chosen.seconds)})"
        self.reason = "; ".join(part for part in (self.reason, went_on, following.reason) if part)
        self.second, self.estimate = following, chosen
        self.info = self.info | following.info


class _Watch:
    """Looks at a run from time to time: whether something else would be done before it."""

    def __init__(self, monitor: Monitor, estimate: Estimate, alternatives: Alternatives) -> None:
        self.monitor, self.estimate, self.alternatives = monitor, estimate, alternatives
        self.begun = len(monitor.history)  # where the run records the residual that it begins with
        self.chosen: Estimate | None = None
        self.left, self.seconds = math.inf, math.inf

    def __call__(self) -> bool:
        done = len(self.monitor.history) - 1 - self.begun
        if done < LOOK or done % LOOK:
            return False
        self.left = expected_left(self.monitor, self.begun)
        self.seconds = self.left * self.estimate.iteration_seconds / WORTH_IT
        self.chosen = self.alternatives.cheapest(self.seconds)
        return self.chosen is not None


def expected_left(monitor: Monitor, begun: int) -> float:
    """Return how many more iterations the run that began at history's entry `begun` takes, at its mean rate.

    The least residual so far counts, as that of conjugate gradients wanders.
    """
    history = monitor.history[begun:]
    done, first, least = len(history) - 1, history[0], min(history)
    if not 0 < least < first:
        return SLOW * done
    return min(done * math.log(least / monitor.tolerance) / math.log(first / least), SLOW * SLOW * done)
