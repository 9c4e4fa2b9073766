"""The automatic choice: what a matrix looks like, what its solvers are expected to cost, and handing over."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy import sparse

from relaxon.solvers import Result, gallery, prepare, solve, solve_many
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse import MATRIX_SOLVERS, MatrixSystem
from relaxon.solvers.sparse.choice import automatic as choice
from relaxon.solvers.sparse.choice import costs, estimates, features, trial
from relaxon.solvers.sparse.choice import watch as watched
from relaxon.solvers.sparse.choice.automatic import choose
from relaxon.solvers.sparse.choice.costs import CostModel, DirectCost, IterativeCost, dominated_iterations
from relaxon.solvers.sparse.choice.estimates import Estimate, Estimates
from relaxon.solvers.sparse.choice.features import MatrixFeatures, count_levels
from relaxon.solvers.sparse.choice.watch import Watched
from relaxon.solvers.sparse.direct.superlu import SuperLUFactor
from relaxon.solvers.sparse.engine import SLOW, expected_left
from relaxon.solvers.stress import make_matrix_case

OFF = (9e9, 9.0, 9)
"""Constants of a solver that is never expected to be quick."""


def features_of(a):
    system = MatrixSystem.of(a)
    return MatrixFeatures.of(system.matrix, system.diagonal)


def iterative(setup, each, count, by_levels=False):
    """A solver that always takes so many seconds and iterations."""
    terms = [math.log(count)] + [0.0] * (8 if by_levels else 7)
    return IterativeCost((setup, 0.0, 0.0), (each, 0.0, 0.0), tuple(terms), by_levels)


def model(amg=(1.0, 0.1, 10), ic=(1.0, 0.1, 20), jacobi=(1.0, 0.1, 30), direct=9.0, per_operation=0.0):
    factor = DirectCost((direct, 0.0, 0.0, per_operation), (0.0, 0.0, 0.0, 0.0))
    named = {"amg": iterative(*amg), "ic-cg": iterative(*ic, True), "jacobi-cg": iterative(*jacobi, True)}
    return CostModel(named, {"direct": factor, "scipy-direct": factor}, {})


@pytest.fixture
def without_rslab(monkeypatch):
    monkeypatch.setattr(estimates, "find_missing", lambda _: ("rslab",))


def use(monkeypatch, found):
    monkeypatch.setattr(choice, "load_costs", lambda: found)


# --- features ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[0, 10**9])
def least_compiled(request, monkeypatch):
    """The features of matrices from so many rows are computed by a kernel."""
    monkeypatch.setattr(features, "COMPILED", request.param)


@pytest.mark.usefixtures("least_compiled")
def test_features_are_those_of_the_whole_matrix_where_the_sample_is_all_of_it():
    a = gallery.matrix("tetrahedra-3d", 1_500)
    dense = a.toarray()
    off = dense - np.diag(np.diag(dense))
    found = features_of(a)
    sums, own = abs(off).sum(axis=1), np.diag(dense)
    assert (found.unknowns, found.entries) == (a.shape[0], a.nnz)
    np.testing.assert_allclose(found.dominance, (sums / own).max())
    np.testing.assert_allclose(found.positive, off[off > 0].sum() / sums.sum())
    np.testing.assert_allclose(found.contrast, np.log(own).std())
    counts = (off != 0).sum(axis=1)
    np.testing.assert_allclose(found.anisotropy, np.log(abs(off).max(axis=1) * counts / sums).mean())
    np.testing.assert_allclose(found.hubs, np.log((counts + 1).max() * a.shape[0] / a.nnz))


@pytest.mark.parametrize("factor", [1e-40, 1e40])
def test_features_do_not_depend_on_the_matrix_s_scale(factor):
    a = gallery.matrix("elasticity-2d", 6_000)
    one, other = features_of(a), features_of(sparse.csr_array(a * factor))
    for name in MatrixFeatures.__slots__:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-9)


@pytest.mark.usefixtures("least_compiled")
def test_features_of_a_diagonal_and_of_empty_rows_are_finite():
    for a in (sparse.eye_array(5, format="csr"), sparse.csr_array(np.diag([1.0, 0.0, 2.0]))):
        found = features_of(a)
        assert all(math.isfinite(getattr(found, name)) for name in MatrixFeatures.__slots__)
        assert found.dominance == 0.0
        for solver in costs.load_costs().iterative.values():
            assert math.isfinite(solver.iterations(found, count_levels(a)))


def test_levels_are_those_of_a_search_from_a_corner():
    box = gallery.make("box", (20, 30), ndim=2).grid.operator().to_csr()
    assert count_levels(box) == 49  # Manhattan distances from one corner to the other
    chain = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(500, 500), format="csr")
    assert count_levels(chain) == 500
    two = sparse.csr_array(sparse.block_diag([chain, chain]))
    assert count_levels(two) == 1000  # as if all of it were like the part that was searched
    star = sparse.lil_array((50, 50))
    star[0, :] = star[:, 0] = 1.0
    assert count_levels(sparse.csr_array(star)) == 3


# --- the model --------------------------------------------------------------------------------------------------------


def test_the_shipped_constants_are_read_as_they_were_written_and_know_every_solver():
    found = costs.load_costs()
    assert CostModel.of(json.loads(json.dumps(found.as_dict()))) == found
    assert set(found.iterative) == {"amg", "ic-cg", "jacobi-cg"}
    assert set(found.direct) == {"direct", "scipy-direct"}
    assert found.machine["cpu"]
    assert set(found.iterative) | set(found.direct) <= set(MATRIX_SOLVERS)


def test_estimates_are_positive_and_grow_with_the_matrix():
    found = costs.load_costs()
    small, large = (Estimates.of(MatrixSystem.of(gallery.matrix("laplacian-3d", n)), found) for n in (1_500, 20_000))
    for name in ("amg", "ic-cg", "jacobi-cg", "direct", "scipy-direct"):
        assert 0 < small.estimate(name).seconds < large.estimate(name).seconds


def test_dominance_bounds_the_iterations_of_conjugate_gradients():
    a = sparse.csr_array(gallery.matrix("laplacian-2d", 900) + 3.0 * sparse.eye_array(900))
    found = features_of(a)
    bound = dominated_iterations(found.dominance)
    assert solve(a, np.random.default_rng(0).standard_normal(900), solver="jacobi-cg").iterations <= bound < 60
    assert iterative(1.0, 1.0, 500, True).iterations(found, 10.0) == bound
    assert iterative(1.0, 1.0, 500, True).iterations(found, None) == bound  # no levels are asked for
    assert dominated_iterations(1.0) == math.inf


# --- the choice -------------------------------------------------------------------------------------------------------


def test_few_unknowns_are_factored_without_an_estimate():
    made = choose(MatrixSystem.of(gallery.matrix("laplacian-2d", 900)))
    assert made.solver == MATRIX_SOLVERS["scipy-direct"]
    assert "900 unknowns are few enough" in made.reason


def test_multigrid_is_tried_on_a_piece_where_positive_couplings_leave_its_convergence_open():
    plate = choose(MatrixSystem.of(gallery.matrix("plate-2d", 22_500)))
    assert plate.solver.name == plate.estimates.direct_name
    assert "on a piece of the matrix multigrid converged slowly" in plate.reason
    assert plate.estimates.trial > 10 * 35
    for family in ("bilinear-2d", "elasticity-2d", "laplacian-2d"):
        made = choose(MatrixSystem.of(gallery.matrix(family, 40_000)))
        assert (made.solver.name, made.estimates.trial) == ("amg", 0.0)


def test_a_piece_has_whole_nodes_around_the_middle_and_ends_where_the_graph_does():
    grid = gallery.matrix("laplacian-2d", 10_000)
    kept = trial.pick_piece(grid, most=500)
    assert len(kept) == 500
    assert (np.diff(kept) > 0).all()
    assert {5_000, 5_001, 4_900, 5_100} <= set(kept.tolist())
    nodes = trial.pick_piece(gallery.elastic_body("cantilever-3d", 3_000).matrix, 3, 500)
    assert np.array_equal(nodes.reshape(-1, 3) // 3, np.repeat(nodes[::3, None] // 3, 3, axis=1))
    two = sparse.csr_array(sparse.block_diag([grid[:50, :50], grid[:50, :50]]))
    assert set(trial.pick_piece(two).tolist()) == set(range(50, 100))


def test_a_tridiagonal_matrix_is_solved_in_a_step_and_one_entry_more_is_none():
    chain = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(2_000, 2_000), format="csr")
    held = sparse.csr_array(sparse.block_diag([chain, sparse.csr_array((1, 1)), chain]))
    for a in (chain, held):
        made = choose(MatrixSystem.of(a))
        assert made.solver == MATRIX_SOLVERS["ic-cg"]
        assert made.reason.startswith("tridiagonal")
        assert solve(a, a @ np.sin(np.arange(a.shape[0]))).iterations == 1
    far = chain.tolil()
    far[0, 7] = far[7, 0] = -0.1
    far[20, 21] = far[21, 20] = far[30, 31] = far[31, 30] = 0.0
    a = sparse.csr_array(far)
    a.eliminate_zeros()
    assert a.nnz <= 3 * 2_000
    assert "tridiagonal" not in choose(MatrixSystem.of(a)).reason


@pytest.mark.parametrize("seed", range(4))
def test_small_pivots_of_a_complete_factor_are_no_reason_to_change_it(seed):
    """A shift of the diagonal would spoil it: couplings that jump by 10⁶ leave pivots far below 10⁻⁴."""
    rng = np.random.default_rng(seed)
    springs = 10.0 ** rng.uniform(0, 6, 3_001)
    a = sparse.diags_array([-springs[1:-1], springs[:-1] + springs[1:], -springs[1:-1]], offsets=[-1, 0, 1]).tocsr()
    b = np.zeros(3_000)
    b[[1_000, 1_500]] = 1.0, -1.0
    solution = solve(a, b)
    assert solution.result is Result.CONVERGED
    assert solution.iterations <= 4
    assert prepare(a, solver="ic-cg").engine.info["shift"] == 0


def test_a_closed_chain_is_not_left_to_a_factor_whose_last_pivot_is_rounding():
    rng = np.random.default_rng(5)
    springs = 10.0 ** rng.uniform(-2.5, 2.5, 3_999)
    ends = np.concatenate([springs, [0.0]]) + np.concatenate([[0.0], springs])
    a = sparse.diags_array([-springs, ends, -springs], offsets=[-1, 0, 1]).tocsr()
    b = np.zeros(4_000)
    b[[10, 3_900]] = 1.0, -1.0
    assert "tridiagonal" not in choose(MatrixSystem.of(a)).reason
    solution = solve(a, b)
    assert solution.result is Result.CONVERGED
    assert np.linalg.norm(b - a @ solution.x) <= 1e-6 * np.linalg.norm(b)


@pytest.mark.usefixtures("without_rslab")
@pytest.mark.parametrize(
    ("constants", "solver", "reason"),
    [
        ({"amg": (0.1, 0.01, 12)}, "amg", "about 220 ms expected, 12 iterations; ic-cg 3 s, jacobi-cg 4 s"),
        ({"ic": (0.1, 0.01, 20)}, "ic-cg", "about 300 ms expected, 20 iterations; amg 2 s"),
        ({"jacobi": (0.0, 0.01, 40)}, "jacobi-cg", "about 400 ms expected, 40 iterations"),
        ({"direct": 0.25}, "scipy-direct", "about 250 ms expected; amg 2 s"),
    ],
)
def test_the_cheapest_by_the_estimates_is_chosen_and_the_next_ones_are_named(monkeypatch, constants, solver, reason):
    use(monkeypatch, model(**constants))
    made = choose(MatrixSystem.of(gallery.matrix("lognormal-3d", 1_500)))
    assert made.solver == MATRIX_SOLVERS[solver]
    assert made.reason.startswith(reason)


@pytest.mark.usefixtures("without_rslab")
def test_where_two_take_about_the_same_the_one_with_less_to_compile_is_taken(monkeypatch):
    system = MatrixSystem.of(gallery.matrix("lognormal-3d", 1_500))
    for amg, solver in ((0.5 * estimates.FIRST_USE["amg"], "amg"), (-0.5 * estimates.FIRST_USE["amg"], "ic-cg")):
        use(monkeypatch, model(amg=(1.0 - amg, 0.0, 1), ic=(1.0 + estimates.FIRST_USE["amg"], 0.0, 1), direct=99.0))
        assert choose(system).solver == MATRIX_SOLVERS[solver]


def test_a_large_matrix_goes_to_multigrid_without_a_look_at_its_graph(monkeypatch):
    monkeypatch.setattr(estimates, "LARGE", 1_100)
    monkeypatch.setattr(estimates, "count_levels", None)
    use(monkeypatch, model(direct=1e-3, ic=(0.0, 0.0, 1)))
    assert choose(MatrixSystem.of(gallery.matrix("neumann-2d", 1_500))).solver == MATRIX_SOLVERS["amg"]
    use(monkeypatch, model(jacobi=(0.0, 1e-3, 1)))
    assert choose(MatrixSystem.of(gallery.matrix("heat-step-3d", 1_500))).solver == MATRIX_SOLVERS["jacobi-cg"]


@pytest.mark.usefixtures("without_rslab")
@pytest.mark.parametrize("memory", [False, True])
def test_a_factor_that_was_expected_to_be_cheap_and_is_not_is_not_begun(monkeypatch, memory):
    a = gallery.matrix("laplacian-3d", 1_500)
    operations = MATRIX_SOLVERS["direct"].analyse(MatrixSystem.of(a)).size.flops
    if memory:
        monkeypatch.setattr("relaxon.solvers.sparse.direct.solver.find_available_memory", lambda: 1000)
    each = 0.0 if memory else 99.0 / operations
    use(monkeypatch, model(amg=(1.0, 0.1, 10), ic=OFF, jacobi=OFF, direct=0.5, per_operation=each))
    solution = solve(a, np.ones(a.shape[0]))
    assert solution.converged
    assert "auto chose scipy-direct: about 500 ms expected; amg 2 s" in solution.message
    assert "its factor takes more than was expected: amg began" in solution.message
    assert "levels" in solution.info


# --- handing over -----------------------------------------------------------------------------------------------------


def watched_system():
    a = gallery.matrix("plate-2d", 1_600)
    return a, np.random.default_rng(0).standard_normal(a.shape[0])


@pytest.mark.usefixtures("without_rslab")
@pytest.mark.parametrize("limit", [None, watched.LOOK - 1, watched.LOOK])
def test_a_slow_method_hands_its_solution_on_and_counts_every_iteration_once(monkeypatch, limit):
    use(monkeypatch, model(amg=(0.1, 0.1, 10), direct=2.0, ic=OFF, jacobi=OFF))
    a, b = watched_system()
    prepared = prepare(a)
    solution = prepared.solve(b, max_iterations=limit)
    assert len(solution.residuals) == solution.iterations + 1
    np.testing.assert_allclose(solution.residuals[0], np.linalg.norm(b))
    if limit is not None:
        assert (solution.iterations, solution.result) == (limit, Result.MAX_ITERATIONS)
        assert "went on" not in solution.message
        return
    assert f"not done after {watched.LOOK} iterations, about" in solution.message
    assert "more expected: scipy-direct went on (2 s)" in solution.message
    assert solution.converged
    assert solution.iterations == watched.LOOK + 1
    assert {"levels", "factor_nonzeros"} <= solution.info.keys()
    assert prepared.solve(b).iterations == 1  # what went on answers alone from then on


@pytest.mark.usefixtures("without_rslab")
def test_a_method_that_needs_less_than_any_other_goes_on(monkeypatch):
    a, b = watched_system()
    use(monkeypatch, model(amg=(1e-3, 1e-6, 10)))
    solution = solve(a, b)
    assert solution.converged
    assert solution.iterations > 3 * watched.LOOK
    assert "went on" not in solution.message


@pytest.mark.usefixtures("without_rslab")
def test_a_factor_that_turns_out_too_costly_or_too_large_is_not_made(monkeypatch):
    a, b = watched_system()
    operations = MATRIX_SOLVERS["direct"].analyse(MatrixSystem.of(a)).size.flops
    use(monkeypatch, model(amg=(0.1, 0.1, 10), direct=2.0, per_operation=1e3 / operations, ic=OFF, jacobi=OFF))
    solution = solve(a, b, max_iterations=40)
    assert "went on" not in solution.message
    assert solution.iterations == 40
    use(monkeypatch, model(amg=(0.1, 0.1, 10), direct=2.0, ic=OFF, jacobi=OFF))
    monkeypatch.setattr("relaxon.solvers.sparse.direct.solver.find_available_memory", lambda: 1000)
    solution = solve(a, b, max_iterations=40)
    assert "went on" not in solution.message
    assert solution.iterations == 40


@pytest.mark.usefixtures("without_rslab")
def test_another_may_go_on_twice_and_none_is_taken_twice(monkeypatch):
    a, b = watched_system()
    monkeypatch.setattr(choice, "HARD", ())
    use(monkeypatch, model(amg=(0.1, 1.0, 3), ic=(1.0, 0.5, 8), jacobi=OFF, direct=30.0))
    solution = solve(a, b)
    assert solution.converged
    assert [part.split(":")[1].split()[0] for part in solution.message.split("; ") if "went on" in part] == [
        "ic-cg",
        "scipy-direct",
    ]


@pytest.mark.usefixtures("without_rslab")
def test_several_right_hand_sides_after_a_change_share_the_second_method(monkeypatch):
    a, b = watched_system()
    use(monkeypatch, model(amg=(0.1, 0.1, 10), direct=2.0, ic=OFF, jacobi=OFF))
    one, two = solve_many(a, [b, 2 * b[::-1]])
    assert (one.converged, two.converged) == (True, True)
    assert (one.iterations, two.iterations) == (watched.LOOK + 1, 1)


def test_the_same_matrix_is_solved_by_the_same_steps():
    for family in ("plate-2d", "rotated-2d"):
        a = gallery.matrix(family, 3_000)
        b = np.random.default_rng(0).standard_normal(a.shape[0])
        one, two = solve(a, b), solve(a, b)
        assert one.message == two.message
        np.testing.assert_array_equal(one.x, two.x)


def test_the_iterations_that_are_left_follow_the_mean_rate():
    np.testing.assert_allclose(expected_left([1.0, 0.1, 0.2, 0.01], 1e-6), 6.0)  # two decades in 3 steps, 4 are left
    assert expected_left([1.0, 2.0, 3.0], 1e-6) == SLOW * 2


class Engine:
    """A method that multiplies the residual by a factor in each iteration."""

    default_max_iterations, failure, reason = 1000, "", ""

    def __init__(self, factor):
        self.factor, self.info, self.runs = factor, {}, 0

    def run(self, b, x, monitor, max_iterations):
        self.runs += 1
        reason = monitor.record(x[0])
        for _ in range(max_iterations):
            if reason is not None:
                return reason
            x *= self.factor
            reason = monitor.record(x[0])
        return reason or Result.MAX_ITERATIONS


def test_what_was_tried_in_vain_gives_way_to_what_was_better():
    slow, slower = Engine(0.9), Engine(0.999)

    class One:
        """Offers the slower one, which is thought to be quick."""

        def cheapest(self, seconds, shortfall=1.0):
            return None if slower.runs else Estimate("slower", 1.0, 2.0, 0.5)

        def set_up(self, chosen, seconds):
            return slower

    over = Watched(None, slow, Estimate("slow", 10.0, 10.0, 1.0), One())
    monitor, x = Monitor(1e-6), np.ones(1)
    assert over.run(np.ones(1), x, monitor, 1000) is Result.CONVERGED
    assert (slow.runs, slower.runs) == (2, 1)
    assert monitor.iterations == len(monitor.history) - 1 < 160
    assert over.second is slow
    assert over.reason.count("went on") == 2
    x[:] = 1.0
    over.run(np.ones(1), x, Monitor(1e-6), 1000)
    assert (slow.runs, slower.runs) == (3, 1)


class Stuck(Engine):
    """A method that stagnates after some iterations."""

    def run(self, b, x, monitor, max_iterations):
        result = super().run(b, x, monitor, min(5, max_iterations))
        return Result.STAGNATED if result is Result.MAX_ITERATIONS else result


@pytest.mark.parametrize("failure", ["", "the matrix is not positive definite: a direction has the curvature -1"])
def test_where_a_method_stagnates_another_goes_on_unless_the_matrix_is_indefinite(failure):
    stuck, good = Stuck(0.9), Engine(0.5)
    stuck.failure = failure

    class One:
        def cheapest(self, seconds, shortfall=1.0):
            return None if good.runs or seconds < 5.0 else Estimate("good", 5.0, 10.0, 0.5)

        def set_up(self, chosen, seconds):
            return good

    over = Watched(None, stuck, Estimate("stuck", 0.1, 10.0, 0.01), One())
    monitor, x = Monitor(1e-6), np.ones(1)
    result = over.run(np.ones(1), x, monitor, 1000)
    assert over.failure == (failure if failure else "")
    assert result is (Result.STAGNATED if failure else Result.CONVERGED)
    assert ("stagnated after 5 iterations: good went on (5 s)" in over.reason) is not bool(failure)
    assert len(monitor.history) == monitor.iterations + 1


def test_what_is_foretold_badly_is_tried_where_that_costs_little():
    system = MatrixSystem.of(gallery.matrix("neumann-2d", 1_500))

    def offered(setup, seconds):
        found = choice.Successors(Estimates.of(system, model(ic=(setup, 0.1, 400), jacobi=OFF, direct=1e9)))
        found.tried.add("amg")
        return found.cheapest(seconds)

    assert offered(1.0, 10.0) is None  # it takes 41 s, 11 s at best
    assert offered(1.0, 12.0).solver == "ic-cg"
    assert offered(8.0, 30.0) is None  # 18 s at best, but set-up and ten iterations are 9 s
    assert offered(8.0, 40.0).solver == "ic-cg"


def test_where_multigrid_falls_short_conjugate_gradients_are_expected_to_as_well():
    system = MatrixSystem.of(gallery.matrix("neumann-2d", 1_500))
    found = choice.Successors(Estimates.of(system, model(ic=(1.0, 0.1, 40), jacobi=OFF, direct=20.0)))
    found.tried.add("amg")
    assert found.cheapest(30.0).solver == "ic-cg"  # 5 s
    assert found.cheapest(30.0, 10.0).solver.endswith("direct")  # as that takes 41 s now
    assert found.cheapest(30.0).solver.endswith("direct")


def test_a_watched_run_ends_with_what_its_method_says():
    a, b = watched_system()
    system = MatrixSystem.of(a)
    engine = MATRIX_SOLVERS["jacobi-cg"].prepare_matrix(system)

    class Nothing:
        def cheapest(self, seconds, shortfall=1.0):
            return None

    seen = []
    over = Watched(system, engine, Estimate("jacobi-cg", 1.0, 10.0, 0.1), Nothing())
    monitor = Monitor(1e-6 * np.linalg.norm(b), lambda progress: seen.append(progress) or len(seen) == 25)
    assert over.run(b, np.zeros_like(b), monitor, 100) is Result.CANCELLED
    assert monitor.watch is None
    plain = Monitor(1e-6 * np.linalg.norm(b))
    engine.run(b, np.zeros_like(b), plain, 24)
    assert monitor.history == plain.history[:25]


def test_what_goes_around_an_engine_passes_on_what_its_set_up_is_asked():
    a = gallery.matrix("triangles-2d", 45_000)
    shuffled = np.random.default_rng(0).permutation(a.shape[0])
    a = a[shuffled][:, shuffled]
    alone = prepare(a, solver="amg")
    order = alone.engine.row_order
    assert order is not None
    assert (np.sort(order) == np.arange(a.shape[0])).all()
    for prepared in (prepare(a), alone.update(a), prepare(a).update(a)):
        np.testing.assert_array_equal(prepared.engine.row_order, order)
        assert prepared.engine.level_sizes == alone.engine.level_sizes


def test_the_automatic_choice_shares_a_factor_s_first_step_among_right_hand_sides(monkeypatch):
    a = gallery.matrix("laplacian-2d", 900)
    shapes = []
    solve_with = SuperLUFactor.solve
    monkeypatch.setattr(SuperLUFactor, "solve", lambda self, b: shapes.append(b.shape) or solve_with(self, b))
    sides = list(np.random.default_rng(0).standard_normal((3, a.shape[0])))
    assert all(solution.converged for solution in solve_many(a, sides))
    assert shapes[0] == (a.shape[0], 3)


def test_a_factor_that_was_too_dear_at_first_goes_on_where_everything_else_is_slow(monkeypatch):
    case = make_matrix_case(1, 1261)  # jumps of 10⁷, and units of rows: nothing iterative takes less than a thousand
    operations = MATRIX_SOLVERS["direct"].analyse(MatrixSystem.of(case.matrix)).size.flops
    use(monkeypatch, model(amg=(0.1, 0.01, 10), direct=0.15, per_operation=0.35 / operations, ic=OFF, jacobi=OFF))
    solution = solve(case.matrix, case.b)
    assert solution.result is Result.CONVERGED
    assert "its factor takes more than was expected: amg began" in solution.message
    assert "direct went on" in solution.message
    assert solution.iterations < 1_000
