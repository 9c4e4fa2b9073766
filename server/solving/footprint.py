"""The memory of sessions, set-ups and solves, estimated before it is taken: bytes per cell or unknown, as measured.

The figures are upper bounds, which `tests/server/solving/test_footprint.py` measures again. `kept` is what stays while
a set-up is kept, `work` what a set-up or a solve needs in addition while it runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from relaxon.core.available_memory import find_machine_memory
from relaxon.core.naming import split_device
from relaxon.solvers.dcdm.rescue import may_factor, rescue_bytes
from relaxon.solvers.grid.poisson_grid import PoissonGrid

SESSION_BYTES = 1 << 16
"""Bytes of a session, whatever its size."""
CELL_BYTES = 16
"""Bytes per cell of a kept grid: cells, masks, component labels, numbers of unknowns, and what checking them takes."""
KAPPA_BYTES = 8
"""Bytes of an entry of κ, which is kept in float64."""
ENTRY_BYTES = 40
"""Bytes of a kept matrix's entry: value, column, and the transposed copy that the check of symmetry makes."""
ROW_BYTES = 64
"""Bytes of a kept matrix's row."""
REQUEST_BYTES = 16
"""Bytes of a solver's right-hand side and solution, per cell or unknown: one float64 each."""
UNKNOWN_MEMORY = 4 * 2**30
"""Bytes assumed for a machine whose system does not report its memory."""
RESCUED = ("dcdm", "auto")
"""The solvers of grids beside which another method may take over; see `relaxon.solvers.dcdm.rescue`."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes per cell of a set-up, and of its work."""

    kept: float
    work: float


UNKNOWN = Footprint(400.0, 400.0)
"""Assumed for a solver that has not been measured."""
CONSTANT = {
    "dcdm": Footprint(50.0, 30.0),
    "auto": Footprint(50.0, 30.0),
    "fast-diagonalisation": Footprint(10.0, 40.0),
    "dcdm-cnn": Footprint(100.0, 400.0),
    "mg-cg": Footprint(32.0, 60.0),
    "mg-rbgs-cg": Footprint(68.0, 60.0),
    "ic-cg": Footprint(50.0, 50.0),
    "jacobi-cg": Footprint(50.0, 50.0),
    "cg": Footprint(10.0, 50.0),
    "amg": Footprint(215.0, 145.0),
    "pyamg-sa": Footprint(400.0, 350.0),
    "pyamg-rs": Footprint(520.0, 480.0),
    "scipy-cg": Footprint(135.0, 190.0),
    "scipy-direct": Footprint(140.0, 200.0),
}
VARIABLE = CONSTANT | {
    "dcdm": Footprint(155.0, 35.0),
    "auto": Footprint(155.0, 35.0),
    "fast-diagonalisation": Footprint(40.0, 70.0),
    "mg-cg": Footprint(95.0, 130.0),
    "mg-rbgs-cg": Footprint(95.0, 130.0),
    "cg": Footprint(40.0, 95.0),
}
MATRIX = {
    "amg": Footprint(200.0, 350.0),
    "cg": Footprint(8.0, 64.0),
    "jacobi-cg": Footprint(16.0, 64.0),
    "ic-cg": Footprint(400.0, 400.0),
    "pyamg-sa": Footprint(1500.0, 1500.0),
    "pyamg-rs": Footprint(2000.0, 2000.0),
}
"""Bytes per unknown, for matrices with about seven entries per row; in proportion for more."""
USUAL_ENTRIES = 7.0
"""Entries per row for which `MATRIX` holds."""
FACTOR = {2: 60.0, 3: 350.0}
"""Bytes of a sparse factor: times n log₂ n in two dimensions, times n^(4/3) in three."""


def factor_bytes(unknowns: int, dimensions: int) -> float:
    """Return the bytes of a sparse LU factor in SciPy's ordering."""
    n = float(max(unknowns, 2))
    return FACTOR[2] * n * math.log2(n) if dimensions == 2 else FACTOR[3] * n ** (4.0 / 3.0)


def grid_bytes(cells: int, kappa_entries: int) -> int:
    """Return the bytes of a kept grid without any solver."""
    return SESSION_BYTES + CELL_BYTES * cells + KAPPA_BYTES * kappa_entries


def grid_setup(solver: str, grid: PoissonGrid) -> tuple[int, int]:
    """Return the bytes that a set-up on a grid keeps, and those that it and a solve need in addition."""
    solver, _ = split_device(solver)
    table = CONSTANT if grid.constant else VARIABLE
    found = table.get(solver, UNKNOWN)
    cells = grid.cells.size
    rescue = _rescue_bytes(grid) if solver in RESCUED else 0.0
    kept = found.kept * cells
    if solver == "scipy-direct":
        kept += factor_bytes(grid.unknowns, 2 if min(grid.shape3) <= 2 else 3)
    return _with_request(kept, found.work * cells + rescue, cells)


def _rescue_bytes(grid: PoissonGrid) -> float:
    """Return the bytes of the largest method that may take over."""
    factor = factor_bytes(grid.unknowns, 2 if min(grid.shape3) <= 2 else 3) if may_factor(grid) else 0.0
    return rescue_bytes(grid.cells.size) + factor


def matrix_bytes(unknowns: int, entries: int) -> int:
    """Return the bytes of a kept matrix without any solver."""
    return SESSION_BYTES + ROW_BYTES * unknowns + ENTRY_BYTES * entries


def matrix_setup(solver: str, unknowns: int, entries: int) -> tuple[int, int]:
    """Return the same as `grid_setup` for a matrix.

    What "auto" chooses and how much a factor fills in depend on the pattern: the largest is assumed.
    """
    fullness = max(1.0, entries / (USUAL_ENTRIES * max(unknowns, 1)))
    found = MATRIX.get(solver, MATRIX["pyamg-rs"])
    kept = found.kept * fullness * unknowns
    if solver == "scipy-direct":
        kept = factor_bytes(unknowns, 3) + 200.0 * unknowns
    return _with_request(kept, found.work * fullness * unknowns, unknowns)


def _with_request(kept: float, work: float, entries: int) -> tuple[int, int]:
    """Move a solve's arrays, which are measured as work, to what is kept: they stay for the next solve."""
    stay = REQUEST_BYTES * entries
    return SESSION_BYTES + int(kept + stay), SESSION_BYTES + int(max(work - stay, 0.0))


def machine_bytes() -> int:
    """Return the memory of this machine, or the part that its control groups allow this process."""
    return find_machine_memory() or UNKNOWN_MEMORY
