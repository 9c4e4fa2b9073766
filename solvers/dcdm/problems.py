"""Random geometries and right-hand sides to train on, each a function of a seed and an index alone."""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.dcdm.ritz import RitzBasis
from relaxon.solvers.grid.poisson_grid import Boundary, CellType, PoissonGrid

Shape = tuple[int, int, int]
Cells = NDArray[np.uint8]

RITZ_SHARE = 0.25
"""Part of the problems that are the paper's own: an empty Neumann box and a Ritz combination."""


@dataclass(frozen=True, slots=True)
class TrainingProblem:
    """A grid with spacing 1 and a right-hand side in its operator's range, of norm 1: `grid.shape3 float32`."""

    grid: PoissonGrid
    b: NDArray[np.float32]


def random_problem(shape: Shape, seed: int, index: int, ritz: RitzBasis | None = None) -> TrainingProblem:
    """Return problem number `index`: a random geometry with random sides and a random source.

    With `ritz` a part of the problems are combinations of its vectors on the empty Neumann box.
    """
    rng = np.random.default_rng([seed, index])
    if ritz is not None and rng.random() < RITZ_SHARE:
        return TrainingProblem(PoissonGrid(np.zeros(shape, np.uint8)), ritz.combinations(seed, [index])[0])
    grid = random_grid(shape, rng)
    kind = SOURCES[rng.integers(len(SOURCES))]
    b = np.where(grid.fluid, kind(grid, rng), 0.0).reshape(grid.shape3)
    grid.nullspace.project(b)
    norm = float(np.linalg.norm(b))
    if norm < 1e-12:  # every fluid cell stands alone: any other problem will do
        return random_problem(shape, seed, index + 2**32, ritz)
    return TrainingProblem(grid, (b / norm).astype(np.float32))


def random_grid(shape: tuple[int, ...], rng: np.random.Generator) -> PoissonGrid:
    """Return a grid with obstacles of one kind, perhaps an air surface, perhaps Dirichlet sides; spacing 1."""
    cells = np.zeros(shape, np.uint8)
    OBSTACLES[rng.integers(len(OBSTACLES))](cells, rng)
    if rng.random() < 0.35:
        _air_surface(cells, rng)
    if not (cells == CellType.FLUID).any():
        cells[...] = CellType.FLUID
    boundary: str | Sequence[Sequence[str]] = Boundary.NEUMANN
    if rng.random() < 0.35:
        sides = (Boundary.NEUMANN, Boundary.DIRICHLET)
        boundary = [[sides[rng.integers(2)], sides[rng.integers(2)]] for _ in shape]
    return PoissonGrid(cells, boundary=boundary)


def _nothing(cells: Cells, rng: np.random.Generator) -> None:
    """Leave the box empty."""


def _balls(cells: Cells, rng: np.random.Generator) -> None:
    n: NDArray[np.int64] = np.array(cells.shape)
    where = np.indices(cells.shape, np.float32).reshape(cells.ndim, -1)
    for _ in range(rng.integers(1, 9)):
        centre, radius = rng.uniform(0, n), rng.uniform(0.04, 0.22) * n.min()
        inside = ((where - centre[:, None]) ** 2).sum(0) < radius**2
        cells.reshape(-1)[inside] = CellType.SOLID


def _blocks(cells: Cells, rng: np.random.Generator) -> None:
    for _ in range(rng.integers(1, 7)):
        low = [int(rng.integers(n)) for n in cells.shape]
        cells[
            tuple(slice(a, a + int(rng.integers(1, max(2, n // 3)))) for a, n in zip(low, cells.shape, strict=True))
        ] = CellType.SOLID


def _scattered(cells: Cells, rng: np.random.Generator) -> None:
    cells[rng.random(cells.shape) < rng.uniform(0.02, 0.3)] = CellType.SOLID


def _walls(cells: Cells, rng: np.random.Generator) -> None:
    """Put in walls one or two cells thick with holes in them."""
    for _ in range(rng.integers(1, 4)):
        axis = int(rng.integers(cells.ndim))
        at = int(rng.integers(cells.shape[axis]))
        wall = np.moveaxis(cells, axis, 0)[at : at + int(rng.integers(1, 3))]
        closed = np.ones(wall.shape[1:], bool)
        for _ in range(rng.integers(1, 4)):
            corner = [int(rng.integers(n)) for n in wall.shape[1:]]
            width = int(rng.integers(1, max(2, min(closed.shape) // 3)))
            closed[tuple(slice(a, a + width) for a in corner)] = False
        wall[:, closed] = CellType.SOLID


def _balls_and_scattered(cells: Cells, rng: np.random.Generator) -> None:
    _balls(cells, rng)
    cells[rng.random(cells.shape) < 0.05] = CellType.SOLID


OBSTACLES: tuple[Callable[[Cells, np.random.Generator], None], ...] = (
    _nothing,
    _balls,
    _balls,
    _blocks,
    _scattered,
    _walls,
    _balls_and_scattered,
)


def _air_surface(cells: Cells, rng: np.random.Generator) -> None:
    """Put air above a sloping, wavy height along a random axis; obstacles stay."""
    axis = int(rng.integers(cells.ndim))
    upright = np.moveaxis(cells, axis, cells.ndim - 1)
    if cells.ndim == 2:
        upright = upright[None]
    n0, n1, n2 = upright.shape
    u, v = np.meshgrid(np.linspace(0, 1, n0), np.linspace(0, 1, n1), indexing="ij")
    slope, waves = rng.normal(0, 0.15, 2), rng.uniform(0, 12, 2)
    height = n2 * (
        rng.uniform(0.35, 0.95)
        + slope[0] * (u - 0.5)
        + slope[1] * (v - 0.5)
        + 0.06 * np.sin(waves[0] * u + waves[1] * v)
    )
    above = np.arange(n2) >= height[:, :, None]
    if rng.random() < 0.5:
        above = above[:, :, ::-1]
    upright[above & (upright == CellType.FLUID)] = CellType.AIR


def _white(grid: PoissonGrid, rng: np.random.Generator) -> NDArray[np.float64]:
    return rng.standard_normal(grid.shape)


def _smooth(grid: PoissonGrid, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return noise with spectrum `|k|^−s` for a random `s`, so that waves of all lengths occur."""
    from scipy.fft import dctn, idctn

    spectrum = dctn(rng.standard_normal(grid.shape), norm="ortho")
    k = np.sqrt(
        sum(
            (np.arange(n).reshape([-1 if a == axis else 1 for a in range(grid.ndim)]) / n) ** 2
            for axis, n in enumerate(grid.shape)
        )
    )
    k.flat[0] = 1.0
    field: NDArray[np.float64] = idctn(spectrum * k ** -rng.uniform(0.5, 3.0), norm="ortho")
    return field


def _image(grid: PoissonGrid, rng: np.random.Generator) -> NDArray[np.float64]:
    """`A x` for a smooth `x`: large along walls and at the surface."""
    x = np.where(grid.fluid, _smooth(grid, rng), 0.0)
    image: NDArray[np.float64] = grid.operator().matvec(x)
    return image


def _points(grid: PoissonGrid, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return a few sources and sinks of a cell or a small block each."""
    b = np.zeros(grid.shape)
    for _ in range(rng.integers(2, 12)):
        width = int(rng.integers(1, 6))
        corner = [int(rng.integers(n)) for n in grid.shape]
        b[tuple(slice(a, a + width) for a in corner)] += rng.standard_normal()
    return b


def _divergence(grid: PoissonGrid, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the divergence that a smooth velocity has after walls have cut it, as a fluid step asks for."""
    total = np.zeros(grid.shape)
    for axis in range(grid.ndim):
        flux = np.where(grid.fluid, _smooth(grid, rng), 0.0)
        total += flux - np.roll(flux, 1, axis)
    return total


SOURCES: tuple[Callable[[PoissonGrid, np.random.Generator], NDArray[np.float64]], ...] = (
    _white,
    _smooth,
    _smooth,
    _image,
    _points,
    _divergence,
)
