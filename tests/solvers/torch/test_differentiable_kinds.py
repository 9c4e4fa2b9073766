"""Derivatives on grids of every kind in the source, κ, faces, σ and values on sides, against finite differences."""

import numpy as np
import pytest
import torch

from relaxon.solvers import CellType, PoissonGrid, Robin, boundary_source, solve
from relaxon.solvers.torch import poisson_solve

EXACT = {"solver": "scipy-direct", "rtol": 1e-12}
RNG = np.random.default_rng(0)
SHAPE = (4, 3)
CELLS = np.zeros(SHAPE, np.uint8)
CELLS[1, 1], CELLS[3, 0] = CellType.SOLID, CellType.AIR
STRETCHED = (RNG.uniform(0.5, 1.5, 4), 0.7)
VOLUME = RNG.uniform(0.3, 1, SHAPE)
GRIDS = {
    "reaction": PoissonGrid(CELLS, reaction=1.5),
    "stretched": PoissonGrid(CELLS, STRETCHED, ["dirichlet", "neumann"]),
    "closed and stretched": PoissonGrid(np.zeros(SHAPE, np.uint8), STRETCHED),
    "periodic": PoissonGrid(CELLS, STRETCHED, ["periodic", "dirichlet-node"]),
    "robin": PoissonGrid(CELLS, STRETCHED, [(Robin(2.0), "dirichlet-node"), (Robin(RNG.uniform(0, 2, 4)), "neumann")]),
    "cut": PoissonGrid(CELLS, 0.5, "dirichlet", reaction=np.ones(SHAPE), volume=VOLUME),
}


def tensor(array):
    return torch.tensor(np.asarray(array), dtype=torch.float64, requires_grad=True)


def check(function, inputs):
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("name", GRIDS)
def test_derivatives_in_source_kappa_and_reaction_are_those_of_finite_differences(name):
    grid, rng = GRIDS[name], np.random.default_rng(1)
    b, kappa, sigma = (tensor(v) for v in (rng.standard_normal(SHAPE), rng.uniform(0.5, 2, SHAPE), rng.uniform(0.1, 1)))
    check(lambda b, k, s: poisson_solve(grid, b, coefficient=k, reaction=s, **EXACT), (b, kappa, sigma))
    field = tensor(rng.uniform(0.1, 1, SHAPE))
    check(lambda b, s: poisson_solve(grid, b, reaction=s, **EXACT), (b, field))
    check(lambda b: poisson_solve(grid, b, inconsistent="project", **EXACT), (b,))


def test_derivatives_in_faces_and_side_values_of_a_robin_side():
    grid, rng = GRIDS["robin"], np.random.default_rng(2)
    faces = tuple(tensor(rng.uniform(0.5, 2, [n + (a == axis) for a, n in enumerate(SHAPE)])) for axis in range(2))
    values = [tensor(rng.standard_normal(n)) for n in (3, 3, 4)]
    b = tensor(rng.standard_normal(SHAPE))

    def function(b, one, two, low, high, below):
        pairs = [(low, high), (below, None)]
        return poisson_solve(grid, b, coefficient=(one, two), side_values=pairs, **EXACT)

    check(function, (b, *faces, *values))


@pytest.mark.parametrize("name", GRIDS)
def test_what_torch_solves_is_what_the_solvers_solve(name):
    grid, rng = GRIDS[name], np.random.default_rng(3)
    b, air = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
    sides = [
        [None if str(side) in ("neumann", "periodic") else rng.standard_normal(n) for side in pair]
        for pair, n in zip(grid.boundary, (3, 4), strict=True)
    ]
    pairs = [tuple(None if v is None else torch.tensor(v) for v in pair) for pair in sides]
    found = poisson_solve(
        grid, torch.tensor(b), air_values=torch.tensor(air), side_values=pairs, inconsistent="project", **EXACT
    )
    expected = solve(grid, b + boundary_source(grid, air, sides), inconsistent="project", **EXACT).x
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9, atol=1e-11)
    # The gradient of a mean is another solve, whose right-hand side is weighted as the first one's.
    source = torch.tensor(b, requires_grad=True)
    poisson_solve(grid, source, inconsistent="project", **EXACT).sum().backward()
    dense = grid.operator().to_csr().toarray()
    weights = 1.0 if grid.row_weights is None else grid.pack(grid.row_weights)
    np.testing.assert_allclose(
        grid.pack(source.grad.numpy()), weights * (np.linalg.pinv(dense, 1e-11) @ np.ones(grid.unknowns)), atol=1e-8
    )


def test_refusals_name_the_argument():
    grid, b = GRIDS["reaction"], torch.ones(SHAPE, dtype=torch.float64)
    with pytest.raises(TypeError, match="^reaction must be a torch tensor"):
        poisson_solve(grid, b, reaction=1.0)
    with pytest.raises(ValueError, match="^reaction must be a scalar or have shape"):
        poisson_solve(grid, b, reaction=torch.ones(3))
    with pytest.raises(ValueError, match="^reaction must be at least 0"):
        poisson_solve(grid, b, reaction=-b)
    faces = (torch.zeros(5, 3), torch.zeros(4, 4))
    with pytest.raises(ValueError, match="^coefficient must shut the same cells|^cells must hold"):
        poisson_solve(PoissonGrid(CELLS, boundary="dirichlet"), b, coefficient=faces)
