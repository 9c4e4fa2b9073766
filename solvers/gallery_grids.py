"""Test problems on grids as simulation codes have them: an implicit step, widths that vary, a surface that gives heat
away, cells that a cylinder cuts, layers, sheets with holes, porous shells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.cut_cells import outside_disc
from relaxon.solvers.grid.poisson_grid import CellType, PoissonGrid
from relaxon.solvers.grid.sides import Robin

Array = NDArray[np.float64]
STEP = 10.0
"""The length of a heat step in units of h²: sixty times the longest explicit step in three dimensions."""
NEAREST = 0.1
"""The width of a channel's cells at its walls, relative to the mean."""
FILM = 5.0
"""The transfer coefficient h of the heat sink's surface, in units of κ over its length."""
DISC = (0.3, 0.5, 0.11)
"""The cylinder's centre and radius, relative to the first and the other sides."""
LEAST_VOLUME = 1e-6
LAYER, JUMP = 4, 1e6
"""The least thickness of a layer in cells, and the factor by which κ jumps from one layer to the next."""
GROWTH = 1.05
"""The growth of a stretched box's widths from cell to cell, up to `MOST_RATIO` from the first to the last."""
MOST_RATIO = 1e3
SHEETS, HOLES = 5, 0.05
"""Cells from one sheet to the next, and the open part of each."""
SHELLS, PORES = 6, 0.1
"""The number of shells, two cells thick, and the open part of them."""


def heat_step(cells: NDArray[np.uint8], h: float, seed: int) -> tuple[PoissonGrid, Array]:
    """Return an implicit step of the heat equation among insulating obstacles: σ = 1/Δt, b the old field over Δt."""
    grid = PoissonGrid(cells, h, "neumann", reaction=1.0 / (STEP * h * h))
    rng = np.random.default_rng(seed)
    old = np.ones(cells.shape)
    for axis, n in enumerate(cells.shape):
        wave = 1.0 + np.sin(np.pi * (rng.integers(1, 4) * (np.arange(n) + 0.5) / n + rng.random()))
        old = old * wave.reshape([-1 if other == axis else 1 for other in range(cells.ndim)])
    return grid, (old + 0.1 * rng.standard_normal(cells.shape)) / (STEP * h * h)


def stretched_channel(shape: tuple[int, ...], h: float, seed: int) -> tuple[PoissonGrid, Array]:
    """Return the pressure of a channel, open at its end, with cells a tenth of the mean width at both walls."""
    n = shape[-1]
    points = np.linspace(-1, 1, n + 1)
    stretch = 1.0 - NEAREST
    walls = h * n * 0.5 * (points + stretch * np.sin(np.pi * points) / np.pi)
    spacing: list[Any] = [h] * (len(shape) - 1) + [np.diff(walls)]
    sides: list[Any] = [("neumann", "dirichlet")] + ["neumann"] * (len(shape) - 1)
    cells = np.zeros(shape, np.uint8)
    cells[shape[0] // 4 : shape[0] // 3 + 1, ..., : n // 3] = CellType.SOLID
    grid = PoissonGrid(cells, spacing, sides)
    return grid, np.random.default_rng(seed).standard_normal(shape)


def heat_sink(shape: tuple[int, ...], h: float, seed: int) -> tuple[PoissonGrid, Array]:
    """Return a finned block of metal that is heated from below and gives heat away at its top and sides."""
    length = h * max(shape)
    film = FILM / length
    sides: list[Any] = [Robin(film)] * (len(shape) - 1) + [("neumann", Robin(film))]
    cells = np.zeros(shape, np.uint8)
    gap, base = max(shape[0] // 8, 1), shape[-1] // 4
    between = (np.arange(shape[0]) // gap) % 2 == 1
    cells[between, ..., base:] = CellType.SOLID
    # What a fin's surface gives away is a reaction of the cells beside it: the film over a cell's width.
    fins = cells == CellType.FLUID
    reaction = np.zeros(shape)
    for step in (1, -1):
        gaps = np.roll(cells == CellType.SOLID, step, 0)
        gaps[0 if step == 1 else -1] = False
        reaction += film / h * (fins & gaps)
    b = np.zeros(shape)
    chip = np.zeros(shape[:-1], bool)
    chip[tuple(slice(n // 4, n - n // 4) for n in shape[:-1])] = True
    b[..., 0] = chip * (1.0 + 0.1 * np.random.default_rng(seed).random(shape[:-1])) / h
    return PoissonGrid(cells, h, sides, reaction=reaction), b


def cut_cylinder(shape: tuple[int, ...], h: float, seed: int) -> tuple[PoissonGrid, Array]:
    """Return the pressure in a channel, open at its end, past a cylinder across two axes that cuts cells."""
    centre = DISC[0] * h * shape[0], DISC[1] * h * shape[1]
    (along, across), volume = outside_disc((shape[0], shape[1]), h, centre, DISC[2] * h * min(shape[:2]) * 2)
    is_open = along[1:] + along[:-1] + across[:, 1:] + across[:, :-1] > 0
    volume = np.where(is_open, np.maximum(volume, LEAST_VOLUME), 0.0)
    faces, velocity = [along, across], np.ones_like(along)
    if len(shape) == 3:
        depth = np.ones((1, 1, shape[2]))
        faces = [along[..., None] * depth, across[..., None] * depth, volume[..., None] * np.ones((1, 1, shape[2] + 1))]
        volume = np.broadcast_to(volume[..., None], shape)
        velocity = np.ones_like(faces[0])
    sides: list[Any] = [("neumann", "dirichlet")] + ["neumann"] * (len(shape) - 1)
    grid = PoissonGrid(np.zeros(shape, np.uint8), h, sides, faces, volume=volume)
    flux = faces[0] * (velocity + 0.1 * np.random.default_rng(seed).standard_normal(velocity.shape))
    outflow = -np.diff(flux, axis=0) / h
    return grid, np.where(grid.fluid, outflow / np.where(volume > 0, volume, 1.0), 0.0)


def layered(shape: tuple[int, ...], h: float, seed: int) -> tuple[PoissonGrid, Array]:
    """Return layers across the second axis whose κ is 1 or `JUMP`; Dirichlet sides."""
    rng = np.random.default_rng(seed)
    n = shape[1]
    exponents = np.repeat(rng.integers(0, 2, n // LAYER + 1), LAYER)[:n]
    kappa = (JUMP**exponents).reshape([-1 if axis == 1 else 1 for axis in range(len(shape))])
    grid = PoissonGrid(np.zeros(shape, np.uint8), h, "dirichlet", np.broadcast_to(kappa, shape))
    return grid, rng.standard_normal(shape)


def stretched_box(shape: tuple[int, ...], h: float, seed: int) -> tuple[PoissonGrid, Array]:
    """Return a box whose widths grow by `GROWTH` from cell to cell along all axes; Dirichlet sides."""
    spacing = []
    for n in shape:
        widths = min(GROWTH, MOST_RATIO ** (1 / max(n - 1, 1))) ** np.arange(n)
        spacing.append(h * n * widths / widths.sum())
    grid = PoissonGrid(np.zeros(shape, np.uint8), tuple(spacing), "dirichlet")
    return grid, np.random.default_rng(seed).standard_normal(shape)


def sheets(shape: tuple[int, ...], h: float, seed: int) -> tuple[PoissonGrid, Array]:
    """Return walls one cell thick across the first axis with small holes; open at the top."""
    rng = np.random.default_rng(seed)
    cells = np.zeros(shape, np.uint8)
    walls = cells[SHEETS // 2 :: SHEETS]
    walls[rng.random(walls.shape) >= HOLES] = CellType.SOLID
    return _open_at_the_top(cells, h), rng.standard_normal(shape)


def shells(shape: tuple[int, ...], h: float, seed: int) -> tuple[PoissonGrid, Array]:
    """Return balls in balls: walls two cells thick with pores; open at the top."""
    rng = np.random.default_rng(seed)
    cells = np.zeros(shape, np.uint8)
    where = np.indices(shape, np.float32).reshape(len(shape), -1)
    for _ in range(SHELLS):
        centre, radius = rng.uniform(0.2, 0.8, len(shape)) * shape, rng.uniform(0.1, 0.3) * min(shape)
        distance = np.sqrt(((where - centre[:, None].astype(np.float32)) ** 2).sum(0)).reshape(shape)
        cells[(abs(distance - radius) < 1.0) & (rng.random(shape) >= PORES)] = CellType.SOLID
    return _open_at_the_top(cells, h), rng.standard_normal(shape)


def _open_at_the_top(cells: NDArray[np.uint8], h: float) -> PoissonGrid:
    cells[(0,) * cells.ndim] = CellType.FLUID
    sides: list[Any] = ["neumann"] * (cells.ndim - 1) + [("neumann", "dirichlet")]
    return PoissonGrid(cells, h, sides)


def fitting_profile(pair: tuple[str, str], p: Array) -> tuple[Array, Array, Array]:
    """Return a function along an axis that fits its sides, with its first and second derivatives."""
    if pair[0] == "periodic":
        k, shift = 2 * np.pi, 0.7
    elif pair == ("dirichlet", "dirichlet"):
        k, shift = np.pi, 0.0
    elif pair == ("neumann", "neumann"):
        k, shift = np.pi, np.pi / 2
    elif pair[0] == "dirichlet":
        k, shift = np.pi / 2, 0.0
    else:
        k, shift = np.pi / 2, np.pi / 2
    angle = k * p + shift
    return np.sin(angle), k * np.cos(angle), -(k**2) * np.sin(angle)
