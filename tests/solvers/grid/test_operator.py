"""The operator against its assembled matrix and a slow twin, its null space, and refusals of bad grids."""

import itertools

import numpy as np
import pytest

from relaxon.solvers import CellType, PoissonGrid
from relaxon.solvers.grid import stencil_kernels as kernels

SHAPES = [(5, 7), (4, 5, 6), (1, 9), (3, 1, 2), (2, 2, 3), (11, 13)]
SIDES = ["neumann", "dirichlet", "periodic", "mixed"]


def random_grid(shape, sides, variable, seed=0):
    rng = np.random.default_rng(seed)
    cells = rng.choice(3, size=shape, p=[0.7, 0.2, 0.1]).astype(np.uint8)
    cells.flat[0] = 0
    boundary = (
        [("dirichlet", "neumann"), "periodic", ("neumann", "dirichlet")][: len(shape)] if sides == "mixed" else sides
    )
    kappa = rng.uniform(0.1, 10, shape) if variable else None
    return PoissonGrid(cells, rng.uniform(0.5, 2, len(shape)), boundary, kappa)


def slow_matrix(grid):
    """Row by row, from the definition in the docstring of `PoissonGrid`."""
    index = {tuple(c): row for row, c in enumerate(np.argwhere(grid.fluid))}
    matrix = np.zeros((grid.unknowns, grid.unknowns))
    for cell, row in index.items():
        for axis, side in itertools.product(range(grid.ndim), (0, 1)):
            n, w = grid.shape[axis], grid.spacing[axis] ** -2
            kappa = 1.0 if grid.coefficient is None else grid.coefficient[cell]
            other = list(cell)
            other[axis] += 2 * side - 1
            if not 0 <= other[axis] < n:
                kind = grid.boundary[axis][side]
                if kind == "dirichlet":
                    matrix[row, row] += 2 * kappa * w
                if kind != "periodic":
                    continue
                other[axis] %= n
            other = tuple(other)
            if grid.cells[other] == CellType.SOLID:
                continue
            if grid.coefficient is not None:
                kappa = 2 * kappa * grid.coefficient[other] / (kappa + grid.coefficient[other])
            matrix[row, row] += kappa * w
            if grid.cells[other] == CellType.FLUID:
                matrix[row, index[other]] -= kappa * w
    return matrix


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("variable", [False, True])
def test_the_operator_its_matrix_and_the_definition_agree(shape, sides, variable):
    grid = random_grid(shape, sides, variable)
    operator = grid.operator()
    assert operator.constant is not variable
    dense = slow_matrix(grid)
    np.testing.assert_allclose(operator.to_csr().toarray(), dense, atol=1e-11)
    x = np.random.default_rng(1).standard_normal(grid.unknowns)
    np.testing.assert_allclose(operator.matvec(x), dense @ x, atol=1e-11)
    np.testing.assert_allclose(operator.to_scipy() @ x, dense @ x, atol=1e-11)
    np.testing.assert_allclose(grid.operator(np.float32).matvec(x), dense @ x, atol=1e-4 * abs(dense).max())
    full = grid.unpack(x)
    full[~grid.fluid] = 99.0  # what stands outside the fluid does not matter
    np.testing.assert_allclose(grid.pack(operator.matvec(full)), dense @ x, atol=1e-11)
    values = np.linalg.eigvalsh(dense)
    assert values[0] > -1e-10
    assert grid.nullspace.dimension == np.sum(values < 1e-9 * values[-1])


@pytest.mark.parametrize("variable", [False, True])
def test_the_kernels_do_uncompiled_what_they_do_compiled(variable, monkeypatch):
    monkeypatch.setattr(kernels, "row_beside", kernels.row_beside.py_func)  # has no way in from Python but this
    grid = random_grid((3, 4, 5), "periodic", variable)
    operator = grid.operator()
    x = np.where(grid.fluid, np.random.default_rng(0).standard_normal(grid.shape), 0.0)
    compiled, plain = np.empty_like(x), np.empty_like(x)
    operator.apply(x, compiled)
    if variable:
        kernels.apply_variable.py_func(x, operator.diagonal, *operator.couplings, operator.wrap, plain)
    else:
        arguments = (operator.code, operator.table, operator.weights, operator.wrap)
        kernels.apply_constant.py_func(x, *arguments, plain)
    np.testing.assert_allclose(compiled, plain, atol=1e-12)


def test_face_coefficients_of_one_are_no_coefficients():
    grid = random_grid((4, 5, 6), "mixed", False)
    faces = [np.ones([n + (a == axis) for a, n in enumerate(grid.shape)]) for axis in range(3)]
    same = PoissonGrid(grid.cells, grid.spacing, grid.boundary, faces)
    x = np.random.default_rng(0).standard_normal(grid.unknowns)
    np.testing.assert_allclose(same.operator().matvec(x), grid.operator().matvec(x), atol=1e-12)


def test_permuting_the_axes_permutes_the_operator():
    grid = random_grid((4, 5, 6), "mixed", True)
    order = (2, 0, 1)
    turned = PoissonGrid(
        grid.cells.transpose(order),
        [grid.spacing[a] for a in order],
        [grid.boundary[a] for a in order],
        grid.coefficient.transpose(order),
    )
    x = np.random.default_rng(0).standard_normal(grid.shape)
    np.testing.assert_allclose(
        turned.operator().matvec(x.transpose(order)), grid.operator().matvec(x).transpose(order), atol=1e-12
    )


def test_projection_is_idempotent_and_keeps_the_range():
    cells = np.zeros((9, 8), np.uint8)
    cells[4], cells[6, 3:5], cells[8, 7] = CellType.SOLID, CellType.SOLID, CellType.AIR
    grid = PoissonGrid(cells)  # closed above the wall, open to air below it
    assert grid.nullspace.dimension == 1
    v = np.where(grid.fluid, np.random.default_rng(0).standard_normal(grid.shape), 0.0).reshape(grid.shape3)
    once = grid.nullspace.project(v.copy())
    np.testing.assert_allclose(grid.nullspace.project(once.copy()), once, atol=1e-14)
    image = grid.operator().matvec(v.reshape(grid.shape)).reshape(grid.shape3)
    np.testing.assert_allclose(grid.nullspace.project(image.copy()), image, atol=1e-12)
    assert grid.nullspace.defect(image)[0] < 1e-12


def test_pack_and_unpack_are_inverse():
    grid = random_grid((4, 5, 6), "neumann", False)
    x = np.arange(grid.unknowns, dtype=np.float32)
    np.testing.assert_array_equal(grid.pack(grid.unpack(x, fill=-1)), x)
    assert grid.unpack(x).dtype == np.float32
    for bad in (x[1:], x[None]):
        with pytest.raises(ValueError, match="packed must have shape"):
            grid.unpack(bad)
    with pytest.raises(ValueError, match="full must have"):
        grid.pack(x)


FLUID = np.zeros((3, 4), np.uint8)


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (TypeError, "cells", {"cells": FLUID.astype(float)}),
        (TypeError, "cells", {"cells": FLUID.astype(bool)}),
        (ValueError, "cells", {"cells": np.full((3, 4), 3)}),
        (ValueError, "cells", {"cells": np.full((3, 4), -1)}),
        (ValueError, "cells", {"cells": np.zeros((0, 4), np.uint8)}),
        (ValueError, "cells", {"cells": np.zeros(4, np.uint8)}),
        (ValueError, "cells", {"cells": np.zeros((2, 2, 2, 2), np.uint8)}),
        (ValueError, "cells", {"cells": np.ones((3, 4), np.uint8)}),
        (ValueError, "spacing", {"spacing": 0.0}),
        (ValueError, "spacing", {"spacing": -1.0}),
        (ValueError, "spacing", {"spacing": np.nan}),
        (ValueError, "spacing", {"spacing": [1.0]}),
        (ValueError, r"spacing\[1\]", {"spacing": [1.0, np.inf]}),
        (TypeError, "spacing", {"spacing": "1"}),
        (ValueError, r"boundary\[0\]", {"boundary": "wall"}),
        (ValueError, "boundary", {"boundary": ["neumann"]}),
        (ValueError, r"boundary\[1\]", {"boundary": ["neumann", ("periodic", "neumann")]}),
        (ValueError, "coefficient", {"coefficient": np.ones((3, 3))}),
        (ValueError, "coefficient", {"coefficient": np.zeros((3, 4))}),
        (ValueError, "coefficient", {"coefficient": np.full((3, 4), np.nan)}),
        (ValueError, "coefficient", {"coefficient": (np.ones((4, 4)),)}),
        (ValueError, r"coefficient\[1\]", {"coefficient": (np.ones((4, 4)), np.ones((3, 4)))}),
    ],
)
def test_a_bad_grid_is_refused_by_the_arguments_name(error, name, arguments):
    with pytest.raises(error, match=f"^{name} must"):
        PoissonGrid(**({"cells": FLUID} | arguments))


def test_a_grid_keeps_its_own_copy_of_any_layout():
    cells = np.zeros((6, 8), np.int64)[::2, ::2]
    grid = PoissonGrid(cells)
    cells[0, 0] = 1
    assert grid.unknowns == 12
    assert not grid.cells.flags.writeable


@pytest.mark.parametrize("shape", [(7, 9), (1, 6), (5, 4, 8), (6, 1, 7), (3, 5, 1), (1, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spacing", [0.3, None])
def test_the_residual_in_one_pass_is_that_of_the_matrix(shape, seed, spacing):
    rng = np.random.default_rng(seed)
    cells = rng.choice(3, size=shape, p=[0.7, 0.2, 0.1]).astype(np.uint8)
    cells.flat[0] = 0
    sides = [["periodic", "neumann", "dirichlet", ("neumann", "dirichlet")][rng.integers(4)] for _ in shape]
    grid = PoissonGrid(cells, spacing or rng.uniform(0.2, 2, len(shape)), sides)
    b, x = (grid.unpack(rng.standard_normal(grid.unknowns)) for _ in range(2))
    expected = np.linalg.norm(grid.pack(b) - grid.operator().to_csr() @ grid.pack(x))
    found = grid.operator().residual_norm(b.reshape(grid.shape3), x.reshape(grid.shape3))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("width", [5e-324, 1e-200, 1e101, 1e308])
@pytest.mark.parametrize("axis", [None, 1])
def test_a_width_whose_inverse_square_is_no_number_is_refused_by_name(width, axis):
    spacing, name = (width, "spacing") if axis is None else ([1.0, width], r"spacing\[1\]")
    with pytest.raises(ValueError, match=f"^{name} must be from 1e-100 to 1e"):
        PoissonGrid(np.zeros((3, 3), np.uint8), spacing)


@pytest.mark.parametrize("width", [1e-100, 1e100])
def test_the_outermost_widths_make_an_operator(width):
    grid = PoissonGrid(np.zeros((3, 3), np.uint8), width, "dirichlet")
    applied = grid.operator().to_scipy() @ np.ones(9)
    assert np.isfinite(applied).all()
    assert applied[0] > 0
