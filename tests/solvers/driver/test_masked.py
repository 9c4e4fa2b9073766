"""Masked arrays: refused by name where an entry under the mask is used, taken where none is."""

from __future__ import annotations

import re

import numpy as np
import pytest

from relaxon.core.masked import find_used_coefficients, find_used_faces
from relaxon.solvers import MultigridCG, PoissonGrid, prepare, solve, solve_many
from relaxon.solvers.grid.faces import validate_air_values, validate_side_values

FILL = 9.96921e36
"""netCDF's fill value for floats: what stands under a mask."""
CELLS = np.zeros((6, 7), np.uint8)
CELLS[2:4, 2:4] = 1
CELLS[:, -1] = 2
SHAPE = CELLS.shape
SOLID, AIR, FLUID = (kind == CELLS for kind in (1, 2, 0))
ONE = np.zeros(SHAPE, bool)
ONE[0, 1] = True


def grid(**options):
    return PoissonGrid(CELLS, boundary="dirichlet", **options)


def masked(mask, values=None):
    """An array as netCDF4 gives it: the fill value under the mask."""
    values = np.arange(1.0, mask.size + 1).reshape(mask.shape) if values is None else values
    return np.ma.array(np.where(mask, FILL, values), mask=mask, fill_value=FILL)


class Variable:
    """What netCDF4's variables are to NumPy: an object that gives a masked array of itself."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


MATRIX = grid().operator().to_csr()
VECTOR = masked(np.arange(MATRIX.shape[0]) == 3)
REFUSED = {
    "b": (lambda: solve(grid(), masked(ONE), solver="cg"), "b"),
    "complex b": (lambda: solve(grid(), masked(ONE) * 1j, solver="cg"), "b"),
    "packed b": (lambda: solve(grid(), VECTOR, solver="cg"), "b"),
    "b of a matrix": (lambda: solve(MATRIX, VECTOR), "b"),
    "b as a variable of a file": (lambda: solve(grid(), Variable(masked(ONE)), solver="cg"), "b"),
    "b as rows": (lambda: solve(grid(), list(masked(ONE)), solver="cg"), "b"),
    "b as lists with masked numbers": (lambda: solve(MATRIX, [np.ma.masked, *[1.0] * (len(VECTOR) - 1)]), "b"),
    "x0": (lambda: solve(grid(), np.ones(SHAPE), solver="cg", x0=masked(ONE)), "x0"),
    "x0 of a matrix": (lambda: solve(MATRIX, np.ones(len(VECTOR)), x0=VECTOR), "x0"),
    "one of several b": (lambda: solve_many(grid(), [np.ones(SHAPE), masked(ONE)], solver="cg"), "b[1]"),
    "b of a stack": (lambda: solve_many(grid(), masked(np.stack([SOLID, ONE])), solver="cg"), "b[1]"),
    "prepared": (lambda: prepare(grid(), solver="cg").solve(masked(ONE)), "b"),
    "cells": (lambda: PoissonGrid(np.ma.array(CELLS, mask=ONE)), "cells"),
    "cells masked where solid": (lambda: PoissonGrid(np.ma.array(CELLS, mask=SOLID)), "cells"),
    "coefficient": (lambda: grid(coefficient=masked(ONE)), "coefficient"),
    "coefficient in air beside the fluid": (lambda: grid(coefficient=masked(AIR)), "coefficient"),
    "coefficient on faces": (
        lambda: PoissonGrid(CELLS, coefficient=[masked(np.pad(ONE, [(0, 1), (0, 0)])), np.ones((6, 8))]),
        "coefficient[0]",
    ),
    "spacing": (lambda: grid(spacing=np.ma.array([1.0, 2.0], mask=[False, True])), "spacing"),
    "pack": (lambda: grid().pack(masked(ONE)), "full"),
    "unpack": (lambda: grid().unpack(VECTOR), "packed"),
    "matvec": (lambda: grid().operator().matvec(masked(ONE)), "x"),
    "residual": (lambda: grid().operator().residual(masked(ONE), np.ones(SHAPE)), "b"),
    "air values": (lambda: validate_air_values(grid(), masked(AIR)), "air_values"),
    "side values": (
        lambda: validate_side_values(grid(), [(masked(np.arange(7) == 2), None), (None, None)]),
        "side_values[0][0]",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_mask_over_what_is_used_is_refused_by_name(kind):
    call, name = REFUSED[kind]
    with pytest.raises(ValueError, match=f"^{re.escape(name)} must have no masked entries.*filled"):
        call()


def test_the_data_of_a_matrix_are_refused():
    matrix = MATRIX.copy()
    matrix.data = np.ma.array(matrix.data, mask=np.arange(matrix.nnz) == 5)
    with pytest.raises(ValueError, match="operator must have no masked entries.*got 1 of"):
        solve(matrix, np.ones(matrix.shape[0]))


@pytest.mark.parametrize("where", ["solid", "air", "nowhere"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.complex128])
def test_a_mask_outside_the_fluid_changes_nothing(where, dtype):
    mask = {"solid": SOLID, "air": AIR, "nowhere": np.zeros(SHAPE, bool)}[where]
    values = np.random.default_rng(0).standard_normal(SHAPE).astype(dtype)
    b = np.ma.array(np.where(mask, dtype(FILL), values), mask=mask)
    kept = b.copy()
    found = solve(grid(), b, solver="cg", x0=b)
    expected = solve(grid(), values, solver="cg", x0=values)
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_array_equal(grid().pack(b), values[FLUID])
    np.testing.assert_array_equal(b.mask, kept.mask)
    np.testing.assert_array_equal(b.data, kept.data)


def test_a_coefficient_is_taken_where_the_masked_cells_are_solid():
    """A face that touches SOLID carries nothing, whatever κ is there."""
    values = np.random.default_rng(0).uniform(0.5, 2.0, SHAPE)
    b = np.ones(SHAPE)
    plain = solve(grid(coefficient=values), b, solver="cg").x
    np.testing.assert_array_equal(solve(grid(coefficient=masked(SOLID, values)), b, solver="cg").x, plain)


def test_faces_are_taken_where_the_masked_ones_touch_solid_alone():
    rng = np.random.default_rng(0)
    faces = [rng.uniform(0.5, 2.0, (7, 7)), rng.uniform(0.5, 2.0, (6, 8))]
    coast = [~find_used_faces(CELLS, axis, False) for axis in (0, 1)]
    assert all(0 < mask.sum() < mask.size for mask in coast)
    b = np.ones(SHAPE)
    found = solve(grid(coefficient=[masked(m, f) for m, f in zip(coast, faces, strict=True)]), b, solver="cg")
    np.testing.assert_array_equal(found.x, solve(grid(coefficient=faces), b, solver="cg").x)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic"])
def test_what_counts_as_used_is_what_the_matrix_feels(boundary):
    """κ of a cell or face is used exactly where changing it changes the matrix, but for sides without a flux."""
    rng = np.random.default_rng(5)
    cells = rng.choice(np.array([0, 0, 0, 1, 2], np.uint8), (5, 6))
    periodic = boundary == "periodic"
    kappa = rng.uniform(1.0, 2.0, cells.shape)
    base = PoissonGrid(cells, boundary=boundary, coefficient=kappa).operator().to_csr().toarray()
    used = find_used_coefficients(cells, (periodic, periodic))
    for place in np.ndindex(cells.shape):
        other = kappa.copy()
        other[place] *= 3.0
        felt = not np.array_equal(
            PoissonGrid(cells, boundary=boundary, coefficient=other).operator().to_csr().toarray(), base
        )
        assert used[place] or not felt
        assert felt or not used[place] or cells[place] == 0
    for axis in (0, 1):
        faces = [rng.uniform(1.0, 2.0, tuple(n + (a == axis) for a, n in enumerate(cells.shape))) for axis in (0, 1)]
        if periodic:
            faces[0][-1], faces[1][:, -1] = faces[0][0], faces[1][:, 0]
        base = PoissonGrid(cells, boundary=boundary, coefficient=faces).operator().to_csr().toarray()
        found = find_used_faces(cells, axis, periodic)
        for place in np.ndindex(faces[axis].shape):
            other = [face.copy() for face in faces]
            other[axis][place] *= 3.0
            if periodic and place[axis] in (0, cells.shape[axis]):
                ends = [list(place), list(place)]
                ends[0][axis], ends[1][axis] = 0, cells.shape[axis]
                other[axis][tuple(ends[0])] = other[axis][tuple(ends[1])] = 3.0 * faces[axis][place]
            felt = not np.array_equal(
                PoissonGrid(cells, boundary=boundary, coefficient=other).operator().to_csr().toarray(), base
            )
            edge = place[axis] in (0, cells.shape[axis])
            assert found[place] or not felt
            assert felt or not found[place] or edge


def test_other_solvers_and_objects_refuse_too():
    with pytest.raises(ValueError, match="^b must have no masked"):
        solve(grid(), masked(ONE), solver=MultigridCG())
    with pytest.raises(ValueError, match="^r must have no masked"):
        grid().preconditioner()._matvec(VECTOR)
