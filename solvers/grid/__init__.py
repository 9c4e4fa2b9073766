"""Cartesian grids: cells, widths, sides and coefficients, and the operator that they make."""

from relaxon.core.cell_types import CellType
from relaxon.solvers.grid.poisson_grid import AIR, FLUID, MAX_CELLS, SOLID, Boundary, PoissonGrid
from relaxon.solvers.grid.sides import Robin

__all__ = ["AIR", "FLUID", "MAX_CELLS", "SOLID", "Boundary", "CellType", "PoissonGrid", "Robin"]
