"""The compiled solver computes what its plain NumPy statement does."""

import numpy as np
import pytest

from relaxon.core.solution import Result
from relaxon.solvers import PoissonGrid, solve
from relaxon.solvers.dcdm import reference
from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle, constants_for
from relaxon.solvers.dcdm.outer import ConjugateDirections
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.kernels import team_kernels
from relaxon.solvers.multigrid.fused import FusedCycle
from relaxon.solvers.multigrid.levels import CodedLevel, FaceLevel


def disc(shape, *boundary):
    cells = np.zeros(shape, np.uint8)
    places = np.indices(shape)
    cells[sum((at - n / 3) ** 2 for at, n in zip(places, shape, strict=True)) < (min(shape) / 5) ** 2] = 1
    return cells, list(boundary)


GRIDS = {
    "2-D": PoissonGrid(disc((40, 37))[0]),
    "2-D, sides": PoissonGrid(disc((33, 46))[0], boundary=["periodic", "dirichlet"]),
    "2-D, stretched": PoissonGrid(disc((40, 36))[0], (1.0, 0.3), "dirichlet"),
    "3-D": PoissonGrid(disc((20, 17, 22))[0], boundary=["dirichlet", "periodic", "neumann"]),
    "3-D, stretched": PoissonGrid(disc((16, 18, 20))[0], (1.0, 0.7, 0.2)),
}


def right_hand_side(grid):
    b = np.random.default_rng(5).standard_normal(grid.shape) * grid.fluid
    return grid.nullspace.project(b.reshape(grid.shape3).copy()).reshape(grid.shape)


def test_the_grids_have_levels_of_both_kinds():
    kinds = {name: [type(level) for level in FusedCycle(grid.operator(), {}).levels] for name, grid in GRIDS.items()}
    assert {found[0] for found in kinds.values()} == {CodedLevel, FaceLevel}
    assert all(FaceLevel in found[1:] for found in kinds.values())


@pytest.mark.parametrize("name", GRIDS)
def test_the_compiled_cycle_is_the_plain_one(name):
    grid = GRIDS[name]
    cycle = FusedCycle(grid.operator(), constants_for(grid.ndim))
    r = np.random.default_rng(1).standard_normal(cycle.shape).astype(np.float32) * cycle.levels[0].unknown
    x, z = np.empty_like(r), np.empty_like(r)
    cycle.apply(r, x, z)
    expected = reference.run_cycle(cycle.levels, r)
    assert np.linalg.norm(z - expected) < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", GRIDS)
def test_a_team_of_any_size_gives_the_same_bits(name, monkeypatch):
    monkeypatch.setattr(team_kernels._crowding, "is_expected", lambda: False)  # however busy the machine is
    cycle = FusedCycle(GRIDS[name].operator(), constants_for(GRIDS[name].ndim))
    r = np.random.default_rng(1).standard_normal(cycle.shape).astype(np.float32) * cycle.levels[0].unknown
    found = []
    for members in (1, 2, 3, 5):
        for level in cycle.levels:
            level.chunks = members
        found.append(np.empty_like(r))
        cycle.apply(r, np.empty_like(r), found[-1])
    assert all(np.array_equal(z, found[0]) for z in found)


@pytest.mark.parametrize("name", GRIDS)
def test_nothing_is_left_of_a_residual_that_is_not_finite(name):
    cycle = FusedCycle(GRIDS[name].operator(), constants_for(GRIDS[name].ndim))
    r = np.random.default_rng(1).standard_normal(cycle.shape).astype(np.float32) * cycle.levels[0].unknown
    before, after, x = np.empty_like(r), np.empty_like(r), np.empty_like(r)
    cycle.apply(r, x, before)
    cycle.apply(np.full_like(r, np.nan), x, after)
    cycle.apply(r, x, after)
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("name", GRIDS)
def test_the_compiled_solve_takes_the_steps_of_the_plain_one(name):
    grid = GRIDS[name]
    b = right_hand_side(grid)
    found = solve(grid, b, solver=DeepConjugateDirectionCycle(rescue=False), rtol=1e-6)
    _, history = reference.solve(grid.operator(), b, rtol=1e-6)
    assert found.iterations == len(history) - 1
    np.testing.assert_allclose(found.residuals, history, rtol=0, atol=1e-6 * history[0])


@pytest.mark.parametrize("window", [0, 1, 2, 3])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_outer_iteration_is_that_of_the_paper(ndim, window):
    """With a direction that is neither linear nor symmetric, to rounding in float64."""
    grid = PoissonGrid(disc((14, 13, 12)[:ndim])[0], boundary="dirichlet")
    operator, b = grid.operator(), right_hand_side(grid)
    fluid = grid.fluid.reshape(grid.shape3)

    def direction(r):
        return fluid * (r + 0.3 * np.abs(r) + 0.2 * np.roll(r, 1, -1))

    def apply(x):
        return operator.apply(x, np.empty_like(x))

    steps = 12
    _, history = reference.conjugate_directions(
        apply, direction, b.reshape(grid.shape3), window=window, rtol=0.0, max_iterations=steps
    )
    monitor = Monitor(0.0)
    x = np.zeros(grid.shape3)
    engine = ConjugateDirections(operator, direction, window)
    assert engine.run(b.reshape(grid.shape3), x, monitor, steps) is Result.MAX_ITERATIONS
    np.testing.assert_allclose(monitor.history, history, rtol=1e-12)
