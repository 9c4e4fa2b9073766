"""What a solver has to offer to stand behind `solve`: a set-up, and a run that improves `x` under a monitor."""

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
"""A residual that has grown by this factor over the first one will not come back."""


class Monitor:
    """Keeps the residual history, asks the caller's callback, and says when a run has to stop."""

    def __init__(self, tolerance: float, callback: Callback | None = None) -> None:
        self.tolerance = tolerance
        self.history: list[float] = []
        self.fallbacks = 0
        self._callback = callback
        self._undo: Callable[[], None] | None = None
        self.watch: Callable[[], bool] | None = None
        """Asked after each residual; where it says True the run ends as at its limit, for another to go on."""

    def record(self, residual: float) -> Result | None:
        """Take ‖r‖₂ (the first call is the initial one); None to go on, else the reason to stop."""
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
        """Pass progress on to the caller's callback, without recording it; whether it stops the solve."""
        return self._callback is not None and self._callback(progress) is True

    def stepped(self, undo: Callable[[], None] | None) -> None:
        """Note how the last step can be undone as long as its direction is held; None once that is overwritten."""
        self._undo = undo

    def undo_worse_step(self) -> bool:
        """Undo the last step where it made the residual larger and can be undone; whether that was done. Once."""
        undo, self._undo = self._undo, None
        if undo is None or len(self.history) < 2 or self.history[-1] <= self.history[-2]:
            return False
        undo()
        return True

    @property
    def iterations(self) -> int:
        return max(len(self.history) - 1, 0)


class Prepared(ABC):
    """A solver set up for one operator; runs as many right-hand sides as wanted, one at a time."""

    default_max_iterations: int = 10_000
    info: dict[str, float]
    reason: str = ""
    """Why this method was chosen, where it was chosen automatically."""
    failure: str = ""
    """Why the last run could not go on; empty where it could, or where its result says all."""
    by_planes: bool = True
    """Whether the true residual is measured by the kernels that go plane by plane, or by those of `operator.apply`,
    where a run has these compiled already."""

    def look_ahead(  # noqa: B027
        self, sides: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], tolerances: Sequence[float] | None
    ) -> None:
        """Do at once what the coming calls of `run` with these pairs of `b` and `x` can share; nothing by default.

        `tolerances` are those of the residuals' norms, None where a caller watches the iterations or bounds them.
        """

    remembers: bool = True
    """Whether what a run has found out about the system may change how later ones go."""

    def twin(self) -> Prepared | None:
        """Return an engine with this one's set-up and work space of its own, to run beside it in another thread; itself
        where it has none. None where there is no such engine."""
        return None

    @abstractmethod
    def run(self, b: NDArray[np.float64], x: NDArray[np.float64], monitor: Monitor, max_iterations: int) -> Result:
        """Improve `x` in place until `monitor.record` gives a reason or `max_iterations` are done.

        `b` and `x` are C-contiguous float64 arrays of `operator.grid.shape3`, zero outside the fluid; `b` lies in
        the operator's range and is not written to. The initial residual is recorded first, then one a step.
        """


class Solver(ABC):
    """A method with its options (a frozen dataclass); `prepare` does whatever depends on the operator alone."""

    name: ClassVar[str]
    summary: ClassVar[str]
    """One line for `list_solvers`."""

    @abstractmethod
    def prepare(self, operator: PoissonOperator) -> Prepared: ...

    def cycle(self, operator: PoissonOperator) -> SingleCycle | None:
        """Return the method's multigrid cycle, linear and symmetric, set up anew; None where it has none."""
        return None

    def update(self, prepared: Prepared, operator: PoissonOperator) -> Prepared:
        """As `prepare`, for an operator of the same shape, in the memory of `prepared` where the method can take it
        over; `prepared` must not be used any more."""
        return self.prepare(operator)
