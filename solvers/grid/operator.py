"""The matrix-free Poisson operator of a grid, and its forms for other people's solvers."""

# Imported on first use, for their weight: SciPy, `plane_kernels`, `stencil_kernels`.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from relaxon.core import validation
from relaxon.core.masked import fill_unused
from relaxon.solvers.grid.couplings import couplings_and_diagonal
from relaxon.solvers.grid.neighbours import count_faces
from relaxon.solvers.grid.sides import Boundary

if TYPE_CHECKING:
    from scipy.sparse import csr_array
    from scipy.sparse.linalg import LinearOperator

    from relaxon.solvers.grid.poisson_grid import PoissonGrid


@dataclass(frozen=True, slots=True)
class Planes:
    """The operator of κ = 1 for the kernels that go plane by plane; a grid of two dimensions is `(nx, 1, ny)`.

    All arrays are in the order of the axes of `shape`, and in units of `unit`, the largest `1/h²`.
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
        """The range of all cells, in the form in which `plane_kernels` take the cells of a sum."""
        return 0, self.shape[0], 0, self.shape[1] * self.shape[2]

    @property
    def matrix(self) -> tuple[Any, ...]:
        """The matrix in the form in which `plane_kernels` take it."""
        return self.code, self.table, self.linear, self.weights, self.wrap


Part = TypeVar("Part")


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
        self._parts = grid.operator_parts(self.dtype)
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

    def _part(self, name: str, make: Callable[[], Part]) -> Part:
        """Return what is made once for all operators of the grid's dtype; where two threads ask, both get one."""
        found: Part = self._parts[name] if name in self._parts else self._parts.setdefault(name, make())
        return found

    def _assemble(self) -> tuple[tuple[NDArray[Any], ...], NDArray[Any]]:
        couplings, diagonal = couplings_and_diagonal(self.grid)
        lower = tuple(np.ascontiguousarray(c, self.dtype) for c in couplings)
        return lower, np.ascontiguousarray(diagonal, self.dtype)

    @property
    def couplings(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Per axis, the coupling of each cell to the one below: `shape3`, zero unless both are fluid."""
        lower = self._part("assembled", self._assemble)[0]
        return (lower[0], lower[1], lower[2])

    @property
    def diagonal(self) -> NDArray[Any]:
        """The diagonal of `A`: `shape3`, zero outside the fluid."""
        return self._part("assembled", self._assemble)[1]

    @property
    def linear(self) -> bool:
        """Whether κ is 1 and the spacing the same along all axes: then `table[c] = c / h²`."""
        return self.constant and len(set(self.grid.mean_spacing)) == 1

    def _encode(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
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
        return self._part("coded", self._encode)[0]

    @property
    def table(self) -> NDArray[Any]:
        """The distinct values of the diagonal, `table[0] = 0`."""
        return self._part("coded", self._encode)[1]

    def diagonal_values(self) -> NDArray[Any]:
        """Return the diagonal of `A`, `shape3`, from the one-byte codes where there are any."""
        return self.table[self.code] if self.constant else self.diagonal

    def apply(self, x: NDArray[Any], out: NDArray[Any]) -> NDArray[Any]:
        """`out ← A x` on `shape3` arrays of this operator's dtype; nothing is checked. For solvers."""
        from relaxon.solvers.grid import stencil_kernels

        if self.constant:
            stencil_kernels.apply_constant(x, self.code, self.table, self.weights, self.wrap, out)
        else:
            stencil_kernels.apply_variable(x, self.diagonal, *self.couplings, self.wrap, out)
        return out

    def residual_norm(self, b: NDArray[np.float64], x: NDArray[np.float64], by_planes: bool = True) -> float:
        """`‖b − A x‖₂` on `shape3` float64 arrays, zero outside the fluid; nothing is checked. For solvers.

        In one pass `by_planes` where κ is 1, else by `apply`.
        """
        from relaxon.solvers.grid import plane_kernels, stencil_kernels

        if by_planes and self.constant and self.dtype == np.float64:
            planes = self.planes
            b, x = b.reshape(planes.shape), x.reshape(planes.shape)
            return math.sqrt(plane_kernels.residual_square(b, x, planes.unit, planes.matrix, planes.cells))
        ax = self.apply(x, np.empty_like(x))
        return math.sqrt(stencil_kernels.difference_square(b, ax))

    @property
    def planes(self) -> Planes:
        """The operator for the kernels that go plane by plane. For κ = 1."""
        return self._part("planes", self._make_planes)

    def _make_planes(self) -> Planes:
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
        """Return the matrix on the unknowns, in `pack` order: `(unknowns, unknowns)` CSR with sorted int32 indices."""
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
        """Return a SciPy `LinearOperator` on packed vectors, for Krylov methods of other libraries."""
        from scipy.sparse.linalg import LinearOperator

        def matvec(x: NDArray[Any]) -> NDArray[Any]:
            return self.matvec(x.reshape(-1))

        return LinearOperator(self.shape, matvec=matvec, rmatvec=matvec, dtype=self.dtype)

    def __repr__(self) -> str:
        return f"PoissonOperator({self.grid!r}, {self.dtype})"
