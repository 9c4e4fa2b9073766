"""How much memory things take, told before they are made: bytes a cell or an unknown, measured on the solvers.

`tests/server/solving/test_footprint.py` measures these figures: each is an upper bound. `kept` is what stays while a
set-up is kept; `work` is what a set-up or a solve needs in addition while it runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from relaxon.core.available_memory import find_machine_memory
from relaxon.core.naming import split_device
from relaxon.solvers.grid.poisson_grid import PoissonGrid

SESSION_BYTES = 1 << 16
"""Of a session, whatever its size."""
CELL_BYTES = 16
"""A kept grid's cells, masks, labels of components and numbers of unknowns, and what checking them takes."""
KAPPA_BYTES = 8
"""An entry of κ as it is kept, in float64."""
ENTRY_BYTES = 40
"""A kept matrix's entry: value and column, the copy that checks symmetry with its transpose."""
ROW_BYTES = 64
REQUEST_BYTES = 16
"""Right-hand side and solution as a solver has them: float64, an entry each for a cell or an unknown."""
UNKNOWN_MEMORY = 4 * 2**30
"""Bytes of a machine whose system does not say."""
RESCUE = 50.0
"""Bytes a cell of the incomplete factor that takes over from `dcdm` where a grid is too much for it."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes a cell."""

    kept: float
    work: float


UNKNOWN = Footprint(400.0, 400.0)
CONSTANT = {
    "dcdm": Footprint(50.0, 30.0 + RESCUE),
    "auto": Footprint(50.0, 30.0 + RESCUE),
    "fast-diagonalisation": Footprint(10.0, 40.0),
    "dcdm-cnn": Footprint(100.0, 400.0),
    "mg-cg": Footprint(32.0, 60.0),
    "mg-rbgs-cg": Footprint(68.0, 60.0),
    "ic-cg": Footprint(50.0, 50.0),
    "jacobi-cg": Footprint(50.0, 50.0),
    "cg": Footprint(10.0, 50.0),
    "pyamg-sa": Footprint(400.0, 350.0),
    "pyamg-rs": Footprint(520.0, 480.0),
    "scipy-cg": Footprint(135.0, 190.0),
    "scipy-direct": Footprint(140.0, 200.0),
}
VARIABLE = CONSTANT | {
    "dcdm": Footprint(155.0, 35.0 + RESCUE),
    "auto": Footprint(155.0, 35.0 + RESCUE),
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
"""Bytes an unknown, of matrices with some seven entries a row; more in proportion."""
USUAL_ENTRIES = 7.0
FACTOR = {2: 60.0, 3: 350.0}
"""Bytes of a sparse factor, times n log₂ n in two dimensions and n^(4/3) in three."""


def factor_bytes(unknowns: int, dimensions: int) -> float:
    """Of a sparse LU in SciPy's ordering."""
    n = float(max(unknowns, 2))
    return FACTOR[2] * n * math.log2(n) if dimensions == 2 else FACTOR[3] * n ** (4.0 / 3.0)


def grid_bytes(cells: int, kappa_entries: int) -> int:
    """A grid's, kept, without any solver."""
    return SESSION_BYTES + CELL_BYTES * cells + KAPPA_BYTES * kappa_entries


def grid_setup(solver: str, grid: PoissonGrid) -> tuple[int, int]:
    """Bytes that a set-up on a grid keeps, and that it and a solve with it need beside that."""
    solver, _ = split_device(solver)
    table = CONSTANT if grid.constant else VARIABLE
    found = table.get(solver, UNKNOWN)
    cells = grid.cells.size
    kept = found.kept * cells
    if solver == "scipy-direct":
        kept += factor_bytes(grid.unknowns, 2 if min(grid.shape3) <= 2 else 3)
    return _with_request(kept, found.work * cells, cells)


def matrix_bytes(unknowns: int, entries: int) -> int:
    """A matrix's, kept, without any solver."""
    return SESSION_BYTES + ROW_BYTES * unknowns + ENTRY_BYTES * entries


def matrix_setup(solver: str, unknowns: int, entries: int) -> tuple[int, int]:
    """As `grid_setup`. What "auto" chooses and what a factor fills in depends on the pattern: the most is taken."""
    fullness = max(1.0, entries / (USUAL_ENTRIES * max(unknowns, 1)))
    found = MATRIX.get(solver, MATRIX["pyamg-rs"])
    kept = found.kept * fullness * unknowns
    if solver == "scipy-direct":
        kept = factor_bytes(unknowns, 3) + 200.0 * unknowns
    return _with_request(kept, found.work * fullness * unknowns, unknowns)


def _with_request(kept: float, work: float, entries: int) -> tuple[int, int]:
    """A solve's arrays are counted with its work, and stay for the next one's."""
    stay = REQUEST_BYTES * entries
    return SESSION_BYTES + int(kept + stay), SESSION_BYTES + int(max(work - stay, 0.0))


def machine_bytes() -> int:
    """This machine's memory, or of it what this process's control groups may have."""
    return find_machine_memory() or UNKNOWN_MEMORY
