"""The types of a grid's cells."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class CellType(IntEnum):
    """What a cell holds: an unknown (FLUID), a wall without flux (SOLID), or a known value (AIR)."""

    FLUID = 0
    SOLID = 1
    AIR = 2


# As single bytes: NumPy compares bytes with the members of an enumeration in 64 bits, which is many times slower.
FLUID, SOLID, AIR = (np.uint8(kind) for kind in CellType)
