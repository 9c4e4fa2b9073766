"""A prepared solver as a preconditioner of SciPy's Krylov methods: linear, symmetric, definite, and worth its work."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import cg, gmres, lobpcg, minres

from relaxon.solvers import AlgebraicMultigrid, ConjugateDirectionsWith, PoissonGrid, gallery, prepare, solve
from relaxon.solvers.sparse import MatrixSystem

N = 3_000
SINGLE = 3e-6
"""Of a map computed in float32, relative."""


def in_range(a, seed=1):
    return a @ np.random.default_rng(seed).standard_normal(a.shape[0])


def count_steps(method, a, b, **options):
    steps = []
    x, info = method(a, b, callback=lambda *_: steps.append(1), **options)
    return x, info, len(steps)


@pytest.mark.parametrize("name", ["laplacian-2d", "random-jumps-3d", "tetrahedra-contrast-3d", "parts", "heavy-tailed"])
def test_the_multigrid_cycle_is_linear_symmetric_and_definite(name):
    a = gallery.matrix(name, N)
    m = prepare(a, solver="amg").aspreconditioner()
    assert m.dtype == np.float64
    assert m.shape == a.shape
    # Where entries differ by many orders, all are compared alike.
    root = np.sqrt(a.diagonal())
    u, v = (root * w for w in np.random.default_rng(0).standard_normal((2, a.shape[0])))
    mu, mv, both = (m.matvec(w) for w in (u, v, 3.0 * u - 0.5 * v))
    assert np.linalg.norm(root * (both - (3.0 * mu - 0.5 * mv))) <= 10 * SINGLE * np.linalg.norm(root * both)
    assert abs(u @ mv - v @ mu) <= 10 * SINGLE * np.sqrt((u @ mu) * (v @ mv))
    assert u @ mu > 0
    np.testing.assert_array_equal(m.matvec(4.0 * u), 4.0 * mu)


# Of a floating body the last level's inverse magnifies what float32 leaves of rigid motions.
@pytest.mark.parametrize(("name", "rounding"), [("cantilever-2d", 3e-5), ("floating-3d", 5e-4)])
def test_the_cycle_through_nodes_is_linear_symmetric_and_of_the_inverse_s_size(name, rounding):
    body = gallery.elastic_body(name, 1_500)
    a = 1e3 * body.matrix
    m = prepare(a, solver="amg", coordinates=body.coordinates).aspreconditioner()
    u, v = (a @ w for w in np.random.default_rng(0).standard_normal((2, a.shape[0])))
    mu, mv, both = m.matvec(u), m.matvec(v), m.matvec(3.0 * u - 0.5 * v)
    assert np.linalg.norm(both - (3.0 * mu - 0.5 * mv)) <= rounding * np.linalg.norm(both)
    assert abs(u @ mv - v @ mu) <= rounding * np.sqrt((u @ mu) * (v @ mv))
    assert 0.3 < (u @ m.matvec(a @ mu)) / (u @ mu) < 1.2
    _, info, steps = count_steps(cg, a, u, rtol=1e-8, M=m)
    assert info == 0
    assert steps < 40


METHODS = ((cg, {}), (minres, {}), (gmres, {"callback_type": "pr_norm", "restart": 50}))


@pytest.fixture(scope="module")
def unpreconditioned():
    """A system and the steps that each method takes alone, to a tenth of the digits asked for below."""
    a = gallery.matrix("lognormal-3d", 1_000)
    b = in_range(a)
    return a, b, [count_steps(method, a, b, rtol=1e-5, maxiter=200, **options)[2] for method, options in METHODS]


@pytest.mark.parametrize("solver", ["amg", "pyamg-sa", "ic-cg", "jacobi-cg", "scipy-direct", "auto"])
def test_every_krylov_method_of_scipy_converges_in_fewer_steps(solver, unpreconditioned):
    a, b, counts = unpreconditioned
    m = prepare(a, solver=solver).aspreconditioner()
    for (method, options), alone in zip(METHODS, counts, strict=True):
        x, info, steps = count_steps(method, a, b, M=m, rtol=1e-8, maxiter=200, **options)
        assert info == 0
        assert np.linalg.norm(b - a @ x) <= 1e-5 * np.linalg.norm(b)
        assert steps < alone


@pytest.mark.parametrize("name", gallery.matrix_names())
def test_cg_takes_about_the_iterations_of_the_solver_itself(name):
    a = gallery.matrix(name, N)
    b = in_range(a)
    own = solve(a, b, solver="amg").iterations
    _, info, steps = count_steps(cg, a, b, M=prepare(a, solver="amg").aspreconditioner(), rtol=1e-6, maxiter=600)
    assert info == 0
    assert steps <= 1.3 * own + 8


def test_lobpcg_finds_the_least_eigenvalues_of_several_columns():
    a = gallery.matrix("laplacian-2d", N)
    m = prepare(a, solver="amg").aspreconditioner()
    start = np.random.default_rng(0).standard_normal((a.shape[0], 4))
    np.testing.assert_array_equal(m @ start, np.column_stack([m @ column for column in start.T]))
    values, _ = lobpcg(a, start, M=m, largest=False, tol=1e-8, maxiter=40)
    side = round(a.shape[0] ** 0.5)
    one = 2 - 2 * np.cos(np.pi * np.arange(1, 4) / side)
    expected = np.sort(np.add.outer(one, one).ravel())[:4]
    np.testing.assert_allclose(np.sort(values), expected, rtol=1e-5)


def test_singular_components_are_projected_on_both_sides():
    a = gallery.matrix("parts", N)
    system = MatrixSystem.of(a)
    m = prepare(a, solver="amg").aspreconditioner()
    labels = system.null.labels.reshape(-1)
    z = m.matvec(np.random.default_rng(0).standard_normal(a.shape[0]))
    for label in range(1, system.null.dimension + 1):
        part = labels == label
        assert abs(z[part].sum()) <= 1e-9 * abs(z[part]).sum()
        assert not m.matvec(np.where(part, 1.0, 0.0)).any()


def test_decided_unknowns_are_divided_by_their_diagonal():
    box = gallery.make("neumann", 8).grid.operator().to_csr()
    held = np.zeros(512)
    held[:64] = 1e10
    a = sparse.csr_array(box + sparse.diags_array(held))
    m = prepare(a, solver="amg").aspreconditioner()
    v = np.where(held > 0, np.arange(512.0), 0.0)
    np.testing.assert_allclose(m.matvec(v)[:64], v[:64] / a.diagonal()[:64], rtol=1e-12)
    inside = (held == 0).astype(float)
    x, info = cg(a, a @ inside, M=m, rtol=1e-10, maxiter=30)
    assert info == 0
    np.testing.assert_allclose(x, inside, atol=1e-6)
    only = prepare(sparse.csr_array(sparse.diags_array(1.0 + np.arange(70.0))), solver="amg").aspreconditioner()
    np.testing.assert_allclose(only.matvec(np.ones(70)), 1.0 / (1.0 + np.arange(70.0)))


def test_any_size_of_matrix_and_vector_gives_the_same_digits():
    a = gallery.matrix("triangles-2d", 1_000)
    r = in_range(a)
    plain = prepare(a, solver="amg").aspreconditioner().matvec(r)
    for power in (-900, 300):
        scaled = prepare(a * 2.0**power, solver="amg").aspreconditioner()
        np.testing.assert_array_equal(scaled.matvec(r * 2.0**power), plain)
    m = prepare(a, solver="amg").aspreconditioner()
    np.testing.assert_array_equal(m.matvec(r * 2.0**-500) * 2.0**500, plain)
    assert not m.matvec(np.zeros(len(r))).any()
    assert np.isnan(m.matvec(np.full(len(r), np.inf))).all()


def test_it_has_work_space_of_its_own():
    """A solve of the same engine between two calls changes nothing, nor does a second preconditioner."""
    a = gallery.matrix("laplacian-3d", N)
    b = in_range(a)
    prepared = prepare(a, solver=AlgebraicMultigrid())
    m, other = prepared.aspreconditioner(), prepared.aspreconditioner()
    before, kept = m.matvec(b), b.copy()
    prepared.solve(b)
    other.matvec(-b)
    np.testing.assert_array_equal(m.matvec(b), before)
    np.testing.assert_array_equal(b, kept)


def test_levels_in_blocks_precondition_alike(monkeypatch):
    from relaxon.solvers.sparse.amg import hierarchy as module

    a = gallery.matrix("lognormal-3d", 12_000)
    b = in_range(a)
    counts = []
    for divided in (40_000, 500):
        monkeypatch.setattr(module, "DIVIDED", divided)
        monkeypatch.setattr(module, "BLOCK", 400)
        m = prepare(a, solver="amg").aspreconditioner()
        u, v = np.random.default_rng(0).standard_normal((2, len(b)))
        assert abs(u @ (m @ v) - v @ (m @ u)) <= 10 * SINGLE * np.sqrt((u @ (m @ u)) * (v @ (m @ v)))
        counts.append(count_steps(cg, a, b, M=m, rtol=1e-6, maxiter=60)[2])
    assert max(counts) <= min(counts) + 4


def test_what_is_in_one_piece_for_its_structure_stays_in_one_piece(monkeypatch):
    """Coarse levels of a graph without geometry are large enough for blocks, which its first level has not."""
    from relaxon.solvers.sparse.amg import hierarchy as module

    monkeypatch.setattr(module, "DIVIDED", 500)
    monkeypatch.setattr(module, "BLOCK", 200)
    a = gallery.matrix("heavy-tailed", 6_000)
    b = in_range(a)
    hierarchy = module.Hierarchy.of(MatrixSystem.of(a))
    assert hierarchy.order is not None
    assert {len(level.bounds) for level in hierarchy.levels} == {2}
    assert hierarchy.levels[1].rows > 500
    assert solve(a, b, solver="amg").iterations < 20


def test_a_solver_without_a_fixed_linear_map_is_refused_by_name():
    a = gallery.matrix("laplacian-2d", 100)
    for solver in ("cg", ConjugateDirectionsWith(lambda r: r)):
        with pytest.raises(ValueError, match="^solver must have a fixed linear map .* got '(cg|conjugate-directions)'"):
            prepare(a, solver=solver).aspreconditioner()
    with pytest.raises(ValueError, match="^solver must have a multigrid cycle .* got 'jacobi-cg'"):
        prepare(PoissonGrid(np.zeros((8, 8), np.uint8)), solver="jacobi-cg").aspreconditioner()


@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "mg-rbgs-cg"])
def test_a_grid_s_solver_is_one_too(solver):
    problem = gallery.make("spheres", 12)
    a, b = problem.grid.operator().to_scipy(), problem.grid.pack(problem.b)
    m = prepare(problem.grid, solver=solver).aspreconditioner()
    _, _, alone = count_steps(cg, a, b, rtol=1e-8)
    _, info, steps = count_steps(cg, a, b, M=m, rtol=1e-8)
    assert info == 0
    assert steps < alone / 2
    if solver == "dcdm":
        np.testing.assert_array_equal(m @ b, problem.grid.preconditioner() @ b)
