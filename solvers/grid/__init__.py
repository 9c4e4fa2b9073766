"""Cartesian grids: cells, widths, sides and coefficients, and the operator that they make."""

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.solvers.grid.poisson_grid import AIR as AIR
    from relaxon.solvers.grid.poisson_grid import FLUID as FLUID
    from relaxon.solvers.grid.poisson_grid import MAX_CELLS as MAX_CELLS
    from relaxon.solvers.grid.poisson_grid import SOLID as SOLID
    from relaxon.solvers.grid.poisson_grid import Boundary as Boundary
    from relaxon.solvers.grid.poisson_grid import CellType as CellType
    from relaxon.solvers.grid.poisson_grid import PoissonGrid as PoissonGrid
    from relaxon.solvers.grid.poisson_grid import Robin as Robin

__getattr__, __dir__ = offer_imports(__name__)
