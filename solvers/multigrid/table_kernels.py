"""The levels of a fused V-cycle as one table of numbers, from which a kernel has all their arrays.

A kernel that goes through all levels would have to be compiled for each number of levels if they were its arguments,
and it would take longer to unpack them than to smooth a small one. So it is given a table: a row for each level, of its
sizes and of the addresses of its arrays. Who makes a table keeps the arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numba import types
from numpy.typing import NDArray

from relaxon.solvers.kernels.address_kernels import address, view_at
from relaxon.solvers.multigrid.plane_passes import BLOCK

if TYPE_CHECKING:
    from relaxon.solvers.multigrid.levels import FusedLevel

Table = NDArray[np.int64]
N0, SIZE, N2, M0, M1, COARSE_SIZE, CODED, HALVED2, ALONE = range(9)
"""Columns of sizes: planes, cells a plane and a row of the level, then of the one below: planes, rows, cells a plane;
and whether the level is coded, its last axis coarsened, and it so small that one thread does all of it."""
CODES, DIAGONAL, LOWER0, LOWER1, LOWER2, WEIGHTS, WRAP = range(9, 16)
MULTIPLIER_CODES, MULTIPLIER, STENCIL, SHARE_CODES, SHARE = range(16, 21)
BASE0, GATHER0, BASE1, GATHER1, PADS, SOURCES0, SPREAD0, SOURCES1, SPREAD1 = range(21, 30)
R, X, Z, FORMER_R, FORMER_Z, GAIN, COARSE_R, COARSE_Z = range(30, 38)
"""`FORMER_R`, `FORMER_Z`: of the visit before; `GAIN`: of the level below."""
INDEX, INVERSE = range(38, 40)
COLUMNS = 40
ALONE_BELOW = 3000
"""A level of fewer cells is done by one thread: two would do most of its planes twice."""
PLANES = 7
"""Planes of work space."""


singles, single_row = view_at(types.float32, 2), view_at(types.float32, 1)
double_row = view_at(types.float64, 1)
byte_planes, flags = view_at(types.uint8, 2), view_at(types.boolean, 1)
places, place_row = view_at(types.int64, 2), view_at(types.int64, 1)


def level_row(level: FusedLevel) -> Table:
    """Return a level's row, without what lies below it and, on the finest, without `r`, `x` and `z`."""
    row = np.zeros(COLUMNS, np.int64)
    operator, smoother, transfer = level.operator, level.smoother, level.transfer
    n0, n1, n2 = level.shape
    row[[N0, SIZE, N2, CODED, ALONE]] = n0, n1 * n2, n2, operator.coded, n0 * n1 * n2 < ALONE_BELOW
    row[CODES:STENCIL] = [address(a) for a in (*operator[1:7], operator.wrap, smoother.codes, smoother.values)]
    row[STENCIL] = address(smoother.stencil)
    if transfer is not None:
        row[[SHARE_CODES, SHARE]] = address(transfer.codes), address(transfer.values)
        row[[HALVED2, M0, M1]] = transfer.halved2, transfer.base0.size, transfer.base1.size
        row[COARSE_SIZE] = transfer.base1.size * ((n2 + 1) // 2 if transfer.halved2 else n2)
        row[BASE0 : SPREAD1 + 1] = [address(a) for a in transfer[4:]]
    if level.inverse is not None and level.index is not None:
        row[[INDEX, INVERSE, M0]] = address(level.index), address(level.inverse), level.index.size
    row[[R, X, Z]] = address(level.r), address(level.x), address(level.z)
    return row


def level_units(level: FusedLevel) -> list[np.float32]:
    """Return the units of a level's multiplier and share."""
    return [level.smoother.unit, np.float32(1) if level.transfer is None else level.transfer.unit]


class WorkSpace:
    """Work space for so many threads on arrays of these shapes: zeros, planes and rows.

    `spaces` (members,) int64 has the address of each thread's, which begins with `most` float32 zeros.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], members: int) -> None:
        size = max(n1 * n2 for _, n1, n2 in shapes)
        rows = max(2 * max(BLOCK // n2, 1) * (n2 + 1) + 3 * n2 + n1 * n2 + 16 for _, n1, n2 in shapes)
        self.members = members
        self.most = size + size % 2  # float64 rows may follow
        room = self.most + PLANES * size + rows
        self._work = np.zeros((members, room + room % 2), np.float32)
        self.spaces = np.array([address(work) for work in self._work])
