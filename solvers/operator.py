"""The matrix-free Poisson operator of a grid, and its forms for other people's solvers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from relaxon.solvers import cell_metrics, validation
from relaxon.solvers.cached import cached_property
from relaxon.solvers.grid import Boundary, CellType, PoissonGrid, Robin
from relaxon.solvers.masked import fill_unused
from relaxon.solvers.neighbours import count_faces
from relaxon.solvers.sides import Side, film_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import LinearOperator


@dataclass(frozen=True, slots=True)
class Planes:
    """The operator of κ = 1 as kernels take it that go plane by plane; a grid of two dimensions is `(nx, 1, ny)`.

    All in the order of the axes of `shape`, and in units of `unit`, the largest `1/h²`.
    """

    shape: tuple[int, int, int]
    unit: float
    code: NDArray[np.uint8]
    table: NDArray[Any]
    linear: bool
    weights: NDArray[Any]
    wrap: NDArray[np.bool_]
    sides: NDArray[np.bool_]

    @property
    def cells(self) -> tuple[int, int, int, int]:
        """All cells, as `plane_kernels` take those that sums are over."""
        return 0, self.shape[0], 0, self.shape[1] * self.shape[2]

    @property
    def matrix(self) -> tuple[Any, ...]:
        """What `plane_kernels` take for `A`."""
        return self.code, self.table, self.linear, self.weights, self.wrap


class PoissonOperator:
    """`A` of `(σ − ∇·κ∇) x = b` on a grid: symmetric, positive semi-definite, never assembled.

    It acts on full arrays of the grid's shape (values outside the fluid must be zero and stay zero) and on packed
    vectors of the unknowns alike. Made by `grid.operator(dtype)`.
    """

    def __init__(self, grid: PoissonGrid, dtype: DTypeLike = np.float64) -> None:
        self.grid = grid
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
            raise TypeError(f"dtype must be float32 or float64, got {self.dtype}")
        lead = 3 - grid.ndim
        # A cell that is its own neighbour around a periodic axis exchanges nothing with itself.
        around = tuple(periodic and n > 1 for periodic, n in zip(grid.periodic, grid.shape, strict=True))
        self.wrap = np.array((False,) * lead + around)
        self.weights = np.array((0.0,) * lead + tuple(h**-2 for h in grid.mean_spacing), self.dtype)
        """`1/h_a²` an axis `(3,)`; 0 on the axis that a 2-D grid lacks."""
        self.sides = np.zeros((3, 2), bool)
        """Which sides of each axis are Dirichlet ones, with the value on the face."""
        self.sides[lead:] = [[side is Boundary.DIRICHLET for side in pair] for pair in grid.boundary]

    @property
    def shape(self) -> tuple[int, int]:
        """`(unknowns, unknowns)`."""
        return (self.grid.unknowns, self.grid.unknowns)

    @property
    def constant(self) -> bool:
        """Whether it is that of κ = 1 on cells of equal widths, with nothing else (`PoissonGrid.constant`)."""
        return self.grid.constant

    @cached_property
    def _assembled(self) -> tuple[tuple[NDArray[Any], ...], NDArray[Any]]:
        couplings, diagonal = _couplings_and_diagonal(self.grid)
        lower = tuple(np.ascontiguousarray(c, self.dtype) for c in couplings)
        return lower, np.ascontiguousarray(diagonal, self.dtype)

    @property
    def couplings(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Per axis, the coupling of each cell to the one below: `shape3`, zero unless both are fluid."""
        lower = self._assembled[0]
        return (lower[0], lower[1], lower[2])

    @property
    def diagonal(self) -> NDArray[Any]:
        """The diagonal of `A`: `shape3`, zero outside the fluid."""
        return self._assembled[1]

    @property
    def linear(self) -> bool:
        """Whether κ is 1 and the spacing the same along all axes: then `table[c] = c / h²`."""
        return self.constant and len(set(self.grid.mean_spacing)) == 1

    @cached_property
    def _coded(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        grid = self.grid
        # Half faces: all alike where the spacing is, else in base 5 an axis, so that equal codes have equal diagonals.
        units = [1] * grid.ndim if self.linear else [5**axis for axis in range(grid.ndim)]
        lead = 3 - grid.ndim
        code = np.empty(grid.shape3, np.uint8)
        cells = grid.cells.reshape(grid.shape3)
        count_faces(cells, np.array([0] * lead + units, np.uint8), self.sides, self.wrap, code)
        values = np.arange(4 * grid.ndim + 1 if self.linear else 5**grid.ndim)
        if self.linear:
            table = values * grid.mean_spacing[0] ** -2
        else:
            table = sum((values // 5**a % 5) * h**-2 for a, h in enumerate(grid.mean_spacing))
        return code, np.asarray(table, self.dtype)

    @property
    def code(self) -> NDArray[np.uint8]:
        """Each cell's index into `table`: `shape3 uint8`, 0 where the row is zero. For constant coefficients."""
        return self._coded[0]

    @property
    def table(self) -> NDArray[Any]:
        """The distinct values of the diagonal, `table[0] = 0`."""
        return self._coded[1]

    def diagonal_values(self) -> NDArray[Any]:
        """The diagonal of `A`, `shape3`, from the one-byte codes where there are any."""
        return self.table[self.code] if self.constant else self.diagonal

    def apply(self, x: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """`out ← A x` on `shape3` arrays of this operator's dtype; nothing is checked. For solvers."""
        from relaxon.solvers import stencil_kernels

        if self.constant:
            stencil_kernels.apply_constant(x, self.code, self.table, self.weights, self.wrap, out)
        else:
            stencil_kernels.apply_variable(x, self.diagonal, *self.couplings, self.wrap, out)
        return out

    def residual_norm(self, b: NDArray[np.float64], x: NDArray[np.float64], by_planes: bool = True) -> float:
        """`‖b − A x‖₂` on `shape3` float64 arrays, zero outside the fluid; nothing is checked. For solvers.

        In one pass `by_planes` where κ is 1, else by `apply`.
        """
        from relaxon.solvers import plane_kernels, stencil_kernels

        if by_planes and self.constant and self.dtype == np.float64:
            planes = self.planes
            b, x = b.reshape(planes.shape), x.reshape(planes.shape)
            return math.sqrt(plane_kernels.residual_square(b, x, planes.unit, planes.matrix, planes.cells))
        ax = self.apply(x, np.empty_like(x))
        return math.sqrt(stencil_kernels.difference_square(b, ax))

    @cached_property
    def planes(self) -> Planes:
        """The operator for the kernels that go plane by plane. For κ = 1."""
        grid = self.grid
        flat = grid.ndim == 2
        shape = (grid.shape[0], 1, grid.shape[1]) if flat else grid.shape3
        order = [1, 0, 2] if flat else [0, 1, 2]
        unit = float(self.weights.max())
        return Planes(
            shape,
            unit,
            self.code.reshape(shape),
            self.table / unit,
            self.linear,
            self.weights[order] / unit,
            np.ascontiguousarray(self.wrap[order]),
            self.sides[order],
        )

    def matvec(self, x: ArrayLike) -> NDArray[Any]:
        """`A x` for a full array (its values outside the fluid are taken as zero) or a packed vector.

        The result has the form of `x` and this operator's dtype.
        """
        array = np.asarray(fill_unused("x", x, lambda: self.grid.fluid))
        if array.dtype.kind not in "fiu":
            raise TypeError(f"x must be real, got dtype {array.dtype}")
        full = np.zeros(self.grid.shape, self.dtype)
        if array.shape == self.grid.shape:
            np.copyto(full, array, where=self.grid.fluid, casting="same_kind")
            return self.apply(full.reshape(self.grid.shape3), np.empty(self.grid.shape3, self.dtype)).reshape(
                self.grid.shape
            )
        if array.shape != (self.grid.unknowns,):
            raise ValueError(
                f"x must have the grid's shape {self.grid.shape} or be packed with shape "
                f"({self.grid.unknowns},), got {array.shape}"
            )
        packed = self.grid.unpack(array.astype(self.dtype, copy=False)).reshape(self.grid.shape3)
        return self.grid.pack(self.apply(packed, np.empty_like(packed)).reshape(self.grid.shape))

    def residual(self, b: ArrayLike, x: ArrayLike) -> NDArray[Any]:
        """`b − A x`; `b` and `x` in the same form, full or packed (zero outside the fluid where full). Where rows are
        weighted, `b` is that of the matrix: `grid.weighted` of the density.
        """
        right = fill_unused("b", b, lambda: self.grid.fluid)
        difference = np.asarray(validation.real_array("b", right) - self.matvec(x))
        if difference.shape == self.grid.shape:
            difference[~self.grid.fluid] = 0
        return difference

    def to_csr(self) -> csr_array:
        """The matrix on the unknowns, in `pack` order: `(unknowns, unknowns)` CSR with sorted int32 indices."""
        from scipy.sparse import coo_array

        number = np.full(self.grid.cells.size, -1, np.int32)
        index = np.flatnonzero(self.grid.fluid)
        number[index] = np.arange(len(index), dtype=np.int32)
        number = number.reshape(self.grid.shape3)
        rows, columns, values = [], [], []
        for axis, lower in enumerate(self.couplings):
            here = lower != 0
            i, j = number[here], np.roll(number, 1, axis)[here]
            c = -lower[here]
            rows += [i, j]
            columns += [j, i]
            values += [c, c]
        diagonal = self.diagonal.reshape(-1)[index]
        own = np.arange(len(index), dtype=np.int32)
        matrix = coo_array(
            (
                np.concatenate([*values, diagonal]),
                (np.concatenate([*rows, own]), np.concatenate([*columns, own])),
            ),
            shape=self.shape,
        ).tocsr()
        matrix.sum_duplicates()
        return matrix

    def to_scipy(self) -> LinearOperator:
        """A SciPy `LinearOperator` on packed vectors, for other people's Krylov methods."""
        from scipy.sparse.linalg import LinearOperator

        def matvec(x: NDArray[Any]) -> NDArray[Any]:
            return self.matvec(x.reshape(-1))

        return LinearOperator(self.shape, matvec=matvec, rmatvec=matvec, dtype=self.dtype)

    def __repr__(self) -> str:
        return f"PoissonOperator({self.grid!r}, {self.dtype})"


def _couplings_and_diagonal(grid: PoissonGrid) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Fluid–fluid couplings to the neighbour below, per axis, and the diagonal, in float64 on `shape3`."""
    fluid = grid.fluid.reshape(grid.shape3)
    faces, sides = open_faces(grid)
    diagonal = np.zeros(grid.shape3)
    couplings = []
    for axis, face in enumerate(faces):
        diagonal += face
        add_faces_above(diagonal, face, axis)
        diagonal += sides[axis]
        face *= fluid & np.roll(fluid, 1, axis)
        couplings.append(face)
    term = reaction_term(grid)
    if term is not None:
        diagonal += term
    diagonal[~fluid] = 0
    return couplings, diagonal


def add_faces_above(total: NDArray[np.float64], face: NDArray[np.float64], axis: int) -> None:
    """Add to each cell of `total` its face towards the next cell along `axis`, in place; `face` holds those below.

    The face below the first cell is that around a periodic axis, or 0, and so the one above the last cell too.
    """
    n = face.shape[axis]
    total[_slab(axis, 0, n - 1)] += face[_slab(axis, 1, n)]
    total[_slab(axis, n - 1, n)] += face[_slab(axis, 0, 1)]


def open_faces(grid: PoissonGrid) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Couplings through the face below each cell, per axis, 0 beside a SOLID cell, and those to what sides hold.

    Unlike `couplings` they hold the faces beside AIR cells as well. `shape3` and `(3, *shape3)` float64.
    """
    opened = grid.cells != CellType.SOLID
    sides = np.zeros((3, *grid.shape3))
    faces = []
    inverse = 1.0 / grid.coefficient if isinstance(grid.coefficient, np.ndarray) else None
    for axis, (low, high) in enumerate(grid.boundary):
        n = grid.shape[axis]
        first, last = _slab(axis, 0, 1), _slab(axis, n - 1, n)
        below, above = _slab(axis, 0, n - 1), _slab(axis, 1, n)
        kappa_low, kappa_inside, kappa_high = _face_coefficients(grid, axis, inverse)
        scale_low, scale_inside, scale_high = _face_scales(grid, axis)
        face = np.zeros(grid.shape)
        np.multiply(scale_inside * kappa_inside, opened[below] & opened[above], out=face[above])
        # A cell that is its own neighbour around a periodic axis is not coupled.
        if low is Boundary.PERIODIC and n > 1:
            face[first] = scale_low * kappa_low * (opened[first] & opened[last])
        side = sides[3 - grid.ndim + axis].reshape(grid.shape)
        for kind, where, conductance in ((low, first, scale_low * kappa_low), (high, last, scale_high * kappa_high)):
            if kind not in (Boundary.NEUMANN, Boundary.PERIODIC):
                side[where] += side_conductance(grid, axis, kind, conductance) * opened[where]
        faces.append(face.reshape(grid.shape3))
    return [np.zeros(grid.shape3)] * (3 - grid.ndim) + faces, sides


def side_conductance(grid: PoissonGrid, axis: int, side: Side, whole: Any) -> Any:
    """Return the conductance from the cells at a side to what it holds; `whole` is κ over a cell's width, scaled.

    It is twice that to a Dirichlet side, whose value stands on the face, and once to a value on a node a cell away; at
    a Robin side the half cell and the film of conductance h are in series.
    """
    if isinstance(side, Robin):
        return cell_metrics.in_series(film_of(side, axis) * cell_metrics.film_scale(grid, axis), 2 * whole)
    return 2 * whole if side is Boundary.DIRICHLET else whole


def reaction_term(grid: PoissonGrid) -> NDArray[np.float64] | None:
    """Return what σ adds to the diagonal, `shape3` float64, 0 outside the fluid; None for σ = 0."""
    if grid.reaction is None:
        return None
    weights = grid.row_weights
    term = np.where(grid.fluid, grid.reaction if weights is None else grid.reaction * weights, 0.0)
    return term.reshape(grid.shape3)


def _face_scales(grid: PoissonGrid, axis: int) -> tuple[Any, Any, Any]:
    """What κ is multiplied with on the low side, the inner faces and the high side of an axis."""
    scale, n = cell_metrics.face_scale(grid, axis), grid.shape[axis]
    if isinstance(scale, float):
        return scale, scale, scale
    return scale[_slab(axis, 0, 1)], scale[_slab(axis, 1, n)], scale[_slab(axis, n, n + 1)]


def _face_coefficients(grid: PoissonGrid, axis: int, inverse: NDArray[np.float64] | None) -> tuple[Any, Any, Any]:
    """κ on the low side, the inner faces and the high side of an axis (scalars 1 where κ is constant).

    `inverse` is 1/κ where κ is given in cells: an inner face has the harmonic mean of its two cells, `2 / (1/a + 1/b)`
    where these are of equal widths.
    """
    kappa = grid.coefficient
    if kappa is None:
        return 1.0, 1.0, 1.0
    n = grid.shape[axis]
    if isinstance(kappa, tuple):
        faces = kappa[axis]
        return faces[_slab(axis, 0, 1)], faces[_slab(axis, 1, n)], faces[_slab(axis, n, n + 1)]
    assert inverse is not None
    first, last = _slab(axis, 0, 1), _slab(axis, n - 1, n)
    one, other, whole = inverse[_slab(axis, 0, n - 1)], inverse[_slab(axis, 1, n)], 2.0
    before, after = inverse[last], inverse[first]
    widths = grid.spacing[axis]
    if isinstance(widths, np.ndarray):
        shares = cell_metrics.half_shares(widths, n, grid.periodic[axis])
        part, rest = (share.reshape([-1 if a == axis else 1 for a in range(grid.ndim)]) for share in shares)
        one, other, whole = one * part[_slab(axis, 1, n)], other * rest[_slab(axis, 1, n)], 1.0
        before, after = before * part[_slab(axis, 0, 1)], after * rest[_slab(axis, 0, 1)]
    inside = one + other
    np.divide(whole, inside, out=inside)
    around = whole / (after + before)
    return around if grid.periodic[axis] else kappa[first], inside, kappa[last]


def _slab(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    return (slice(None),) * axis + (slice(start, stop),)
