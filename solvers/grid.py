"""A Cartesian grid with cell types, sides and coefficients: the geometry of a Poisson problem."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import IntEnum, StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from relaxon.solvers import validation
from relaxon.solvers.cached import cached_property
from relaxon.solvers.masked import fill_coefficient, fill_unused, plain_array, refuse_masks

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from relaxon.solvers.nullspace import NullSpace
    from relaxon.solvers.operator import PoissonOperator

MAX_CELLS = 2**31 - 1
"""Unknowns are numbered with 32 bits, as SciPy's and PyAMG's sparse matrices number them."""
SMALLEST_WIDTH = 1e-100
"""Of a cell; the largest is its inverse. The operator's 1/h², and sums of its squares, stay within float64 so."""


class CellType(IntEnum):
    """What a cell holds: an unknown, a wall (no flux), or a known value."""

    FLUID = 0
    SOLID = 1
    AIR = 2


# As single bytes: NumPy compares bytes with an enumeration's members in 64 bits, which takes many times as long.
FLUID, SOLID, AIR = (np.uint8(kind) for kind in CellType)


class Boundary(StrEnum):
    """What a side of the domain does to the fluid cells beside it."""

    NEUMANN = "neumann"
    """No flux through the side."""
    DIRICHLET = "dirichlet"
    """The value 0 on the side's face, half a cell from the cell's centre."""
    PERIODIC = "periodic"
    """The neighbour is the cell at the opposite side; both sides of an axis or neither."""


BoundaryLike = str | Sequence[str | Sequence[str]]
Sides = tuple[tuple[Boundary, Boundary], ...]


class PoissonGrid:
    """Cells of a Cartesian grid in two or three dimensions, for `−∇·(κ∇x) = b` by cell-centred finite volumes.

    Each FLUID cell is an unknown. A SOLID neighbour lets nothing through (Neumann), an AIR neighbour holds the
    value 0 at its centre (Dirichlet). The matrix row of a fluid cell is
    `Σ_faces κ_f / h_a² · (x_i − x_j)` over the open faces, `x_j = 0` in AIR, and `2 κ_f / h_a² · x_i` at a
    Dirichlet side.

    Parameters
    ----------
    cells : `(nx, ny)` or `(nx, ny, nz)` integers, values of `CellType`. It is copied.
    spacing : cell width, one number or one an axis; from 1e-100 to 1e100.
    boundary : "neumann" (default), "dirichlet" or "periodic" for all sides; or a sequence with, for each axis,
        one of these or a (low side, high side) pair.
    coefficient : κ; None for 1, an array of the grid's shape (harmonic mean at faces), or one array an axis with
        the values on faces (one longer along its own axis; face `i` lies below cell `i`). Finite and > 0 wherever
        the fluid reads it: in FLUID cells and AIR cells beside them, or on their open faces. Elsewhere it is ignored.

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
        spacing: float | Sequence[float] = 1.0,
        boundary: BoundaryLike = Boundary.NEUMANN,
        coefficient: ArrayLike | Sequence[ArrayLike] | None = None,
    ) -> None:
        self.cells = _checked_cells(plain_array("cells", cells))
        self.spacing = checked_spacing(spacing, self.cells.ndim)
        self.boundary = checked_boundary(boundary, self.cells.ndim)
        self._ignored: tuple[NDArray[np.bool_], ...] | None = None
        coefficient = fill_coefficient(coefficient, self.cells, self.periodic)
        self.coefficient = self._checked_coefficient(coefficient)
        self.unknowns = int(np.count_nonzero(self.cells == FLUID))
        if self.unknowns == 0:
            raise ValueError("cells must hold at least one FLUID cell, got none")

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

    def _checked_coefficient(
        self, coefficient: ArrayLike | Sequence[ArrayLike] | None
    ) -> NDArray[np.float64] | tuple[NDArray[np.float64], ...] | None:
        if coefficient is None:
            return None
        cells, shape = self.cells, self.shape
        if not isinstance(coefficient, tuple | list):
            read = partial(_cells_read, cells, self.boundary)
            kappa, gone = _checked_kappa("coefficient", np.asarray(coefficient), shape, read)
            self._ignored = None if gone is None else (gone,)
            return kappa
        if len(coefficient) != len(shape):
            raise ValueError(
                f"coefficient must be an array of the grid's shape or {len(shape)} arrays of face values, "
                f"got {len(coefficient)} arrays"
            )
        faces, ignored = [], []
        for axis, values in enumerate(coefficient):
            expected = tuple(n + (a == axis) for a, n in enumerate(shape))
            read = partial(_faces_read, cells, axis, self.periodic[axis])
            face, gone = _checked_kappa(f"coefficient[{axis}]", values, expected, read)
            if self.periodic[axis] and not np.array_equal(face.take(0, axis), face.take(-1, axis)):
                raise ValueError(f"coefficient[{axis}] must be equal on the first and last faces of a periodic axis")
            faces.append(face)
            ignored.append(np.zeros(expected, bool) if gone is None else gone)
        if any(gone.any() for gone in ignored):
            self._ignored = tuple(ignored)
        return tuple(faces)

    def pack(self, full: ArrayLike) -> NDArray[Any]:
        """The unknowns of a full array, in C order: `grid.shape → (unknowns,)`, same dtype."""
        array = np.asarray(fill_unused("full", full, lambda: self.fluid))
        if array.shape != self.shape:
            raise ValueError(f"full must have the grid's shape {self.shape}, got {array.shape}")
        return array.reshape(-1)[self._fluid_index]

    def unpack(self, packed: ArrayLike, fill: float = 0.0) -> NDArray[Any]:
        """A full array from unknowns: `(unknowns,) → grid.shape`, same dtype, `fill` outside the fluid."""
        vector = plain_array("packed", packed)
        if vector.shape != (self.unknowns,):
            raise ValueError(f"packed must have shape ({self.unknowns},), got {vector.shape}")
        full = np.full(self.cells.size, fill, vector.dtype)
        full[self._fluid_index] = vector
        return full.reshape(self.shape)

    def operator(self, dtype: DTypeLike = np.float64) -> PoissonOperator:
        """The matrix-free operator `A` in float64 or float32; its arrays are made once for each dtype."""
        from relaxon.solvers.operator import PoissonOperator

        return PoissonOperator(self, dtype)

    def operator_parts(self, dtype: np.dtype[Any]) -> dict[str, Any]:
        """Where operators of a dtype keep what they have made, for each other.

        The grid holds no operator itself: each of them holds the grid, and memory in a circle of references stays
        until the garbage collector comes by, which does not count its bytes.
        """
        return self._operator_parts.setdefault(dtype, {})

    @cached_property
    def _operator_parts(self) -> dict[np.dtype[Any], dict[str, Any]]:
        return {}

    def preconditioner(self, *, learned: bool = True) -> LinearOperator:
        """A multigrid V-cycle `M ≈ A⁻¹` as a SciPy `LinearOperator` on packed vectors, to put into your own CG.

        Symmetric and positive definite, to float32 rounding. `learned` takes the constants that `dcdm` uses where κ
        is 1; without it, and elsewhere, nothing is learned. Set-up is done here, once.

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
        from relaxon.solvers import preconditioner

        operator = self.operator()
        make = preconditioner.learned_cycle if learned else preconditioner.unlearned_cycle
        return preconditioner.as_linear_operator(operator, make(operator))

    @cached_property
    def nullspace(self) -> NullSpace:
        """The connected fluid components that touch no Dirichlet face; each has a constant null vector."""
        from relaxon.solvers.nullspace import NullSpace

        return NullSpace.of(self)

    def __repr__(self) -> str:
        sides = ", ".join("/".join(dict.fromkeys(pair)) for pair in self.boundary)
        kappa = "" if self.coefficient is None else ", variable coefficient"
        return f"PoissonGrid({'×'.join(map(str, self.shape))}, {self.unknowns} unknowns, sides {sides}{kappa})"


def _checked_cells(cells: ArrayLike) -> NDArray[np.uint8]:
    array = np.asarray(cells)
    if array.dtype.kind not in "iu":
        raise TypeError(f"cells must be integers (CellType values), got dtype {array.dtype}")
    if array.ndim not in (2, 3):
        raise ValueError(f"cells must have 2 or 3 axes, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"cells must not be empty, got shape {array.shape}")
    if array.size > MAX_CELLS:
        raise ValueError(f"cells must number at most {MAX_CELLS}, got {array.size}")
    low, high = int(array.min()), int(array.max())
    if low < CellType.FLUID or high > CellType.AIR:
        unknown = low if low < CellType.FLUID else high
        raise ValueError(f"cells must be FLUID (0), SOLID (1) or AIR (2), got the value {unknown}")
    own = np.array(array, dtype=np.uint8, order="C", copy=True)
    own.flags.writeable = False
    return own


def checked_spacing(spacing: float | Sequence[float], ndim: int) -> tuple[float, ...]:
    """One number an axis."""
    refuse_masks(spacing=spacing)
    if np.ndim(spacing) == 0:
        return (_checked_width("spacing", spacing),) * ndim
    values = list(spacing)  # type: ignore[arg-type]
    if len(values) != ndim:
        raise ValueError(f"spacing must be one number or {ndim} (one an axis), got {len(values)}")
    return tuple(_checked_width(f"spacing[{axis}]", value) for axis, value in enumerate(values))


def _checked_width(name: str, value: object) -> float:
    width = validation.positive_float(name, value)
    if not SMALLEST_WIDTH <= width <= 1.0 / SMALLEST_WIDTH:
        raise ValueError(f"{name} must be from {SMALLEST_WIDTH:g} to {1.0 / SMALLEST_WIDTH:g}, got {width:g}")
    return width


def checked_boundary(boundary: BoundaryLike, ndim: int) -> Sides:
    """The two sides of each axis."""
    axes = [boundary] * ndim if isinstance(boundary, str) else list(boundary)
    if len(axes) != ndim:
        raise ValueError(f"boundary must be one name or {ndim} entries (one an axis), got {len(axes)}")
    sides = []
    for axis, entry in enumerate(axes):
        pair = [entry, entry] if isinstance(entry, str) else list(entry)
        if len(pair) != 2:
            raise ValueError(f"boundary[{axis}] must be a name or a (low, high) pair, got {entry!r}")
        low, high = (_checked_side(f"boundary[{axis}]", name) for name in pair)
        if (low is Boundary.PERIODIC) != (high is Boundary.PERIODIC):
            raise ValueError(f"boundary[{axis}] must be periodic on both sides or on neither, got {entry!r}")
        sides.append((low, high))
    return tuple(sides)


def _checked_side(name: str, value: object) -> Boundary:
    try:
        return Boundary(str(value))
    except ValueError:
        names = ", ".join(repr(side.value) for side in Boundary)
        raise ValueError(f"{name} must be one of {names}, got {value!r}") from None


def _checked_kappa(
    name: str, values: ArrayLike, shape: tuple[int, ...], read: Callable[[], NDArray[np.bool_]]
) -> tuple[NDArray[np.float64], NDArray[np.bool_] | None]:
    """A copy of κ, and where 1 stands in it for what is no coefficient because `read` says that nobody reads it."""
    array = validation.real_array(name, values, finite=False)
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    own = np.array(array, np.float64, order="C", copy=True)
    low, high, unread = float(own.min()), float(own.max()), None
    if not (low > 0 and math.isfinite(high)):  # so too for NaN, which both show
        unread = ~read() & ~(np.isfinite(own) & (own > 0))
        own[unread] = 1.0
        validation.finite_entries(name, own)
        if own.min() <= 0:
            raise ValueError(f"{name} must be greater than 0 everywhere, got {own.min()}")
    own.flags.writeable = False
    return own, unread


def _cells_read(cells: NDArray[np.uint8], boundary: Sides) -> NDArray[np.bool_]:
    """The cells whose κ enters the matrix: the fluid, and the AIR beside it."""
    fluid = cells == CellType.FLUID
    beside = fluid.copy()
    for axis, (low, _) in enumerate(boundary):
        n = cells.shape[axis]
        below = (slice(None),) * axis + (slice(0, n - 1),)
        above = (slice(None),) * axis + (slice(1, n),)
        beside[below] |= fluid[above]
        beside[above] |= fluid[below]
        if low is Boundary.PERIODIC:
            first, last = (slice(None),) * axis + (0,), (slice(None),) * axis + (n - 1,)
            beside[first] |= fluid[last]
            beside[last] |= fluid[first]
    read: NDArray[np.bool_] = beside & (cells != CellType.SOLID)
    return read


def _faces_read(cells: NDArray[np.uint8], axis: int, periodic: bool) -> NDArray[np.bool_]:
    """The faces across `axis` whose κ enters the matrix: those with fluid on one side and no wall on the other."""
    edge = (
        [cells.take([-1], axis), cells.take([0], axis)] if periodic else [cells.take([0], axis), cells.take([-1], axis)]
    )
    below = np.concatenate([edge[0], cells], axis)
    above = np.concatenate([cells, edge[1]], axis)
    some = (below == CellType.FLUID) | (above == CellType.FLUID)
    read: NDArray[np.bool_] = some & (below != CellType.SOLID) & (above != CellType.SOLID)
    return read
