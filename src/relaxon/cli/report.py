"""The results of `relaxon solve`: a table of the runs, and the same as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from relaxon._version import __version__
from relaxon.cli.contest import REFUSED, Run
from relaxon.cli.machine import describe_machine, list_package_versions

if TYPE_CHECKING:
    from relaxon.cli.grid_system import GridSystem
    from relaxon.cli.matrix_system import FileMatrixSystem

COLUMNS = ("set-up\ns", "solve\ns", "total\ns", "×\ntotal", "transport\ns", "itera-\ntions", "true\nresidual")
DIGITS = 4
USUAL_WIDTH = 80
"""Columns of a usual terminal."""
UNBOUNDED = 10_000
"""Columns of a terminal that is wide enough for any table."""


def print_table(console: Console, heading: str, runs: Sequence[Run], rtol: float, check: str) -> None:
    """Print a row for each run, in 80 columns; the others are compared with the first.

    For a comparison that was not run, or did not converge, a line below the table says why. Where the table needs more
    columns than the terminal has, its lines are longer than those of the terminal: nothing is cut off. `check` says how
    the residual is recomputed.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("\nsolver", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("met\nrtol", no_wrap=True)
    for run in runs:
        table.add_row(*_format_row(run, runs[0]))
    console.print(f"{heading}, rtol {rtol:g}", style="bold", markup=False)
    console.print()
    if _measure_width(console, table) > USUAL_WIDTH:  # with a long name among the solvers
        table.padding = (0, 1, 0, 0)
    console.width = max(console.width, _measure_width(console, table))
    console.print(table)
    console.print()
    for run in runs[1:]:
        if not run.converged:
            console.print(describe_outcome(run, rtol), style="red", markup=False)
    console.print(
        f"True residual: ‖b − A x‖/‖b‖, recomputed here {check} that shares no code with the solvers. "
        "Transport: how long the caller waited beyond set-up and solve, and its share of the whole wait.",
        style="dim",
        markup=False,
    )


def _measure_width(console: Console, table: Table) -> int:
    """Return the columns that a table needs so that nothing is cut off."""
    return Measurement.get(console, console.options.update(max_width=UNBOUNDED), table).maximum


def print_run(console: Console, run: Run, rtol: float) -> None:
    """Print the outcome and the times of one run in a line, before the other solvers have run."""
    times = ""
    if run.result != REFUSED:
        times = (
            f"; {run.iterations} iterations, set-up {_format_seconds(run.setup_seconds)} s + "
            f"solve {_format_seconds(run.solve_seconds)} s"
        )
    console.print(
        describe_outcome(run, rtol) + times, style="" if run.converged else "red", markup=False, soft_wrap=True
    )


def describe_outcome(run: Run, rtol: float) -> str:
    """Return a sentence that says whether a solver has solved the system."""
    if run.result == REFUSED:
        return f"{run.solver} was not run: {run.message}"
    if run.converged:
        return (
            f"{run.solver} converged: true relative residual {run.relative_residual:.2e} ≤ {rtol:g}, "
            f"backward error {run.backward_error:.1e}"
        )
    reason = f" ({run.message})" if run.message else ""
    if run.result == "converged":
        name, value = "true relative residual", run.relative_residual
        if value <= rtol:
            name, value = "residual scaled by the diagonal", run.scaled_residual
        return f"{run.solver} reports convergence, but the {name} is {value:.2e} > {rtol:g}{reason}"
    return (
        f"{run.solver} did not converge: {run.result} after {run.iterations} iterations at a true relative "
        f"residual of {run.relative_residual:.2e} > {rtol:g}{reason}"
    )


def build_record(
    system: GridSystem | FileMatrixSystem, runs: Sequence[Run], settings: dict[str, Any]
) -> dict[str, Any]:
    """Return all measurements, the machine and the versions as JSON values."""
    return {
        "relaxon": __version__,
        "machine": describe_machine().as_dict(),
        "packages": list_package_versions(),
        **system.as_dict(),
        **settings,
        "converged": runs[0].converged,
        "runs": [run.as_dict() for run in runs],
    }


def _format_row(run: Run, named: Run) -> tuple[str | Text, ...]:
    if run.result == REFUSED:
        return (run.solver, *["–"] * len(COLUMNS), Text("no", style="red"))
    factor = f"{run.total_seconds / named.total_seconds:.2f}" if named.total_seconds > 0 else ""
    share = run.transport_seconds / run.wall_seconds if run.wall_seconds > 0 else 0.0
    return (
        run.solver,
        _format_seconds(run.setup_seconds),
        _format_seconds(run.solve_seconds),
        _format_seconds(run.total_seconds),
        factor,
        f"{_format_seconds(run.transport_seconds)} ({share:.0%})",
        str(run.iterations),
        f"{run.relative_residual:.2e}",
        Text("yes", style="green") if run.converged else Text("no", style="red"),
    )


def _format_seconds(value: float) -> str:
    """Return seconds to the millisecond; longer times get fewer places, so that the columns stay narrow."""
    return f"{value:.{max(1, DIGITS - len(str(int(value))))}f}"
