"""Grids as simulation codes have them: stretched widths, cut cells, closed faces, reactions, Robin and node sides."""

import numpy as np
import pytest
from grid_kinds import random_grid, slow_system
from hypothesis import given, settings
from hypothesis import strategies as st

from relaxon.solvers import CellType, PoissonGrid, Robin, boundary_source, gallery, prepare, solve
from relaxon.solvers.cut_cells import outside_disc

SHAPES = st.sampled_from([(5, 7), (1, 9), (6, 4), (4, 5, 6), (3, 1, 2), (2, 2, 3), (7, 3, 5)])
SOLVERS = ("mg-cg", "dcdm", "ic-cg", "jacobi-cg", "cg", "mg-rbgs-cg", "scipy-direct", "amg")
BOX = np.zeros((4, 5), np.uint8)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), shape=SHAPES)
def test_the_operator_its_matrix_and_the_definition_agree(seed, shape):
    grid = random_grid(seed, shape)
    rng = np.random.default_rng(seed)
    side_values = [[None, None] for _ in shape]
    for axis, pair in enumerate(grid.boundary):
        for end, side in enumerate(pair):
            if str(side) not in ("neumann", "periodic"):
                side_values[axis][end] = rng.standard_normal(grid.shape[:axis] + grid.shape[axis + 1 :])
    air = rng.standard_normal(shape)
    dense, source = slow_system(grid, air, side_values)
    operator, size = grid.operator(), max(abs(dense).max(), 1.0)
    np.testing.assert_allclose(operator.to_csr().toarray(), dense, atol=1e-12 * size)
    assert np.array_equal(operator.to_csr().toarray(), operator.to_csr().toarray().T)
    x = rng.standard_normal(grid.unknowns)
    np.testing.assert_allclose(operator.matvec(x), dense @ x, atol=1e-11 * size)
    np.testing.assert_allclose(grid.pack(operator.matvec(grid.unpack(x, fill=9.0))), dense @ x, atol=1e-11 * size)
    found = grid.weighted(boundary_source(grid, air, side_values))
    np.testing.assert_allclose(grid.pack(found), source, atol=1e-11 * max(abs(source).max(), 1.0))
    np.testing.assert_array_equal(grid.weighted(grid.pack(np.ones(shape))), grid.pack(grid.weighted(np.ones(shape))))
    values = np.linalg.eigvalsh(dense)
    assert values[0] > -1e-12 * size
    # What holds a component by a thousandth still holds it.
    assert grid.nullspace.dimension == np.sum(values < 1e-9 * size)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), shape=SHAPES, solver=st.sampled_from(SOLVERS))
def test_every_solver_meets_the_tolerance_in_the_weighted_system(seed, shape, solver):
    grid = random_grid(seed, shape)
    b = np.random.default_rng(seed).standard_normal(shape)
    matrix, right = slow_system(grid)[0], grid.weighted(b).reshape(grid.shape3)
    right = grid.pack(grid.nullspace.project(right).reshape(shape))
    solution = solve(grid, b, solver=solver, rtol=1e-9, inconsistent="project")
    size = np.linalg.norm(right)
    residual = np.linalg.norm(right - matrix @ grid.pack(solution.x))
    assert solution.converged, solution.message
    assert residual <= 1.01e-9 * size + 1e-14
    assert solution.true_residual == pytest.approx(residual, rel=1e-2, abs=1e-12 * size)
    np.testing.assert_allclose(grid.pack(solution.x), np.linalg.pinv(matrix, 1e-11) @ right, rtol=1e-4, atol=1e-5)


def test_equal_widths_and_trivial_terms_keep_the_plain_grid():
    plain = PoissonGrid(BOX, [0.25, 0.5], ["dirichlet", "neumann"])
    same = PoissonGrid(
        BOX, (np.full(4, 0.25), 0.5), ["dirichlet", "neumann"], reaction=np.zeros(BOX.shape), volume=np.ones(BOX.shape)
    )
    assert same.constant
    assert same.spacing == plain.spacing
    b = np.random.default_rng(0).standard_normal(BOX.shape)
    assert same.weighted(b) is not b
    np.testing.assert_array_equal(same.weighted(b), b)
    np.testing.assert_array_equal(solve(same, b).x, solve(plain, b).x)


def test_a_cell_that_is_shut_is_out_of_the_system():
    faces = [np.ones((5, 5)), np.ones((4, 6))]
    faces[0][2:4, 3], faces[1][2, 3:5] = 0, 0
    grid = PoissonGrid(BOX, coefficient=faces, boundary="dirichlet")
    assert grid.unknowns == 19
    assert grid.cells[2, 3] == CellType.SOLID
    assert grid.given_cells[2, 3] == CellType.FLUID
    b = np.ones(BOX.shape)
    b[2, 3] = np.nan  # nobody reads it
    assert solve(grid, b, solver="mg-cg").converged
    assert PoissonGrid(BOX, coefficient=faces, reaction=1.0).unknowns == 20  # a reaction keeps it


def test_a_wall_of_closed_faces_parts_what_a_reaction_joins_to_nothing():
    faces = [np.ones((5, 5)), np.ones((4, 6))]
    faces[0][2] = 0
    assert PoissonGrid(BOX, coefficient=faces).nullspace.dimension == 2
    reaction = np.zeros(BOX.shape)
    reaction[0, 0] = 1e-3
    assert PoissonGrid(BOX, coefficient=faces, reaction=reaction).nullspace.dimension == 1
    assert PoissonGrid(BOX, boundary=[("neumann", Robin(1.0)), "neumann"], coefficient=faces).nullspace.dimension == 1
    assert PoissonGrid(BOX, reaction=1e-9).nullspace.dimension == 0


def test_robin_sides_lie_between_neumann_and_dirichlet():
    matrices = [
        PoissonGrid(BOX, boundary=side).operator().to_csr().toarray()
        for side in ("neumann", Robin(0.0), Robin(1e12), "dirichlet")
    ]
    np.testing.assert_array_equal(matrices[0], matrices[1])
    np.testing.assert_allclose(matrices[2], matrices[3], rtol=1e-10)


def test_a_node_side_is_a_layer_of_air():
    wider = np.pad(BOX, 1, constant_values=CellType.AIR)
    node = PoissonGrid(BOX, boundary="dirichlet-node").operator().to_csr().toarray()
    np.testing.assert_array_equal(node, PoissonGrid(wider).operator().to_csr().toarray())


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (ValueError, r"spacing\[0\] must be a number or 4 widths", {"spacing": ([1.0, 2.0], 1.0)}),
        (ValueError, r"spacing\[1\] must be from", {"spacing": (1.0, [1.0, 0.0, 1.0, 1.0, 1.0])}),
        (ValueError, r"spacing\[1\] must be finite", {"spacing": (1.0, [1.0, np.nan, 1.0, 1.0, 1.0])}),
        (ValueError, r"spacing\[0\] must have widths", {"spacing": ([1.0, 1e9, 1.0, 1.0], 1.0)}),
        (ValueError, "spacing must be one number or 2", {"spacing": (np.ones(4), np.ones(5), np.ones(5))}),
        (ValueError, r"coefficient\[0\] must be at least 0", {"coefficient": (np.full((5, 5), -1.0), np.ones((4, 6)))}),
        (ValueError, "cells must hold at least one FLUID cell with an open face", {"coefficient": "shut"}),
        (ValueError, "reaction must be at least 0", {"reaction": -1.0}),
        (ValueError, "reaction must be finite", {"reaction": np.inf}),
        (TypeError, "reaction must be a number", {"reaction": True}),
        (ValueError, "reaction must be at least 0 in the fluid", {"reaction": -np.ones(BOX.shape)}),
        (ValueError, "reaction must be finite", {"reaction": np.full(BOX.shape, np.nan)}),
        (ValueError, "reaction must be a number or an array of the grid's shape", {"reaction": np.ones((5, 4))}),
        (TypeError, "reaction must be an array of float", {"reaction": np.ones(BOX.shape, complex)}),
        (ValueError, "volume must be greater than 0 and at most 1", {"volume": np.zeros(BOX.shape)}),
        (ValueError, "volume must be greater than 0 and at most 1", {"volume": np.full(BOX.shape, 1.5)}),
        (ValueError, "volume must be an array with at least one axis", {"volume": 0.5}),
        (ValueError, r"boundary\[0\] must have an h", {"boundary": [Robin(np.ones(4)), "neumann"]}),
        (ValueError, r"boundary\[1\] must be periodic on both", {"boundary": ["neumann", ("periodic", Robin(1))]}),
    ],
)
def test_a_bad_grid_is_refused_by_the_arguments_name(error, name, arguments):
    if arguments.get("coefficient") == "shut":
        arguments = {"coefficient": (np.zeros((5, 5)), np.zeros((4, 6)))}
    with pytest.raises(error, match=f"^{name}"):
        PoissonGrid(BOX, **arguments)


@pytest.mark.parametrize("h", [-1.0, np.nan, "1", True, -np.ones(4), [np.inf]])
def test_a_bad_film_is_refused_by_name(h):
    with pytest.raises((TypeError, ValueError), match="^h must"):
        Robin(h)


def test_values_that_no_unknown_reads_are_ignored_and_kept():
    cells = BOX.copy()
    cells[1, 1] = CellType.SOLID
    reaction, volume = np.ones(BOX.shape), np.full(BOX.shape, 0.5)
    reaction[1, 1] = volume[1, 1] = np.nan
    grid = PoissonGrid(cells, reaction=reaction, volume=volume)
    assert np.isfinite(grid.operator().to_csr().data).all()
    assert np.isnan(grid.given_reaction[1, 1])  # another grid may read them, and is refused then
    with pytest.raises(ValueError, match="^reaction must be finite"):
        PoissonGrid(BOX, reaction=grid.given_reaction)
    hidden = np.ma.array(np.ones(BOX.shape), mask=cells == CellType.SOLID)
    np.testing.assert_array_equal(
        PoissonGrid(cells, reaction=hidden).operator().to_csr().toarray(),
        PoissonGrid(cells, reaction=1.0).operator().to_csr().toarray(),
    )


@pytest.mark.parametrize("exponent", [-300, -120, 90, 250])
def test_units_of_any_size_change_no_digit(exponent):
    """A time unit of 2^exponent changes κ, σ and h alike; a length unit of ldexp(1, exponent // 8) widths and h."""
    cells, b = np.zeros((8, 9), np.uint8), np.random.default_rng(3).standard_normal((8, 9))
    widths = np.linspace(1, 2, 9)

    def made(time, length):
        kappa = np.ldexp(np.full((8, 9), 2.0), time)
        sides = [(Robin(np.ldexp(0.5, time - length)), "neumann"), "neumann"]
        spacing = (float(np.ldexp(0.5, length)), np.ldexp(widths, length))
        return PoissonGrid(cells, spacing, sides, kappa, float(np.ldexp(0.25, time - 2 * length)))

    reference = solve(made(0, 0), b, solver="mg-cg", rtol=1e-10)
    for time, length in ((exponent, 0), (0, exponent // 8 * 4)):
        scaled = solve(made(time, length), np.ldexp(b, time - 2 * length), solver="mg-cg", rtol=1e-10)
        assert scaled.converged, scaled.message
        np.testing.assert_allclose(scaled.x, reference.x, rtol=1e-7)


N = 24
CELLS = np.zeros((N, N, N), np.uint8)
CELLS[6:10, 6:12, 5:14] = CellType.SOLID


@pytest.mark.parametrize("solver", ["mg-cg", "dcdm"])
@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        *(({"reaction": sigma}, 9) for sigma in (1e-3, 1.0, 1e2, 0.1 * N**2, 1e3 * N**2)),
        *(({"boundary": Robin(h)}, 9) for h in (1e-3, 1.0, 1e2)),
        ({"boundary": [(Robin(1e-5), "neumann"), "neumann", "neumann"]}, 9),
        ({"boundary": "dirichlet-node"}, 9),
        ({"boundary": "dirichlet", "spacing": (1 / N, 1 / N, 1.05 ** np.arange(N) / N)}, 11),
    ],
)
def test_iterations_do_not_depend_on_the_size_of_what_is_added(arguments, most, solver):
    grid = PoissonGrid(CELLS, **({"spacing": 1 / N} | arguments))
    b = np.random.default_rng(0).standard_normal(CELLS.shape)
    solution = solve(grid, b, solver=solver)
    assert solution.converged
    assert solution.iterations <= most
    assert solution.fallbacks == 0


def test_a_component_held_by_next_to_nothing_is_no_harder_than_a_singular_one():
    b = np.random.default_rng(0).standard_normal(CELLS.shape)
    counts = [
        solve(PoissonGrid(CELLS, 1 / N, reaction=s), b, solver="mg-cg", inconsistent="project").iterations
        for s in (0.0, 1e-6, 1e-4, 1e-2)
    ]
    assert max(counts) <= counts[0] + 1


@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "ic-cg"])
def test_an_update_takes_another_reaction(solver):
    cells, b = np.zeros((16, 16), np.uint8), np.ones((16, 16))
    prepared = prepare(PoissonGrid(cells, 1 / 16, "dirichlet"), solver=solver)
    for reaction in (5.0, np.full(cells.shape, 50.0), 0.0):
        grid = PoissonGrid(cells, 1 / 16, "dirichlet", reaction=reaction)
        prepared = prepared.update(grid)
        expected = solve(grid, b, solver="scipy-direct").x
        np.testing.assert_allclose(prepared.solve(b, rtol=1e-10).x, expected, rtol=1e-7)


@pytest.mark.parametrize("threads", [1, 2])
def test_preconditioner_is_symmetric_and_positive_for_a_loose_component(threads):
    from relaxon.solvers import num_threads

    with num_threads(threads):
        grid = PoissonGrid(np.zeros((12, 10), np.uint8), reaction=1e-7)
        m = grid.preconditioner()
        dense = np.stack([m @ column for column in np.eye(grid.unknowns)])
    size = abs(dense).max()
    np.testing.assert_allclose(dense, dense.T, atol=1e-6 * size)
    assert np.linalg.eigvalsh((dense + dense.T) / 2)[0] > 0
    np.testing.assert_allclose(m @ np.ones(grid.unknowns), 1e7, rtol=1e-5)


DISC, CENTRE = 0.3, (0.51, 0.487)


def around_a_disc(n, sigma):
    """The grid around a disc, a solution that no flux crosses its edge with, and `b`."""
    faces, volume = outside_disc((n, n), 1 / n, CENTRE, DISC)
    is_open = faces[0][1:] + faces[0][:-1] + faces[1][:, 1:] + faces[1][:, :-1] > 0
    volume = np.where(is_open, np.maximum(volume, 1e-6), 0)
    grid = PoissonGrid(np.zeros((n, n), np.uint8), 1 / n, "dirichlet", faces, sigma, volume=volume)
    x, y = ((np.arange(n) + 0.5) / n - c for c in CENTRE)
    r = np.hypot(x[:, None], y)
    exact, ends = np.cos(3 * (r - DISC)), [(0 - c, 1 - c) for c in CENTRE]
    values = [
        [np.cos(3 * (np.hypot(end, across) - DISC)) for end in pair] for pair, across in zip(ends, (y, x), strict=True)
    ]
    inner = np.maximum(r, 0.5 * DISC)  # f is that of the part of a cut cell outside the disc
    source = 9 * np.cos(3 * (inner - DISC)) + 3 * np.sin(3 * (inner - DISC)) / inner + sigma * exact
    return grid, exact, source + boundary_source(grid, side_values=values)


@pytest.mark.parametrize("sigma", [0.0, 5.0])
def test_cut_cells_converge_at_order_one_and_a_half_in_the_largest_error(sigma):
    errors, counts = [], []
    for n in (32, 64, 128):
        grid, exact, b = around_a_disc(n, sigma)
        solution = solve(grid, b, solver="mg-cg", rtol=1e-10)
        errors.append(abs(solution.x - exact)[grid.fluid].max())
        counts.append(solution.iterations)
    assert np.log2(errors[0] / errors[2]) / 2 >= 1.7
    assert max(counts) <= 14


def smooth_errors(sides, stretch, variable, sizes=(16, 32, 64)):
    """The largest errors of `σ x − (κ x')'` along the first axis, with values on both sides given."""
    errors = []
    for n in sizes:
        points = np.linspace(0, 1, n + 1)
        points += stretch * np.sin(2 * np.pi * points) / (2 * np.pi)
        centres, widths = (points[1:] + points[:-1]) / 2, np.diff(points)
        x = np.repeat(np.exp(centres)[:, None], 3, 1)
        kappa = 1 + centres**2 if variable else np.ones(n)
        source = -(2 * centres * variable + kappa) * np.exp(centres) + 2.0 * np.exp(centres)
        values = [np.exp(end) for end in (0.0, 1.0)]
        for end, (side, sign) in enumerate(zip(sides, (-1, 1), strict=True)):
            if isinstance(side, Robin):
                values[end] = (1 + end * variable) * sign * np.exp(end) + side.h * np.exp(end)
            elif side == "dirichlet-node":
                values[end] = np.exp(end + sign * widths[-end] / 2)
        faces = None
        if variable:
            faces = (np.repeat(1 + points[:, None] ** 2, 3, 1), np.ones((n, 4)))
        grid = PoissonGrid(np.zeros((n, 3), np.uint8), (widths, 1.0), [sides, "neumann"], faces, 2.0)
        b = np.repeat(source[:, None], 3, 1) + boundary_source(grid, side_values=[values, (None, None)])
        errors.append(abs(solve(grid, b, solver="scipy-direct", rtol=1e-12).x - x).max())
    return np.array(errors)


@pytest.mark.parametrize("stretch", [0.0, 0.6])
@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize(
    "sides",
    [
        ("dirichlet", "dirichlet"),
        (Robin(2.0), "dirichlet"),
        (Robin(0.0), Robin(3.0)),
        ("dirichlet-node", Robin(50.0)),
    ],
)
def test_smooth_solutions_converge_at_order_two(sides, stretch, variable):
    errors = smooth_errors(sides, stretch, variable)
    assert (np.log2(errors[:-1] / errors[1:]) > 1.85).all(), errors


@pytest.mark.parametrize("name", ["heat-step", "channel", "heat-sink", "cylinder"])
@pytest.mark.parametrize("ndim", [2, 3])
def test_iterations_on_the_gallerys_cases_do_not_grow(name, ndim):
    counts = [solve(p.grid, p.b, solver="mg-cg").iterations for p in (gallery.make(name, n, ndim) for n in (20, 40))]
    assert counts[1] <= counts[0] + 4
    assert max(counts) <= 18
