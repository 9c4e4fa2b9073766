"""The live display of a running solve: iteration, residual, decades left."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from relaxon.core import solution


class LiveProgress:
    """One line for each solver on the error stream of a terminal, so that the table on the output stays clean."""

    def __init__(self, quiet: bool) -> None:
        self.console = Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("{task.fields[solver]:<12}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=quiet or not self.console.is_terminal,
        )

    @contextmanager
    def show(self) -> Iterator[None]:
        """Show the lines while the block runs."""
        with self._progress:
            yield

    def start(self, solver: str, activity: str) -> SolverLine:
        """Add a line for a solver, which shows `activity` until the first iteration."""
        return SolverLine(self._progress, self._progress.add_task(activity, total=None, solver=solver))


class SolverLine:
    """The line of one solver; it is the callback of the solve."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task
        self._first = 0.0

    def say(self, activity: str) -> None:
        """Show an activity."""
        self._progress.update(self._task, description=activity)

    def __call__(self, state: solution.Progress) -> None:
        self._first = self._first or state.residual
        total, to_go = count_decades(self._first, state.tolerance), count_decades(state.residual, state.tolerance)
        self._progress.update(
            self._task,
            total=max(total, 1e-9),
            completed=min(max(total - to_go, 0.0), total),
            description=f"iteration {state.iteration}  residual {state.residual:.2e}  {to_go:.1f} decades left",
        )

    def finish(self) -> None:
        """Remove the line."""
        self._progress.remove_task(self._task)


def count_decades(residual: float, tolerance: float) -> float:
    """Return by how many powers of ten the residual exceeds the tolerance; 0 where it does not, or is not finite."""
    if not (residual > tolerance > 0.0 and math.isfinite(residual)):
        return 0.0
    return math.log10(residual / tolerance)
