"""Random grids and right-hand sides, each generated from a seed and a number alone, so that all are reproducible."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers.grid.faces import face_coefficients
from relaxon.solvers.grid.poisson_grid import Boundary, CellType, PoissonGrid
from relaxon.solvers.stress import grid_features as kinds

Array = NDArray[np.float64]
Cells = NDArray[np.uint8]
MIN_CELLS = 64
"""Smallest budget of cells: fewer leave no room for thin and long shapes."""
MAX_JUMP, MAX_ANISOTROPY = 1e6, 100.0
THIN_SIDE, THIN_LENGTH = 4, 2000
RESIDUE = 1e-12
"""Fraction of a component's source below which what remains without its mean is rounding."""
PRIMES = (3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 127, 151)


@dataclass(frozen=True, slots=True)
class Case:
    """A system: `b` is `grid.shape float64`, zero outside the fluid, and in the range of the operator."""

    seed: int
    number: int
    grid: PoissonGrid
    b: Array
    summary: str
    """The kind of shape, geometry, sides, spacing, κ and source, in words."""


def make_case(seed: int, number: int, max_cells: int = 50_000) -> Case:
    """Make case `number` of the sequence of `seed`; its bits are always the same for equal `max_cells`.

    >>> from relaxon.solvers.stress import make_case
    >>> one, again = make_case(7, 3), make_case(7, 3)
    >>> one.summary == again.summary and bool((one.b == again.b).all())
    True
    """
    if validation.positive_int("max_cells", max_cells) < MIN_CELLS:
        raise ValueError(f"max_cells must be at least {MIN_CELLS}, got {max_cells}")
    rng = np.random.default_rng([seed, number])
    kind, shape = _shape(rng, max_cells)
    geometry = str(rng.choice(list(_GEOMETRIES)))
    cells = _GEOMETRIES[geometry](rng, shape)
    if not (cells == CellType.FLUID).any():
        cells.flat[int(rng.integers(cells.size))] = CellType.FLUID
    equal, ratio = _spacing(rng, len(shape))
    boundary, sides = kinds.draw_sides(rng, shape, 1 / max(equal))
    spacing, widths = kinds.draw_widths(rng, shape, equal)
    kappa, coefficient = _coefficient(rng, shape, boundary)
    cut = kinds.draw_cut(rng, shape, boundary)
    if cut is not None:
        whole = face_coefficients(_grid(np.zeros(shape, np.uint8), spacing, boundary, coefficient, None, None))
        coefficient = [one * part for one, part in zip(whole, cut.faces, strict=True)]
        kappa = f"{kappa}, {cut.said}"
    reaction, term = kinds.draw_reaction(rng, shape, max(equal) ** -2)
    grid = _grid(cells, spacing, boundary, coefficient, reaction, None if cut is None else cut.volume)
    source, b = _source(rng, grid)
    size = "×".join(map(str, shape))
    more = "".join(f", {said}" for said in (widths, term) if said)
    summary = f"{size} ({kind}), {geometry}, sides {sides}, spacing {ratio}{more}, κ {kappa}, b {source}"
    return Case(seed, number, grid, b, summary)


def _grid(
    cells: Cells, spacing: Any, boundary: Any, coefficient: Any, reaction: Any, volume: Array | None
) -> PoissonGrid:
    """Return the grid, with a reaction where all of its cells would be shut."""
    try:
        return PoissonGrid(cells, spacing, boundary, coefficient, reaction, volume=volume)
    except ValueError as error:
        if "open face" not in str(error):
            raise
        return PoissonGrid(cells, spacing, boundary, coefficient, 1.0, volume=volume)


# --- shapes ----------------------------------------------------------------------------------------------------------


def _shape(rng: np.random.Generator, max_cells: int) -> tuple[str, tuple[int, ...]]:
    ndim = int(rng.integers(2, 4))
    side = max(2, int(max_cells ** (1 / ndim)))
    kind = str(rng.choice(["power of two", "odd", "prime", "any", "thin", "one cell wide", "flat", "short", "tiny"]))
    if kind == "power of two":
        shape = [2 ** int(rng.integers(2, max(3, int(math.log2(side)) + 1))) for _ in range(ndim)]
    elif kind == "odd":
        shape = [2 * int(rng.integers(1, max(2, side // 2))) + 1 for _ in range(ndim)]
    elif kind == "prime":
        shape = [int(rng.choice([p for p in PRIMES if p <= max(3, side)])) for _ in range(ndim)]
    elif kind == "any":
        shape = [int(rng.integers(2, side + 1)) for _ in range(ndim)]
    elif kind == "thin":
        length = min(THIN_LENGTH, max_cells // THIN_SIDE ** (ndim - 1))
        shape = [int(rng.integers(2, THIN_SIDE + 1))] * (ndim - 1) + [int(rng.integers(length // 2, length + 1))]
    elif kind == "one cell wide":
        length = min(THIN_LENGTH, max_cells)
        shape = [1] * (ndim - 1) + [int(rng.integers(2, length + 1))]
    elif kind == "flat":
        wide = max(2, int(math.sqrt(max_cells)) // (1 if ndim == 3 else 2))
        shape = [int(rng.integers(wide // 2 + 1, wide + 1)) for _ in range(ndim)]
        shape[int(rng.integers(ndim))] = 1
    elif kind == "short":
        shape = [int(rng.integers(1, 4)) for _ in range(ndim)]
        shape[int(rng.integers(ndim))] = int(rng.integers(2, max(3, min(max_cells // 9, THIN_LENGTH))))
    else:
        shape = [int(rng.integers(1, 5)) for _ in range(ndim)]
    return kind, tuple(int(n) for n in rng.permutation(shape))


# --- cell types ------------------------------------------------------------------------------------------------------


def _empty(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    return np.zeros(shape, np.uint8)


def _strew(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    """Return scattered cells of wall, and sometimes of air, with many pockets."""
    wall, air = rng.uniform(0.05, 0.45), rng.choice([0.0, 0.02])
    u = rng.random(shape)
    return np.where(u < wall, CellType.SOLID, np.where(u < wall + air, CellType.AIR, CellType.FLUID)).astype(np.uint8)


def _boxes(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    """Return blocks of wall and of air."""
    cells = np.zeros(shape, np.uint8)
    for _ in range(int(rng.integers(1, 8))):
        low = [int(rng.integers(0, n)) for n in shape]
        part = tuple(slice(a, a + int(rng.integers(1, max(2, n // 2)))) for a, n in zip(low, shape, strict=True))
        cells[part] = rng.choice([CellType.SOLID, CellType.AIR])
    return cells


def _pool(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    """Return air above a rough surface, and blocks below it."""
    cells = _boxes(rng, shape)
    cells[cells == CellType.AIR] = CellType.SOLID
    height = rng.uniform(0.2, 0.9, shape[:-1]) * shape[-1]
    cells[np.arange(shape[-1]) > height[..., None]] = CellType.AIR
    return cells


def _drops(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    """Return scattered fluid, surrounded by air."""
    cells = np.full(shape, CellType.AIR, np.uint8)
    cells[rng.random(shape) < rng.uniform(0.02, 0.4)] = CellType.FLUID
    return cells


def _channel(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    """Return a winding channel, one cell wide, through solid cells."""
    cells = np.full(shape, CellType.SOLID, np.uint8)
    at = [int(rng.integers(n)) for n in shape]
    cells[tuple(at)] = CellType.FLUID
    for _ in range(3 * sum(shape)):
        axis, step = int(rng.integers(len(shape))), int(rng.choice([-1, 1]))
        for _ in range(int(rng.integers(1, 6))):
            at[axis] = min(max(at[axis] + step, 0), shape[axis] - 1)
            cells[tuple(at)] = CellType.FLUID
    return cells


def _maze(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    """Return a maze with walls and corridors one cell wide, in which every room can be reached."""
    cells = np.full(shape, CellType.SOLID, np.uint8)
    rooms = [range(0, n, 2) for n in shape]
    start = tuple(int(rng.choice(list(axis))) for axis in rooms)
    cells[start] = CellType.FLUID
    stack = [start]
    while stack:
        at = stack[-1]
        ways = []
        for axis, n in enumerate(shape):
            for step in (-2, 2):
                if 0 <= at[axis] + step < n:
                    there = (*at[:axis], at[axis] + step, *at[axis + 1 :])
                    if cells[there] == CellType.SOLID:
                        ways.append((there, (*at[:axis], at[axis] + step // 2, *at[axis + 1 :])))
        if not ways:
            stack.pop()
            continue
        there, wall = ways[int(rng.integers(len(ways)))]
        cells[wall] = cells[there] = CellType.FLUID
        stack.append(there)
    return cells


def _pockets(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    """Return walls one cell thick across every axis with some missing cells: rooms, some connected, some closed."""
    cells = np.zeros(shape, np.uint8)
    for axis, n in enumerate(shape):
        if n >= 5:
            walls = np.arange(int(rng.integers(2, 5)), n, int(rng.integers(4, 10)))
            index = (slice(None),) * axis + (walls,)
            cells[index] = CellType.SOLID
    cells[rng.random(shape) < rng.choice([0.0, 0.003, 0.03])] = CellType.FLUID
    return cells


def _sheets(rng: np.random.Generator, shape: tuple[int, ...]) -> Cells:
    """Return thin walls across one axis, each with a few holes."""
    cells = np.zeros(shape, np.uint8)
    axis = int(rng.integers(len(shape)))
    for layer in range(int(rng.integers(1, 4)), shape[axis], int(rng.integers(2, 7))):
        wall = np.where(rng.random(shape[:axis] + shape[axis + 1 :]) < 0.05, CellType.FLUID, CellType.SOLID)
        cells[(slice(None),) * axis + (layer,)] = wall
    return cells


_GEOMETRIES: dict[str, Callable[[np.random.Generator, tuple[int, ...]], Cells]] = {
    "empty": _empty,
    "strewn cells": _strew,
    "blocks": _boxes,
    "pool": _pool,
    "drops in air": _drops,
    "channel": _channel,
    "maze": _maze,
    "pockets": _pockets,
    "sheets with holes": _sheets,
}


# --- spacing, κ, b ---------------------------------------------------------------------------------------------


def _spacing(rng: np.random.Generator, ndim: int) -> tuple[list[float], str]:
    kind = str(rng.choice(["equal", "equal", "mild", "strong"]))
    if kind == "equal":
        return [float(10.0 ** rng.uniform(-3, 1))] * ndim, "equal"
    most = 4.0 if kind == "mild" else MAX_ANISOTROPY
    ratios = most ** rng.random(ndim)
    ratios[int(ratios.argmin())], ratios[int(ratios.argmax())] = 1.0, most
    return [float(0.01 * ratio) for ratio in ratios], ":".join(f"{ratio:.3g}" for ratio in ratios)


def _coefficient(
    rng: np.random.Generator, shape: tuple[int, ...], boundary: kinds.Pairs
) -> tuple[str, Array | list[Array] | None]:
    kind = str(rng.choice(["1", "1", "cells", "cells", "faces", "faces"]))
    if kind == "1":
        return kind, None
    jump = float(10.0 ** rng.uniform(0.5, math.log10(MAX_JUMP)))
    pattern = str(rng.choice(["noise", "blocks", "layers"]))
    if kind == "cells":
        return f"of cells, {pattern}, jumps to {jump:.1e}", jump ** _pattern(rng, shape, pattern)
    faces, closed = [], float(rng.choice([0.0, 0.0, 0.05, 0.4]))
    for axis, (low, _) in enumerate(boundary):
        longer = tuple(n + (other == axis) for other, n in enumerate(shape))
        face = jump ** _pattern(rng, longer, pattern) * (rng.random(longer) >= closed)
        if low is Boundary.PERIODIC:
            ends = np.moveaxis(face, axis, 0)
            ends[-1] = ends[0]
        faces.append(face)
    return f"of faces, {pattern}, jumps to {jump:.1e}, {closed:.0%} closed", faces


def _pattern(rng: np.random.Generator, shape: tuple[int, ...], pattern: str) -> Array:
    """Return exponents from 0 to 1."""
    if pattern == "noise":
        return rng.random(shape)
    exponents = np.zeros(shape)
    if pattern == "layers":
        axis = int(rng.integers(len(shape)))
        layers = rng.integers(0, 2, shape[axis]).astype(np.float64)
        return exponents + layers.reshape([-1 if other == axis else 1 for other in range(len(shape))])
    for _ in range(6):
        low = [int(rng.integers(0, n)) for n in shape]
        part = tuple(slice(a, a + int(rng.integers(1, max(2, n // 2)))) for a, n in zip(low, shape, strict=True))
        exponents[part] = rng.choice([0.0, 0.5, 1.0])
    return exponents


def _source(rng: np.random.Generator, grid: PoissonGrid) -> tuple[str, Array]:
    kind = str(rng.choice(["noise", "smooth", "points", "image"]))
    b = np.zeros(grid.shape)
    if kind == "noise":
        b = rng.standard_normal(grid.shape)
    elif kind == "smooth":
        for axis, n in enumerate(grid.shape):
            wave = np.cos(np.pi * rng.integers(0, 3) * (np.arange(n) + 0.5) / n + rng.uniform(0, 6))
            b = b + wave.reshape([-1 if other == axis else 1 for other in range(grid.ndim)])
    elif kind == "points":
        index = rng.choice(np.flatnonzero(grid.fluid), 2)
        b.flat[index[0]] += 1.0
        b.flat[index[1]] -= 1.0
    else:
        b = grid.operator().matvec(np.where(grid.fluid, rng.standard_normal(grid.shape), 0.0))
        b = b if grid.row_weights is None else b / grid.row_weights
    b = np.where(grid.fluid, b, 0.0) * float(10.0 ** rng.uniform(-3, 3))
    return kind, _in_the_range(grid, b)


def _in_the_range(grid: PoissonGrid, b: Array) -> Array:
    """Return `b` without the mean of each singular component; the rounding that a constant leaves becomes 0."""
    labels = grid.nullspace.labels
    if labels is None:
        return b
    whole = grid.weighted(b)
    before = _peaks(whole, labels, grid.nullspace.dimension)
    grid.nullspace.project(whole.reshape(grid.shape3))
    residue = _peaks(whole, labels, grid.nullspace.dimension) < RESIDUE * before
    residue[0] = False
    whole[residue[labels].reshape(grid.shape)] = 0.0
    return whole if grid.row_weights is None else whole / grid.row_weights


def _peaks(b: Array, labels: NDArray[np.int32], count: int) -> Array:
    peaks = np.zeros(count + 1)
    np.maximum.at(peaks, labels.reshape(-1), np.abs(b.reshape(-1)))
    return peaks
