"""Algebraic multigrid on grids: the grid's system, null vectors and verdict, whatever its sides and couplings."""

import numpy as np
import pytest

from relaxon.cli.residual import true_residual
from relaxon.solvers import PoissonGrid, Robin, gallery, prepare, solve, solve_many
from relaxon.solvers.sparse.on_grid import matrix_system


def stretched_with_jumps(n=24, ndim=3):
    """Return a grid whose widths grow from the middle to both ends and whose κ jumps by 10⁶ at random."""
    widths = 1.4 ** np.abs(np.arange(n) - (n - 1) / 2)
    shape = (n,) * ndim
    kappa = 1e6 ** np.random.default_rng(0).integers(0, 2, shape).astype(float)
    return PoissonGrid(np.zeros(shape, np.uint8), (widths / widths.sum(),) * ndim, "dirichlet", kappa)


@pytest.mark.parametrize("case", ["neumann", "random", "cylinder", "heat-sink", "channel", "heat-step", "layered"])
def test_a_converged_solve_meets_the_tolerance_on_the_grid_as_it_was_posed(case):
    problem = gallery.make(case, 16)
    solution = solve(problem.grid, problem.b, solver="amg", rtol=1e-8)
    assert solution.converged
    assert true_residual(problem.grid, problem.b, solution.x).meets(1e-8)
    assert solution.solver == "amg"


@pytest.mark.parametrize("sides", ["periodic", Robin(3.0), [("dirichlet", "neumann"), "periodic"], "dirichlet-node"])
def test_all_sides_have_the_solution_of_another_solver(sides):
    grid = PoissonGrid(np.zeros((12, 15), np.uint8), 1 / 12, sides)
    b = np.random.default_rng(1).standard_normal(grid.shape)
    found, other = (
        solve(grid, b, solver=solver, rtol=1e-11, inconsistent="project").x for solver in ("amg", "scipy-direct")
    )
    assert np.abs(found - other).max() <= 1e-8 * np.abs(other).max()


def test_the_iterations_do_not_grow_where_widths_and_jumps_stop_a_geometric_cycle():
    counts = []
    for n in (16, 24):
        grid = stretched_with_jumps(n)
        solution = solve(grid, np.random.default_rng(0).standard_normal(grid.shape), solver="amg")
        assert solution.converged
        counts.append(solution.iterations)
    assert max(counts) < 40


def test_the_null_vectors_are_those_of_the_grid_also_behind_walls():
    cells = np.zeros((9, 8), np.uint8)
    cells[4] = 1
    cells[6, 3:] = cells[7:, 3] = 1  # a pocket beside the rest
    grid = PoissonGrid(cells)
    system = matrix_system(grid.operator())
    assert system.null.dimension == grid.nullspace.dimension > 1
    assert system.null.sizes[1:].tolist() == grid.nullspace.sizes[1:].tolist()
    labels = system.null.labels.reshape(-1)
    for component in range(1, system.null.dimension + 1):
        assert np.abs(system.matrix @ (labels == component)).max() < 1e-12


def test_several_right_hand_sides_have_the_solutions_of_single_solves():
    problem = gallery.make("spheres", 14)
    sides = np.stack([problem.b, 3 * problem.b, problem.b[::-1] * problem.grid.fluid, problem.b**2])
    together = solve_many(problem.grid, sides, solver="amg", rtol=1e-9)
    for b, found in zip(sides, together, strict=True):
        alone = solve(problem.grid, b, solver="amg", rtol=1e-9)
        assert found.converged
        assert np.abs(found.x - alone.x).max() <= 1e-6 * np.abs(alone.x).max()


def test_no_input_is_changed_and_a_warm_start_is_used():
    problem = gallery.make("variable", 14)
    prepared = prepare(problem.grid, solver="amg")
    b = problem.b.copy()
    first = prepared.solve(b)
    x0 = first.x.copy()
    second = prepared.solve(b, x0=x0)
    assert second.iterations == 0
    assert np.array_equal(b, problem.b)
    assert np.array_equal(x0, first.x)


def test_constants_of_a_component_held_only_by_a_small_reaction_are_found():
    grid = PoissonGrid(np.zeros((16, 16, 16), np.uint8), 1 / 16, reaction=1e-4)
    b = np.random.default_rng(2).random(grid.shape)
    solution = solve(grid, b, solver="amg", rtol=1e-6)
    assert solution.converged
    assert true_residual(grid, b, solution.x).meets(1e-6)
