"""A set-up that is updated to other cells or another κ is the set-up made for them, bit for bit; complex systems."""

import numpy as np
import pytest

from relaxon.solvers import PoissonGrid, Result, prepare, solve

SOLVERS = ["dcdm", "mg-cg", "mg-rbgs-cg", "ic-cg", "jacobi-cg", "cg", "pyamg-rs", "scipy-direct", "amg"]


def geometries(shape):
    rng = np.random.default_rng(0)
    for place in range(4):
        cells = np.zeros(shape, np.uint8)
        cells[tuple(slice(2 + 2 * place, 6 + 2 * place) for _ in shape)] = 1
        cells[-1] = 2 if place % 2 else 0
        yield cells, (rng.uniform(0.5, 2.0, shape) if place == 2 else None)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(26, 22), (18, 17, 16)])
def test_an_updated_set_up_is_a_fresh_one_bit_for_bit(solver, shape):
    rng = np.random.default_rng(1)
    updated = None
    for cells, kappa in geometries(shape):
        grid = PoissonGrid(cells, 0.1, "dirichlet", kappa)
        b = rng.standard_normal(shape)
        fresh = prepare(grid, solver=solver)
        updated = fresh if updated is None else updated.update(grid)
        ours, theirs = prepare(grid, solver=solver).solve(b), updated.solve(b)
        np.testing.assert_array_equal(theirs.x, ours.x)
        np.testing.assert_array_equal(theirs.residuals, ours.residuals)


def test_what_is_no_such_grid_is_refused():
    prepared = prepare(PoissonGrid(np.zeros((8, 8), np.uint8), boundary="dirichlet"), solver="cg")
    with pytest.raises(TypeError, match="grid must be a PoissonGrid"):
        prepared.update(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="grid must have the shape"):
        prepared.update(PoissonGrid(np.zeros((8, 9), np.uint8)))
    assert prepared.solve(np.ones((8, 8))).converged


@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "cg"])
def test_a_complex_system_is_judged_as_one(solver):
    grid = PoissonGrid(np.zeros((20, 18), np.uint8), boundary="dirichlet")
    rng = np.random.default_rng(2)
    b = rng.standard_normal(grid.shape) + 1e-3j * rng.standard_normal(grid.shape)
    before = b.copy()
    solution = solve(grid, b, solver=solver, rtol=1e-8)
    A = grid.operator().to_scipy()
    residual = np.linalg.norm(b.ravel() - (A @ solution.x.real.ravel() + 1j * (A @ solution.x.imag.ravel())))
    assert solution.converged
    assert solution.x.dtype == np.complex128
    assert residual <= solution.tolerance * (1 + 1e-6)
    assert solution.tolerance == pytest.approx(1e-8 * np.linalg.norm(b))
    assert solution.true_residual == pytest.approx(residual, rel=1e-3)
    assert len(solution.residuals) == solution.iterations + 1
    assert solution.residuals[0] == pytest.approx(np.linalg.norm(b))
    np.testing.assert_array_equal(b, before)
    np.testing.assert_allclose(solve(grid, 1j * b, solver=solver, rtol=1e-8).x, 1j * solution.x, atol=1e-5)


def test_a_complex_solve_may_be_stopped_in_either_part():
    grid = PoissonGrid(np.zeros((20, 18), np.uint8), boundary="dirichlet")
    b = np.ones(grid.shape) * (1 + 1j)
    for stop in (2, 60):
        seen = []

        def callback(progress, stop=stop, seen=seen):
            seen.append(progress.iteration)
            return progress.iteration >= stop

        solution = solve(grid, b, solver="cg", rtol=1e-300, max_iterations=50, callback=callback)
        assert solution.result is Result.CANCELLED or stop > solution.iterations
        assert seen[-1] <= stop + 1
        assert seen == sorted(seen)


def test_rounding_in_an_imaginary_part_is_no_net_source():
    """As a Fourier transform leaves it: the system is singular, and its imaginary part holds nothing but rounding."""
    grid = PoissonGrid(np.zeros((16, 16), np.uint8))
    b = np.random.default_rng(3).standard_normal(grid.shape)
    b -= b.mean()
    noisy = b + 1j * np.full(grid.shape, 1e-17)
    solution = solve(grid, noisy, solver="mg-cg")
    assert solution.converged
    with pytest.raises(ValueError, match="net source"):
        solve(grid, b + 1e-3j, solver="mg-cg")
