"""A Cartesian grid with cell types, sides and coefficients: the geometry of a Poisson problem."""

# Imported on first use, for their weight: `nullspace`, `operator`.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from relaxon.core.cached import cached_property
from relaxon.core.cell_types import AIR, FLUID, SOLID, CellType
from relaxon.core.masked import fill_coefficient, fill_unused, plain_array
from relaxon.solvers.grid import cell_metrics, hooks
from relaxon.solvers.grid.arguments import (
    MAX_CELLS,
    SMALLEST_WIDTH,
    Kappa,
    SpacingLike,
    Widths,
    shut_cells,
    validate_cells,
    validate_coefficient,
    validate_reaction,
    validate_spacing,
    validate_volume,
    validate_widths,
)
from relaxon.solvers.grid.sides import PLAIN_SIDES, Boundary, BoundaryLike, Robin, Sides, check_films, validate_boundary

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from relaxon.solvers.grid.nullspace import NullSpace
    from relaxon.solvers.grid.operator import PoissonOperator

__all__ = [
    "AIR",
    "FLUID",
    "MAX_CELLS",
    "SMALLEST_WIDTH",
    "SOLID",
    "Boundary",
    "BoundaryLike",
    "CellType",
    "CheckedGrid",
    "PoissonGrid",
    "Robin",
    "Sides",
    "validate_boundary",
    "validate_spacing",
]


class PoissonGrid:
    """Cells of a Cartesian grid in two or three dimensions, for `(σ − ∇·κ∇) x = b` by cell-centred finite volumes.

    Each FLUID cell is an unknown. A SOLID neighbour lets nothing through (Neumann), an AIR neighbour holds the
    value 0 at its centre (Dirichlet). The matrix row of a fluid cell is
    `Σ_faces κ_f / h_a² · (x_i − x_j) + σ_i x_i` over the open faces, `x_j = 0` in AIR, and `2 κ_f / h_a² · x_i` at a
    Dirichlet side. Where widths vary or cells are cut, a row is that of a cell's volume over the mean one, so that
    the matrix is symmetric: see `weighted`.

    Parameters
    ----------
    cells : `(nx, ny)` or `(nx, ny, nz)` integers, values of `CellType`. It is copied.
    spacing : cell width: one number, or for each axis a number or its cells' widths `(n,)`; from 1e-100 to 1e100, those
        of one axis by a factor of at most 1e8 apart.
    boundary : "neumann" (default), "dirichlet", "dirichlet-node", "periodic" or `Robin(h)` for all sides; or a sequence
        with, for each axis, one of these or a (low side, high side) pair.
    coefficient : κ; None for 1, an array of the grid's shape (harmonic mean at faces), or one array an axis with
        the values on faces (one longer along its own axis; face `i` lies below cell `i`). Finite, and of cells > 0, of
        faces ≥ 0 (0 closes a face), wherever the fluid reads it: in FLUID cells and AIR cells beside them, or on their
        open faces. Elsewhere it is ignored.
    reaction : σ, a number or an array of the grid's shape, ≥ 0 in the fluid; elsewhere it is ignored.
    volume : part of each cell that is not cut away, an array of the grid's shape, above 0 and at most 1 in the fluid; σ
        and `b` count so much. None for 1. What cutting leaves of the faces is part of `coefficient`.

    A FLUID cell that `coefficient` closes on all sides and whose σ or volume is 0 is left out of the system: it is
    SOLID in `cells`, and as it was given in `given_cells`.

    Raises
    ------
    TypeError, ValueError
        naming the argument; a grid without any fluid cell is refused.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.zeros((4, 4), np.uint8)      # all fluid
    >>> cells[:, -1] = CellType.AIR             # an open surface
    >>> grid = PoissonGrid(cells, spacing=0.25)
    >>> grid.unknowns
    12
    """

    def __init__(
        self,
        cells: ArrayLike,
        spacing: SpacingLike = 1.0,
        boundary: BoundaryLike = Boundary.NEUMANN,
        coefficient: ArrayLike | Sequence[ArrayLike] | None = None,
        reaction: float | ArrayLike | None = None,
        *,
        volume: ArrayLike | None = None,
    ) -> None:
        self.given_cells = validate_cells(plain_array("cells", cells))
        self.cells = self.given_cells
        self.spacing = validate_widths(spacing, self.cells.shape)
        self.boundary = validate_boundary(boundary, self.cells.ndim)
        check_films(self.boundary, self.cells.shape)
        coefficient = fill_coefficient(coefficient, self.cells, self.periodic)
        self.coefficient, self._ignored = validate_coefficient(coefficient, self.cells, self.boundary)
        fluid = self.cells == FLUID
        self.reaction, self.given_reaction = validate_reaction(reaction, fluid)
        fluid = self._without_shut_cells(fluid, volume)
        self.volume, self.given_volume = validate_volume(volume, fluid)
        self.unknowns = int(np.count_nonzero(fluid))
        if self.unknowns == 0:
            said = "" if self.cells is self.given_cells else " with an open face or a reaction"
            raise ValueError(f"cells must hold at least one FLUID cell{said}, got none")

    def _without_shut_cells(self, fluid: NDArray[np.bool_], volume: Any) -> NDArray[np.bool_]:
        """Leave out cells that coefficients of 0 close on all sides, and return the fluid that is left."""
        if not isinstance(self.coefficient, tuple) or all(face.all() for face in self.coefficient):
            return fluid
        shut = shut_cells(self.cells, self.boundary, self.coefficient, self.reaction, volume)
        if not shut.any():
            return fluid
        self.cells = np.where(shut, SOLID, self.cells)
        self.cells.flags.writeable = False
        return fluid & ~shut

    @property
    def shape(self) -> tuple[int, ...]:
        return self.cells.shape

    @property
    def ndim(self) -> int:
        return self.cells.ndim

    @property
    def shape3(self) -> tuple[int, int, int]:
        """The shape kernels see: a 2-D grid has a first axis of length 1 without flux along it."""
        shape = (1,) * (3 - self.ndim) + self.shape
        return (shape[0], shape[1], shape[2])

    @property
    def periodic(self) -> tuple[bool, ...]:
        return tuple(low is Boundary.PERIODIC for low, _ in self.boundary)

    @property
    def given_coefficient(self) -> NDArray[np.float64] | tuple[NDArray[np.float64], ...] | None:
        """κ with NaN wherever what was given is ignored, so that other cells which read it are refused."""
        if self._ignored is None or self.coefficient is None:
            return self.coefficient
        whole = isinstance(self.coefficient, tuple)
        arrays = self.coefficient if isinstance(self.coefficient, tuple) else (self.coefficient,)
        marked = tuple(np.where(gone, np.nan, one) for one, gone in zip(arrays, self._ignored, strict=True))
        return marked if whole else marked[0]

    @cached_property
    def fluid(self) -> NDArray[np.bool_]:
        """Where the unknowns are: `grid.shape bool`, read-only."""
        mask: NDArray[np.bool_] = self.cells == FLUID
        mask.flags.writeable = False
        return mask

    @cached_property
    def _fluid_index(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.fluid)

    @property
    def constant(self) -> bool:
        """Whether the matrix is that of κ = 1 on equal cells, with nothing else: the learned methods apply to it."""
        return (
            self.coefficient is None
            and self.reaction is None
            and not self.stretched
            and all(side in PLAIN_SIDES for pair in self.boundary for side in pair)
        )

    @property
    def stretched(self) -> bool:
        """Whether the widths along some axis differ."""
        return any(isinstance(widths, np.ndarray) for widths in self.spacing)

    @property
    def mean_spacing(self) -> tuple[float, ...]:
        """The mean width along each axis."""
        return tuple(cell_metrics.mean_width(widths) for widths in self.spacing)

    @cached_property
    def row_weights(self) -> NDArray[np.float64] | None:
        """The uncut volume of each cell over that of the mean cell: `grid.shape float64`; None for 1 everywhere."""
        return cell_metrics.row_weights(self.spacing, self.shape, self.volume)

    def weighted(self, b: ArrayLike) -> NDArray[np.float64]:
        """Return the right-hand side of `operator().to_csr()` for a density `b`: `b` times volume over the mean one.

        Full or packed, and so is what is returned: float64, 0 outside the fluid. Solvers do this themselves; residuals
        and tolerances are those of the weighted system. On whole cells of equal widths it is `b`.

        Examples
        --------
        >>> import numpy as np
        >>> from relaxon.solvers import PoissonGrid
        >>> grid = PoissonGrid(np.zeros((3, 1), np.uint8), ([1.0, 2.0, 3.0], 1.0))
        >>> grid.weighted(np.ones((3, 1)))[:, 0].tolist()
        [0.5, 1.0, 1.5]
        """
        array = np.asarray(fill_unused("b", b, lambda: self.fluid))
        packed = array.ndim == 1
        full = self.unpack(array) if packed else array
        if full.shape != self.shape:
            raise ValueError(f"b must have the grid's shape {self.shape} or ({self.unknowns},), got {array.shape}")
        weights = self.row_weights
        found = np.where(self.fluid, full if weights is None else full * weights, 0.0).astype(np.float64, copy=False)
        return self.pack(found) if packed else found

    def pack(self, full: ArrayLike) -> NDArray[Any]:
        """Return the unknowns of a full array, in C order: `grid.shape → (unknowns,)`, same dtype."""
        array = np.asarray(fill_unused("full", full, lambda: self.fluid))
        if array.shape != self.shape:
            raise ValueError(f"full must have the grid's shape {self.shape}, got {array.shape}")
        return array.reshape(-1)[self._fluid_index]

    def unpack(self, packed: ArrayLike, fill: float = 0.0) -> NDArray[Any]:
        """Return a full array from unknowns: `(unknowns,) → grid.shape`, same dtype, `fill` outside the fluid."""
        vector = plain_array("packed", packed)
        if vector.shape != (self.unknowns,):
            raise ValueError(f"packed must have shape ({self.unknowns},), got {vector.shape}")
        full = np.full(self.cells.size, fill, vector.dtype)
        full[self._fluid_index] = vector
        return full.reshape(self.shape)

    def operator(self, dtype: DTypeLike = np.float64) -> PoissonOperator:
        """Return the matrix-free operator `A` in float64 or float32; its arrays are made once for each dtype."""
        from relaxon.solvers.grid.operator import PoissonOperator

        return PoissonOperator(self, dtype)

    def operator_parts(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Return the store in which operators of a dtype keep what they have made, for each other.

        The grid holds no operator itself: each of them holds the grid, and memory in a circle of references stays
        until the garbage collector comes by, which does not count its bytes.
        """
        return self._operator_parts.setdefault(dtype, {})

    @cached_property
    def _operator_parts(self) -> dict[np.dtype[Any], dict[str, Any]]:
        return {}

    def preconditioner(self, *, learned: bool = True) -> LinearOperator:
        """Return a multigrid V-cycle `M ≈ A⁻¹` as a SciPy `LinearOperator` on packed vectors, to use in your own CG.

        Symmetric and positive definite, to float32 rounding. `learned` takes what `dcdm` uses: learned constants where
        κ is 1, elsewhere the cycle that a network chooses. Without it nothing is learned. Set-up is done here, once.

        Examples
        --------
        >>> import numpy as np
        >>> from scipy.sparse.linalg import cg
        >>> from relaxon.solvers import PoissonGrid
        >>> grid = PoissonGrid(np.zeros((32, 32), np.uint8), boundary="dirichlet")
        >>> A, M = grid.operator().to_scipy(), grid.preconditioner()
        >>> x, info = cg(A, np.ones(grid.unknowns), M=M, rtol=1e-8)
        >>> info
        0
        """
        return hooks.load("preconditioner")(self.operator(), learned)

    @cached_property
    def nullspace(self) -> NullSpace:
        """The connected fluid components that touch no Dirichlet face; each has a constant null vector."""
        from relaxon.solvers.grid.nullspace import NullSpace

        return NullSpace.of(self)

    def __repr__(self) -> str:
        sides = ", ".join("/".join(dict.fromkeys(map(str, pair))) for pair in self.boundary)
        given = {
            "variable coefficient": self.coefficient is not None,
            "reaction": self.reaction is not None,
            "stretched": self.stretched,
            "cut cells": self.volume is not None,
        }
        more = "".join(f", {name}" for name, there in given.items() if there)
        return f"PoissonGrid({'×'.join(map(str, self.shape))}, {self.unknowns} unknowns, sides {sides}{more})"


Array = NDArray[np.float64]


class CheckedGrid(PoissonGrid):
    """A grid of arguments that have been checked, or are parts of such; unlike a `PoissonGrid` it may hold no fluid."""

    def __init__(
        self,
        cells: NDArray[np.uint8],
        spacing: Widths,
        boundary: Sides,
        coefficient: Kappa = None,
        reaction: float | Array | None = None,
        volume: Array | None = None,
    ) -> None:
        self.cells = self.given_cells = np.ascontiguousarray(cells)
        self.spacing, self.boundary, self.coefficient = spacing, boundary, coefficient
        self.reaction = self.given_reaction = reaction
        self.volume = self.given_volume = volume
        self._ignored = None
        self.unknowns = int(np.count_nonzero(self.cells == FLUID))


@dataclass(frozen=True, slots=True)
class Problem:
    """A system to solve: `b` is a full float64 array, zero outside the fluid and in the operator's range."""

    name: str
    grid: PoissonGrid
    b: Array
    exact: Array | None = None
    """The continuous problem's solution at cell centres, where it is known."""
    summary: str = ""
