"""`prepared.update(A)`: new values on a kept pattern give a fresh set-up's answers, levels are Galerkin products on the
kept aggregates, the checks of `A` and the old set-up stay, and poor convergence is noticed."""

import re

import numpy as np
import pytest
from scipy import sparse

from relaxon.solvers import gallery, prepare, solve
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.amg import updating_kernels as kernels
from relaxon.solvers.sparse.amg.hierarchy import Hierarchy
from relaxon.solvers.sparse.amg.updating import update_hierarchy

EXACT = ["pyamg-sa", "ic-cg", "jacobi-cg", "cg", "scipy-direct", "direct"]
"""Solvers that have nothing to keep, or keep it without its showing."""
LARGE = 20_500
"""Rows from which the compiled look at values is taken."""


def other_values(a, seed=0, spread=0.3):
    """A matrix of the same pattern: couplings `a_ij (1 + s_ij)`, symmetric, the row sums as they were; `D A D` where
    some couplings are positive, which stays definite."""
    a = sparse.csr_array(a)
    if (sparse.triu(a, 1).data > 0).any():
        scale = sparse.diags_array(np.random.default_rng(seed).uniform(1 - spread, 1 + spread, a.shape[0]))
        return sparse.csr_array(scale @ a @ scale)
    upper = sparse.triu(a, 1).tocoo()
    factor = np.random.default_rng(seed).uniform(1 - spread, 1 + spread, upper.nnz)
    couplings = sparse.coo_array((upper.data * factor, (upper.row, upper.col)), shape=a.shape)
    couplings = sparse.csr_array(couplings + couplings.T)
    excess = np.asarray(a.sum(axis=1)).ravel()
    diagonal = excess - np.asarray(couplings.sum(axis=1)).ravel()
    return sparse.csr_array(couplings + sparse.diags_array(np.where(a.diagonal() > 0, diagonal, 0)))


def side(a, seed=1):
    return a @ np.random.default_rng(seed).standard_normal(a.shape[0])


def level_matrix(level):
    out = np.zeros((level.rows, level.rows))
    for i in range(level.rows):
        part = slice(level.first[i], level.last[i])
        out[i, level.columns[part]] = level.values[part]
        out[i, i] = level.surplus[i] - out[i].sum()
    return out


def prolongation(level, coarse_rows):
    if level.smoothed is not None:
        p = level.smoothed.interpolation
        starts = np.append(p.begin, p.end[-1]).astype(np.int32)
        shape = (level.rows, coarse_rows)
        return sparse.csr_array((p.values.astype(float), p.columns.astype(np.int32), starts), shape=shape).toarray()
    kept = np.flatnonzero(level.group >= 0)
    return sparse.csr_array((np.ones(len(kept)), (kept, level.group[kept])), shape=(level.rows, coarse_rows)).toarray()


SMOOTHED = ["rotated-2d", "bilinear-2d", "stretched-3d"]
"""Families whose first levels are interpolated from by weights of their own."""


@pytest.mark.parametrize(
    "name", ["lognormal-3d", "tetrahedra-contrast-3d", "parts", "heat-step-3d", "random-jumps-3d", *SMOOTHED]
)
def test_levels_of_new_values_are_galerkin_products_on_the_kept_aggregates(name):
    a = gallery.matrix(name, 1_500)
    b = other_values(a)
    old, new = MatrixSystem.of(a), MatrixSystem.of(b)
    before = Hierarchy.of(old)
    kept = [level.values.copy() for level in before.levels]
    after = update_hierarchy(before, old, new)
    for fine, coarse in zip(after.levels, after.levels[1:], strict=False):
        matrix, p = level_matrix(fine), prolongation(fine, coarse.rows)
        np.testing.assert_allclose(level_matrix(coarse), p.T @ matrix @ p, atol=2e-6 * abs(matrix).max())
    for values, level in zip(kept, before.levels, strict=True):
        np.testing.assert_array_equal(values, level.values)
    order = np.arange(a.shape[0]) if after.order is None else after.order
    weights = np.ones(a.shape[0]) if after.weights is None else after.weights  # of unknowns whose units have changed
    dense = (weights[:, None] * b.toarray() * weights)[order][:, order] * after.scale
    np.testing.assert_allclose(level_matrix(after.levels[0]), dense, atol=2e-6 * abs(dense).max())


def test_an_update_smooths_the_interpolation_anew_on_its_pattern():
    a = gallery.matrix("rotated-2d", 3_000)
    b = other_values(a, spread=0.05)
    old, new = MatrixSystem.of(a), MatrixSystem.of(b)
    before = Hierarchy.of(old)
    values = before.levels[0].smoothed.interpolation.values.copy()
    after = update_hierarchy(before, old, new)
    ours, theirs = before.levels[0].smoothed, after.levels[0].smoothed
    assert theirs.interpolation.columns is ours.interpolation.columns
    np.testing.assert_array_equal(values, ours.interpolation.values)
    assert not np.array_equal(values, theirs.interpolation.values)
    p = prolongation(after.levels[0], after.levels[1].rows)
    r = theirs.restriction
    starts = np.append(r.begin, r.end[-1]).astype(np.int32)
    turned = sparse.csr_array((r.values.astype(float), r.columns.astype(np.int32), starts), shape=p.T.shape)
    np.testing.assert_array_equal(turned.toarray(), p.T)


@pytest.mark.parametrize("name", ["lognormal-3d", "neighbours-3d", "neumann-2d", *SMOOTHED])
def test_an_update_to_the_same_values_is_the_fresh_hierarchy(name):
    """In every row's figures, in blocks and with other orders of the rows too."""
    system = MatrixSystem.of(gallery.matrix(name, 45_000))
    fresh = Hierarchy.of(system)
    updated = update_hierarchy(fresh, system, system)
    assert len(fresh.levels[0].bounds) > 2 or fresh.order is not None
    for one, other in zip(fresh.levels, updated.levels, strict=True):
        for field in ("diagonal", "inverse", "excess", "most", "sums", "surplus"):
            ours, theirs = getattr(one, field), getattr(other, field)
            np.testing.assert_allclose(theirs, ours, rtol=2e-5, atol=1e-6 * abs(one.diagonal).max())
    np.testing.assert_array_equal(updated.levels[0].inverse, fresh.levels[0].inverse)
    np.testing.assert_allclose(updated.solution, fresh.solution, rtol=1e-3, atol=1e-4 * abs(fresh.solution).max())


@pytest.mark.parametrize("solver", EXACT)
def test_an_update_is_a_fresh_set_up_bit_for_bit_where_nothing_is_approximate(solver):
    a = gallery.matrix("triangles-2d", 1_200)
    b = other_values(a)
    prepared = prepare(a, solver=solver)
    ours, theirs = prepare(b, solver=solver).solve(side(b)), prepared.update(b).solve(side(b))
    assert ours.converged
    assert theirs.converged
    assert theirs.iterations == ours.iterations
    if solver.endswith("direct"):  # the kept analysis may lead to sums in another order
        np.testing.assert_allclose(theirs.x, ours.x, atol=1e-9 * abs(ours.x).max())
        return
    np.testing.assert_array_equal(theirs.x, ours.x)
    np.testing.assert_array_equal(theirs.residuals, ours.residuals)


@pytest.mark.parametrize(
    "name", ["lognormal-3d", "triangles-2d", "neighbours-3d", "neumann-2d", "elasticity-2d", *SMOOTHED]
)
def test_an_updated_multigrid_solves_the_new_system_and_the_old_one_its_own(name):
    a = gallery.matrix(name, 3_000)
    b = other_values(a) if name != "elasticity-2d" else sparse.csr_array(3.0 * a)
    prepared = prepare(a, solver="amg")
    before = prepared.solve(side(a))
    updated = prepared.update(b)
    solution, again = updated.solve(side(b)), prepared.solve(side(a))
    assert solution.converged
    assert np.linalg.norm(side(b) - b @ solution.x) <= 1e-6 * np.linalg.norm(side(b))
    assert solution.iterations <= prepare(b, solver="amg").solve(side(b)).iterations + 5
    assert "earlier" not in solution.message
    np.testing.assert_array_equal(again.x, before.x)
    twice = updated.update(a).solve(side(a))
    assert abs(twice.iterations - before.iterations) <= 1


def test_any_number_of_threads_gives_the_same_bits():
    a = gallery.matrix("random-jumps-3d", 45_000)
    b, answers = other_values(a), []
    for count in (1, 3):
        with num_threads(count):
            answers.append(prepare(a, solver="amg").update(b).solve(side(b), max_iterations=5))
    np.testing.assert_array_equal(answers[0].x, answers[1].x)


def test_any_format_and_order_of_the_entries_is_taken_and_none_is_modified():
    a = sparse.csr_array(gallery.matrix("laplacian-2d", 400))
    prepared = prepare(a, solver="amg")
    b = side(a)
    expected = prepared.update(2.0 * a).solve(b).x
    shuffled = (2.0 * a).tocoo()
    order = np.random.default_rng(0).permutation(shuffled.nnz)
    twice = np.concatenate([order, order])
    half = sparse.coo_array((shuffled.data[twice] / 2, (shuffled.row[twice], shuffled.col[twice])), shape=a.shape)
    wide = sparse.csr_array(2.0 * a)
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    for given in ((2.0 * a).tocsc(), half, wide):
        before = given.data.copy()
        np.testing.assert_array_equal(prepared.update(given).solve(b).x, expected)
        np.testing.assert_array_equal(given.data, before)


def test_another_pattern_is_refused_by_what_differs():
    a = sparse.csr_array(gallery.matrix("laplacian-2d", 400))
    n = a.shape[0]
    prepared = prepare(a, solver="amg")
    with pytest.raises(ValueError, match=rf"^operator must have the shape \({n}, {n}\) .* got \({n - 1}, {n - 1}\)"):
        prepared.update(a[:-1, :-1])
    more = sparse.lil_array(a)
    more[7, 300] = more[300, 7] = -0.1
    entries = (
        rf"^operator must have the pattern .* {a.nnz} entries, got {a.nnz + 2}: row 7 .* columns 6, 7, 8, 27, 300 "
    )
    with pytest.raises(ValueError, match=entries + "where they were in 6, 7, 8, 27;"):
        prepared.update(more.tocsr())
    moved = sparse.lil_array(a)
    moved[7, 8] = moved[8, 7] = 0
    moved[7, 9] = moved[9, 7] = -1.0
    moved = sparse.csr_array(moved)
    moved.eliminate_zeros()
    with pytest.raises(
        ValueError, match=rf"got {a.nnz}: row 7 is the first .* 6, 7, 9, 27 where they were in 6, 7, 8, 27"
    ):
        prepared.update(moved)
    with pytest.raises(TypeError, match="^operator must be a SciPy sparse matrix, got ndarray"):
        prepared.update(a.toarray())
    assert prepared.solve(side(a)).converged


def spoiled(a, how):
    a = sparse.csr_array(a, copy=True)
    row = a.shape[0] // 2
    own = slice(a.indptr[row], a.indptr[row + 1])
    places = np.arange(own.start, own.stop)
    diagonal = places[a.indices[own] == row][0]
    coupling = places[a.indices[own] > row][0]
    facing = a.indptr[a.indices[coupling]] + int(
        np.flatnonzero(a.indices[a.indptr[a.indices[coupling]] : a.indptr[a.indices[coupling] + 1]] == row)[0]
    )
    if how == "NaN":
        a.data[coupling] = np.nan
    elif how == "infinite":
        a.data[diagonal] = np.inf
    elif how == "not symmetric":
        a.data[coupling] *= 1.01
    elif how == "negative diagonal":
        a.data[diagonal] = -1.0
    elif how == "zero diagonal":
        a.data[diagonal] = 0.0
    elif how == "no minor":
        a.data[coupling] = a.data[facing] = 100.0 * a.data[diagonal]
    return a


@pytest.mark.parametrize("n", [400, LARGE])
@pytest.mark.parametrize("how", ["NaN", "infinite", "not symmetric", "negative diagonal", "zero diagonal", "no minor"])
def test_new_values_are_refused_in_the_words_of_a_fresh_set_up(n, how):
    a = gallery.matrix("laplacian-2d", n)
    prepared = prepare(a, solver="cg")
    bad = spoiled(a, how)
    with pytest.raises(ValueError, match="^(operator must|solver 'cg' is for)") as fresh:
        prepare(bad, solver="cg")
    with pytest.raises(ValueError, match="^(operator must|solver 'cg' is for)") as updated:
        prepared.update(bad)
    assert str(updated.value) == str(fresh.value)


@pytest.mark.parametrize("n", [400, LARGE])
def test_null_vectors_come_and_go_with_the_values(n):
    closed = sparse.csr_array(gallery.matrix("neumann-2d", n))
    held = sparse.csr_array(closed + sparse.diags_array(np.full(closed.shape[0], 1e-3)))
    prepared = prepare(closed, solver="amg")
    opened = prepared.update(held)
    assert (prepared.system.null.dimension, opened.system.null.dimension) == (1, 0)
    ones = np.ones(closed.shape[0])
    with pytest.raises(ValueError, match="net source"):
        prepared.solve(ones)
    np.testing.assert_allclose(opened.solve(ones, rtol=1e-8).x, 1e3 * ones, rtol=1e-6)
    for again in (opened.update(closed), opened.update(held).update(closed), prepared.update(2.0 * closed)):
        assert again.system.null.dimension == 1
        with pytest.raises(ValueError, match="net source"):
            again.solve(ones)
        solution = again.solve(side(closed))
        assert solution.converged
        assert abs(solution.x.mean()) < 1e-12 * abs(solution.x).max()


@pytest.mark.parametrize("n", [400, LARGE])
def test_entries_that_become_zero_keep_their_places_and_may_part_components(n):
    """A closed box that is cut in two: another null space on the kept pattern; and back."""
    a = sparse.csr_array(gallery.matrix("neumann-2d", n))
    cut = a.shape[0] // 2
    rows = np.repeat(np.arange(a.shape[0]), np.diff(a.indptr))
    across = (rows < cut) != (a.indices < cut)
    parted = a.copy()
    parted.data[across] = 0.0
    parted.setdiag(parted.diagonal() - np.asarray(parted.sum(axis=1)).ravel())
    assert parted.nnz == a.nnz
    prepared = prepare(a, solver="amg")
    two = prepared.update(parted)
    assert two.system.null.dimension == 2
    assert two.system.matrix.nnz == a.nnz
    b = side(parted)
    solution = two.solve(b)
    assert solution.converged
    assert np.linalg.norm(b - parted @ solution.x) <= 1e-6 * np.linalg.norm(b)
    one = two.update(a)
    assert one.system.null.dimension == 1
    np.testing.assert_array_equal(one.solve(side(a)).x, prepared.update(a).solve(side(a)).x)


def test_zeros_that_were_stored_at_first_may_become_others():
    a = sparse.csr_array(gallery.matrix("laplacian-2d", 400))
    full = a.copy()
    rows = np.repeat(np.arange(a.shape[0]), np.diff(a.indptr))
    far = abs(rows - a.indices) > 1
    with_zeros = a.copy()
    with_zeros.data[far] = 0.0
    for solver in ("amg", "auto", "ic-cg"):
        prepared = prepare(with_zeros, solver=solver)
        same = prepared.update(2.0 * with_zeros)
        assert same.system.matrix.nnz == int(np.count_nonzero(with_zeros.data))
        updated = same.update(full)
        b = side(full)
        np.testing.assert_array_equal(updated.solve(b).x, solve(full, b, solver=solver).x)
        assert updated.update(full).solve(b).converged
        assert updated.update(with_zeros).solve(side(with_zeros)).converged


@pytest.mark.parametrize("n", [400, LARGE])
def test_unknowns_that_their_diagonal_decides_may_change(n):
    a = sparse.csr_array(gallery.matrix("laplacian-2d", n))

    def penalised(rows, factor=1e9):
        weight = np.zeros(a.shape[0])
        weight[rows] = factor
        return sparse.csr_array(a + sparse.diags_array(weight))

    prepared = prepare(penalised(slice(0, 30)), solver="amg")
    for matrix, count in ((penalised(slice(0, 30), 3e9), 30), (penalised(slice(5, 20)), 15), (a, 0)):
        updated = prepared.update(matrix)
        b = matrix @ np.ones(a.shape[0])
        solution = updated.solve(b, rtol=1e-8)
        assert solution.converged
        np.testing.assert_allclose(solution.x, 1.0, rtol=1e-5)
        assert solution.info.get("eliminated", 0.0) == count
        prepared = updated


@pytest.mark.parametrize("factor", [1e-150, 1e150])
@pytest.mark.parametrize("n", [400, LARGE])
def test_extreme_sizes_and_single_precision(n, factor):
    a = sparse.csr_array(gallery.matrix("lognormal-3d", n))
    prepared = prepare(a, solver="amg")
    plain, scaled = prepared.update(a), prepared.update(factor * a)
    ours, theirs = plain.solve(side(a)), scaled.solve(side(a))
    assert theirs.converged
    np.testing.assert_allclose(theirs.x * factor, ours.x, rtol=1e-4, atol=1e-6 * abs(ours.x).max())
    single = prepared.update(a.astype(np.float32)).solve(side(a))
    assert single.converged


def swapped(stretch, n=24):
    """Couplings of 1 along one axis and of `stretch` along the other."""
    one = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    eye = sparse.eye_array(n)
    return sparse.csr_array(sparse.kron(one, eye) + stretch * sparse.kron(eye, one))


@pytest.fixture
def multigrid_first(monkeypatch):
    """`auto` begins with multigrid, whatever the matrix, and does not go back to it; gives what says what goes on."""
    from relaxon.solvers.sparse.amg import hierarchy
    from relaxon.solvers.sparse.choice import automatic as choice
    from relaxon.solvers.sparse.choice import watch as watched

    monkeypatch.setattr(hierarchy, "MISFIT", np.inf, raising=False)  # where weighted interpolations may be taken: none
    monkeypatch.setattr(watched.Runner, "left", lambda self, residual, tolerance: np.inf)

    monkeypatch.setattr(choice, "SMALL", 0)
    monkeypatch.setattr(choice.Estimates, "first", lambda self: self.ranked(["amg"]))
    monkeypatch.setattr(choice.Successors, "cheapest", lambda self, seconds, shortfall=1.0: None)
    return choice.Successors


def test_slow_convergence_on_kept_aggregates_is_said_and_auto_sets_up_anew(multigrid_first):
    a, b = swapped(1e-4, 60), swapped(1e4, 60)
    named = prepare(a, solver="amg")
    assert named.update(b).solve(side(b)).message == ""  # with nothing to compare with
    usual = named.solve(side(a)).iterations
    slow = named.update(b).solve(side(b))
    fresh = solve(b, side(b), solver="amg")
    assert slow.converged
    assert slow.iterations > 2 * fresh.iterations
    said = re.search(r"earlier matrix's values and took (\d+) iterations, where (\d+) are usual", slow.message)
    assert int(said[1]) == slow.iterations
    assert abs(int(said[2]) - usual) <= 1
    chosen = prepare(a)
    chosen.solve(side(a))
    updated = chosen.update(b)
    found = updated.solve(side(b))
    assert "auto chose amg" in found.message
    assert "set up anew" in found.message
    assert found.converged
    assert found.iterations < slow.iterations
    again = updated.solve(side(b))  # with the set-up that was made anew
    assert again.iterations <= fresh.iterations + 1
    later = updated.update(2.0 * b).solve(side(b))
    assert "set up anew" not in later.message
    assert later.iterations <= fresh.iterations + 2


def test_a_watched_choice_that_went_over_to_another_method_stays_with_it(multigrid_first, monkeypatch):
    def following(self, seconds, shortfall=1.0):
        return None if "ic-cg" in self.tried else self.estimates.estimate("ic-cg")

    monkeypatch.setattr(multigrid_first, "cheapest", following)
    a = gallery.matrix("triangles-2d", 2_500)
    prepared = prepare(a)
    assert "ic-cg went on" in prepared.solve(side(a), rtol=1e-9).message
    b = other_values(a)
    solution = prepared.update(b).solve(side(b))
    assert solution.converged
    np.testing.assert_array_equal(solution.x, solve(b, side(b), solver="ic-cg").x)


def test_what_goes_on_in_an_updated_choice_is_set_up_for_the_new_values(multigrid_first, monkeypatch):
    a = gallery.matrix("triangles-2d", 2_500)
    b = other_values(a)
    updated = prepare(a).update(b)
    monkeypatch.setattr(
        multigrid_first,
        "cheapest",
        lambda self, seconds, shortfall=1.0: None if "ic-cg" in self.tried else self.estimates.estimate("ic-cg"),
    )
    went_on = updated.solve(side(b), rtol=1e-9)
    assert "ic-cg went on" in went_on.message
    again = updated.solve(side(b), rtol=1e-9)  # by that alone
    np.testing.assert_array_equal(again.x, solve(b, side(b), solver="ic-cg", rtol=1e-9).x)


def test_a_summary_shows_levels_sizes_and_complexities():
    a = gallery.matrix("laplacian-3d", 3_000)
    prepared = prepare(a, solver="amg")
    found = prepared.update(2.0 * a).summary()
    first = found.levels[0]
    assert (found.solver, found.unknowns, found.nonzeros, found.updates) == ("amg", a.shape[0], a.nnz, 1)
    assert (first.rows, first.nonzeros) == (a.shape[0], a.nnz)
    assert all(one.rows > other.rows for one, other in zip(found.levels, found.levels[1:], strict=False))
    assert found.operator_complexity == pytest.approx(prepared.solve(side(a)).info["operator_complexity"])
    assert found.grid_complexity == pytest.approx(sum(one.rows for one in found.levels) / a.shape[0])
    text = str(prepared)
    assert f"amg: {a.shape[0]:,} unknowns, {a.nnz:,} nonzeros, {len(found.levels)} levels" in text
    assert f"operator complexity {found.operator_complexity:.2f}" in text
    assert "no levels" in str(prepare(a, solver="ic-cg"))
    hierarchy = prepare(a, solver="pyamg-sa").summary()
    assert hierarchy.levels[0].rows == a.shape[0]
    assert len(hierarchy.levels) >= 2


@pytest.mark.parametrize("kind", ["nonsymmetric", "complex-symmetric", "hermitian", "symmetric-indefinite"])
def test_matrices_of_other_kinds_are_updated_too_and_may_change_their_kind(kind):
    a = sparse.csr_array(gallery.matrix("laplacian-2d", 400))
    n = a.shape[0]
    turned = sparse.diags_array(np.exp(0.01j * np.arange(n)))
    matrix = {
        "nonsymmetric": sparse.csr_array(a + 0.3 * (sparse.triu(a, 1) - sparse.tril(a, -1))),
        "complex-symmetric": sparse.csr_array(a + 0.2j * sparse.eye_array(n)),
        "hermitian": sparse.csr_array(turned @ a @ turned.conj()),
        "symmetric-indefinite": sparse.csr_array(a - 1.01 * sparse.diags_array(a.diagonal())),
    }[kind]
    for solver in ("auto", "direct"):
        prepared = prepare(matrix, solver=solver)
        assert prepared.system.kind == kind
        b = matrix @ np.ones(n)
        for values in (2.0 * matrix, a, matrix):
            prepared = prepared.update(sparse.csr_array(values))
            assert prepared.system.kind == (kind if values is not a else "spd")
            solution = prepared.solve(b, rtol=1e-8)
            assert solution.converged, solution.message
            assert np.linalg.norm(b - values @ solution.x) <= 1e-8 * np.linalg.norm(b)


def test_an_operator_without_entries_has_nothing_to_update():
    from scipy.sparse.linalg import aslinearoperator

    a = gallery.matrix("laplacian-2d", 100)
    with pytest.raises(TypeError, match="^operator cannot be updated"):
        prepare(aslinearoperator(a), symmetric=True).update(a)


@pytest.mark.parametrize("name", ["laplacian-2d", "stretched-3d"])
def test_an_update_of_an_update_uses_what_the_first_one_has_found_out(name, monkeypatch):
    system = MatrixSystem.of(gallery.matrix(name, 3_000))
    first = update_hierarchy(Hierarchy.of(system), system, system)
    monkeypatch.setattr(kernels, "find_places", None)
    monkeypatch.setattr(kernels, "find_targets", None)
    monkeypatch.setattr(kernels, "find_interpolated", None)
    again = update_hierarchy(first, system, system)
    for one, other in zip(first.levels, again.levels, strict=True):
        np.testing.assert_array_equal(one.lower.values, other.lower.values)
