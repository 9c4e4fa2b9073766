"""Sparse factors: what they hold is foretold exactly, memory is asked for first, values change on a kept analysis."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse

from relaxon.core.available_memory import find_available_memory, find_machine_memory
from relaxon.core.extras import find_missing
from relaxon.solvers import DirectFactorisation, Result, gallery, num_threads, prepare, solve, solve_many
from relaxon.solvers.sparse import FactorTooLargeError, MatrixDirect, MatrixSystem
from relaxon.solvers.sparse.direct import DirectEngine, multifrontal, superlu
from relaxon.solvers.sparse.direct import solver as solver_module
from relaxon.solvers.sparse.direct.factoriser import FactorError
from relaxon.solvers.sparse.direct.multifrontal import MultifrontalFactoriser, order_by_minimum_degree
from relaxon.solvers.sparse.direct.ordering_kernels import has_mirrors
from relaxon.solvers.sparse.direct.superlu import SuperLUFactoriser, fill_reducing_order
from relaxon.solvers.sparse.direct.symbolic import column_counts, count_operations, symmetric_pattern
from relaxon.solvers.sparse.direct.symbolic_kernels import NONE, eliminate, postorder

NO_RSLAB = pytest.mark.skipif(bool(find_missing(["rslab"])), reason="rslab (extra: direct) is not installed")
LIBRARIES = [pytest.param("superlu"), pytest.param("rslab", marks=NO_RSLAB)]
DEFINITE_LIBRARIES = [*LIBRARIES, pytest.param("multifrontal")]


def pattern_of(a, order):
    """Where the Cholesky factor of a permuted matrix has entries, by elimination without any cleverness."""
    filled = (sparse.csr_array(a)[order][:, order].toarray() != 0) | np.eye(len(order), dtype=bool)
    for j in range(len(order)):
        below = j + 1 + np.flatnonzero(filled[j + 1 :, j])
        filled[np.ix_(below, below)] = True
    return np.tril(filled)


def random_pattern(rng):
    n = int(rng.integers(1, 40))
    a = sparse.random_array((n, n), density=rng.uniform(0, 0.2), rng=rng)
    return sparse.csr_array(a + a.T + sparse.eye_array(n))


# --- symbolic ---------------------------------------------------------------------------------------------------------


def test_column_counts_are_those_of_an_elimination_carried_out():
    rng = np.random.default_rng(0)
    for _ in range(60):
        a = random_pattern(rng)
        order = rng.permutation(a.shape[0])
        filled = pattern_of(a, order)
        counts = column_counts(a, order)
        np.testing.assert_array_equal(counts, filled.sum(axis=0))
        assert count_operations(counts) == (filled.sum(axis=0).astype(float) ** 2).sum()


def test_the_tree_s_parents_are_the_first_entries_below_the_diagonal_and_its_postorder_ends_with_each_parent():
    rng = np.random.default_rng(1)
    for _ in range(20):
        a = random_pattern(rng)
        n = a.shape[0]
        order = rng.permutation(n).astype(np.uint32)
        place = np.argsort(order).astype(np.uint32)
        parent, post, one, two = np.empty((4, n), np.uint32)
        eliminate(a.indptr.astype(np.uint32), a.indices.astype(np.uint32), order, place, parent, one)
        below = [np.flatnonzero(column[j + 1 :]) + j + 1 for j, column in enumerate(pattern_of(a, order).T)]
        assert parent.tolist() == [rows[0] if len(rows) else NONE for rows in below]
        postorder(parent, one, two, post)
        when = np.argsort(post)
        assert sorted(post) == list(range(n))
        assert all(when[j] < when[p] for j, p in enumerate(parent) if p != NONE)


@pytest.mark.parametrize("family", ["laplacian-3d", "elasticity-2d", "heavy-tailed", "parts", "chain"])
def test_superlu_s_factor_has_the_entries_that_were_foretold(family):
    a = MatrixSystem.of(gallery.matrix(family, 900)).regular()
    factoriser = SuperLUFactoriser(a)
    both = 2 * factoriser.size.entries  # of L and U, to which relaxed supernodes add some zeros
    assert both <= factoriser.factor(a).entries <= 1.1 * both
    assert sorted(factoriser.order) == list(range(a.shape[0]))


def test_the_order_fills_far_less_than_that_of_the_rows():
    a = gallery.matrix("laplacian-2d", 2500)
    ordered = column_counts(a, fill_reducing_order(a, "MMD_AT_PLUS_A")).sum()
    assert ordered < 0.4 * column_counts(a, np.arange(a.shape[0])).sum()


def test_minimum_degree_is_a_permutation_that_fills_about_as_little_as_superlu_s():
    rng = np.random.default_rng(6)
    for _ in range(40):
        a = random_pattern(rng)
        order = order_by_minimum_degree(a)
        assert sorted(order) == list(range(a.shape[0]))
    for family, n in (("plate-2d", 2_500), ("tetrahedra-3d", 2_000), ("heavy-tailed", 2_000), ("elasticity-3d", 1_000)):
        a = symmetric_pattern(MatrixSystem.of(gallery.matrix(family, n)).regular())
        fill = column_counts(a, order_by_minimum_degree(a)).sum()
        assert fill < 1.15 * column_counts(a, fill_reducing_order(a, "MMD_AT_PLUS_A")).sum()


def test_entries_without_a_mirror_image_are_noticed():
    a = sparse.csr_array(gallery.matrix("triangles-2d", 900))
    rng = np.random.default_rng(8)
    for matrix, symmetric in (
        (a, True),
        (sparse.csr_array(a + 0 * a), True),
        (sparse.csr_array(sparse.triu(a)), False),
    ):
        pattern = matrix.indptr.astype(np.uint32), matrix.indices.astype(np.uint32)
        assert has_mirrors(*pattern, np.empty(900, np.uint32)) is symmetric
    for _ in range(40):
        n = int(rng.integers(2, 30))
        one = sparse.csr_array(sparse.random_array((n, n), density=0.15, rng=rng) + sparse.eye_array(n))
        pattern = one.indptr.astype(np.uint32), one.indices.astype(np.uint32)
        dense = one.toarray() != 0
        assert has_mirrors(*pattern, np.empty(n, np.uint32)) == (dense == dense.T).all()


def test_an_arrow_s_dense_row_is_eliminated_last_and_short_lists_are_lengthened(monkeypatch):
    n = 2_000
    edge = sparse.coo_array((np.full(n, -1.0), (np.zeros(n, int), np.arange(n))), shape=(n, n))
    arrow = sparse.csr_array(edge + edge.T + sparse.diags_array(np.full(n, 2.0 * n)))
    assert order_by_minimum_degree(arrow)[-1] == 0
    a = gallery.matrix("laplacian-3d", 1_000)
    monkeypatch.setattr(multifrontal, "ROOM", 1.0)
    short = order_by_minimum_degree(a)
    monkeypatch.setattr(multifrontal, "ROOM", 9.0)
    np.testing.assert_array_equal(order_by_minimum_degree(a), short)


@pytest.mark.parametrize("family", ["plate-2d", "heavy-tailed", "many parts", "chain"])
def test_the_own_factor_has_the_rows_of_the_cholesky_factor_and_the_same_bits_on_several_threads(family, monkeypatch):
    monkeypatch.setattr(multifrontal, "FEW_OPERATIONS", 0.0)
    if family == "many parts":
        a = sparse.csr_array(sparse.block_diag([2.0 * np.eye(4) + np.ones((4, 4))] * 110))
    else:
        a = MatrixSystem.of(gallery.matrix(family, 900)).regular()
    one = MultifrontalFactoriser(a)
    ordered = a[one.order][:, one.order].toarray()
    exact, found = np.linalg.cholesky(ordered).T, np.zeros(a.shape)
    made = one.factor(a)
    for s, (c0, c1) in enumerate(itertools.pairwise(one.first)):
        columns = [*range(c0, c1), *one.rows[one.begin[s] : one.begin[s + 1]]]
        found[c0:c1, columns] = np.triu(made._panel[one.places[s] : one.places[s + 1]].reshape(c1 - c0, -1))
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-12 * abs(exact).max())
    assert one.size.entries == np.count_nonzero(pattern_of(a, one.order))
    assert one.size.memory_bytes > 8 * made.entries
    b = np.random.default_rng(7).standard_normal((a.shape[0], 3))
    with num_threads(1):
        x = one.factor(a).solve(b)
    for threads in (2, 5):
        with num_threads(threads):
            np.testing.assert_array_equal(one.factor(a).solve(b), x)
    np.testing.assert_array_equal(made.solve(b[:, 1]), x[:, 1])


@NO_RSLAB
def test_the_own_factor_is_taken_where_it_is_large_but_light_and_rslab_s_otherwise(monkeypatch):
    for family, n, chosen in (("plate-2d", 2_500, "multifrontal"), ("elasticity-3d", 2_500, "rslab")):
        system = MatrixSystem.of(gallery.matrix(family, n))
        assert DirectFactorisation().analyse(system).library == "rslab"
        monkeypatch.setattr(solver_module, "OWN_FROM", 1_000)
        assert DirectFactorisation().analyse(system).library == chosen
        monkeypatch.setattr(solver_module, "OWN_FROM", 10_000)


@NO_RSLAB
def test_rslab_foretells_its_factor_s_size_and_dissects_where_that_is_less_work():
    from relaxon.solvers.sparse.direct import supernodal

    a = gallery.matrix("elasticity-3d", 3_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supernodal, "DISSECTED_FROM", np.inf)
        filled = supernodal.SupernodalFactoriser(a)
        patch.setattr(supernodal, "DISSECTED_FROM", 0.0)
        dissected = supernodal.SupernodalFactoriser(a)
    assert dissected.size.flops < filled.size.flops
    for factoriser in (filled, dissected):
        made = factoriser.factor(a)
        assert abs(made.entries - factoriser.size.entries) <= 0.25 * made.entries
        assert factoriser.size.memory_bytes > 8 * made.entries


# --- solves -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", DEFINITE_LIBRARIES)
@pytest.mark.parametrize(
    "family", ["plate-2d", "tetrahedra-contrast-3d", "elasticity-3d", "heavy-tailed", "neumann-2d"]
)
def test_a_factor_solves_to_rounding_in_a_step_or_two(library, family):
    a = gallery.matrix(family, 1_000)
    x = MatrixSystem.of(a).project(np.random.default_rng(0).standard_normal(a.shape[0]))
    solution = solve(a, a @ x, solver=DirectFactorisation(library), rtol=1e-12)
    assert solution.converged
    assert solution.iterations <= 3
    np.testing.assert_allclose(a @ solution.x, a @ x, atol=1e-11 * np.linalg.norm(a @ x))
    assert {"factor_nonzeros", "factor_flops", "factor_bytes"} <= solution.info.keys()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["symmetric-indefinite", "nonsymmetric", "hermitian", "complex-symmetric"])
def test_other_kinds_of_matrices_are_factored_too(library, kind):
    rng = np.random.default_rng(2)
    a = gallery.matrix("laplacian-2d", 400)
    if kind == "symmetric-indefinite":  # a saddle point: zeros on the diagonal
        b = sparse.random_array((60, a.shape[0]), density=0.05, rng=rng) + sparse.eye_array(60, a.shape[0])
        a = sparse.block_array([[a, b.T], [b, None]])
    elif kind == "nonsymmetric":
        a = a + sparse.diags_array([np.full(a.shape[0] - 1, 3.0)], offsets=[-1], shape=a.shape)
    else:
        i = sparse.diags_array([np.full(a.shape[0] - 1, 0.5j)], offsets=[1], shape=a.shape)
        a = a + i + (i.conj().T if kind == "hermitian" else i.T)
    a = sparse.csr_array(a)
    a.sort_indices()
    factoriser = factoriser_of(library)(a, kind)
    x = rng.standard_normal((a.shape[0], 3)) + (1j * rng.standard_normal((a.shape[0], 3)) if a.dtype.kind == "c" else 0)
    for values in (a, sparse.csr_array(a * 3.0)):
        factor = factoriser.factor(values)
        np.testing.assert_allclose(factor.solve(values @ x), x, atol=1e-8 * abs(x).max())
        np.testing.assert_allclose(factor.solve(values @ x[:, 0]), x[:, 0], atol=1e-8 * abs(x).max())


def complex_matrix(kind, n=900):
    """A matrix of that kind with a factor, Hermitian ones indefinite, on a grid."""
    a = gallery.matrix("laplacian-2d", n)
    if kind == "complex-symmetric":
        return sparse.csr_array(a - (0.3 - 0.05j) * sparse.eye_array(n))
    upper = sparse.coo_array(sparse.triu(a, 1))
    turned = upper.data * np.exp(1j * np.random.default_rng(4).uniform(0, 6, upper.nnz))
    upper = sparse.csr_array(sparse.coo_array((turned, upper.coords), shape=a.shape))
    lower = upper.conj().T if kind == "hermitian" else 0.3 * upper.T
    return sparse.csr_array(upper + lower + sparse.diags_array(a.diagonal() - 1.3))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["hermitian", "complex-symmetric", "nonsymmetric"])
def test_complex_matrices_are_solved_updated_and_solved_for_several_sides_by_their_factor(library, kind):
    a = complex_matrix(kind)
    assert MatrixSystem.of(a).kind == kind
    rng = np.random.default_rng(5)
    x = rng.standard_normal((3, 900)) + 1j * rng.standard_normal((3, 900))
    solver = DirectFactorisation(library)
    prepared = prepare(a, solver=solver)
    assert isinstance(prepared.engine, DirectEngine)
    assert prepared.engine.factoriser.library.lower() == library
    for factor, later in ((1.0, prepared), (3.0, prepared.update(3.0 * a))):
        solution = later.solve(factor * (a @ x[0]), rtol=1e-11)
        assert solution.converged
        np.testing.assert_allclose(solution.x, x[0], atol=1e-7)
        assert later.engine.factoriser is prepared.engine.factoriser
    for found, exact in zip(solve_many(a, [a @ row for row in x], solver=solver, rtol=1e-11), x, strict=True):
        assert found.converged
        np.testing.assert_allclose(found.x, exact, atol=1e-7)


@NO_RSLAB
@pytest.mark.parametrize("kind", ["hermitian", "complex-symmetric"])
def test_auto_takes_the_library_s_complex_factor(kind):
    a = complex_matrix(kind, 1_600)
    x = np.exp(1j * np.arange(1_600))
    solution = solve(a, a @ x, rtol=1e-10)
    assert solution.converged
    np.testing.assert_allclose(solution.x, x, atol=1e-6)
    assert "direct" in solution.message
    assert "scipy-direct" not in solution.message


def factoriser_of(library):
    if library != "rslab":
        return SuperLUFactoriser if library == "superlu" else MultifrontalFactoriser
    from relaxon.solvers.sparse.direct.supernodal import SupernodalFactoriser

    return SupernodalFactoriser


def test_the_own_factor_is_for_definite_matrices_of_which_a_singular_one_is_none():
    singular = sparse.csr_array(np.array([[2.0, -1.0, 0.0], [-1.0, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    with pytest.raises(FactorError, match=r"1 pivots that are not positive of 3"):
        MultifrontalFactoriser(singular).factor(singular)
    with pytest.raises(
        ValueError, match=r"^library 'multifrontal' is for a symmetric positive definite matrix, got a non"
    ):
        solve(sparse.csr_array([[2.0, 1.0], [0.5, 2.0]]), np.ones(2), solver=DirectFactorisation("multifrontal"))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["spd", "symmetric-indefinite", "nonsymmetric"])
def test_a_singular_matrix_is_an_error_and_not_an_answer(library, kind):
    a = sparse.csr_array(np.array([[2.0, -1.0, 0.0], [-1.0, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    with pytest.raises(FactorError):
        factoriser_of(library)(a, kind).factor(a)


@pytest.mark.parametrize("library", LIBRARIES)
def test_nothing_is_printed_of_a_matrix_without_a_transversal(library, capfd):
    a = sparse.csr_array(np.array([[1.0, 1.0, 0.0], [2.0, 3.0, 0.0], [1.0, 4.0, 0.0]]))
    with pytest.raises(FactorError):
        factoriser_of(library)(a, "nonsymmetric").factor(a)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("library", DEFINITE_LIBRARIES)
def test_an_indefinite_matrix_is_refused_with_the_number_of_its_wrong_pivots(library):
    a = sparse.csr_array(gallery.matrix("laplacian-2d", 144) - 60.0 * sparse.eye_array(144) * 0.02)
    wrong = int((np.linalg.eigvalsh(a.toarray()) < 0).sum())
    assert wrong > 1
    with pytest.raises(ValueError, match=f"^operator must be positive definite.* {wrong} pivots that are not positive"):
        solve(a, np.ones(a.shape[0]), solver=DirectFactorisation(library))


# --- new values on a known pattern ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "solver",
    [MatrixDirect(), *(pytest.param(DirectFactorisation(p.values[0]), marks=p.marks) for p in DEFINITE_LIBRARIES)],
)
def test_new_values_are_factored_without_another_analysis(solver, monkeypatch):
    a = gallery.matrix("neumann-2d", 900)
    engine = prepare(a, solver=solver).engine
    made, orders = superlu.Factor, []

    def recorded(matrix, **options):
        orders.append(options["permc_spec"])
        return made(matrix, **options)

    monkeypatch.setattr(superlu, "Factor", recorded)
    monkeypatch.setattr(superlu, "fill_reducing_order", None)
    monkeypatch.setattr("relaxon.solvers.sparse.direct.supernodal.SupernodalFactoriser.__init__", None)
    monkeypatch.setattr(MultifrontalFactoriser, "__init__", None)
    scale = sparse.diags_array(np.linspace(1.0, 5.0, a.shape[0]))
    changed = sparse.csr_array(scale @ gallery.matrix("laplacian-2d", 900) @ scale)
    if changed.nnz != a.nnz:
        pytest.fail("the two families have the same pattern")
    system = MatrixSystem.of(changed)
    again = engine.refactor(system)
    assert isinstance(again, DirectEngine)
    x = np.random.default_rng(0).standard_normal(a.shape[0])
    np.testing.assert_allclose(again.factor.solve(changed @ x), x, rtol=1e-8, atol=1e-8)
    assert again.factoriser is engine.factoriser
    assert set(orders) <= {"NATURAL"}
    kept = engine.system.project(x.copy())
    np.testing.assert_allclose(a @ engine.factor.solve(a @ kept), a @ kept, atol=1e-9)  # the first one still stands


@pytest.mark.parametrize("library", DEFINITE_LIBRARIES)
def test_another_pattern_is_refused(library):
    a = gallery.matrix("laplacian-2d", 900)
    engine = prepare(a, solver=DirectFactorisation(library)).engine
    for other in (
        gallery.matrix("laplacian-2d", 400),
        sparse.csr_array(a[::-1][:, ::-1] + 1e-3 * sparse.csr_array(np.eye(900)[::-1])),
    ):
        other = sparse.csr_array((other + other.T) / 2)
        with pytest.raises(ValueError, match="^operator must have the pattern of the one that was set up"):
            engine.refactor(MatrixSystem.of(other))


# --- several right-hand sides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", DEFINITE_LIBRARIES)
def test_right_hand_sides_share_their_first_solve(library, monkeypatch):
    a = gallery.matrix("neumann-2d", 400)
    rng = np.random.default_rng(3)
    sides = np.array([MatrixSystem.of(a).project(rng.standard_normal(400)) for _ in range(4)])
    sides[2] = 0.0
    starts = rng.standard_normal((4, 400))
    shapes = []
    solve_ = DirectEngine.look_ahead

    def watched(self, pairs, tolerances):
        inner = self.factor.solve
        self.factor = type("Spy", (), {"solve": lambda _, b: (shapes.append(b.shape), inner(b))[1]})()
        solve_(self, pairs, tolerances)

    monkeypatch.setattr(DirectEngine, "look_ahead", watched)
    solutions = solve_many(a, sides, solver=DirectFactorisation(library), x0=starts, rtol=1e-10)
    assert shapes[0] == (400, 3)
    assert len(shapes) == 1 + sum(max(0, s.iterations - 1) for s in solutions)
    for side, start, solution in zip(sides, starts, solutions, strict=True):
        alone = solve(a, side, solver=DirectFactorisation(library), x0=start, rtol=1e-10)
        assert (solution.result, solution.iterations) == (Result.CONVERGED, alone.iterations)
        np.testing.assert_allclose(solution.x, alone.x, atol=1e-9)
        np.testing.assert_allclose(solution.residuals[0], alone.residuals[0])


@NO_RSLAB
def test_a_forked_process_factors_although_its_parent_s_threads_stayed_behind():
    code = """
import os, signal, time
import numpy as np
from relaxon.solvers import DirectFactorisation, gallery, num_threads, solve
a = gallery.matrix("tetrahedra-3d", 2_000)
b = np.ones(a.shape[0])
with num_threads(2):
    x = solve(a, b, solver=DirectFactorisation("rslab")).x
    child = os.fork()
    if child == 0:
        os._exit(0 if np.array_equal(solve(a, b, solver=DirectFactorisation("rslab")).x, x) else 3)
    for _ in range(300):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        time.sleep(0.1)
    else:
        os.kill(child, signal.SIGKILL)
        status = -1
print(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.returncode) == ("0", 0), done.stderr


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", DEFINITE_LIBRARIES)
def test_a_factor_that_does_not_fit_is_refused_before_it_is_begun(library, monkeypatch):
    monkeypatch.setattr(factoriser_of(library), "factor", None)
    monkeypatch.setattr(solver_module, "find_available_memory", lambda: 100_000)
    with pytest.raises(
        FactorTooLargeError, match=r"^operator's factor must fit into memory.* 0\.0001 GB are available"
    ) as told:
        solve(gallery.matrix("laplacian-3d", 1_000), np.ones(1_000), solver=DirectFactorisation(library))
    assert told.value.size.memory_bytes > 100_000


def test_available_memory_is_the_least_of_the_machine_s_and_the_containers(tmp_path):
    for name, text in {
        "proc/meminfo": "MemTotal: 9000 kB\nMemAvailable: 8000 kB\n",
        "proc/self/cgroup": "0::/outer/inner\n",
        "sys/fs/cgroup/outer/memory.max": "5000000\n",
        "sys/fs/cgroup/outer/memory.current": "3000000\n",
        "sys/fs/cgroup/outer/memory.stat": "anon 5\ninactive_file 400000\n",
        "sys/fs/cgroup/outer/inner/memory.max": "max\n",
        "sys/fs/cgroup/outer/inner/memory.current": "1000\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert find_available_memory(tmp_path) == 2_400_000
    assert find_machine_memory(tmp_path) == 5_000_000
    (tmp_path / "sys/fs/cgroup/outer/inner/memory.max").write_text("900\n")
    assert find_available_memory(tmp_path) == 0  # more is taken than the group may have
    assert find_machine_memory(tmp_path) == 900
    (tmp_path / "proc/self/cgroup").write_text("4:cpu,memory:/outer\n0::/none\n")
    assert find_available_memory(tmp_path) == 8_192_000
    old = tmp_path / "sys/fs/cgroup/memory"
    old.mkdir()
    (old / "memory.limit_in_bytes").write_text("7000000\n")  # a container sees its own group as the root
    (old / "memory.usage_in_bytes").write_text("1000000\n")
    assert find_available_memory(tmp_path) == 6_000_000
    (old / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert find_available_memory(tmp_path) == 8_192_000
    assert find_available_memory(tmp_path / "nowhere") is None


# --- where rslab is missing -------------------------------------------------------------------------------------------


def test_without_rslab_superlu_takes_its_place_and_the_message_says_what_is_quicker(monkeypatch):
    a = gallery.matrix("elasticity-2d", 400)
    for missing, said in ((("rslab",), True), ((), False)):
        if not missing and find_missing(["rslab"]):
            continue
        monkeypatch.setattr(solver_module, "find_missing", lambda _, missing=missing: missing)
        solution = solve(a, np.ones(a.shape[0]), solver="direct")
        assert solution.converged
        assert ('pip install "relaxon[direct]"' in solution.message) is said


def test_an_unknown_library_is_refused():
    with pytest.raises(ValueError, match="^library must be 'auto', 'multifrontal', 'rslab' or 'superlu', got 'mumps'"):
        DirectFactorisation("mumps")


def test_a_floating_body_is_solved_by_a_library_where_the_own_factor_finds_wrong_pivots(monkeypatch):
    monkeypatch.setattr(solver_module, "OWN_FROM", 1_000)
    a = gallery.elastic_body("floating-2d", 3_000).matrix
    b = a @ np.sin(np.arange(a.shape[0]))
    with pytest.raises(ValueError, match="pivots that are not positive"):
        prepare(a, solver=DirectFactorisation("multifrontal"))
    assert prepare(a, solver="direct").solve(b, rtol=1e-8).converged
    fixed = prepare(a + 0.01 * sparse.eye_array(len(b)), solver="direct")
    assert fixed.update(a).solve(b, rtol=1e-8).converged
