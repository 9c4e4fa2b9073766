"""Random grids of every kind, and the matrix of one entry by entry, from the definition of `PoissonGrid`."""

import itertools

import numpy as np

from relaxon.solvers import Boundary, CellType, PoissonGrid, Robin
from relaxon.solvers.dcdm.coupled import FEATURES, Candidate, CouplingChoice

NAMES = ("neumann", "dirichlet", "dirichlet-node", "periodic", "robin")


def random_side(rng, shape, kinds):
    kind = rng.choice(kinds)
    if kind != "robin":
        return str(kind)
    number = float(rng.choice([0.0, 1e-3, 1.0, 1e4]))
    return Robin(number if rng.random() < 0.5 else number * rng.integers(0, 2, shape))


def random_arguments(seed, shape):
    """Arguments of a grid: each of its parts is of a random kind."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(3, size=shape, p=[0.75, 0.15, 0.1] if rng.random() < 0.7 else [1, 0, 0]).astype(np.uint8)
    cells.flat[0] = CellType.FLUID
    boundary = []
    for axis in range(len(shape)):
        side = shape[:axis] + shape[axis + 1 :]
        low = random_side(rng, side, NAMES)
        kinds = [name for name in NAMES if name != "periodic"]
        boundary.append("periodic" if low == "periodic" else (low, random_side(rng, side, kinds)))
    spacing = [float(rng.uniform(0.5, 2)) if rng.random() < 0.5 else rng.uniform(0.3, 3, n) for n in shape]
    coefficient = [None, rng.uniform(0.1, 10, shape), "faces"][rng.integers(3)]
    if isinstance(coefficient, str):
        coefficient = []
        for axis, n in enumerate(shape):
            face = rng.uniform(0.1, 10, [m + (a == axis) for a, m in enumerate(shape)])
            face *= rng.random(face.shape) > rng.choice([0, 0.3, 0.7])
            if boundary[axis] == "periodic":
                np.moveaxis(face, axis, 0)[n] = np.moveaxis(face, axis, 0)[0]
            coefficient.append(face)
    reaction = [None, 0.0, 2.5, rng.uniform(0, 3, shape) * (rng.random(shape) < 0.2)][rng.integers(4)]
    volume = None if rng.random() < 0.6 else rng.uniform(0.05, 1, shape)
    return {
        "cells": cells,
        "spacing": spacing,
        "boundary": boundary,
        "coefficient": coefficient,
        "reaction": reaction,
        "volume": volume,
    }


def random_grid(seed, shape):
    """A grid of `random_arguments`; one all of whose cells are shut gets a reaction."""
    return PoissonGrid(**possible_arguments(seed, shape))


def possible_arguments(seed, shape):
    """As `random_arguments`, with a reaction where all cells are shut."""
    arguments = random_arguments(seed, shape)
    try:
        PoissonGrid(**arguments)
    except ValueError as error:
        if "open face" not in str(error):
            raise
        arguments["reaction"] = 1.0
    return arguments


def arguments_of_part(arguments, own):
    """What the process that owns these slices gives `DistributedPoissonGrid`."""
    found = dict(arguments)
    for name in ("cells", "coefficient", "reaction", "volume"):
        if isinstance(found[name], np.ndarray):
            found[name] = found[name][own]
    if isinstance(found["coefficient"], list):
        found["coefficient"] = [
            face[tuple(slice(cut.start, cut.stop + (axis == other)) for other, cut in enumerate(own))]
            for axis, face in enumerate(found["coefficient"])
        ]
    for axis, pair in enumerate(boundary := list(found["boundary"])):
        if isinstance(pair, tuple):
            across = tuple(cut for other, cut in enumerate(own) if other != axis)
            boundary[axis] = tuple(
                Robin(side.h[across]) if isinstance(side, Robin) and np.ndim(side.h) else side for side in pair
            )
    return found | {"boundary": boundary}


def slow_system(grid, air=None, side_values=None):
    """The matrix, and what known values add to its right-hand side, a cell and a face at a time."""
    index = {tuple(c): row for row, c in enumerate(np.argwhere(grid.fluid))}
    widths = [np.broadcast_to(w, n) for w, n in zip(grid.spacing, grid.shape, strict=True)]
    mean = np.prod([w.mean() for w in widths])
    matrix, source = np.zeros((grid.unknowns,) * 2), np.zeros(grid.unknowns)
    for cell, row in index.items():
        volume = np.prod([w[i] for w, i in zip(widths, cell, strict=True)])
        part = 1.0 if grid.volume is None else grid.volume[cell]
        if grid.reaction is not None:
            matrix[row, row] += np.broadcast_to(grid.reaction, grid.shape)[cell] * part * volume / mean
        for axis, end in itertools.product(range(grid.ndim), (0, 1)):
            n, own = grid.shape[axis], widths[axis][cell[axis]]
            area = volume / own / mean
            other = list(cell)
            other[axis] += 2 * end - 1
            outside = not 0 <= other[axis] < n
            side = grid.boundary[axis][end]
            face = list(cell)
            face[axis] += end
            kappa = 1.0
            if isinstance(grid.coefficient, tuple):
                kappa = grid.coefficient[axis][tuple(face)]
            elif grid.coefficient is not None:
                kappa = grid.coefficient[cell]
            if outside and side is not Boundary.PERIODIC:
                across = tuple(i for a, i in enumerate(cell) if a != axis)
                value = 0.0
                if side_values is not None and side_values[axis][end] is not None:
                    value = np.broadcast_to(side_values[axis][end], grid.shape[:axis] + grid.shape[axis + 1 :])[across]
                inside = 2 * kappa / own
                if isinstance(side, Robin):
                    film = np.broadcast_to(side.h, grid.shape[:axis] + grid.shape[axis + 1 :])[across]
                    if film + inside > 0:
                        matrix[row, row] += area * film * inside / (film + inside)
                        source[row] += area * value * inside / (film + inside)
                elif side is not Boundary.NEUMANN:
                    conductance = inside if side is Boundary.DIRICHLET else inside / 2
                    matrix[row, row] += area * conductance
                    source[row] += area * conductance * value
                continue
            other[axis] %= n
            other = tuple(other)
            if grid.cells[other] == CellType.SOLID or other == cell:
                continue
            far = widths[axis][other[axis]]
            between = 2 * kappa / (own + far)
            if isinstance(grid.coefficient, np.ndarray):
                between = 2 / (own / kappa + far / grid.coefficient[other])
            matrix[row, row] += area * between
            if grid.cells[other] == CellType.FLUID:
                matrix[row, index[other]] -= area * between
            elif air is not None:
                source[row] += area * between * air[other]
    return matrix, source


UNCHOSEN = CouplingChoice((Candidate(2),), np.zeros((1, FEATURES)), np.zeros(1), np.zeros((1, 1)), np.zeros(1))
"""The cycle of several processes, and of `mg-cg`, for any couplings."""
