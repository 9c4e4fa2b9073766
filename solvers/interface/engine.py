"""What a solver implements to serve `solve`: a set-up, and a run that improves `x` under a monitor."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Callback, Progress, Result
from relaxon.solvers.grid.operator import PoissonOperator

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.cycle import SingleCycle

DIVERGENCE_FACTOR = 1e6
"""A residual that has grown by this factor over the first one will not recover."""


class Monitor:
    """Keeps the residual history, calls the caller's callback, and decides when a run has to stop."""

    def __init__(self, tolerance: float, callback: Callback | None = None) -> None:
        self.tolerance = tolerance
        self.history: list[float] = []
        self.fallbacks = 0
        self._callback = callback
        self._undo: Callable[[], None] | None = None
        self.watch: Callable[[], bool] | None = None
        """Called after each residual; True ends the run as if at its limit, so that another method can continue."""

    def record(self, residual: float) -> Result | None:
        """Record ‖r‖₂, the initial one first, and return the reason to stop; None to continue."""
        residual = float(residual)
        self.history.append(residual)
        stopped = False
        if self._callback is not None:
            progress = Progress(len(self.history) - 1, residual, self.tolerance)
            stopped = self._callback(progress) is True
        if not math.isfinite(residual):
            return Result.NON_FINITE
        if residual <= self.tolerance:
            return Result.CONVERGED
        if residual > DIVERGENCE_FACTOR * self.history[0]:
            return Result.DIVERGED
        if stopped:
            return Result.CANCELLED
        return Result.MAX_ITERATIONS if self.watch is not None and self.watch() else None

    def ask(self, progress: Progress) -> bool:
        """Pass progress on to the caller's callback without recording it, and return whether that stops the solve."""
        return self._callback is not None and self._callback(progress) is True

    @property
    def observed(self) -> bool:
        """Whether a caller wants to know each residual at once."""
        return self._callback is not None

    def stepped(self, undo: Callable[[], None] | None) -> None:
        """Note how to undo the last step while its direction is still held; None once that is overwritten."""
        self._undo = undo

    def undo_worse_step(self) -> bool:
        """Undo the last step, once, if it increased the residual and can be undone; return whether it was undone."""
        undo, self._undo = self._undo, None
        if undo is None or len(self.history) < 2 or self.history[-1] <= self.history[-2]:
            return False
        undo()
        return True

    @property
    def iterations(self) -> int:
        return max(len(self.history) - 1, 0)


class Prepared(ABC):
    """A solver set up for one operator; it runs any number of right-hand sides, one at a time."""

    default_max_iterations: int = 10_000
    info: dict[str, float]
    reason: str = ""
    """Why this method was chosen; empty if the caller chose it."""
    failure: str = ""
    """Why the last run could not continue; empty if it could, or if its result says everything."""
    by_planes: bool = True
    """Whether the true residual is computed by the kernels that go plane by plane, or by those of `operator.apply`,
    which a run has compiled already."""

    def look_ahead(  # noqa: B027
        self, sides: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], tolerances: Sequence[float] | None
    ) -> None:
        """Do in one go what the coming calls of `run` with these pairs of `b` and `x` can share; nothing by default.

        `tolerances` are those of the residual norms; None if a caller watches the iterations or limits them.
        """

    together: bool = False
    """Whether `look_ahead` serves several right-hand sides better than one thread for each of them."""
    remembers: bool = True
    """Whether what a run learns about the system may change later runs."""

    def twin(self) -> Prepared | None:
        """Return an engine with the same set-up and its own work space, to run in another thread at the same time.

        An engine without work space returns itself; None if there is no such engine.
        """
        return None

    @abstractmethod
    def run(self, b: NDArray[np.float64], x: NDArray[np.float64], monitor: Monitor, max_iterations: int) -> Result:
        """Improve `x` in place until `monitor.record` gives a reason or `max_iterations` are done.

        `b` and `x` are C-contiguous float64 arrays of `operator.grid.shape3`, zero outside the fluid. `b` lies in the
        operator's range and is not modified. The initial residual is recorded first, then one per step.
        """


class Solver(ABC):
    """A method with its options, a frozen dataclass; `prepare` does everything that depends on the operator alone."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for `list_solvers`."""

    @abstractmethod
    def prepare(self, operator: PoissonOperator) -> Prepared:
        """Set the method up for an operator; ValueError if it does not solve such systems."""

    def cycle(self, operator: PoissonOperator) -> SingleCycle | None:
        """Set up and return the method's multigrid cycle, linear and symmetric; None if it has none."""
        return None

    def update(self, prepared: Prepared, operator: PoissonOperator) -> Prepared:
        """Set the method up for another operator of the same shape; `prepared` must not be used afterwards.

        The method may take over the memory of `prepared`.
        """
        return self.prepare(operator)
