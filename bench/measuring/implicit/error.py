"""The section `error` of bench/implicit.py: the error of implicit and unrolled Jacobians as a solver converges.

The figures are those of examples/implicit/error_bound.py, which draws them: theorem 1 of Blondel et al. 2022.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "implicit"))
import error_bound

STEPS, QUICK_STEPS = 400, 100
ROWS = 12


def run(console: Console, quick: bool) -> dict[str, Any]:
    """Print and return the rows."""
    counts = sorted({round(value) for value in np.geomspace(1, QUICK_STEPS if quick else STEPS, ROWS)})
    record: dict[str, Any] = {}
    for name, make in error_bound.PROBLEMS.items():
        rows = error_bound.measure(make(), counts)
        table = Table("steps", "solution", "implicit", "bound", "unrolled", "unrolled / implicit", title=name, box=None)
        for row in rows:
            figures = (row.solution, row.implicit, row.bound, row.unrolled)
            table.add_row(
                str(row.steps), *(f"{figure:.2e}" for figure in figures), f"{row.unrolled / row.implicit:.1f}"
            )
        console.print(table)
        record[name] = [row._asdict() for row in rows]
    return record
