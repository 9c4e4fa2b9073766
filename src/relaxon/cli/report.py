"""What `relaxon solve` says at the end: the table of the runs, and the JSON file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relaxon._version import __version__
from relaxon.cli.contest import REFUSED, Run
from relaxon.cli.machine import describe_machine, package_versions
from relaxon.cli.system import System

COLUMNS = ("set-up s", "solve s", "total s", "× total", "transport s", "iterations", "true residual")


def print_table(console: Console, system: System, runs: Sequence[Run], rtol: float) -> None:
    """A row a run; the first run is the one that the others are compared with."""
    table = Table(title=f"{describe(system)}, rtol {rtol:g}", title_justify="left", title_style="bold")
    table.add_column("solver", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("result")
    for run in runs:
        table.add_row(*_row(run, runs[0]))
    console.print(table)
    console.print(
        "True residual: ‖b − A x‖/‖b‖, recomputed here in float64 by an operator that shares no code with the "
        "solvers.\nTransport: what the caller waited beyond set-up and solve, and its share of the wait.",
        style="dim",
    )


def describe(system: System) -> str:
    """A line on the system: its name, its shape and how many unknowns it has."""
    grid = system.grid
    shape = "×".join(map(str, grid.shape))
    return f"{system.name} {shape}, {grid.unknowns:,} unknowns"


def verdict(run: Run, rtol: float) -> str:
    """Whether the named solver has done it, in a sentence."""
    if run.converged:
        return f"{run.solver} converged: true relative residual {run.relative_residual:.2e} ≤ {rtol:g}"
    reason = f" ({run.message})" if run.message else ""
    if run.result == "converged":
        return (
            f"{run.solver} says that it converged, but the true relative residual is "
            f"{run.relative_residual:.2e} > {rtol:g}{reason}"
        )
    return (
        f"{run.solver} did not converge: {run.result} after {run.iterations} iterations at a true relative "
        f"residual of {run.relative_residual:.2e} > {rtol:g}{reason}"
    )


def write_json(path: Path, system: System, runs: Sequence[Run], settings: dict[str, Any]) -> None:
    """Everything that was measured, the machine and the versions."""
    grid = system.grid
    content = {
        "relaxon": __version__,
        "machine": describe_machine().as_dict(),
        "packages": package_versions(),
        "problem": {
            "name": system.name,
            "summary": system.summary,
            "shape": list(grid.shape),
            "unknowns": grid.unknowns,
            "spacing": list(grid.spacing),
            "boundary": [[side.value for side in pair] for pair in grid.boundary],
        },
        **settings,
        "converged": runs[0].converged,
        "runs": [run.as_dict() for run in runs],
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _row(run: Run, named: Run) -> tuple[str | Text, ...]:
    if run.result == REFUSED:
        return (run.solver, *[""] * len(COLUMNS), Text(f"not run: {run.message}", style="red"))
    factor = f"{run.total_seconds / named.total_seconds:.2f}" if named.total_seconds > 0 else ""
    share = run.transport_seconds / run.wall_seconds if run.wall_seconds > 0 else 0.0
    said = run.result if run.result != "converged" or run.converged else "converged? residual above rtol"
    return (
        run.solver,
        f"{run.setup_seconds:.3f}",
        f"{run.solve_seconds:.3f}",
        f"{run.total_seconds:.3f}",
        factor,
        f"{run.transport_seconds:.3f} ({share:.0%})",
        str(run.iterations),
        f"{run.relative_residual:.2e}",
        Text(said, style="green" if run.converged else "red"),
    )
