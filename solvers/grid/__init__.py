"""Cartesian grids: cells, widths, sides and coefficients, and the operator that they make."""

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.solvers.grid.poisson_grid import AIR, FLUID, MAX_CELLS, SOLID, Boundary, CellType, PoissonGrid, Robin

__all__ = ["AIR", "FLUID", "MAX_CELLS", "SOLID", "Boundary", "CellType", "PoissonGrid", "Robin"]
__getattr__, __dir__ = offer_lazily(__name__, dict.fromkeys(__all__, "poisson_grid"), __all__)
