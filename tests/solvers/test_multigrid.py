"""The V-cycle as a preconditioner: symmetric, positive, fit for any geometry."""

import numpy as np
import pytest

from relaxon.solvers import MultigridCG, PoissonGrid, gallery, solve
from relaxon.solvers.multigrid import VCycle
from relaxon.solvers.multigrid.hierarchy import AxisTransfer

SHAPES = [(40, 37), (12, 13, 11), (3, 4, 50), (16, 16, 16), (1, 300)]


def random_grid(shape, seed):
    rng = np.random.default_rng(seed)
    cells = rng.choice(3, size=shape, p=[0.7, 0.25, 0.05]).astype(np.uint8)
    cells.flat[0] = 0
    sides = ["neumann", "dirichlet", "periodic"]
    boundary = [sides[rng.integers(3)] for _ in shape]
    kappa = rng.uniform(0.1, 10, shape) if seed % 2 else None
    return PoissonGrid(cells, rng.uniform(0.5, 2, len(shape)), boundary, kappa)


@pytest.mark.parametrize("smoother", ["jacobi", "red-black"])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", SHAPES)
def test_the_cycle_is_symmetric_and_positive(smoother, seed, shape):
    grid = random_grid(shape, seed)
    cycle = VCycle(grid.operator(), smoother)
    rng = np.random.default_rng(seed)
    operator = grid.operator()
    # In the operator's range, where alone a singular system's preconditioner has to be definite.
    u, v = (operator.matvec(grid.unpack(rng.standard_normal(grid.unknowns))).reshape(grid.shape3) for _ in range(2))
    mu, mv = np.empty_like(u), np.empty_like(v)
    cycle(u, mu)
    cycle(v, mv)
    scale = np.linalg.norm(mu) * np.linalg.norm(v)
    assert abs(np.vdot(mu, v) - np.vdot(u, mv)) < 1e-4 * scale
    assert np.vdot(mu, u) > 0
    assert np.vdot(mv, v) > 0
    assert (mu[~grid.fluid.reshape(grid.shape3)] == 0).all()


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("halved", [False, True])
def test_restriction_gathers_what_interpolation_spreads(n, periodic, halved):
    transfer = AxisTransfer.of(n, halved and n > 1, periodic, (False, True))
    m = len(transfer.index)
    spread = np.zeros((n, m))
    for i in range(n):
        spread[i, transfer.own[i]] += transfer.near[i]
        spread[i, transfer.other[i]] += transfer.far[i]
    gathered = np.zeros((m, n))
    for coarse in range(m):
        for i, weight in zip(transfer.index[coarse], transfer.weight[coarse], strict=True):
            gathered[coarse, i] += weight
    np.testing.assert_allclose(gathered, spread.T)


def test_stretched_cells_are_coarsened_along_the_strong_axis_first():
    grid = PoissonGrid(np.zeros((64, 64), np.uint8), (1.0, 100.0), "dirichlet")
    shapes = [level.boundary.shape for level in VCycle(grid.operator()).levels]
    assert shapes[1] == (1, 32, 64)
    b = np.random.default_rng(0).standard_normal(grid.shape)
    assert solve(grid, b, solver="mg-cg").iterations < 25


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_units_do_not_matter(scale):
    problem = gallery.make("spheres", 12)
    grid = PoissonGrid(problem.grid.cells, scale * problem.grid.spacing[0], problem.grid.boundary)
    assert (
        solve(grid, problem.b, solver="mg-cg").iterations == solve(problem.grid, problem.b, solver="mg-cg").iterations
    )


def test_options_are_checked():
    with pytest.raises(ValueError, match="^smoother must be"):
        MultigridCG(smoother="sor")
    with pytest.raises(ValueError, match="^sweeps must be"):
        MultigridCG(sweeps=0)
