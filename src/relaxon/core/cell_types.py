"""What a cell of a grid holds."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class CellType(IntEnum):
    """What a cell holds: an unknown, a wall (no flux), or a known value."""

    FLUID = 0
    SOLID = 1
    AIR = 2


# As single bytes: NumPy compares bytes with an enumeration's members in 64 bits, which takes many times as long.
FLUID, SOLID, AIR = (np.uint8(kind) for kind in CellType)
