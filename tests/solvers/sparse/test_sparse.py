"""Sparse matrices behind `solve`: every solver on every matrix, the outer iteration with any preconditioner, what the
automatic choice says, and what is refused."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from relaxon.solvers import (
    ConjugateDirectionsWith,
    JacobiCG,
    MatrixIncompleteCholeskyCG,
    PoissonGrid,
    Result,
    SingularSystemError,
    gallery,
    prepare,
    solve,
    solve_many,
)
from relaxon.solvers.sparse import MATRIX_SOLVERS, AlgebraicMultigridCG, MatrixSolver, MatrixSystem
from relaxon.solvers.sparse.engine import MatrixEngine
from relaxon.solvers.sparse.krylov import incomplete_cholesky_kernels as factor_kernels

SOLVERS = list(MATRIX_SOLVERS)


def laplacian(n=20):
    return gallery.make("variable", n, ndim=2).grid.operator().to_csr()


def graph(n=200, seed=0, weights=3.0):
    """The Laplacian of a connected random graph with weights over many decades: singular."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(n, size=(2, 3 * n))
    rows, columns = np.append(rows, np.arange(1, n)), np.append(columns, np.arange(n - 1))
    keep = rows != columns
    w = 10.0 ** rng.uniform(-weights, weights, keep.sum())
    a = sparse.coo_array((w, (rows[keep], columns[keep])), shape=(n, n)).tocsr()
    a = a + a.T
    return sparse.csr_array(sparse.diags_array(a.sum(axis=1)) - a)


def elasticity(n=8):
    """Plane linear elasticity, clamped on one side: positive off-diagonals, two unknowns a node."""
    nu = 0.3
    k = np.array([1 / 2 - nu / 6, 1 / 8 + nu / 8, -1 / 4 - nu / 12, -1 / 8 + 3 * nu / 8])
    k = np.append(k, [-1 / 4 + nu / 12, -1 / 8 - nu / 8, nu / 6, 1 / 8 - 3 * nu / 8])
    order = "0 1 2 3 4 5 6 7 1 0 7 6 5 4 3 2 2 7 0 5 6 3 4 1 3 6 5 0 7 2 1 4 4 5 6 7 0 1 2 3 5 4 3 2 1 0 7 6"
    order += " 6 3 4 1 2 7 0 5 7 2 1 4 3 6 5 0"
    element = k[np.array(order.split(), int)].reshape(8, 8) / (1 - nu**2)
    a = sparse.lil_array((2 * (n + 1) ** 2, 2 * (n + 1) ** 2))
    for i in range(n):
        for j in range(n):
            nodes = [i * (n + 1) + j, (i + 1) * (n + 1) + j, (i + 1) * (n + 1) + j + 1, i * (n + 1) + j + 1]
            index = np.array([[2 * v, 2 * v + 1] for v in nodes]).ravel()
            a[np.ix_(index, index)] += element
    free = 2 * (n + 1)  # the first column of nodes is clamped
    return sparse.csr_array(a.tocsr()[free:, free:])


def difficult(n=30):
    """Kershaw's four-by-four block, on which IC(0) breaks down, many times over with a weak coupling."""
    block = np.array([[3, -2, 0, 2], [-2, 3, -2, 0], [0, -2, 3, -2], [2, 0, -2, 3.0]])
    chain = sparse.diags_array([-0.01, -0.01], offsets=[-4, 4], shape=(4 * n, 4 * n))
    return sparse.csr_array(sparse.kron(sparse.eye_array(n), block) + chain)


def graded(n=40):
    a = laplacian(n)
    d = sparse.diags_array(10.0 ** np.random.default_rng(0).uniform(-4, 4, a.shape[0]))
    return sparse.csr_array(d @ a @ d)


MATRICES = {
    "laplacian": laplacian(),
    "graph": graph(),
    "elasticity": elasticity(),
    "Kershaw": difficult(),
    "diagonal": sparse.csr_array(sparse.diags_array(np.arange(1.0, 60.0))),
    "one by one": sparse.csr_array([[4.0]]),
    "two parts, one singular": sparse.csr_array(sparse.block_diag([laplacian(6), graph(50)])),
    "grid with pockets": gallery.make("random", (12, 13), ndim=2, seed=2).grid.operator().to_csr(),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", MATRICES)
def test_every_solver_meets_the_tolerance_on_every_matrix(name, solver):
    a = MATRICES[name]
    b = a @ np.random.default_rng(1).standard_normal(a.shape[0])
    solution = solve(a, b, solver=solver, rtol=1e-9)
    assert solution.result is Result.CONVERGED, solution.message
    assert np.linalg.norm(b - a @ solution.x) <= 1.01e-9 * np.linalg.norm(b)
    assert len(solution.residuals) == solution.iterations + 1
    assert solution.solver == MATRIX_SOLVERS[solver].name


def test_a_badly_scaled_matrix_is_solved_where_the_diagonal_is_taken_into_account():
    a = graded()
    b = a @ np.random.default_rng(1).standard_normal(a.shape[0])
    for solver in ("ic-cg", "jacobi-cg", "auto"):
        assert solve(a, b, solver=solver, rtol=1e-8).converged, solver


def test_a_grid_and_its_matrix_have_the_same_solution():
    problem = gallery.make("pool", 14)
    packed = problem.grid.pack(problem.b)
    of_matrix = solve(problem.grid.operator().to_csr(), packed, rtol=1e-10).x
    of_grid = solve(problem.grid, packed, solver="ic-cg", rtol=1e-10).x
    np.testing.assert_allclose(of_matrix, of_grid, atol=1e-7 * abs(of_grid).max())


def test_any_format_dtype_and_order_of_entries_is_the_same_matrix_and_none_is_modified():
    a = sparse.csr_array(np.round(laplacian(9) * 8))
    b = np.random.default_rng(0).standard_normal(a.shape[0])
    expected = solve(a, b, solver="ic-cg", rtol=1e-10).x
    wide = a.copy()
    wide.indices, wide.indptr = wide.indices.astype(np.int64), wide.indptr.astype(np.int64)
    forms = [a.asformat(kind) for kind in ("csc", "coo", "bsr", "dia", "lil", "dok")]
    forms += [sparse.csr_matrix(a), wide, a.astype(np.int32), a.astype(np.float32), a.astype(np.uint8) * 0 + a]
    doubled = a.tocoo()
    half = np.concatenate([doubled.data / 2] * 2)
    split = sparse.coo_array((half, ([*doubled.row, *doubled.row], [*doubled.col, *doubled.col])), shape=a.shape)
    forms.append(split)
    unsorted = a.copy()
    for row in range(a.shape[0]):
        part = slice(a.indptr[row], a.indptr[row + 1])
        unsorted.indices[part], unsorted.data[part] = a.indices[part][::-1], a.data[part][::-1]
    unsorted.has_sorted_indices = False
    zeros = a.copy() + 0 * sparse.csr_array(np.eye(a.shape[0], k=5) + np.eye(a.shape[0], k=-5))
    for form in [*forms, unsorted, zeros]:
        before = form.copy()
        np.testing.assert_allclose(solve(form, b, solver="ic-cg", rtol=1e-10).x, expected, rtol=1e-7)
        assert (form != before).nnz == 0
        if form.format == "csr":
            np.testing.assert_array_equal(form.indices, before.indices)
            assert form.indices.dtype == before.indices.dtype


def test_a_read_only_strided_or_float32_b_is_taken_and_left_alone():
    a = laplacian(9)
    b = np.round(np.random.default_rng(0).standard_normal(2 * a.shape[0]) * 8)
    expected = solve(a, b[::2].copy(), rtol=1e-11).x
    for form in (b[::2], b[::2].astype(np.float32), b[::2].astype(int), b[::2].tolist()):
        if isinstance(form, np.ndarray):
            form.flags.writeable = False
        np.testing.assert_allclose(solve(a, form, rtol=1e-11).x, expected, rtol=1e-8)


def test_ic_of_a_tridiagonal_matrix_is_exact_and_of_a_laplacian_needs_fewer_steps_than_its_diagonal():
    chain = sparse.diags_array([-1.0, 2.1, -1.0], offsets=[-1, 0, 1], shape=(300, 300))
    assert solve(chain, np.ones(300), solver="ic-cg", rtol=1e-10).iterations <= 2
    a = laplacian(40)
    b = np.random.default_rng(0).standard_normal(a.shape[0])
    ic, jacobi = (solve(a, b, solver=name).iterations for name in ("ic-cg", "jacobi-cg"))
    assert 2.5 * ic < jacobi


def test_the_factor_is_that_of_the_textbook():
    """On the pattern of A the product LLᵀ is A (scaled): the property that defines IC(0)."""
    a = sparse.csr_array(random_graph(60, 0.5))  # with triangles, without which the factor's inner products are empty
    a.sort_indices()
    d = 1 / np.sqrt(a.diagonal())
    n = a.shape[0]
    starts, inverse, columns, values = (
        np.zeros(n + 1, np.int32),
        np.zeros(n),
        np.empty(a.nnz, np.int32),
        np.empty(a.nnz),
    )
    arguments = (a.indptr, a.indices, a.data, d, 0.0, 1e-4, starts, columns, values, inverse)
    for factor in (factor_kernels.incomplete_factor, factor_kernels.incomplete_factor.py_func):
        assert factor(*arguments) == -1
        lower = sparse.csr_array((values[: starts[n]], columns[: starts[n]], starts), shape=a.shape).toarray()
        lower += np.diag(1 / inverse)
        scaled = d[:, None] * a.toarray() * d
        on_pattern = a.toarray() != 0
        np.testing.assert_allclose((lower @ lower.T)[on_pattern], scaled[on_pattern], atol=1e-14)
        r, z = np.random.default_rng(0).standard_normal(n), np.empty(n)
        for sweeps in (factor_kernels.solve_triangles, factor_kernels.solve_triangles.py_func):
            sweeps(starts, columns, values, inverse, d, r, z)
            np.testing.assert_allclose(z, d * np.linalg.solve(lower @ lower.T, d * r), rtol=1e-10)


def test_a_factor_that_breaks_down_is_made_again_with_a_shift_that_is_told():
    a = difficult()
    solution = solve(a, np.ones(a.shape[0]), solver="ic-cg")
    assert solution.info["retries"] >= 1
    assert 0 < solution.info["shift"] < 1
    regular = solve(laplacian(), np.ones(400), solver="ic-cg")
    assert (regular.info["retries"], regular.info["shift"]) == (0, 0)
    assert solve(laplacian(), np.ones(400), solver=MatrixIncompleteCholeskyCG(shift=0.5)).info["shift"] == 0.5


# --- the outer iteration with a preconditioner of the caller's -----------------------------------------------------


def preconditioners(a):
    inverse = 1 / a.diagonal()
    diagonal = sparse.diags_array(inverse)
    return {
        "callable": lambda r: inverse * r,
        "operator": LinearOperator(a.shape, matvec=lambda r: inverse * r, dtype=np.float64),
        "matrix": diagonal.tocsr(),
        "float32": lambda r: (inverse * r).astype(np.float32),
    }


def test_with_a_symmetric_preconditioner_it_is_conjugate_gradients_on_a_grid_and_on_its_matrix():
    problem = gallery.make("variable", 24, ndim=2)
    a, b = problem.grid.operator().to_csr(), problem.grid.pack(problem.b)
    reference = solve(a, b, solver="jacobi-cg").iterations
    for name, preconditioner in preconditioners(a).items():
        ours = ConjugateDirectionsWith(preconditioner)
        for operator in (a, problem.grid):
            solution = solve(operator, b, solver=ours)
            assert solution.converged, name
            assert abs(solution.iterations - reference) <= 0.15 * reference, name
            assert solution.fallbacks == 0, name
            assert np.linalg.norm(b - a @ solution.x) <= 1.01e-6 * np.linalg.norm(b)


def test_the_errors_norm_never_grows_whatever_the_preconditioner_returns():
    a = laplacian(14)
    rng = np.random.default_rng(0)
    x_exact = rng.standard_normal(a.shape[0])
    energies = []
    prepared = prepare(a, solver=ConjugateDirectionsWith(lambda r: rng.standard_normal(len(r))))
    x = np.zeros_like(x_exact)
    for _ in range(40):
        x = prepared.solve(a @ x_exact, x0=x, max_iterations=1).x
        energies.append((x - x_exact) @ (a @ (x - x_exact)))
    assert (np.diff(energies) <= 1e-14 * energies[0]).all()
    assert energies[-1] < energies[0]


@pytest.mark.parametrize("bad", [np.nan, 0.0, np.inf])
def test_a_preconditioner_that_fails_is_replaced_and_counted(bad):
    a = laplacian(10)
    b = np.ones(a.shape[0])
    for operator in (a, gallery.make("variable", 10, ndim=2).grid):
        solution = solve(operator, b, solver=ConjugateDirectionsWith(lambda r: np.full_like(r, bad)))
        assert solution.converged
        assert solution.fallbacks == solution.iterations


def test_a_preconditioner_that_is_not_symmetric_is_accelerated():
    a = laplacian(16)
    lower = sparse.csr_array(sparse.tril(a))
    from scipy.sparse.linalg import spsolve_triangular

    solution = solve(a, np.ones(a.shape[0]), solver=ConjugateDirectionsWith(lambda r: spsolve_triangular(lower, r)))
    assert solution.converged
    assert solution.fallbacks == 0


@pytest.mark.parametrize("window", [0, 1, 2, 5])
def test_every_window_converges(window):
    a = gallery.make("box", 8, ndim=2).grid.operator().to_csr()
    assert solve(a, np.ones(a.shape[0]), solver=ConjugateDirectionsWith(lambda r: r, window)).converged


def test_a_wrong_preconditioner_is_refused():
    a = laplacian(6)
    b = np.ones(36)
    with pytest.raises(TypeError, match="^preconditioner must be a callable"):
        ConjugateDirectionsWith(np.eye(3))
    with pytest.raises(ValueError, match=r"^preconditioner must have shape \(36, 36\)"):
        solve(a, b, solver=ConjugateDirectionsWith(sparse.eye_array(35)))
    with pytest.raises(ValueError, match=r"^preconditioner must return floats of shape \(36,\)"):
        solve(a, b, solver=ConjugateDirectionsWith(lambda r: r[:5]))
    with pytest.raises(ValueError, match="^preconditioner must return floats"):
        solve(gallery.make("box", 6, ndim=2).grid, b, solver=ConjugateDirectionsWith(lambda r: 1j * r))
    with pytest.raises(ValueError, match="^window must"):
        ConjugateDirectionsWith(lambda r: r, -1)


# --- the automatic choice ---------------------------------------------------------------------------------------------


def random_graph(n=4000, weights=3.0):
    """Few levels and no good ordering: a factor would fill up."""
    a = graph(n, weights=weights)
    return sparse.csr_array(a + sparse.diags_array(1e-3 * a.diagonal()))


def test_the_reason_is_in_the_message():
    solution = solve(laplacian(), np.ones(400))
    assert solution.solver == "auto"
    assert solution.message.startswith("auto chose scipy-direct: 400 unknowns")


# --- singular, indefinite, ill-conditioned ----------------------------------------------------------------------------


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_net_source_in_a_singular_part_is_refused_reported_or_projected(solver):
    a = MATRICES["two parts, one singular"]
    b = np.ones(a.shape[0])
    b[-1] = 7.0
    with pytest.raises(SingularSystemError, match="^b is not in the range"):
        solve(a, b, solver=solver)
    assert solve(a, b, solver=solver, inconsistent="report").result is Result.SINGULAR_INCONSISTENT
    solution = solve(a, b, solver=solver, inconsistent="project", rtol=1e-8)
    assert solution.converged
    assert abs(solution.x[36:].mean()) < 1e-9 * abs(solution.x[36:]).max()
    b[36:] -= b[36:].mean()
    np.testing.assert_allclose(a @ solution.x, b, atol=1e-6)


def test_a_tiny_hold_on_a_constant_is_not_taken_for_singular():
    a = sparse.csr_array(graph(60, weights=1.0))
    held = a + 1e-9 * sparse.diags_array(np.eye(60)[0])
    assert MatrixSystem.of(a).null.dimension == 1
    assert MatrixSystem.of(held).null.dimension == 0


def test_an_indefinite_matrix_is_refused_by_the_factor_and_reported_by_conjugate_gradients():
    a = sparse.csr_array(laplacian(12) - 60.0 * sparse.eye_array(144))  # the diagonal stays positive
    b = np.random.default_rng(0).standard_normal(144)
    with pytest.raises(ValueError, match="^operator must be positive definite"):
        solve(a, b, solver="scipy-direct")
    for solver in ("cg", "jacobi-cg", ConjugateDirectionsWith(lambda r: r)):
        solution = solve(a, b, solver=solver)
        assert solution.result is Result.STAGNATED
        assert "not positive definite" in solution.message


def test_singular_by_more_than_constants_is_solved_or_said():
    a = elasticity(6)
    free = sparse.csr_array(sparse.block_diag([a, [[1.0, -2.0], [-2.0, 4.0]]]))  # null vector (2, 1)
    b = free @ np.ones(free.shape[0])
    with pytest.raises(ValueError, match="^operator must be positive definite"):
        solve(free, b, solver="scipy-direct")
    assert solve(free, b, solver="cg").converged
    assert solve(free, b, solver="ic-cg").converged


def test_converged_is_not_said_where_rounding_forbids():
    n = 40
    hilbert = 1.0 / (np.arange(n)[:, None] + np.arange(n) + 1.0)
    solution = solve(sparse.csr_array(hilbert), np.cos(np.arange(n)), solver="cg", rtol=1e-12)
    residual = np.linalg.norm(np.cos(np.arange(n)) - hilbert @ solution.x)
    assert not solution.converged
    assert residual > solution.tolerance


class Liar(MatrixSolver):
    """Claims what it is told to, and does nothing."""

    name = "liar"
    summary = ""

    def __init__(self, *claims):
        self.claims = claims

    def prepare_matrix(self, system):
        claims = self.claims

        class Lying(MatrixEngine):
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
    a = laplacian(6)
    assert solve(a, np.ones(36), solver=Liar(*claims)).result is result
    exact = solve(a, np.ones(36), rtol=1e-12).x
    assert solve(a, np.ones(36), solver=Liar(1.0), x0=exact).converged  # and always where it does


# --- the front --------------------------------------------------------------------------------------------------------


def test_warm_starts_callbacks_limits_and_many():
    a = laplacian(24)
    b = np.random.default_rng(0).standard_normal(a.shape[0])
    x = solve(a, b, rtol=1e-12).x
    for solver in SOLVERS:
        assert solve(a, b, solver=solver, x0=x).iterations == 0
    seen = []
    stopped = solve(a, b, solver="cg", callback=lambda p: seen.append(p) or p.iteration == 4)
    assert stopped.result is Result.CANCELLED
    assert [p.iteration for p in seen] == [0, 1, 2, 3, 4]
    few = solve(a, b, solver="cg", max_iterations=3)
    assert (few.result, few.iterations) == (Result.MAX_ITERATIONS, 3)
    assert solve(a, 0 * b, solver="cg", x0=x).converged
    many = solve_many(a, np.stack([b, 2 * b]), solver="ic-cg", rtol=1e-10)
    np.testing.assert_allclose(many[1].x, 2 * many[0].x, rtol=1e-6)
    assert many[0].setup_seconds == many[1].setup_seconds


@pytest.mark.parametrize("solver", SOLVERS)
def test_scaling_the_matrix_and_b_leaves_x(solver):
    a, b = laplacian(16), np.random.default_rng(0).standard_normal(256)
    one = solve(a, b, solver=solver, rtol=1e-10).x
    for factor in (2.0**-200, 2.0**200):
        np.testing.assert_allclose(solve(a * factor, b * factor, solver=solver, rtol=1e-10).x, one, rtol=1e-5)


EYE = sparse.eye_array(4).tocsr()


@pytest.mark.parametrize(
    ("error", "match", "matrix"),
    [
        (ValueError, "square matrix, got shape \\(3, 4\\)", sparse.csr_array((3, 4))),
        (ValueError, "at least one row", sparse.csr_array((0, 0))),
        (TypeError, "got dtype bool", EYE.astype(bool)),
        (ValueError, "finite, got 4 NaN", EYE * np.nan),
        (ValueError, "finite, got 4 NaN", EYE * np.inf),
    ],
)
def test_a_matrix_that_cannot_be_solved_is_refused(error, match, matrix):
    for solver in ("auto", "ic-cg"):
        with pytest.raises(error, match=f"^operator must .*{match}"):
            solve(matrix, np.ones(4), solver=solver)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (ValueError, "b must have shape", {"b": np.ones(3)}),
        (ValueError, "b must have shape", {"b": np.ones((4, 2))}),
        (ValueError, "b must be finite", {"b": np.full(4, np.nan)}),
        (TypeError, "b must be an array of float32", {"b": np.ones(4, np.float16)}),
        (ValueError, "x0 must have shape", {"x0": np.ones(3)}),
        (ValueError, "rtol must", {"rtol": 0}),
        (ValueError, "max_iterations must", {"max_iterations": 0}),
        (ValueError, "inconsistent must", {"inconsistent": "no"}),
        (ValueError, "solver must be one of .* 'mg-cg', which needs a grid", {"solver": "mg-cg"}),
        (ValueError, "solver must be one of .* did you mean 'ic-cg'", {"solver": "ic-gc"}),
        (TypeError, "solver must be a name or a MatrixSolver", {"solver": JacobiCG()}),
    ],
)
def test_a_mistake_is_refused_by_the_arguments_name(error, match, arguments):
    with pytest.raises(error, match=f"^{match}"):
        solve(EYE, **({"b": np.ones(4)} | arguments))


def test_a_matrix_solver_is_refused_on_a_grid_unless_it_knows_grids():
    grid = PoissonGrid(np.zeros((4, 4), np.uint8), boundary="dirichlet")
    with pytest.raises(TypeError, match="^solver must be a name or a Solver"):
        solve(grid, np.ones((4, 4)), solver=MatrixIncompleteCholeskyCG())


def test_a_matrix_too_large_to_factor_is_refused_when_a_factor_is_asked_for(monkeypatch):
    from relaxon.solvers.sparse.direct import solver as direct

    monkeypatch.setattr(direct, "DIRECT_LIMIT", 100)
    with pytest.raises(ValueError, match="takes at most 100 unknowns, got 400"):
        solve(laplacian(), np.ones(400), solver="scipy-direct")


def bilinear(first, second, n=60):
    """Bilinear elements of these widths on a rectangle of n by n inner nodes, zero on its sides."""

    def on_axis(lower, middle):
        return sparse.diags_array([lower, middle, lower], offsets=[-1, 0, 1], shape=(n, n))

    stiffness = [on_axis(-1 / h, 2 / h) for h in (first, second)]
    mass = [on_axis(h / 6, 4 * h / 6) for h in (first, second)]
    return sparse.kron(stiffness[0], mass[1]) + sparse.kron(mass[0], stiffness[1])


@pytest.mark.parametrize("stretch", [10.0, 100.0, 0.01])
def test_stretched_bilinear_elements_are_coarsened_along_their_short_side_alone(stretch):
    A = bilinear(1.0, 1.0 / stretch)
    b = np.random.default_rng(7).normal(size=A.shape[0])
    chosen = solve(A, b, solver="pyamg-sa")
    assert chosen.converged
    assert chosen.info["strength"] == 0.25
    assert chosen.iterations <= 15
    for other in (AlgebraicMultigridCG("sa", 0.0), AlgebraicMultigridCG("rs")):
        assert solve(A, b, solver=other).iterations >= 2 * chosen.iterations


@pytest.mark.parametrize("widths", [(1.0, 1.0), (1.0, 1 / 3)])
def test_elements_without_strongly_positive_couplings_keep_pyamg_s_own_threshold(widths):
    A = bilinear(*widths)
    b = np.random.default_rng(7).normal(size=A.shape[0])
    chosen = solve(A, b, solver="pyamg-sa")
    assert chosen.info["strength"] == 0.0
    assert chosen.iterations < solve(A, b, solver=AlgebraicMultigridCG("sa", 0.25)).iterations


@pytest.mark.parametrize("strength", [-0.1, 1.0, float("nan"), "symmetric", True])
def test_a_strength_that_is_no_threshold_is_refused(strength):
    with pytest.raises((TypeError, ValueError), match="^strength must"):
        AlgebraicMultigridCG("sa", strength)
