"""Matrices on regular grids: finite volumes with varying or jumping coefficients, stencils, bilinear elements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from relaxon.core import validation

Array = NDArray[np.float64]
Family = Callable[[int, np.random.Generator], Any]
"""Makes a matrix of about that many unknowns."""
Found = TypeVar("Found")
LEAST = 64
"""Least number of unknowns: with fewer some of the meshes degenerate."""


def side(n: int, ndim: int) -> int:
    """Return the side of a grid with about `n` points."""
    return max(2, int(n ** (1 / ndim) + 0.5))


def finite_volumes(kappa: Array, weights: tuple[float, ...], held: str = "all") -> Any:
    """Return the matrix of `−∇·(κ∇)` on cells, with harmonic means of κ on faces, and a weight for each axis.

    Sides with Dirichlet values are `held`: "all", the "first" one of the first axis, or "none".
    """
    diagonal, faces = np.zeros(kappa.shape), []
    for axis, weight in enumerate(weights):
        low, high = (cut_axis(kappa.ndim, axis, part) for part in (slice(None, -1), slice(1, None)))
        face = weight * 2.0 / (1.0 / kappa[low] + 1.0 / kappa[high])
        diagonal[low] += face
        diagonal[high] += face
        faces.append((-face, -face))
        if held == "all" or (held == "first" and axis == 0):
            for edge in (0, -1) if held == "all" else (0,):
                place = cut_axis(kappa.ndim, axis, edge)
                diagonal[place] += 2.0 * weight * kappa[place]
    return assemble_grid(diagonal, faces)


def assemble_grid(diagonal: Array, faces: Sequence[tuple[Array, Array]]) -> Any:
    """Return the matrix of a grid's cells: its diagonal, and for each axis the entries between neighbours on the inner
    faces, in the rows of the cells below and above."""
    number = np.arange(diagonal.size).reshape(diagonal.shape)
    rows, columns, values = [], [], []
    for axis, pair in enumerate(faces):
        below, above = (number[cut_axis(number.ndim, axis, part)].ravel() for part in (slice(None, -1), slice(1, None)))
        rows += [below, above]
        columns += [above, below]
        values += [entries.ravel() for entries in pair]
    every = [np.concatenate([*parts, last.ravel()]) for parts, last in ((rows, number), (columns, number))]
    return assemble(every[0], every[1], np.concatenate([*values, diagonal.ravel()]), diagonal.size)


def cut_axis(ndim: int, axis: int, part: slice | int) -> tuple[slice | int, ...]:
    """Return the index of a part of an axis, and all of the others."""
    return tuple(part if a == axis else slice(None) for a in range(ndim))


def assemble(rows: NDArray[Any], columns: NDArray[Any], values: Array, n: int) -> Any:
    """Return the CSR matrix of entries, with `n` rows, summed duplicates and int32 indices."""
    matrix = sparse.coo_array((values, (rows.astype(np.int32), columns.astype(np.int32))), shape=(n, n)).tocsr()
    matrix.sum_duplicates()
    return matrix


def on_grid(
    ndim: int,
    kappa: Callable[[int, np.random.Generator], Any] | None = None,
    weights: tuple[float, ...] = (1.0, 1.0, 1.0),
    held: str = "all",
) -> Family:
    """Return the family of `finite_volumes` on grids of `ndim` axes; `kappa` makes κ from the side, None for 1."""

    def make(n: int, rng: np.random.Generator) -> Any:
        s = side(n, ndim)
        values = np.ones((s,) * ndim) if kappa is None else kappa(s, rng)
        return finite_volumes(np.broadcast_to(values, (s,) * ndim), weights[:ndim], held)

    return make


def heat_step_3d(n: int, rng: np.random.Generator) -> Any:
    """Make the matrix of a short implicit time step, which is diagonally dominant."""
    a = STENCILS["laplacian-3d"](n, rng)
    return sparse.csr_array(a * (0.5 / 6.0) + sparse.eye_array(a.shape[0]))


def stencil_27(n: int, rng: np.random.Generator) -> Any:
    """Make the 27-point stencil: 26 on the diagonal, −1 for all neighbours, across edges and corners too."""
    s = side(n, 3)
    line = sparse.diags_array([1.0, 1.0, 1.0], offsets=[-1, 0, 1], shape=(s, s))
    box = sparse.kron(sparse.kron(line, line), line)
    return sparse.csr_array(27.0 * sparse.eye_array(s**3) - box)


def quadrilaterals(n: int, matrix: Array, spacing: tuple[float, float]) -> Any:
    """Make the matrix of bilinear elements of `−∇·(K∇)` on rectangles, with a 2 × 2 matrix `K` and Dirichlet sides."""
    s = side(n, 2) + 1  # elements a side
    hx, hy = spacing
    stiff, mass = np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([[2.0, 1.0], [1.0, 2.0]]) / 6.0
    cross = np.array([[-0.5, -0.5], [0.5, 0.5]])  # ∫ φ_i' φ_j
    element = matrix[0, 0] * hy / hx * np.kron(stiff, mass) + matrix[1, 1] * hx / hy * np.kron(mass, stiff)
    element += matrix[0, 1] * (np.kron(cross, cross.T) + np.kron(cross.T, cross))
    node = np.arange((s + 1) ** 2).reshape(s + 1, s + 1)
    corners = np.stack([node[:-1, :-1], node[:-1, 1:], node[1:, :-1], node[1:, 1:]], -1).reshape(-1, 4)
    elements = np.broadcast_to(element, (len(corners), 4, 4))
    return keep_free(scatter(corners, elements, node.size), node[1:-1, 1:-1].ravel())


def scatter(corners: NDArray[np.int64], elements: Array, n: int) -> Any:
    """Return the sum of element matrices `(e, k, k)` at the unknowns `corners (e, k)`."""
    k = corners.shape[1]
    rows, columns = np.repeat(corners, k, axis=1).ravel(), np.tile(corners, (1, k)).ravel()
    return assemble(rows, columns, np.ascontiguousarray(elements).ravel(), n)


def keep_free(a: Any, free: NDArray[np.int64]) -> Any:
    """Return the rows and columns of the free unknowns."""
    return sparse.csr_array(a[free][:, free])


def rotated_2d(n: int, rng: np.random.Generator) -> Any:
    """Make a matrix of diffusion 1 : 1e-3 whose axes are rotated by 30 degrees against the grid."""
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    turn = np.array([[c, -s], [s, c]])
    return quadrilaterals(n, turn @ np.diag([1.0, 1e-3]) @ turn.T, (1.0, 1.0))


def bilinear_2d(n: int, rng: np.random.Generator) -> Any:
    """Make the matrix of bilinear elements on rectangles 1 : 10, with positive off-diagonals."""
    return quadrilaterals(n, np.eye(2), (1.0, 10.0))


def plate_2d(n: int, rng: np.random.Generator) -> Any:
    """Make the matrix of a plate, the square of a Laplacian, with positive off-diagonals and a squared condition
    number."""
    a = STENCILS["laplacian-2d"](n, rng)
    return sparse.csr_array(a @ a)


def _layers(s: int, rng: np.random.Generator) -> Array:
    """Return κ in layers of four cells, over six decades."""
    return np.repeat(10.0 ** rng.uniform(-3, 3, -(-s // 4)), 4)[:s, None, None]


STENCILS: dict[str, Family] = {
    "laplacian-2d": on_grid(2),
    "laplacian-3d": on_grid(3),
    "neumann-2d": on_grid(2, held="none"),
    "stencil-27": stencil_27,
    "lognormal-3d": on_grid(3, lambda s, rng: np.exp(2.0 * rng.standard_normal((s, s, s)))),
    "layers-3d": on_grid(3, _layers),
    "checkerboard-2d": on_grid(2, lambda s, _: np.where((np.indices((s, s)) // 8).sum(axis=0) % 2 == 0, 1.0, 1e8)),
    "random-jumps-3d": on_grid(3, lambda s, rng: np.where(rng.random((s, s, s)) < 0.3, 1e8, 1.0)),
    "stretched-3d": on_grid(3, weights=(1.0, 100.0, 10_000.0), held="first"),
    "rotated-2d": rotated_2d,
    "bilinear-2d": bilinear_2d,
    "heat-step-3d": heat_step_3d,
    "plate-2d": plate_2d,
}


def find_family(name: str, families: Mapping[str, Found], n: int) -> tuple[Found, int]:
    """Return the family of a name, and `n` as an int; ValueError or TypeError, naming the argument, for a wrong one."""
    if name not in families:
        near = get_close_matches(str(name), families, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"name must be one of {', '.join(families)}, got {name!r}{hint}")
    n = validation.positive_int("n", n)
    if n < LEAST:
        raise ValueError(f"n must be at least {LEAST}, got {n}")
    return families[name], n
