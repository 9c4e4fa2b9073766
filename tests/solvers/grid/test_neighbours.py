"""Passes of set-up in plain NumPy against a look at each cell by itself."""

import itertools

import numpy as np
import pytest

from relaxon.solvers.grid.label_kernels import components
from relaxon.solvers.grid.neighbours import count_faces, dirichlet_cells
from relaxon.solvers.grid.poisson_grid import CellType
from relaxon.solvers.multigrid.coarsening import coarsen_side, coarsen_types

rng = np.random.default_rng(0)
SHAPES = [(1, 5, 4), (4, 1, 3), (5, 4, 1), (3, 5, 6), (2, 2, 2), (1, 1, 1)]


def drawn(shape):
    cells = rng.choice([0, 0, 0, 1, 2], shape).astype(np.uint8)
    return cells, rng.random((3, 2)) < 0.4, rng.random(3) < 0.5


def beside(cells, place, wrap):
    """Each face's axis, its side and the cell beyond: None beyond the grid."""
    for axis, step in itertools.product(range(3), (-1, 1)):
        other = list(place)
        other[axis] += step
        n = cells.shape[axis]
        if 0 <= other[axis] < n or wrap[axis]:
            other[axis] %= n
            yield axis, step > 0, tuple(other)
        else:
            yield axis, step > 0, None


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("units", [(1, 1, 1), (0, 1, 1), (1, 5, 25)])
def test_faces_and_held_cells_are_those_of_each_cell(shape, units):
    for _ in range(8):
        cells, sides, wrap = drawn(shape)
        before = cells.copy()
        code, held = np.full(shape, 9, np.uint8), np.ones(shape, bool)
        count_faces(cells, np.array(units, np.uint8), sides, wrap, code)
        dirichlet_cells(cells, sides, wrap, held)
        for place in np.ndindex(*shape):
            faces, is_held = 0, False
            for axis, upper, other in beside(cells, place, wrap):
                faces += units[axis] * (other is not None and cells[other] != CellType.SOLID)
                is_held |= other is not None and cells[other] == CellType.AIR
                if place[axis] == (shape[axis] - 1 if upper else 0) and sides[axis, int(upper)]:
                    faces, is_held = faces + 2 * units[axis], True
            fluid = cells[place] == CellType.FLUID
            assert code[place] == (faces % 256 if fluid else 0)
            assert held[place] == (is_held and fluid)
        np.testing.assert_array_equal(cells, before)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_component_has_one_number_and_no_held_cell(shape):
    for _ in range(8):
        cells, _, wrap = drawn(shape)
        fluid = cells == CellType.FLUID
        held = fluid & (rng.random(shape) < 0.2)
        first, start, stop, component, sizes = components(fluid, held, wrap)
        labels = np.full(shape, -1)
        for line in range(first.size - 1):
            for run in range(first[line], first[line + 1]):
                labels.reshape(-1, shape[2])[line, start[run] : stop[run]] = component[run]
        np.testing.assert_array_equal(labels >= 0, fluid)
        assert not labels[held].any()
        assert sizes.tolist() == [0, *(int((labels == number).sum()) for number in range(1, len(sizes)))]
        for place in map(tuple, np.argwhere(fluid)):
            for _, _, other in beside(cells, place, wrap):
                assert other is None or not fluid[other] or labels[other] == labels[place]


@pytest.mark.parametrize("shape", [(5, 4, 3), (1, 6, 7), (2, 2, 2)])
@pytest.mark.parametrize("steps", [(2, 2, 2), (1, 2, 2), (2, 1, 1), (1, 1, 2)])
def test_a_coarse_cell_is_made_of_its_children(shape, steps):
    cells, _, _ = drawn(shape)
    coarse = tuple(-(-n // s) for n, s in zip(shape, steps, strict=True))
    side = np.zeros((3, *shape), np.float32)
    for axis in range(3):
        for end in (0, -1):
            layer = np.moveaxis(side[axis], axis, 0)[end]
            layer[...] = rng.random(layer.shape)
    half = np.array([0.5 if s == 2 else 1.0 for s in steps], np.float32)
    types, known = np.full(coarse, 9, np.uint8), np.full((3, *coarse), 9, np.float32)
    coarsen_types(cells, np.array(steps), types)
    coarsen_side(side, np.array(steps), np.stack([half, half], 1), known)
    for place in np.ndindex(*coarse):
        children = tuple(slice(p * s, p * s + s) for p, s in zip(place, steps, strict=True))
        kinds = set(cells[children].ravel().tolist())
        assert types[place] == (CellType.AIR if CellType.AIR in kinds else CellType.FLUID if 0 in kinds else 1)
        for axis in range(3):
            expected = half[axis] * side[axis][children].sum()
            np.testing.assert_allclose(known[axis][place], expected, rtol=1e-6)
