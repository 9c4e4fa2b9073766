"""Every solver on every problem, the front's promises, and what it refuses."""

import itertools

import numpy as np
import pytest

from relaxon.solvers import PoissonGrid, Result, SingularSystemError, gallery, list_solvers, prepare, solve, solve_many
from relaxon.solvers.interface.engine import Prepared, Solver

ELSEWHERE = ("dcdm-cnn", "fast-diagonalisation")  # test_dcdm.py and test_fast_diagonalisation.py cover these
SOLVERS = [entry.name for entry in list_solvers() if entry.name not in ELSEWHERE]
CASES = [(name, 2, (33, 38)) for name in gallery.names() if name != "plume"]
CASES += [(name, 3, (13, 11, 16)) for name in gallery.names()]


@pytest.mark.parametrize(("name", "ndim", "size"), CASES)
def test_all_solvers_agree(name, ndim, size):
    problem = gallery.make(name, size, ndim=ndim, seed=5)
    exact = solve(problem.grid, problem.b, solver="scipy-direct", rtol=1e-11)
    assert exact.converged
    side = problem.grid.weighted(problem.b)
    for solver in SOLVERS:
        solution = solve(problem.grid, problem.b, solver=solver, rtol=1e-9)
        assert solution.result is Result.CONVERGED, solver
        residual = problem.grid.operator().residual(side, solution.x)
        assert np.linalg.norm(residual) <= 1e-9 * np.linalg.norm(side), solver
        assert np.linalg.norm(solution.x - exact.x) < 1e-4 * np.linalg.norm(exact.x), solver
        assert len(solution.residuals) == solution.iterations + 1
        assert (solution.x[~problem.grid.fluid] == 0).all()


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann", "periodic", "mixed"])
@pytest.mark.parametrize("variable", [False, True])
@pytest.mark.parametrize(("ndim", "sizes"), [(2, (16, 32, 64)), (3, (8, 16, 32))])
def test_manufactured_solutions_converge_at_second_order(boundary, variable, ndim, sizes):
    sides = [("dirichlet", "neumann"), ("neumann", "dirichlet"), "periodic"][:ndim] if boundary == "mixed" else boundary
    errors = []
    for n in sizes:
        problem = gallery.manufactured((n, n + n // 4, n)[:ndim], ndim, sides, variable)
        error = solve(problem.grid, problem.b, solver="mg-cg", rtol=1e-10).x - problem.exact
        if problem.grid.nullspace.dimension:
            error -= error.mean()
        errors.append(float(np.sqrt(np.mean(error**2))))
    slopes = np.log2(np.array(errors[:-1]) / errors[1:])
    assert slopes[-1] == pytest.approx(2.0, abs=0.15)


def iterations(solver, name, size, ndim=2):
    problem = gallery.make(name, size, ndim=ndim, seed=1)
    return solve(problem.grid, problem.b, solver=solver).iterations


def test_cgs_iterations_grow_with_the_side_and_incomplete_choleskys_with_its_root():
    cg = [iterations("cg", "box", n) for n in (40, 80, 160)]
    for small, large in itertools.pairwise(cg):
        assert 1.6 < large / small < 2.4
    ic = [iterations("ic-cg", "box", n) for n in (40, 80, 160)]
    assert ic[-1] / ic[0] < 2.6
    assert 3 * ic[-1] < cg[-1]


@pytest.mark.parametrize("solver", ["mg-cg", "mg-rbgs-cg", "dcdm"])
@pytest.mark.parametrize(
    ("name", "ndim", "sizes"), [("box", 2, (32, 128)), ("neumann", 3, (16, 48)), ("spheres", 3, (16, 48))]
)
def test_multigrids_iterations_do_not_grow(solver, name, ndim, sizes):
    counts = [iterations(solver, name, n, ndim) for n in sizes]
    assert counts[1] <= counts[0] + 3
    assert counts[1] <= 14


def test_any_layout_precision_and_form_of_b_gives_the_same_and_none_is_modified():
    problem = gallery.make("pool", (9, 8, 10))
    b = np.round(problem.b * 4) + np.where(problem.grid.fluid, 1.0, 0.0)
    expected = solve(problem.grid, b, solver="ic-cg", rtol=1e-10).x
    strided = np.zeros((18, 8, 10))
    strided[::2] = b
    forms = [b.astype(np.float32), np.asfortranarray(b), strided[::2], b.astype(">f8"), b.astype(np.int64), b.tolist()]
    for form in forms:
        before = np.array(form, copy=True)
        if isinstance(form, np.ndarray):
            form.flags.writeable = False
        solution = solve(problem.grid, form, solver="ic-cg", rtol=1e-10)
        np.testing.assert_allclose(solution.x, expected, rtol=1e-8, atol=1e-9 * abs(expected).max())
        np.testing.assert_array_equal(form, before)
        assert solution.x.dtype == np.float64
    packed = solve(problem.grid.operator(np.float32), problem.grid.pack(b), solver="ic-cg", rtol=1e-10)
    np.testing.assert_allclose(packed.x, problem.grid.pack(expected), rtol=1e-8, atol=1e-9 * abs(expected).max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_scaling_b_scales_x(solver):
    problem = gallery.make("spheres", 10)
    one, many = (solve(problem.grid, factor * problem.b, solver=solver, rtol=1e-8).x for factor in (1.0, 2.0**60))
    np.testing.assert_allclose(many, 2.0**60 * one, rtol=1e-5, atol=1e-6 * 2.0**60 * abs(one).max())


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_warm_start_at_the_solution_needs_no_iteration(solver):
    problem = gallery.make("pool", 12, ndim=2)
    x = solve(problem.grid, problem.b, solver="scipy-direct", rtol=1e-12).x
    again = solve(problem.grid, problem.b, solver=solver, x0=x)
    assert again.converged
    assert again.iterations == 0


def test_many_right_hand_sides_share_a_set_up_and_get_their_own_answers():
    problem = gallery.make("spheres", 10)
    sides = np.stack([problem.b, -2 * problem.b, np.roll(problem.b, 1, 0) * problem.grid.fluid])
    many = solve_many(problem.grid, sides, solver="mg-cg")
    for b, solution in zip(sides, many, strict=True):
        np.testing.assert_array_equal(solution.x, prepare(problem.grid, solver="mg-cg").solve(b).x)
        assert solution.setup_seconds == many[0].setup_seconds


def test_a_callback_sees_every_iteration_and_can_stop():
    problem = gallery.make("box", 24, ndim=2)
    seen = []

    def watch(progress):
        seen.append(progress)
        return progress.iteration == 5

    solution = solve(problem.grid, problem.b, solver="cg", callback=watch)
    assert solution.result is Result.CANCELLED
    assert [p.iteration for p in seen] == list(range(6))
    np.testing.assert_array_equal([p.residual for p in seen], solution.residuals)


def test_zero_has_the_solution_zero_and_few_iterations_are_said_to_be_too_few():
    problem = gallery.make("box", 24, ndim=2)
    zero = solve(problem.grid, np.zeros(problem.grid.shape), solver="cg", x0=np.ones(problem.grid.shape))
    assert zero.converged
    assert not zero.x.any()
    few = solve(problem.grid, problem.b, solver="cg", max_iterations=3)
    assert few.result is Result.MAX_ITERATIONS
    assert few.iterations == 3
    assert few.true_residual > few.tolerance


class Liar(Solver):
    """Claims whatever it is told to, and does nothing."""

    name = "liar"
    summary = ""

    def __init__(self, *claims):
        self.claims = claims

    def prepare(self, operator):
        claims = self.claims

        class Lying(Prepared):
            info = {}  # noqa: RUF012

            def run(self, b, x, monitor, max_iterations):
                reason = None
                for claim in claims:
                    reason = monitor.record(claim)
                return reason or Result.MAX_ITERATIONS

        return Lying()


@pytest.mark.parametrize(
    ("claims", "result"),
    [((1.0, 0.0), Result.STAGNATED), ((1.0, np.nan), Result.NON_FINITE), ((1.0, 1e9), Result.DIVERGED)],
)
def test_converged_is_said_only_where_the_true_residual_says_so(claims, result):
    problem = gallery.make("box", 6)
    assert solve(problem.grid, problem.b, solver=Liar(*claims)).result is result


def test_a_closed_box_with_a_net_source_is_refused_reported_or_projected():
    grid = PoissonGrid(np.zeros((6, 7), np.uint8))
    b = np.ones(grid.shape)
    with pytest.raises(SingularSystemError, match="^b is not in the range"):
        solve(grid, b, solver="cg")
    reported = solve(grid, b, solver="cg", inconsistent="report")
    assert reported.result is Result.SINGULAR_INCONSISTENT
    b[2, 3] = 5.0
    projected = solve(grid, b, solver="cg", inconsistent="project")
    assert projected.converged
    assert abs(projected.x.mean()) < 1e-12
    np.testing.assert_allclose(grid.operator().matvec(projected.x), b - b.mean(), atol=1e-4)


GOOD = np.ones((5, 4))


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (ValueError, "b", {"b": np.where(np.eye(5, 4) > 0, np.nan, 1.0)}),
        (ValueError, "b", {"b": np.full((5, 4), np.inf)}),
        (ValueError, "b", {"b": np.ones((4, 5))}),
        (ValueError, "b", {"b": np.ones(19)}),
        (ValueError, "b", {"b": 1.0}),
        (ValueError, "b", {"b": np.zeros((0, 4))}),
        (TypeError, "b", {"b": None}),
        (TypeError, "b", {"b": GOOD.astype(np.clongdouble)}),
        (TypeError, "b", {"b": GOOD.astype(object)}),
        (TypeError, "b", {"b": GOOD.astype(np.float16)}),
        (TypeError, "b", {"b": "one"}),
        (ValueError, "x0", {"x0": np.ones(3)}),
        (ValueError, "x0", {"x0": np.full((5, 4), np.nan)}),
        (ValueError, "solver", {"solver": "cgg"}),
        (TypeError, "solver", {"solver": 3}),
        (ValueError, "rtol", {"rtol": 0.0}),
        (ValueError, "rtol", {"rtol": -1.0}),
        (ValueError, "rtol", {"rtol": np.nan}),
        (TypeError, "rtol", {"rtol": "1e-6"}),
        (ValueError, "atol", {"atol": -1.0}),
        (ValueError, "max_iterations", {"max_iterations": 0}),
        (TypeError, "max_iterations", {"max_iterations": 1.5}),
        (TypeError, "max_iterations", {"max_iterations": True}),
        (ValueError, "inconsistent", {"inconsistent": "maybe"}),
    ],
)
def test_a_mistake_is_refused_by_the_arguments_name(error, name, arguments):
    grid = PoissonGrid(np.zeros((5, 4), np.uint8), boundary="dirichlet")
    with pytest.raises(error, match=f"^{name} must"):
        solve(grid, **({"b": GOOD, "solver": "cg"} | arguments))


def test_what_is_no_operator_is_refused():
    with pytest.raises(TypeError, match="^operator must be"):
        solve(np.eye(4), np.ones(4))


def test_many_refuses_none_and_unequal_starts():
    grid = PoissonGrid(np.zeros((5, 4), np.uint8), boundary="dirichlet")
    with pytest.raises(ValueError, match="^b must hold at least one"):
        solve_many(grid, [], solver="cg")
    with pytest.raises(ValueError, match="^x0 must hold one start"):
        solve_many(grid, [GOOD], solver="cg", x0=[GOOD, GOOD])
    with pytest.raises(ValueError, match=r"^b\[1\] must"):
        solve_many(grid, [GOOD, np.ones(3)], solver="cg")


@pytest.mark.parametrize("size", [0, -3, 10**6, (4, 4, 4, 4)])
def test_the_gallery_refuses_sizes_before_it_allocates(size):
    with pytest.raises(ValueError, match=r"^size"):
        gallery.make("pool", size)


def test_the_gallery_names_what_it_knows():
    with pytest.raises(ValueError, match="did you mean 'pool'"):
        gallery.make("pol", 8)


@pytest.mark.parametrize("boundary", ["dirichlet", "neumann"])
@pytest.mark.parametrize("form", ["whole", "packed"])
@pytest.mark.parametrize("solver", ["cg", "dcdm", "pyamg-sa"])
def test_a_request_goes_on_in_the_memory_of_the_one_before_with_the_same_bits(boundary, form, solver):
    """What a sequence of steps does: no copy of the start, no new memory."""
    cells = np.zeros((14, 13, 12), np.uint8)
    cells[3:6, 4:8, 2:5] = 1
    grid = PoissonGrid(cells, boundary=boundary)
    rng = np.random.default_rng(8)
    sides = [grid.pack(rng.standard_normal(grid.shape)) for _ in range(4)]
    sides = [one - one.mean() for one in sides]
    if form == "whole":
        sides = [grid.unpack(one, fill=np.pi) for one in sides]
    front, start, last = prepare(grid, solver=solver), None, None
    for b in sides:
        expected = front.solve(b, x0=start, rtol=1e-4)
        if last is None:
            request = front.request(b, 1e-4, 0.0, None, None, "error")
        else:
            request = front.continued(last, b, 1e-4, 0.0, None, "error")
            assert request.x is last.x
        before = b.copy()
        found = front.answer(request)
        np.testing.assert_array_equal(found.x, expected.x)
        np.testing.assert_array_equal(found.residuals, expected.residuals)
        np.testing.assert_array_equal(b, before)
        out = np.full_like(found.x, np.nan)
        front.copy_answer(found.x, out)
        np.testing.assert_array_equal(out, found.x)
        start, last = expected.x.copy(), request
