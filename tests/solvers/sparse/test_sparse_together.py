"""Several right-hand sides at once by multigrid: the same answers as alone, each with a verdict of its own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from relaxon.core.solve_options import SolveOptions
from relaxon.solvers import Result, gallery, num_threads, prepare, solve, solve_many
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.amg.engine import MultigridDirections
from relaxon.solvers.sparse.amg.multi_column import MOST_ITERATIONS


def sides_of(a, count, seed=0):
    system, rng = MatrixSystem.of(a), np.random.default_rng(seed)
    return np.array([system.project(rng.standard_normal(a.shape[0])) for _ in range(count)])


@pytest.mark.parametrize(
    ("family", "n"),
    [
        ("laplacian-2d", 64),
        ("laplacian-3d", 3_000),
        ("heat-step-3d", 2_000),
        ("bilinear-2d", 2_500),
        ("neumann-2d", 2_500),
        ("parts", 2_000),
        ("heavy-tailed", 2_000),
        ("tetrahedra-contrast-3d", 2_000),
        ("triangles-2d", 45_000),
    ],
)
def test_each_side_meets_its_tolerance_and_has_the_answer_that_it_gets_alone(family, n):
    a = gallery.matrix(family, n)
    sides = sides_of(a, 3)
    sides[1] *= 1e-5
    starts = np.zeros_like(sides)
    starts[2] = MatrixSystem.of(a).project(np.random.default_rng(1).standard_normal(a.shape[0]))
    together = solve_many(a, sides, solver="amg", x0=starts, rtol=1e-8)
    for side, start, solution in zip(sides, starts, together, strict=True):
        alone = solve(a, side, solver="amg", x0=start, rtol=1e-8)
        assert solution.result is Result.CONVERGED
        assert np.linalg.norm(side - a @ solution.x) <= 1e-8 * np.linalg.norm(side)
        assert len(solution.residuals) == solution.iterations + 1
        np.testing.assert_allclose(solution.residuals[0], alone.residuals[0], rtol=1e-12)
        assert solution.iterations <= alone.iterations + 4
        assert np.linalg.norm(solution.x - alone.x) <= 1e-4 * np.linalg.norm(alone.x)


def test_a_side_s_numbers_depend_neither_on_its_neighbours_nor_on_the_number_of_threads():
    a = gallery.matrix("laplacian-3d", 50_000)
    sides = sides_of(a, 3)
    found = []
    for threads, order in ((1, (0, 1)), (2, (1, 0)), (3, (0, 2, 1))):
        with num_threads(threads):
            solutions = solve_many(a, sides[list(order)], solver="amg")
        found.append(solutions[order.index(0)])
    for other in found[1:]:
        assert np.array_equal(found[0].x, other.x)
        assert np.array_equal(found[0].residuals, other.residuals)


def test_more_sides_than_go_together_and_one_that_is_left_over():
    a = gallery.matrix("laplacian-2d", 900)
    sides = sides_of(a, 9)
    sides[4] = 0.0
    solutions = solve_many(a, [*sides, sides[0]], solver="amg")
    assert [one.result for one in solutions] == [Result.CONVERGED] * 10
    assert solutions[4].message.endswith("b is zero")
    for side, solution in zip(sides, solutions, strict=False):
        assert np.linalg.norm(side - a @ solution.x) <= 1e-6 * np.linalg.norm(side)


def test_what_is_not_done_together_goes_on_alone_and_no_iteration_is_counted_twice():
    a = gallery.matrix("plate-2d", 2_500)
    sides = sides_of(a, 2)
    for side, solution in zip(sides, solve_many(a, sides, solver="amg"), strict=True):
        assert solution.iterations > MOST_ITERATIONS  # ten of them together
        assert len(solution.residuals) == solution.iterations + 1
        assert solution.converged == (np.linalg.norm(side - a @ solution.x) <= 1e-6 * np.linalg.norm(side))
        assert solution.residuals.min() < 1e-2 * solution.residuals[0]


def test_a_callback_and_a_limit_see_every_iteration_of_a_run_alone():
    a = gallery.matrix("laplacian-2d", 2_500)
    sides = sides_of(a, 2)
    stopped = solve_many(a, sides, solver="amg", callback=lambda p: p.iteration == 3)
    assert [(one.result, one.iterations) for one in stopped] == [(Result.CANCELLED, 3)] * 2
    limited = solve_many(a, sides, solver="amg", max_iterations=2)
    alone = solve(a, sides[1], solver="amg", max_iterations=2)
    assert (limited[1].result, limited[1].iterations) == (Result.MAX_ITERATIONS, 2)
    assert np.array_equal(limited[1].x, alone.x)


def test_an_indefinite_matrix_is_called_one_by_each_side():
    a = sparse.csr_array(gallery.matrix("laplacian-2d", 2_500) - 0.05 * sparse.eye_array(2_500) * 4)
    for solution in solve_many(a, sides_of(a, 2), solver="amg"):
        assert not solution.converged
        assert np.isfinite(solution.x).all()


def test_systems_of_nodes_and_a_later_solve_are_as_before():
    body = gallery.elastic_body("cantilever-2d", 2_000)
    sides = sides_of(body.matrix, 2)
    solutions = solve_many(body.matrix, sides, coordinates=body.coordinates)
    alone = solve(body.matrix, sides[1], coordinates=body.coordinates)
    assert np.array_equal(solutions[1].x, alone.x)
    prepared = prepare(gallery.matrix("laplacian-2d", 900), solver="amg")
    assert isinstance(prepared.engine, MultigridDirections)
    first = prepared.solve(np.ones(900))
    prepared.look_ahead([prepared.request(np.ones(900) * k, SolveOptions(rtol=1e-6)) for k in (1, 2)], False)
    assert np.array_equal(prepared.solve(np.ones(900)).x, first.x)


@pytest.mark.parametrize("solver", ["cg", "jacobi-cg", "ic-cg"])
def test_threads_solve_by_conjugate_gradients_side_by_side_with_the_bits_of_single_solves(solver):
    a = gallery.matrix("lognormal-3d", 1_500)
    sides = sides_of(a, 5)
    sides[3] = 0.0
    with num_threads(2):
        found = solve_many(a, sides, solver=solver, rtol=1e-8)
    for side, solution in zip(sides, found, strict=True):
        alone = solve(a, side, solver=solver, rtol=1e-8)
        assert solution.converged
        assert np.array_equal(solution.x, alone.x)
        assert np.array_equal(solution.residuals, alone.residuals)


def test_one_of_several_that_is_refused_side_by_side_names_itself():
    a = gallery.matrix("neumann-2d", 400)
    sides = sides_of(a, 3)
    sides[2] += 1.0
    with pytest.raises(ValueError, match=r"^b\[2\]"):
        solve_many(a, sides, solver="ic-cg")
    found = solve_many(a, sides, solver="ic-cg", inconsistent="report")
    assert [one.result for one in found] == [Result.CONVERGED, Result.CONVERGED, Result.SINGULAR_INCONSISTENT]
