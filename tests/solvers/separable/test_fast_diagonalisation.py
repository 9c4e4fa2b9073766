"""Boxes solved in the eigenvectors of their axes: against the matrix, for all sides, extents and coefficients."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse.linalg import spsolve

from relaxon.solvers import FastDiagonalisation, PoissonGrid, prepare, solve, solve_many
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.separable import kernels, system, transforms
from relaxon.solvers.separable.axes import Axis, NotSeparableError, axes_of, factor_axes

NAME = "fast-diagonalisation"
SIDES = ["neumann", "dirichlet", ("neumann", "dirichlet"), ("dirichlet", "neumann"), "periodic"]
SHIFT = 0.9
"""Times `M`, what is added to `K` where that may be singular."""
rng = np.random.default_rng(0)


def outer(factors):
    return functools.reduce(np.multiply.outer, factors)


@st.composite
def boxes(draw):
    """A box of any shape and sides, with κ = 1 or a product, of cells or of faces."""
    ndim = draw(st.integers(2, 3))
    shape = tuple(draw(st.lists(st.integers(1, 9), min_size=ndim, max_size=ndim)))
    sides = [draw(st.sampled_from(SIDES)) for _ in shape]
    spacing = tuple(draw(st.floats(0.3, 3.0)) for _ in shape)
    factors = [draw(arrays(float, n, elements=st.floats(0.2, 5.0))) for n in shape]
    kappa = draw(st.sampled_from([None, "cells", "faces"]))
    if kappa == "cells":
        return PoissonGrid(np.zeros(shape, np.uint8), spacing, sides, outer(factors))
    if kappa == "faces":
        across = [np.append(f, f[0] if side == "periodic" else 1.0) for f, side in zip(factors, sides, strict=True)]
        faces = [outer([across[a] if a == axis else factors[a] for a in range(ndim)]) for axis in range(ndim)]
        return PoissonGrid(np.zeros(shape, np.uint8), spacing, sides, faces)
    return PoissonGrid(np.zeros(shape, np.uint8), spacing, sides)


@given(grid=boxes(), seed=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_the_solution_is_that_of_the_sparse_matrix(grid, seed):
    b = np.random.default_rng(seed).standard_normal(grid.unknowns)
    singular = grid.nullspace.dimension > 0
    b -= b.mean() if singular else 0.0
    solution = solve(grid, b, solver=NAME, rtol=1e-10, inconsistent="project")
    assert solution.converged
    matrix = grid.operator().to_csr().toarray()
    exact = np.linalg.lstsq(matrix, b, rcond=1e-13)[0] if singular else np.linalg.solve(matrix, b)
    np.testing.assert_allclose(solution.x, exact, rtol=0, atol=1e-8 * max(abs(exact).max(), 1e-300))
    assert np.linalg.norm(b - matrix @ solution.x) <= 1e-10 * max(np.linalg.norm(b), 1e-300)


@pytest.mark.parametrize("sides", list(itertools.combinations_with_replacement(SIDES, 3)))
def test_all_sides_reach_rounding_in_one_step(sides):
    grid = PoissonGrid(np.zeros((16, 15, 18), np.uint8), (1.0, 0.5, 1.5), list(sides))
    b = np.random.default_rng(1).standard_normal(grid.shape)
    solution = solve(grid, b, solver=NAME, rtol=1e-12, inconsistent="project")
    assert solution.converged
    assert solution.iterations == 1


@pytest.mark.parametrize("kind", transforms.ENDS)
@pytest.mark.parametrize("n", [2, 3, 4, 7, 16, 45])
def test_an_axis_is_solved_with_in_its_vectors_by_fast_transforms_and_by_products(kind, n):
    if kind == "ring" and n == 2:
        return  # one coupling of twice the strength: a closed axis
    axis = uniform_axis(kind, n)
    k, m = dense(axis)
    for made in (transforms.Fast(axis, kind), transforms.Product(axis)):
        there, back = (change(np.eye(n)[:, None, :].copy(), 0)[:, 0] for change in (made.forward, made.back))
        through = back @ np.diag(1.0 / (made.scale * (made.values + SHIFT))) @ there
        np.testing.assert_allclose(through, np.linalg.inv(k + SHIFT * m), atol=1e-12)


def uniform_axis(kind, n, coupling=1.7, weight=0.6):
    couplings = np.full(n, coupling)
    couplings[0] *= kind == "ring"
    diagonal = couplings + np.roll(couplings, -1)
    diagonal[[0, -1]] += np.array(transforms.ENDS[kind]) * coupling
    return Axis(diagonal, couplings, np.full(n, weight))


def dense(axis):
    """`K` and `M` as full matrices."""
    n = axis.size
    k = np.diag(axis.diagonal)
    for i in range(n):
        if axis.coupling[i]:
            k[i, i - 1] -= axis.coupling[i]
            k[i - 1, i] -= axis.coupling[i]
    return k, np.diag(axis.weight)


def uneven_axis(n, cyclic, seed):
    """Widths that vary, a side that gives back in proportion, and a reaction."""
    random = np.random.default_rng(seed)
    widths = random.uniform(0.2, 2.0, n)
    couplings = 2.0 / (widths + np.roll(widths, 1))
    couplings[0] *= cyclic and n > 2
    diagonal = couplings + np.roll(couplings, -1) + 0.3 * widths
    diagonal[-1] += 0.0 if cyclic else 0.7
    return Axis(diagonal, couplings, widths)


@pytest.mark.parametrize("shape", [(1, 6, 5), (4, 1, 7), (5, 6, 1), (3, 4, 11), (7, 2, 3), (1, 1, 4), (2, 2, 2)])
@pytest.mark.parametrize("cyclic", [(False, False, False), (True, False, True), (True, True, True)])
def test_axes_of_any_widths_sides_and_reaction_are_solved_with(shape, cyclic):
    axes = [uneven_axis(n, around, seed) for seed, (n, around) in enumerate(zip(shape, cyclic, strict=True))]
    (k0, m0), (k1, m1), (k2, m2) = map(dense, axes)
    matrix = kron(k0, m1, m2) + kron(m0, k1, m2) + kron(m0, m1, k2)
    b = rng.standard_normal(shape)
    out = np.empty(shape)
    system.SeparableSystem(axes).solve(b, out)
    np.testing.assert_allclose(matrix @ out.ravel(), b.ravel(), atol=1e-10)
    system.SeparableSystem(axes).solve(b, b)
    np.testing.assert_array_equal(b, out)


def kron(*factors):
    return functools.reduce(np.kron, factors)


def test_the_axes_are_found_in_an_assembled_matrix():
    """Stretched widths, coefficients, one side that gives back and a reaction, from couplings and diagonal alone."""
    shape = (5, 4, 6)
    axes = [uneven_axis(n, False, seed) for seed, n in enumerate(shape)]
    weights = [axis.weight for axis in axes]
    couplings = [outer([axes[a].coupling if a == axis else weights[a] for a in range(3)]) for axis in range(3)]
    diagonal = sum(outer([axes[a].diagonal if a == axis else weights[a] for a in range(3)]) for axis in range(3))
    b, one, two = rng.standard_normal(shape), np.empty(shape), np.empty(shape)
    system.SeparableSystem(axes).solve(b, one)
    system.SeparableSystem(factor_axes(couplings, diagonal)).solve(b, two)
    np.testing.assert_allclose(two, one, atol=1e-12 * abs(one).max())
    couplings[1][2, 2, 3] *= 1.001
    with pytest.raises(NotSeparableError, match="along axis 1"):
        factor_axes(couplings, diagonal)
    couplings[1][2, 2, 3] /= 1.001
    diagonal[3, 1, 2] *= 1.001
    with pytest.raises(NotSeparableError, match="reaction"):
        factor_axes(couplings, diagonal)


@pytest.mark.parametrize("growth", [1.1, 1.3])
@pytest.mark.parametrize("coarse_first", [False, True])
def test_strongly_stretched_boxes_are_separable_whatever_the_ratio_of_their_widths(growth, coarse_first):
    widths = np.minimum(growth ** np.arange(120), 1e4)[:: -1 if coarse_first else 1]
    grid = PoissonGrid(np.zeros((120, 120), np.uint8), [widths, widths], "dirichlet")
    b = np.random.default_rng(0).standard_normal(grid.shape)
    solution = solve(grid, b, solver="auto", rtol=1e-9)
    assert "auto chose fast-diagonalisation" in solution.message
    assert solution.converged
    assert solution.iterations <= 4


@pytest.mark.parametrize(("rows", "inner", "columns"), [(1, 1, 1), (4, 4, 16), (7, 9, 5), (130, 131, 261), (3, 257, 2)])
def test_products_are_matrix_products(rows, inner, columns):
    a, b = rng.standard_normal((rows, inner)), rng.standard_normal((inner, columns))
    packed = np.empty((kernels.INNER, kernels.COLUMNS + kernels.PAD))
    c = np.full((rows, columns), np.nan)
    kernels.multiply(a, b, c, packed)
    np.testing.assert_allclose(c, a @ b, atol=1e-12 * inner)


def box(shape=(44, 40, 37), varying=True, boundary="dirichlet"):
    kappa = outer([np.exp(np.random.default_rng(n).standard_normal(n)) for n in shape]) if varying else None
    return PoissonGrid(np.zeros(shape, np.uint8), 1 / 40, boundary, kappa)


@pytest.mark.parametrize("varying", [False, True])
@pytest.mark.parametrize("boundary", ["neumann", "periodic", "dirichlet"])
def test_bits_do_not_depend_on_the_number_of_threads(varying, boundary):
    grid = box(varying=varying, boundary=boundary)
    b = np.random.default_rng(2).standard_normal(grid.shape)
    found = []
    for count in (1, 2, 4):
        with num_threads(count):
            found.append(solve(grid, b, solver=NAME, rtol=1e-11, inconsistent="project").x)
    np.testing.assert_array_equal(found[1], found[0])
    np.testing.assert_array_equal(found[2], found[0])


def test_a_start_is_refined_and_nothing_given_is_modified():
    grid = box((12, 10, 14))
    b = rng.standard_normal(grid.shape)
    x0 = rng.standard_normal(grid.shape)
    kept = b.copy(), x0.copy()
    solution = solve(grid, b, solver=NAME, x0=x0, rtol=1e-11)
    assert solution.converged
    assert solution.iterations <= 2
    np.testing.assert_array_equal(b, kept[0])
    np.testing.assert_array_equal(x0, kept[1])
    again = solve(grid, b, solver=NAME, x0=solution.x, rtol=1e-9)
    assert again.iterations == 0


def test_several_right_hand_sides_and_steps_have_their_own_answers():
    grid = box((9, 12, 7))
    sides = rng.standard_normal((3, *grid.shape))
    one_by_one = prepare(grid, solver=NAME)
    for b, solution in zip(sides, solve_many(grid, sides, solver=NAME), strict=True):
        np.testing.assert_array_equal(solution.x, one_by_one.solve(b).x)
    moved = one_by_one.update(box((9, 12, 7), varying=False))
    assert moved.solve(sides[0], rtol=1e-12).converged


def test_other_grids_are_refused_with_the_reason():
    cells = np.zeros((6, 5, 4), np.uint8)
    cells[2, 2, 2] = 1
    with pytest.raises(ValueError, match=f"^solver '{NAME}' is for boxes .*: all cells must be unknowns, 1 of 120"):
        solve(PoissonGrid(cells, boundary="dirichlet"), np.ones(cells.shape), solver=NAME)
    kappa = np.exp(rng.standard_normal(cells.shape))
    with pytest.raises(ValueError, match="along axis . are no product of functions of one axis each"):
        prepare(PoissonGrid(np.zeros_like(cells), boundary="dirichlet", coefficient=kappa), solver=NAME)
    with pytest.raises(ValueError, match="multigrid cycle"):
        prepare(box((4, 4, 4)), solver=NAME).aspreconditioner()


def test_auto_chooses_and_says_why():
    grid = box((12, 10, 14), varying=False)
    b = rng.standard_normal(grid.shape)
    direct = solve(grid, b, solver="auto", rtol=1e-10)
    assert direct.message.startswith(f"auto chose {NAME}: a box")
    np.testing.assert_array_equal(direct.x, solve(grid, b, solver=NAME, rtol=1e-10).x)
    cells = grid.cells.copy()
    cells[3:5, 4:6, 2] = 1
    obstacle = PoissonGrid(cells, 1 / 40, "dirichlet")
    cycle = solve(obstacle, b, solver="auto")
    assert cycle.message.startswith("auto chose dcdm: no direct solver fits, all cells must be unknowns")
    np.testing.assert_array_equal(cycle.x, solve(obstacle, b, solver="dcdm").x)
    prepared = prepare(grid, solver="auto")
    for there in (obstacle, grid, obstacle):
        prepared = prepared.update(there)
        assert ("dcdm" in prepared.solve(b).message) == (there is obstacle)
    assert solve(grid, b).solver == "dcdm"


def test_auto_leaves_sides_that_no_transform_suits_to_the_cycle():
    """Sides of large primes take a fast transform many times as long, and long ones a product."""
    grid = PoissonGrid(np.zeros((3, 331, 337), np.uint8), boundary="dirichlet")
    message = solve(grid, np.ones(grid.shape), solver="auto").message
    assert message.startswith("auto chose dcdm: 55 ns a cell expected")


def test_options_of_the_object_are_those_of_the_name():
    grid = box((5, 6, 4))
    b = rng.standard_normal(grid.shape)
    np.testing.assert_array_equal(solve(grid, b, solver=FastDiagonalisation()).x, solve(grid, b, solver=NAME).x)
    assert axes_of(grid.operator())[1].size == 6
    np.testing.assert_allclose(
        solve(grid, grid.pack(b), solver=NAME, rtol=1e-12).x, spsolve(grid.operator().to_csr(), grid.pack(b)), rtol=1e-9
    )
