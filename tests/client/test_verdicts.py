"""Verdicts arrive over gRPC as they are in process: from both clients, with and without shared memory."""

import numpy as np
import pytest
from both import KINDS, given, listed, play
from scipy import sparse

from relaxon import client as errors
from relaxon.solvers import CellType, PoissonGrid, solve

N = 8
VALUES = 1 + 2 * (np.arange(N**3) // N**2) / (N - 1)


def penalised():
    box = PoissonGrid(np.zeros((N, N, N), np.uint8)).operator().to_csr()
    held = np.zeros(N**3)
    held[: N**2] = held[-(N**2) :] = 1e10
    return sparse.csr_array(box + sparse.diags_array(held)), held * VALUES


def holed():
    cells = np.zeros((40, 36), np.uint8)
    cells[12:20, 10:26] = CellType.SOLID
    cells[:, -1] = CellType.AIR
    return cells


@pytest.mark.parametrize("kind", KINDS)
def test_a_penalty_hides_no_error_and_the_backward_error_arrives(embedded, kind):
    matrix, b = penalised()

    async def scenario(client):
        kept = await given(client.linear.matrix(matrix))
        return await given(kept.solve(b)), await given(kept.solve(b * (1 + 1j)))

    plain, both = play(kind, embedded.target, scenario)
    expected = solve(matrix, b)
    assert plain.converged
    assert both.converged
    assert np.abs(plain.x - VALUES).max() <= 1e-4
    assert np.abs(both.x - VALUES * (1 + 1j)).max() <= 1e-4
    assert plain.backward_error == expected.backward_error > 0
    assert plain.info == expected.info


@pytest.mark.parametrize("shared_memory", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_nan_outside_the_fluid_is_ignored_and_inside_refused_by_name(embedded, kind, shared_memory):
    cells = holed()
    fluid, solid = cells == CellType.FLUID, cells == CellType.SOLID
    b = np.where(fluid, 1.0, np.nan)
    kappa = np.where(solid, np.nan, 2.0)
    bad = b.copy()
    bad[0, 0] = np.inf

    async def scenario(client):
        kept = await given(client.poisson.grid(cells, boundary="dirichlet", coefficient=kappa))
        found = [await given(kept.solve(b, x0=b)), await given(kept.solve(b.astype(np.float32)))]
        found += await given(kept.solve_many([b, b * (1 + 1j)]))
        found += await listed(kept.solve_steps([b, b]))
        for call in (lambda: kept.solve(bad), lambda: kept.solve_many([b, bad])):
            with pytest.raises(errors.InvalidArgument, match="must be finite, got 1 NaN or infinite"):
                await given(call())
        with pytest.raises(errors.InvalidArgument, match="^x0 must be finite"):
            await given(kept.solve(b, x0=bad))
        with pytest.raises(errors.InvalidArgument, match="^coefficient must be finite"):
            await given(kept.update(cells=np.zeros_like(cells)))  # cells whose κ was ignored so far
        return found

    found = play(kind, embedded.target, scenario, shared_memory=shared_memory)
    clean = PoissonGrid(cells, boundary="dirichlet", coefficient=np.full(cells.shape, 2.0))
    expected = solve(clean, np.where(fluid, 1.0, 0.0)).x
    for one in found:
        assert one.converged
        np.testing.assert_allclose(one.x.real, expected, atol=1e-5 * expected.max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("exponent", [-665, -532, 498])
def test_tiny_and_huge_right_hand_sides_are_solved(embedded, kind, exponent):
    grid = PoissonGrid(holed(), boundary="dirichlet")
    b = np.ldexp(np.where(grid.fluid, 1.0, 0.0), exponent)
    matrix = grid.operator().to_csr()

    async def scenario(client):
        kept = await given(client.poisson.grid(grid.cells, boundary="dirichlet"))
        rows = await given(client.linear.matrix(matrix))
        steps = await listed(kept.solve_steps([b, 2 * b]))
        return await given(kept.solve(b)), await given(rows.solve(grid.pack(b), solver="pyamg-sa")), *steps

    expected = solve(grid, np.where(grid.fluid, 1.0, 0.0), rtol=1e-10).x
    whole, packed, first, second = play(kind, embedded.target, scenario)
    for found, factor in ((whole.x, 1), (grid.unpack(packed.x), 1), (first.x, 1), (second.x, 2)):
        np.testing.assert_allclose(np.ldexp(found, -exponent), factor * expected, atol=1e-4 * expected.max())
    assert whole.converged
    assert packed.converged
    assert 0 < whole.relative_residual <= 1e-6


def wandering():
    """A system whose residual rises at first, and a start that is good but for its smooth part."""
    rng = np.random.default_rng(1)
    kappa = 10.0 ** rng.uniform(-3, 3, (20, 20))
    grid = PoissonGrid(np.zeros(kappa.shape, np.uint8), boundary="dirichlet", coefficient=kappa)
    b, other = rng.standard_normal((2, *kappa.shape))
    exact, smooth = (solve(grid, side, solver="scipy-direct").x for side in (b, other))
    return grid, b, exact + 0.01 * smooth


@pytest.mark.parametrize("shared_memory", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_is_better_than_the_end_is_given_back(embedded, kind, shared_memory):
    grid, b, start = wandering()
    matrix = grid.operator().to_csr()
    options = {"solver": "cg", "rtol": 1e-12, "max_iterations": 5}

    async def scenario(client):
        kept = await given(client.poisson.grid(grid.cells, boundary="dirichlet", coefficient=grid.coefficient))
        held = await given(client.linear.matrix(matrix))
        found = [await given(kept.solve(b, x0=start, **options))]
        found += await listed(kept.solve_steps([b], x0=start, **options))
        both = await given(kept.solve(b * (1 - 2j), x0=start * (1 - 2j), **options))
        return found, both, await given(held.solve(b.ravel(), x0=start.ravel(), **options))

    found, both, plain = play(kind, embedded.target, scenario, shared_memory=shared_memory)
    for one in found:
        assert not one.converged
        assert "x is the start" in one.message
        np.testing.assert_array_equal(one.x, start)
    np.testing.assert_array_equal(both.x, start * (1 - 2j))
    ours = solve(matrix, b.ravel(), x0=start.ravel(), **options)
    np.testing.assert_array_equal(plain.x, ours.x)
    assert plain.true_residual <= plain.residuals[0] * (1 + 1e-9)
