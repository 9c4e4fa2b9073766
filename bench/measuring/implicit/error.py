"""The section `error` of bench/implicit.py: the error of implicit and unrolled Jacobians as a solver converges.

The figures are those of examples/implicit/error_bound.py, which draws them: theorem 1 of Blondel et al. 2022.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from measuring.tables import terminal_table

sys.path.insert(0, str(Path(__file__).parents[3] / "examples" / "implicit"))
import error_bound

STEPS, QUICK_STEPS = 400, 100
ROWS = 12
HEADINGS = ("steps", "solution", "implicit", "bound", "unrolled", "unrolled / implicit")


def run(console: Console, quick: bool) -> dict[str, Any]:
    """Print and return the rows."""
    counts = sorted({round(value) for value in np.geomspace(1, QUICK_STEPS if quick else STEPS, ROWS)})
    record: dict[str, Any] = {}
    for name, make in error_bound.PROBLEMS.items():
        rows = error_bound.measure(make(), counts)
        cells = []
        for row in rows:
            figures = (row.solution, row.implicit, row.bound, row.unrolled)
            cells.append([row.steps, *(f"{one:.2e}" for one in figures), f"{row.unrolled / row.implicit:.1f}"])
        console.print(terminal_table(HEADINGS, cells, name))
        record[name] = [row._asdict() for row in rows]
    return record
