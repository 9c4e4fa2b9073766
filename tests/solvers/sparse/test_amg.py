"""Algebraic multigrid of our own: it converges on every family of the gallery with one configuration, its cycle is
symmetric and definite, its coarse matrices are Galerkin products, and threads do not show in its bits."""

import numpy as np
import pytest
from scipy import sparse

from relaxon.core.scaling import mean_scale, mean_scale_of_many
from relaxon.solvers import AlgebraicMultigrid, PoissonGrid, Result, gallery, prepare, solve, solve_many
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.sparse import Constants, MatrixSystem
from relaxon.solvers.sparse.amg import coarsest, engine, hierarchy, lower, smoothed_aggregation
from relaxon.solvers.sparse.amg.cycle import LENGTHS, Cycle, count_steps
from relaxon.solvers.sparse.amg.hierarchy import Hierarchy
from relaxon.solvers.sparse.system.inspection import inspect
from relaxon.solvers.sparse.system.inspection_kernels import ASYMMETRIC, CLOSED, DECIDES, NEARLY, OPEN, SUM
from relaxon.solvers.stress import make_matrix_case

N = 4_000
MOST = {"rotated-2d": 30, "plate-2d": 90, "tetrahedra-contrast-3d": 35, "random-jumps-3d": 35}
"""Iterations to 1e-6 at N unknowns; 25 elsewhere."""


def in_range(a, seed=1):
    return a @ np.random.default_rng(seed).standard_normal(a.shape[0])


def level_matrix(level):
    """A level's matrix, dense."""
    out = np.zeros((level.rows, level.rows))
    for i in range(level.rows):
        part = slice(level.first[i], level.last[i])
        out[i, level.columns[part]] = level.values[part]
        out[i, i] = level.surplus[i] - out[i].sum()
    return out


def applied(cycle, n):
    """A cycle as a matrix."""
    m = np.empty((n, n))
    for i in range(n):
        cycle.right[:] = 0
        cycle.right[i] = 1
        m[:, i] = cycle.apply()
    return m


def prolongation(level, coarse_rows):
    if level.smoothed is not None:
        p = level.smoothed.interpolation
        starts = np.append(p.begin, p.end[-1]).astype(np.int32)
        shape = (level.rows, coarse_rows)
        return sparse.csr_array((p.values.astype(float), p.columns.astype(np.int32), starts), shape=shape).toarray()
    kept = np.flatnonzero(level.group >= 0)
    return sparse.csr_array((np.ones(len(kept)), (kept, level.group[kept])), shape=(level.rows, coarse_rows)).toarray()


@pytest.mark.parametrize("name", gallery.matrix_names())
def test_every_family_converges_in_few_iterations_to_the_true_residual(name):
    a = gallery.matrix(name, N)
    b = in_range(a)
    solution = solve(a, b, solver="amg")
    assert solution.result is Result.CONVERGED, solution.message
    assert np.linalg.norm(b - a @ solution.x) <= 1e-6 * np.linalg.norm(b)
    assert solution.iterations <= MOST.get(name, 25)
    assert solution.info["operator_complexity"] < 3.5


@pytest.mark.parametrize("name", gallery.matrix_names())
def test_a_family_is_symmetric_semidefinite_canonical_and_the_same_for_the_same_seed(name):
    a, again = gallery.matrix(name, 300, seed=3), gallery.matrix(name, 300, seed=3)
    assert a.dtype == np.float64
    assert a.indices.dtype == np.int32
    assert a.has_canonical_format
    assert (a != again).nnz == 0
    dense = a.toarray()
    np.testing.assert_allclose(dense, dense.T, atol=1e-10 * abs(dense).max())
    assert np.linalg.eigvalsh(dense)[0] > -1e-10 * abs(dense).max()
    assert 100 < a.shape[0] < 600


def test_gallery_matrix_names_what_it_refuses():
    with pytest.raises(ValueError, match="^name must be one of .* did you mean 'rotated-2d'"):
        gallery.matrix("rotated-2", 100)
    with pytest.raises(ValueError, match="^n must be at least 64, got 63"):
        gallery.matrix("chain", 63)


@pytest.mark.parametrize("name", ["laplacian-2d", "stencil-27", "lognormal-3d"])
def test_iterations_hardly_grow_with_the_matrix(name):
    few, many = (
        solve(a, in_range(a), solver="amg").iterations for a in (gallery.matrix(name, n) for n in (2_000, 60_000))
    )
    assert many <= few + 4


@pytest.mark.parametrize(
    "name", ["lognormal-3d", "triangles-2d", "parts", "heavy-tailed", "random-jumps-3d", "rotated-2d", "stretched-3d"]
)
def test_coarse_matrices_are_galerkin_products(name):
    """`Pᵀ A P` of the interpolation, whatever was paired in between, and with what is left out."""
    hierarchy = Hierarchy.of(MatrixSystem.of(gallery.matrix(name, 1_500)))
    assert len(hierarchy.levels) >= 3
    for fine, coarse in zip(hierarchy.levels, hierarchy.levels[1:], strict=False):
        a, c, p = level_matrix(fine), level_matrix(coarse), prolongation(fine, coarse.rows)
        np.testing.assert_allclose(c, p.T @ a @ p, atol=2e-6 * abs(a).max())
        assert coarse.rows < 0.6 * fine.rows


@pytest.mark.parametrize("name", ["laplacian-2d", "tetrahedra-contrast-3d", "random-jumps-3d", "bilinear-2d"])
def test_the_cycle_of_two_levels_is_symmetric_and_bounded_below(name):
    """Without the K-cycle, which is not linear: eigenvalues of `M A` are real, positive and at most 1."""
    a = gallery.matrix(name, 400)
    hierarchy = Hierarchy.of(MatrixSystem.of(a), Constants(dense=200))
    assert len(hierarchy.levels) == 2
    cycle = Cycle(hierarchy)
    m = applied(cycle, a.shape[0])
    scaled = np.diag(np.sqrt(a.diagonal()))
    m = scaled @ m @ scaled * hierarchy.scale  # where entries differ by many orders, all are compared alike
    np.testing.assert_allclose(m, m.T, atol=1e-4 * abs(m).max())
    root = np.linalg.inv(scaled)
    values = np.sort(np.linalg.eigvals(m @ (root @ a.toarray() @ root)).real)
    assert values[0] > 0.03
    assert values[-1] < (2.0 if name == "random-jumps-3d" else 1.01)  # float32 has no more digits for jumps of 1e8


OTHERS = {
    "relaxation": Constants(relaxation=1.4),
    "damped": Constants(relaxation=0.7),
    "correction": Constants(correction=1.5),
    "one matching": Constants(matchings=1),
    "three matchings": Constants(matchings=3, strength=0.6),
    "V-cycle": Constants(twice=0.0),
    "W-cycle": Constants(twice=1.0, budget=8.0, enough=0.0, dominated=0.0),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_constants_solve_the_same_system(name, monkeypatch):
    """In one piece, and in blocks."""
    from relaxon.solvers.sparse.amg import hierarchy as module

    a = gallery.matrix("lognormal-3d", 4_000)
    b = in_range(a)
    monkeypatch.setattr(module, "MISFIT", np.inf)  # pairs everywhere: blocks may fit otherwise than the whole
    solver, plain = AlgebraicMultigrid(OTHERS[name]), solve(a, b, solver="amg", rtol=1e-9)
    whole = solve(a, b, solver=solver, rtol=1e-9)
    monkeypatch.setattr(module, "DIVIDED", 100)
    monkeypatch.setattr(module, "BLOCK", 600)
    divided = solve(a, b, solver=solver, rtol=1e-9)
    for solution in (whole, divided):
        assert solution.converged
        assert solution.iterations <= 4 * plain.iterations
        np.testing.assert_allclose(solution.x, plain.x, atol=1e-6 * abs(plain.x).max())
    assert abs(divided.iterations - whole.iterations) <= 6
    assert (whole.x != plain.x).any()  # every constant reaches the levels


@pytest.mark.parametrize("name", ["random-jumps-3d", "stretched-3d", "lognormal-3d"])
def test_a_cycle_is_definite_where_aggregates_join_rows_of_both_its_blocks(name, monkeypatch):
    from relaxon.solvers.sparse.amg import lower

    monkeypatch.setattr(lower, "SPLIT", 50)
    monkeypatch.setattr(lower, "ACROSS", 1.0)
    a = gallery.matrix(name, 500)
    hierarchy = Hierarchy.of(MatrixSystem.of(a), Constants(dense=20))
    cycle = Cycle(hierarchy, LENGTHS)
    assert len(cycle.lower[0].bounds) == 3
    assert any(len(own.joined) for own in cycle.lower) or any(level.smoothed for level in cycle.levels)
    m = applied(cycle, a.shape[0])
    root = np.sqrt(a.diagonal())
    m = root[:, None] * m * root  # where entries differ by many orders, all are compared alike
    np.testing.assert_allclose(m, m.T, atol=1e-4 * abs(m).max())
    assert np.linalg.eigvalsh((m + m.T) / 2)[0] > 0


@pytest.mark.parametrize("name", ["lognormal-3d", "neumann-2d", "parts"])
def test_watching_each_step_changes_no_bit(name):
    """Without a callback several steps are taken in one call of the kernel."""
    a = gallery.matrix(name, 9_000)
    b = in_range(a)
    alone, seen = solve(a, b, solver="amg"), []
    watched = solve(a, b, solver="amg", callback=lambda progress: seen.append(progress.residual))
    np.testing.assert_array_equal(alone.x, watched.x)
    np.testing.assert_array_equal(alone.residuals, watched.residuals)
    assert set(alone.residuals) <= set(seen)


def test_a_relaxed_cycle_of_two_levels_is_symmetric_and_definite():
    a = gallery.matrix("tetrahedra-3d", 400)
    for relaxation in (0.5, 1.0, 1.5):
        hierarchy = Hierarchy.of(MatrixSystem.of(a), Constants(relaxation=relaxation, correction=1.2, dense=200))
        m = applied(Cycle(hierarchy), a.shape[0])
        np.testing.assert_allclose(m, m.T, atol=1e-5 * abs(m).max())
        assert np.linalg.eigvalsh((m + m.T) / 2)[0] > 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"strength": 1.5}, "^strength must be at most 1, got 1.5"),
        ({"dominated": 1.0}, "^dominated must be below 1, got 1.0"),
        ({"matchings": 4}, "^matchings must be at most 3, got 4"),
        ({"dense": 0}, "^dense must be"),
        ({"correction": 2.0}, "^correction must be below 2, got 2.0"),
        ({"relaxation": 0.0}, "^relaxation must be"),
        ({"budget": 0.5}, "^budget must be at least 1, got 0.5"),
        ({"enough": float("nan")}, "^enough must be"),
    ],
)
def test_constants_out_of_their_bounds_are_refused_by_name(values, message):
    with pytest.raises(ValueError, match=message):
        Constants(**values)


@pytest.mark.parametrize(
    ("name", "n"),
    [("laplacian-3d", 45_000), ("tetrahedra-3d", 9_000), ("random-weights", 45_000), ("rotated-2d", 45_000),
     ("random-jumps-3d", 24_000), ("parts", 12_000)],
)  # fmt: skip
def test_any_number_of_threads_gives_the_same_bits(name, n):
    a = gallery.matrix(name, n)
    b = in_range(a)
    answers = []
    for count in (1, 2, 4):
        with num_threads(count):
            answers.append(solve(a, b, solver="amg", max_iterations=8))
    for other in answers[1:]:
        np.testing.assert_array_equal(answers[0].x, other.x)
        np.testing.assert_array_equal(answers[0].residuals, other.residuals)


def test_a_level_in_one_block_above_one_in_two_is_swept_whole_by_any_number_of_threads(monkeypatch):
    a = gallery.matrix("random-jumps-3d", 24_000)
    b = in_range(a)

    class FirstInOneBlock(lower.Lower):
        @classmethod
        def of(cls, level):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(lower, "ACROSS", -1.0 if level.rows > 10_000 else 0.25)
                return lower.Lower.of(level)

    monkeypatch.setattr(hierarchy, "Lower", FirstInOneBlock)
    found = []
    for count in (1, 2):
        with num_threads(count):
            found.append((solve(a, b, solver="amg"), *solve_many(a, np.stack([b, 2 * b, a @ b]), solver="amg")))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one.x, two.x)


def test_levels_in_blocks_and_in_one_piece_converge_alike(monkeypatch):
    """The kernels over blocks and the recursive one do the same, but for old values between blocks."""
    from relaxon.solvers.sparse.amg import hierarchy as module

    a = gallery.matrix("lognormal-3d", 20_000)
    b = in_range(a)
    one = solve(a, b, solver="amg").iterations
    monkeypatch.setattr(module, "DIVIDED", 100)
    monkeypatch.setattr(module, "BLOCK", 600)
    divided = solve(a, b, solver="amg")
    assert divided.converged
    assert abs(divided.iterations - one) <= 3


def stretched(side, ratio):
    """Bilinear elements 1 : `ratio`, held along a third of one side and half of another."""
    from relaxon.solvers.sparse.families.stencils import keep_free, scatter

    stiff, mass = np.array([[1.0, -1.0], [-1.0, 1.0]]), np.array([[2.0, 1.0], [1.0, 2.0]]) / 6.0
    element = ratio * np.kron(stiff, mass) + np.kron(mass, stiff) / ratio
    node = np.arange((side + 1) ** 2).reshape(side + 1, side + 1)
    corners = np.stack([node[:-1, :-1], node[:-1, 1:], node[1:, :-1], node[1:, 1:]], -1).reshape(-1, 4)
    fixed = np.concatenate([node[0, : side // 3], node[side // 2 :, 0]])
    whole = scatter(corners, np.broadcast_to(element, (len(corners), 4, 4)), node.size)
    return keep_free(whole, np.setdiff1d(node.ravel(), fixed))


@pytest.mark.parametrize("ratio", [4.0, 10.0, 100.0, 1000.0])
def test_stretched_elements_held_in_part_converge(ratio):
    """Pairs alone take 71 iterations at 1:100, and do not converge at 1:1000."""
    a = stretched(100, ratio)
    solution = solve(a, in_range(a), solver="amg")
    assert solution.converged
    assert solution.iterations <= 45


@pytest.mark.parametrize("name", ["rotated-2d", "stretched-3d", "chain", "bilinear-2d"])
def test_where_pairs_do_not_fit_the_interpolation_is_smoothed(name):
    a = gallery.matrix(name, {"stretched-3d": 6_000}.get(name, 2_000))
    first = Hierarchy.of(MatrixSystem.of(a)).levels[0]
    assert first.smoothed is not None
    p, r = (prolongation(first, first.smoothed.interpolation.width), first.smoothed.restriction)
    starts = np.append(r.begin, r.end[-1]).astype(np.int32)
    turned = sparse.csr_array((r.values, r.columns.astype(np.int32), starts), shape=p.shape[::-1]).toarray()
    np.testing.assert_array_equal(turned.T, p.astype(np.float32))
    inner = np.flatnonzero(first.surplus == 0)
    np.testing.assert_allclose(p[inner].sum(axis=1), 1.0, atol=1e-6)  # constants are interpolated exactly


@pytest.mark.parametrize("name", ["laplacian-2d", "stencil-27", "heavy-tailed", "elasticity-3d"])
def test_where_pairs_fit_or_smoothing_fills_there_are_pairs(name):
    assert all(level.smoothed is None for level in Hierarchy.of(MatrixSystem.of(gallery.matrix(name, 4_000))).levels)


def test_random_numbering_costs_few_iterations():
    a = gallery.matrix("laplacian-3d", 50_000)
    order = np.random.default_rng(0).permutation(a.shape[0])
    shuffled = sparse.csr_array(a[order][:, order])
    b = in_range(a)
    plain, mixed = solve(a, b, solver="amg"), solve(shuffled, b[order], solver="amg")
    assert mixed.iterations <= plain.iterations + 4
    np.testing.assert_allclose(mixed.x, plain.x[order], atol=1e-4 * abs(plain.x).max())


def test_scaling_the_matrix_scales_the_answer_alone():
    a = gallery.matrix("lognormal-3d", 2_000)
    b = in_range(a)
    plain = solve(a, b, solver="amg")
    for power in (-300, -140, 100, 300):
        scaled = solve(a * 2.0**power, b, solver="amg")
        assert scaled.iterations == plain.iterations
        np.testing.assert_array_equal(scaled.x * 2.0**power, plain.x)


def test_a_star_with_thousands_of_rays_and_a_diagonal_alone_are_solved_at_once():
    n = 5_000
    centre = np.zeros(n - 1, int)
    star = sparse.coo_array((-np.ones(n - 1), (centre, np.arange(1, n))), shape=(n, n))
    a = sparse.csr_array(star + star.T)
    a = sparse.csr_array(a - sparse.diags_array(a.sum(axis=1)) + 1e-3 * sparse.eye_array(n))
    assert solve(a, in_range(a), solver="amg").iterations <= 5
    d = sparse.csr_array(sparse.diags_array(10.0 ** np.random.default_rng(0).uniform(-8, 8, 500)))
    assert solve(d, np.ones(500), solver="amg", rtol=1e-12).iterations <= 3


def test_a_definite_matrix_is_not_taken_for_indefinite_where_smoothed_products_lose_a_diagonal_entry():
    """In float32 that of an aggregate which is nearly cut off was negative."""
    a = make_matrix_case(seed=41, number=2218, max_unknowns=60_000).matrix.tocsr()
    assert np.linalg.eigvalsh(a.toarray())[0] > 0.1
    solution = solve(a, a @ np.sin(np.arange(a.shape[0])), solver="amg")
    assert solution.converged, solution.message
    assert solution.iterations <= 20


def test_an_indefinite_matrix_is_told_and_never_called_converged():
    a = gallery.matrix("laplacian-2d", 2_500)
    shifted = sparse.csr_array(a - 0.3 * sparse.eye_array(a.shape[0]))
    solution = solve(shifted, np.random.default_rng(0).standard_normal(a.shape[0]), solver="amg", max_iterations=300)
    assert solution.result is Result.CONVERGED or "not positive definite" in solution.message
    assert (solution.result is Result.CONVERGED) == (solution.true_residual <= solution.tolerance)


@pytest.mark.parametrize("shift", [0.04, 0.2, 0.9])
def test_a_wave_that_turns_diagonals_of_coarse_levels_negative_is_told_and_solved_by_auto(shift):
    a = gallery.matrix("laplacian-2d", 10_000)
    shifted = sparse.csr_array(a - shift * a.diagonal().max() / 4 * sparse.eye_array(a.shape[0]))
    b = np.random.default_rng(0).standard_normal(a.shape[0])
    named = solve(shifted, b, solver="amg")
    assert named.result is Result.STAGNATED
    assert "not positive definite" in named.message
    assert solve(shifted, b).converged


def test_one_set_up_answers_many_right_hand_sides_and_leaves_them_alone():
    a = gallery.matrix("triangles-2d", 3_000)
    prepared = prepare(a, solver=AlgebraicMultigrid())
    for seed in range(3):
        b = in_range(a, seed)
        before = b.copy()
        solution = prepared.solve(b, rtol=1e-10)
        assert solution.converged
        np.testing.assert_array_equal(b, before)
        np.testing.assert_array_equal(solution.x, solve(a, b, solver="amg", rtol=1e-10).x)


def test_visits_of_levels_are_counted_in_one_piece_and_in_blocks(monkeypatch):
    from relaxon.solvers.sparse.amg import hierarchy as module
    from relaxon.solvers.sparse.amg import lower

    monkeypatch.setattr(lower, "SPLIT", 10**6)
    system = MatrixSystem.of(gallery.matrix("laplacian-2d", 10_000))
    for constants, per_level in ((Constants(twice=0.0), 1), (Constants(enough=0.0, twice=1.0, budget=9.0), 2)):
        for divided in (10**6, 2_000):
            monkeypatch.setattr(module, "DIVIDED", divided)
            monkeypatch.setattr(module, "BLOCK", 600)
            cycle = Cycle(Hierarchy.of(system, constants))
            assert sum(len(own.bounds) > 2 for own in cycle.lower) == (0 if divided > 10_000 else 2)
            for _ in range(3):
                cycle.right[:] = np.random.default_rng(0).standard_normal(len(cycle.right))
                cycle.apply()
            last = len(cycle.steps) - 1  # which is solved, once a visit of the one above it
            assert cycle.visits == [3 * per_level ** min(depth, last - 1) for depth in range(last + 1)]


def test_a_cycle_s_work_stays_within_its_budget():
    for name in ("heavy-tailed", "random-weights", "chain"):
        levels = Hierarchy.of(MatrixSystem.of(gallery.matrix(name, 20_000))).levels
        visits, work = 1.0, 0.0
        for level, taken in zip(levels, count_steps(levels), strict=True):
            visits *= taken
            work += visits * level.entries / levels[0].entries
        assert work < 4.5
        assert levels[-1].rows <= Constants().dense or name == "random-weights"


def test_small_levels_below_smoothed_interpolations_take_two_steps():
    a = sparse.csr_array(gallery.matrix("rotated-2d", 20_000))
    levels = Hierarchy.of(MatrixSystem.of(a)).levels
    assert levels[0].smoothed is not None
    assert count_steps(levels)[1] == 2
    once = Constants(twice=0.0)
    b = np.random.default_rng(0).standard_normal(a.shape[0])
    taken = [solve(a, b, solver=AlgebraicMultigrid(given), rtol=1e-6).iterations for given in (Constants(), once)]
    assert taken[0] < 0.8 * taken[1]


# --- the fast look at a matrix ----------------------------------------------------------------------------------------


def test_a_fast_look_finds_what_is_amiss():
    a = sparse.csr_array(gallery.matrix("triangles-2d", 400))
    assert inspect(a, 1e-10).flags == 0
    np.testing.assert_array_equal(inspect(a, 1e-10).diagonal, a.diagonal())
    i, j = 17, int(a.indices[a.indptr[17]])
    entry = int(a.indptr[17])
    assert i != j
    diagonal = int(np.flatnonzero(a.indices[a.indptr[17] : a.indptr[18]] == 17)[0]) + entry
    for place, value in (
        (entry, a.data[entry] * 1.001),
        (entry, np.nan),
        (entry, np.inf),
        (diagonal, -1.0),
        (diagonal, 0.0),
    ):
        wrong = a.copy()
        wrong.data[place] = value
        assert inspect(wrong, 1e-10).flags, (place, value)
    swapped = a.copy()
    swapped.indices[entry], swapped.indices[entry + 1] = a.indices[entry + 1], a.indices[entry]
    assert inspect(swapped, 1e-10).flags
    strong = a.copy()
    for row, column in ((i, j), (j, i)):
        strong[row, column] = -1e3 * a.diagonal().max()
    assert inspect(strong, 1e-10).flags
    lone = sparse.csr_array(sparse.coo_array(([1.0, 1.0, 0.5], ([0, 1, 0], [0, 1, 1])), shape=(2, 2)))
    assert inspect(lone, 1e-10).flags


def test_a_fast_look_judges_each_row_by_its_entries_that_are_not_zero():
    a = sparse.csr_array(gallery.matrix("neumann-2d", 400))
    shift = np.zeros(a.shape[0])
    shift[3], shift[5], shift[8] = 1e-7, 1e-5, 1e6
    a = sparse.csr_array(a + sparse.diags_array(shift))
    plain = inspect(a, 1e-10).state
    expected = np.full(a.shape[0], CLOSED)
    expected[[3, 5, 8]] = NEARLY, OPEN, OPEN | DECIDES
    np.testing.assert_array_equal(plain, expected)
    wide = sparse.csr_array(np.where(a.toarray() == 0, np.inf, a.toarray()))  # every entry is stored
    wide.data[np.isinf(wide.data)] = 0.0
    assert wide.nnz == a.shape[0] ** 2
    np.testing.assert_array_equal(inspect(wide, 1e-10).state, plain)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_what_is_amiss_is_found_across_the_threads_parts(threads):
    """A coupling between rows of different parts, changed on one side, or there on one side alone."""
    a = sparse.csr_array(gallery.matrix("laplacian-2d", 30_000))
    far = sparse.coo_array(
        (np.full(4, -0.01), ([3, 29_000, 14_000, 16_000], [29_000, 3, 16_000, 14_000])), shape=a.shape
    )
    a = sparse.csr_array(a + far + 0.1 * sparse.eye_array(a.shape[0]))
    a.indices, a.indptr = a.indices.astype(np.int32), a.indptr.astype(np.int32)
    with num_threads(threads):
        assert inspect(a, 1e-10).flags == 0
        for row, column in ((3, 29_000), (29_000, 3), (14_000, 16_000), (16_000, 14_000)):
            entry = int(a.indptr[row] + np.flatnonzero(a.indices[a.indptr[row] : a.indptr[row + 1]] == column)[0])
            wrong = a.copy()
            wrong.data[entry] *= 1 + 1e-6
            assert inspect(wrong, 1e-10).flags == ASYMMETRIC
            lone = a.copy()
            lone.data, lone.indices = np.delete(a.data, entry), np.delete(a.indices, entry)
            lone.indptr = a.indptr - (np.arange(a.shape[0] + 1) > row).astype(np.int32)
            assert inspect(lone, 1e-10).flags == ASYMMETRIC


def test_a_large_matrix_is_copied_as_it_is_looked_at():
    a = gallery.matrix("laplacian-2d", 21_000)
    longer = sparse.csr_array(
        (np.append(a.data, [np.nan, 7.0]), np.append(a.indices, [-1, 5]).astype(np.int32), a.indptr), shape=a.shape
    )
    read_only = a.copy()
    read_only.data.flags.writeable = False
    stored = a.copy()
    stored.data[1] = stored.data[[int(np.flatnonzero(a.indices[a.indptr[1] : a.indptr[2]] == 0)[0]) + a.indptr[1]]] = 0
    for given, meant in (
        (a, a),
        (longer, a),
        (read_only, a),
        (a.astype(np.float32), a),
        (a.tocsc(), a),
        (stored, stored),
    ):
        system = MatrixSystem.of(given)
        assert abs(system.matrix - meant).max() == 0
        assert system.matrix.nnz == np.count_nonzero(meant.data)
        assert not np.shares_memory(system.matrix.data, given.data)
        np.testing.assert_array_equal(system.diagonal, meant.diagonal())


def test_what_is_left_of_a_large_matrix_without_decided_unknowns_is_its_principal_part():
    a = gallery.matrix("laplacian-2d", 21_000)
    held = np.zeros(a.shape[0])
    held[[0, 77, 5_000, a.shape[0] - 1]] = 1e9
    prepared = prepare(sparse.csr_array(a + sparse.diags_array(held)), solver="jacobi-cg")
    left, kept = prepared.reduced.system, np.flatnonzero(held == 0)
    assert abs(left.matrix - a[kept][:, kept]).max() == 0
    np.testing.assert_array_equal(left.kept, kept)
    np.testing.assert_array_equal((left.state & SUM) == OPEN, left.matrix.sum(axis=1) > 1e-12 * a.max())
    solution = prepared.solve(np.ones(a.shape[0]), rtol=1e-8)
    assert solution.result is Result.CONVERGED


def test_beside_decided_unknowns_only_a_watched_solve_takes_its_steps_one_at_a_time(monkeypatch):
    a = sparse.block_diag([gallery.matrix("laplacian-2d", N), sparse.diags_array([1e9])], format="csr")
    b, calls, advance = in_range(a), [], engine._Outer.advance
    monkeypatch.setattr(engine._Outer, "advance", lambda self, steps: (calls.append(steps), advance(self, steps))[1])
    plain = solve(a, b, solver="amg", rtol=1e-8)
    assert plain.iterations > max(calls) > 1
    calls.clear()
    watched = solve(a, b, solver="amg", rtol=1e-8, callback=lambda progress: None)
    assert len(calls) == watched.iterations == plain.iterations
    np.testing.assert_array_equal(watched.x, plain.x)


def test_the_fast_look_and_the_slow_one_agree_on_singular_parts():
    a = gallery.matrix("parts", 3_000)
    fast = MatrixSystem.of(a)
    doubled = a.tocoo()
    slow = sparse.csr_array(a.shape)
    slow.indptr, slow.indices, slow.data = a.indptr.copy(), a.indices.copy(), a.data.copy()
    for row in range(a.shape[0]):
        part = slice(a.indptr[row], a.indptr[row + 1])
        slow.indices[part], slow.data[part] = a.indices[part][::-1], a.data[part][::-1]
    slow.has_sorted_indices = False
    other = MatrixSystem.of(slow)
    assert fast.null.dimension == other.null.dimension > 0
    np.testing.assert_array_equal(fast.null.labels, other.null.labels)
    np.testing.assert_array_equal(fast.matrix.toarray(), doubled.toarray())


@pytest.mark.parametrize("name", ["stretched-3d", "bilinear-2d", "chain", "laplacian-2d", "lognormal-3d"])
def test_lines_are_recognised_and_get_the_aggregates_that_they_would_get_after_a_trial_of_pairs(name, monkeypatch):
    system = MatrixSystem.of(gallery.matrix(name, N))
    level = hierarchy.build_finest(system, 1.0)[0]
    lined = hierarchy.is_made_of_lines(level)
    assert lined is (name in ("stretched-3d", "bilinear-2d", "chain"))
    first = Hierarchy.of(system).levels[0]
    assert (first.smoothed is not None) is lined
    monkeypatch.setattr(hierarchy, "is_made_of_lines", lambda level: False)
    np.testing.assert_array_equal(Hierarchy.of(system).levels[0].group, first.group)


def test_products_in_runs_of_rows_have_the_bits_of_one_pass(monkeypatch):
    system = MatrixSystem.of(gallery.matrix("stretched-3d", 22_000))  # one block, and enough rows for two threads
    with num_threads(2):
        divided = Hierarchy.of(system)
    monkeypatch.setattr(smoothed_aggregation, "RUNS", 1)
    whole = Hierarchy.of(system)
    assert divided.levels[0].smoothed is not None
    for one, other in zip(divided.levels, whole.levels, strict=True):
        places = np.concatenate([np.arange(*ends) for ends in zip(one.first, one.last, strict=True)])
        np.testing.assert_array_equal(one.values[places], other.values[places])
        np.testing.assert_array_equal(one.columns[places], other.columns[places])


def test_a_graph_in_one_block_is_coarsened_alike_by_any_number_of_threads():
    system = MatrixSystem.of(gallery.matrix("heavy-tailed", 24_000))
    found = []
    for count in (1, 2, 3):
        with num_threads(count):
            found.append(Hierarchy.of(system).levels)
    assert len(found[0][0].bounds) == 2
    for levels in found[1:]:
        for one, other in zip(found[0], levels, strict=True):
            np.testing.assert_array_equal(one.group, other.group)
            np.testing.assert_array_equal(one.diagonal, other.diagonal)
            np.testing.assert_array_equal(one.most, other.most)


@pytest.mark.parametrize("n", [1, 60, 99, 100, 120, 121, 133, 260])
def test_definite_matrices_are_inverted_by_blocks_and_others_refused(n):
    matrix = gallery.matrix("random-jumps-3d", 1_000)[:n, :n].toarray()
    matrix /= np.sqrt(np.outer(matrix.diagonal(), matrix.diagonal()))
    given = matrix.copy()
    np.testing.assert_allclose(coarsest.invert_definite(matrix) @ matrix, np.eye(n), atol=1e-7)
    np.testing.assert_array_equal(matrix, given)
    matrix[n // 2, n // 2] = -1.0
    with pytest.raises(np.linalg.LinAlgError):
        coarsest.invert_definite(matrix)


def test_clusters_that_float32_cannot_couple_are_not_interpolated_smoothly(monkeypatch):
    """κ jumps by 10⁶ from cell to cell, so that clusters of stretched cells are nearly cut off from the others."""
    rng, n = np.random.default_rng(0), 28
    widths = 1.3 ** np.arange(n)
    kappa = 1e6 ** rng.integers(0, 2, (n, n, n)).astype(float)
    a = PoissonGrid(np.zeros((n, n, n), np.uint8), (widths, 1.0, widths), "dirichlet", kappa).operator().to_csr()
    b = rng.standard_normal(a.shape[0])
    found = solve(a, b, solver="amg")
    assert found.converged
    assert found.iterations <= 40
    monkeypatch.setattr(hierarchy, "ISOLATED", 0.0)
    assert not solve(a, b, solver="amg", max_iterations=80).converged


@pytest.mark.parametrize("far", [1e-60, 0.0])
def test_the_scale_of_a_matrix_is_that_of_all_its_diagonal_wherever_a_sample_is_not_of_one_size(far):
    values = np.full(100_000, 3.0)
    values[1::2] = 5.0
    assert mean_scale_of_many(values) == mean_scale(values) == 0.25
    values[:60_000:24] = far  # every other one of the sample of 24th entries, up to there
    assert mean_scale_of_many(values) == mean_scale(values)


def test_singular_parts_beside_lone_unknowns_are_those_of_the_matrix_without_them():
    a = gallery.matrix("parts", 30_000)
    prepared = prepare(a, solver="jacobi-cg")
    left, kept = prepared.reduced.system, np.flatnonzero(np.diff(a.indptr) > 1)
    np.testing.assert_array_equal(left.kept, kept)
    anew = MatrixSystem.of(a[kept][:, kept])
    np.testing.assert_array_equal(left.null.labels, anew.null.labels)
    np.testing.assert_array_equal(left.null.sizes, anew.null.sizes)
    np.testing.assert_array_equal(left.state, anew.state)
    np.testing.assert_array_equal(left.diagonal, anew.diagonal)


@pytest.mark.parametrize("matchings", [2, 3])
def test_groups_do_not_depend_on_the_room_for_later_matchings(matchings, monkeypatch):
    level = hierarchy.build_finest(MatrixSystem.of(gallery.matrix("neighbours-3d", N)), 1.0)[0]
    found = []
    for room in (1.0, 0.6, 0.1):
        monkeypatch.setattr(hierarchy, "SHRINKS", room)
        group, offsets, rows = hierarchy.coarsen(level, Constants(matchings=matchings), 0.5, False)
        entries = np.concatenate([np.arange(lo, hi) for lo, hi in zip(rows.first, rows.last, strict=True)])
        found.append([group, offsets, rows.last - rows.first, rows.columns[entries], rows.values[entries]])
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(one, same)


def test_pairing_once_more_gives_the_groups_of_three_matchings():
    level = hierarchy.build_finest(MatrixSystem.of(gallery.matrix("stencil-27", N)), 1.0)[0]
    asked = []

    def deepens(group):
        asked.append(int(group.max()) + 1)
        return True

    group, offsets, rows = hierarchy.coarsen(level, Constants(matchings=2), 0.5, False, deepens=deepens)
    once, bounds, same = hierarchy.coarsen(level, Constants(matchings=3), 0.5, False)
    assert len(asked) == 1
    assert 1.5 * offsets[-1] < asked[0] < 0.3 * level.rows
    np.testing.assert_array_equal(group, once)
    np.testing.assert_array_equal(offsets, bounds)
    np.testing.assert_array_equal(rows.surplus, same.surplus)


@pytest.mark.parametrize(("name", "deeper"), [("tetrahedra-3d", True), ("tetrahedra-contrast-3d", False)])
def test_aggregates_are_larger_where_couplings_are_many_and_even(name, deeper):
    levels = hierarchy.Hierarchy.of(MatrixSystem.of(gallery.matrix(name, 30_000))).levels
    assert levels[1].rows < (0.16 if deeper else 0.3) * levels[0].rows
    assert deeper or levels[1].rows > 0.18 * levels[0].rows
