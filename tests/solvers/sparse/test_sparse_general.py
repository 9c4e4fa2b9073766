"""Matrices that are not symmetric positive definite, and operators without entries: every kind against dense solves,
few iterations whatever the wind, what is refused, and what `M` is used for."""

import numpy as np
import pytest
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator, splu

from relaxon.solvers import PoissonGrid, Result, gallery, norms, prepare, solve, solve_many
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.sparse import MATRIX_SOLVERS, MatrixBiCGStab, MatrixGMRES, MatrixMINRES, MatrixSystem
from relaxon.solvers.sparse.choice import other_kinds as choice_module
from relaxon.solvers.sparse.downstream.multigrid import DownstreamMultigrid
from relaxon.solvers.sparse.families.convection import recirculating_winds, skew_winds, upwind
from relaxon.solvers.sparse.preconditioners.setup import IncompleteLU
from relaxon.solvers.sparse.system.row_scaling import find_row_scaling

WINDS = {"skew": skew_winds, "recirculating": recirculating_winds}


def laplacian(n=196):
    return gallery.matrix("laplacian-2d", n)


def wind(n=14, peclet=10.0, kind="recirculating", ndim=2):
    return sparse.csr_array(upwind((n,) * ndim, peclet, WINDS[kind]((n,) * ndim)))


def turned(a, seed=0):
    """A Hermitian matrix with the spectrum of a symmetric one and every entry complex."""
    phase = sparse.diags_array(np.exp(1j * np.random.default_rng(seed).uniform(0, 6, a.shape[0])))
    return sparse.csr_array(phase.conj() @ a @ phase)


def saddle(n=100, constraints=12):
    a = laplacian(n)
    b = sparse.random_array((constraints, a.shape[0]), density=0.2, rng=np.random.default_rng(0))
    return sparse.csr_array(sparse.block_array([[a, b.T], [b, None]]))


def shifted(shift, a=None):
    a = laplacian() if a is None else a
    return sparse.csr_array(a - shift * sparse.eye_array(a.shape[0]))


MATRICES = {
    "convection": ("nonsymmetric", wind()),
    "convection, negated": ("nonsymmetric", sparse.csr_array(-wind())),
    "random": ("nonsymmetric", sparse.csr_array(np.random.default_rng(1).standard_normal((60, 60)))),
    "zero diagonal": ("nonsymmetric", sparse.csr_array(np.roll(np.diag(np.arange(1.0, 51)), 1, axis=1))),
    "one-way pattern": ("nonsymmetric", sparse.csr_array(sparse.triu(wind(), -1))),
    "saddle point": ("symmetric-indefinite", saddle()),
    "negative": ("symmetric-indefinite", sparse.csr_array(-laplacian())),
    "Helmholtz": ("spd", shifted(0.7)),  # its diagonal is positive: what it is, its factor finds out
    "Hermitian": ("hermitian", turned(laplacian())),
    "Hermitian, indefinite": ("hermitian", turned(shifted(0.7))),
    "Hermitian, zero diagonal": ("hermitian", turned(saddle())),
    "Helmholtz, damped": ("complex-symmetric", shifted(0.7 - 0.2j)),
    "complex": ("nonsymmetric", sparse.csr_array(wind() + 0.3j * sparse.eye_array(196))),
}


def right_hand_side(a, seed=1):
    rng = np.random.default_rng(seed)
    b = rng.standard_normal(a.shape[0])
    return b + 1j * rng.standard_normal(a.shape[0]) if a.dtype.kind == "c" else b


def fits(name, kind, a):
    if name in ("auto", "scipy-direct"):
        return True
    return kind in MATRIX_SOLVERS[name].kinds


@pytest.mark.parametrize("name", MATRICES)
def test_every_kind_is_recognised_and_solved_as_densely_and_left_as_it_was(name):
    kind, a = MATRICES[name]
    assert MatrixSystem.of(a).kind == kind
    b = right_hand_side(a)
    before, side = a.copy(), b.copy()
    exact = np.linalg.solve(a.toarray(), b)
    for form in (a, a.tocsc(), a.tocoo()):
        solution = solve(form, b, rtol=1e-10)
        assert solution.result is Result.CONVERGED, solution.message
        np.testing.assert_allclose(solution.x, exact, atol=1e-6 * abs(exact).max())
        assert solution.x.dtype == b.dtype
        assert solution.message.startswith("auto chose")
    assert (a != before).nnz == 0
    np.testing.assert_array_equal(a.indices, before.indices)
    np.testing.assert_array_equal(b, side)
    np.testing.assert_allclose(solution.true_residual, np.linalg.norm(b - a @ solution.x), rtol=1e-3, atol=1e-13)


@pytest.mark.parametrize("solver", ["gmres", "bicgstab", "minres"])
@pytest.mark.parametrize("name", [name for name in MATRICES if name not in ("random", "zero diagonal")])
def test_a_named_method_solves_the_kinds_that_it_is_for_and_refuses_others(name, solver):
    kind, a = MATRICES[name]
    b = right_hand_side(a)
    if kind not in MATRIX_SOLVERS[solver].kinds:
        with pytest.raises(ValueError, match=f"^solver '{solver}' is for .*; for that there are auto, "):
            solve(a, b, solver=solver)
        return
    solution = solve(a, b, solver=solver, rtol=1e-8, max_iterations=3000)
    true = np.linalg.norm(b - a @ solution.x) / np.linalg.norm(b)
    assert solution.converged == (true <= 1.001e-8)
    if solver != "bicgstab" or name in ("convection", "Hermitian"):  # which does not converge on all indefinite ones
        assert solution.converged, solution.message
    assert len(solution.residuals) == solution.iterations + 1


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.complex64])
def test_narrow_dtypes_are_the_matrix_that_they_hold(dtype):
    a = sparse.csr_array(np.round(MATRICES["convection"][1].toarray() * 4))
    a = a.astype(dtype) if dtype is not np.complex64 else sparse.csr_array(a - 2j * sparse.eye_array(196)).astype(dtype)
    b = np.arange(196.0)
    exact = np.linalg.solve(a.toarray().astype(np.complex128), b)
    solution = solve(a, b, rtol=1e-9)
    assert solution.converged
    np.testing.assert_allclose(solution.x, exact, atol=1e-6 * abs(exact).max())


def test_a_complex_matrix_without_imaginary_parts_is_real_and_a_complex_b_gives_a_complex_x():
    for a in (laplacian(), wind()):
        b = np.arange(196.0)
        real = solve(a, b, rtol=1e-10)
        same = solve(a.astype(np.complex128), b, rtol=1e-10)
        np.testing.assert_array_equal(same.x, real.x)
        both = solve(a, b * (1 + 2j), rtol=1e-10)
        np.testing.assert_allclose(both.x, real.x * (1 + 2j), rtol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", WINDS)
@pytest.mark.parametrize("peclet", [0.1, 1.0, 10.0, 100.0])
def test_any_wind_takes_few_iterations(ndim, kind, peclet):
    a = wind({2: 96, 3: 21}[ndim], peclet, kind, ndim)
    b = np.random.default_rng(0).standard_normal(a.shape[0])
    solution = solve(a, b)
    assert solution.converged
    assert "multigrid downstream" in solution.message
    assert solution.iterations <= 16
    assert solution.info["operator_complexity"] < 2
    assert np.linalg.norm(b - a @ solution.x) <= 1e-6 * np.linalg.norm(b)
    shuffled = np.random.default_rng(1).permutation(a.shape[0])
    mixed = solve(sparse.csr_array(a[shuffled][:, shuffled]), b[shuffled])
    assert mixed.iterations <= solution.iterations + 6


def test_iterations_grow_slowly_with_the_matrix():
    for kind in WINDS:
        few, many = (
            solve(a, np.random.default_rng(0).standard_normal(a.shape[0]), solver="gmres").iterations
            for a in (wind(n, 1.0, kind) for n in (50, 260))
        )
        assert many <= 2 * few + 4


def test_a_wind_that_is_pure_is_followed_in_one_sweep():
    """Downstream a triangular matrix is solved exactly, whatever its numbering was."""
    chain = sparse.csr_array(sparse.eye_array(3000) - 0.999 * sparse.eye_array(3000, k=-1))
    order = np.random.default_rng(0).permutation(3000)
    a = sparse.csr_array(chain[order][:, order])
    assert solve(a, np.ones(3000), solver="gmres", rtol=1e-5).iterations <= 2


def test_any_number_of_threads_gives_the_same_bits():
    a = wind(210, 10.0)
    b = np.random.default_rng(0).standard_normal(a.shape[0])
    answers = []
    for count in (1, 2, 4):
        with num_threads(count):
            answers.append([solve(a, b, solver=name, max_iterations=6) for name in ("gmres", "bicgstab")])
    for others in answers[1:]:
        for one, other in zip(answers[0], others, strict=True):
            np.testing.assert_array_equal(one.x, other.x)
            np.testing.assert_array_equal(one.residuals, other.residuals)


def test_one_set_up_answers_many_sides_alike():
    a = wind(30)
    b = np.random.default_rng(0).standard_normal((3, 900))
    many = solve_many(a, b, rtol=1e-9)
    for side, solution in zip(b, many, strict=True):
        np.testing.assert_array_equal(solution.x, solve(a, side, rtol=1e-9).x)
    assert len({solution.setup_seconds for solution in many}) == 1
    c = MATRICES["Helmholtz, damped"][1]
    sides = np.stack([right_hand_side(c, seed) for seed in range(2)])
    starts = [np.zeros(196), solve(c, sides[1], rtol=1e-12).x]
    warm = solve_many(c, sides, x0=starts, solver="gmres", rtol=1e-8)
    assert warm[0].converged
    assert warm[1].iterations == 0
    column = solve(c, sides[0][:, None])
    assert column.x.shape == (196, 1)
    assert column.x.dtype == np.complex128


# --- the pieces ------


def test_the_incomplete_factor_is_exact_on_its_pattern_for_real_and_complex_matrices():
    for a in (wind(12), sparse.csr_array(wind(12) + 0.5j * sparse.eye_array(144)), MATRICES["one-way pattern"][1]):
        a = sparse.csr_array(a)
        a.sort_indices()
        factor = IncompleteLU(a)
        values, middle = factor._arrays[2], factor._middle
        whole = sparse.csr_array((values.copy(), a.indices, a.indptr), shape=a.shape).toarray()
        whole[np.arange(len(middle)), np.arange(len(middle))] = 1 / values[middle]
        lower, upper = np.tril(whole, -1) + np.eye(len(middle)), np.triu(whole)
        pattern = a.toarray() != 0
        np.testing.assert_allclose((lower @ upper)[pattern], a.toarray()[pattern], atol=1e-12)
        r = right_hand_side(a)
        np.testing.assert_allclose(factor.apply(r), np.linalg.solve(lower @ upper, r), atol=1e-10)


def test_the_multigrid_contracts_and_knows_its_order():
    a = wind(40, 10.0)
    multigrid = DownstreamMultigrid(a)
    assert multigrid.order is not None
    assert sorted(multigrid.order.tolist()) == list(range(1600))
    r = np.random.default_rng(0).standard_normal(1600)
    x = multigrid.apply(r / 4).astype(np.float64) * 4 * multigrid.scale
    assert np.linalg.norm(r - a @ x) < 0.6 * np.linalg.norm(r)
    assert np.linalg.norm(r - (-a) @ (DownstreamMultigrid(sparse.csr_array(-a)).apply(r) * -multigrid.scale)) < 0.6 * 40


def test_gmres_has_the_least_residual_of_its_space_and_minres_too():
    a, b = wind(8).toarray(), np.arange(64.0)
    space, v = [], b.copy()
    for count in range(1, 7):
        space.append(v / np.linalg.norm(v))
        v = a @ space[-1]
        images = a @ np.array(space).T
        least = np.linalg.norm(b - images @ np.linalg.lstsq(images, b, rcond=None)[0])
        own = solve(wind(8), b, solver=MatrixGMRES("none"), max_iterations=count, rtol=1e-14)
        assert own.residuals[-1] == pytest.approx(least, rel=1e-5)
    k = saddle(64, 4)
    full = solve(k, np.ones(68), solver=MatrixMINRES("none"), rtol=1e-10)
    assert (np.diff(full.residuals) <= 1e-9).all()
    reference = solve(k, np.ones(68), solver=MatrixGMRES("none", restart=100), rtol=1e-10)
    np.testing.assert_allclose(full.residuals[:20], reference.residuals[:20], rtol=1e-4)


@pytest.mark.parametrize("name", ["saddle point", "Hermitian, indefinite"])
def test_minres_tells_the_residual_that_its_x_has_whatever_the_preconditioner(name):
    a = MATRICES[name][1]
    weights = np.exp(np.random.default_rng(0).uniform(-1, 1, a.shape[0]))
    for count in (1, 2, 7, 30):
        method = MatrixMINRES(lambda r: weights * r)
        cut = solve(a, right_hand_side(a), solver=method, max_iterations=count, rtol=1e-13)
        if not cut.message:  # x is that of the last step
            assert cut.residuals[-1] == pytest.approx(cut.true_residual, rel=1e-9)
    assert cut.iterations == 30


# --- what a caller says ------


def test_an_asymmetry_of_rounding_is_solved_as_symmetric_and_told():
    a = laplacian(400)
    rng = np.random.default_rng(0)
    rounded = sparse.csr_array((a.data * (1 + 1e-9 * rng.standard_normal(a.nnz)), a.indices, a.indptr), shape=a.shape)
    b = rng.standard_normal(400)
    for solver in ("auto", "cg", "amg", "ic-cg"):
        solution = solve(rounded, b, solver=solver, rtol=1e-9)
        assert solution.converged
        assert "up to rounding: a[" in solution.message
        assert np.linalg.norm(b - rounded @ solution.x) <= 1e-9 * np.linalg.norm(b)
    assert MatrixSystem.of(rounded).kind == "spd"
    exact = solve(a, b)
    assert "rounding" not in exact.message
    more = sparse.csr_array((a.data * (1 + 1e-4 * rng.standard_normal(a.nnz)), a.indices, a.indptr), shape=a.shape)
    assert MatrixSystem.of(more).kind == "nonsymmetric"


def test_what_is_said_of_symmetry_is_checked_and_heeded():
    a = wind()
    b = np.ones(196)
    with pytest.raises(ValueError, match=r"^symmetric must be False or None .* a\[\d+, \d+\] = "):
        solve(a, b, symmetric=True)
    with pytest.raises(ValueError, match=r"^symmetric must be False or None"):
        solve(MATRICES["complex"][1], b, symmetric=True)
    with pytest.raises(TypeError, match="^symmetric must be a bool or None, got str"):
        solve(a, b, symmetric="yes")
    with pytest.raises(ValueError, match="^symmetric must be None with a grid"):
        solve(PoissonGrid(np.zeros((4, 4), np.uint8), boundary="dirichlet"), np.ones((4, 4)), symmetric=True)
    forced = solve(laplacian(1600), np.ones(1600), symmetric=False)
    assert "nonsymmetric" in forced.message
    assert forced.converged
    with pytest.raises(ValueError, match="^solver 'cg' is for a symmetric positive definite matrix"):
        solve(laplacian(), b, symmetric=False, solver="cg")
    for said in (True, None):
        assert solve(laplacian(), b, symmetric=said).converged
        assert solve(MATRICES["Helmholtz, damped"][1], b, symmetric=said).converged


def counting(a):
    """An exact inverse that counts its uses."""
    factor, uses = splu(sparse.csc_array(a)), []

    def apply(r):
        uses.append(1)
        return factor.solve(r)

    return apply, uses


@pytest.mark.parametrize("solver", [None, "gmres", "bicgstab", "minres"])
@pytest.mark.parametrize("name", ["convection", "negative", "Hermitian", "Helmholtz, damped", "Laplacian"])
def test_a_preconditioner_of_the_caller_s_is_used_by_every_method_that_takes_one(name, solver):
    kind, a = MATRICES.get(name, ("spd", laplacian()))
    if solver == "minres" and kind not in MatrixMINRES.kinds:
        return
    apply, uses = counting(-a if name == "negative" else a)
    b = right_hand_side(a)
    as_matrix = sparse.csr_array(np.linalg.inv((-a if name == "negative" else a).toarray()))
    for M in (apply, LinearOperator(a.shape, matvec=apply, dtype=a.dtype), as_matrix):
        solution = solve(a, b, solver=solver, M=M)
        assert solution.converged
        assert solution.iterations <= 3
    assert len(uses) >= 2


def test_a_preconditioner_that_cannot_be_used_is_refused_or_said():
    a, b = wind(), np.ones(196)
    with pytest.raises(ValueError, match="^M must be None with solver 'scipy-direct'"):
        solve(a, b, M=lambda r: r, solver="scipy-direct")
    with pytest.raises(ValueError, match=r"^M must have shape \(196, 196\), got \(3, 3\)"):
        solve(a, b, M=sparse.eye_array(3))
    with pytest.raises(ValueError, match=r"^M must return floats of shape \(196,\), got float64 of shape \(5,\)"):
        solve(a, b, M=lambda r: r[:5])
    with pytest.raises(TypeError, match="^M must be a callable"):
        solve(a, b, M=3)
    wrong = solve(saddle(), np.ones(112), M=lambda r: -r)
    assert wrong.result is Result.STAGNATED
    assert "the preconditioner is not positive definite" in wrong.message
    bad = solve(a, b, M=lambda r: r * np.nan)
    assert bad.result is Result.STAGNATED
    assert "not finite" in bad.message
    for make in (MatrixGMRES, MatrixBiCGStab, MatrixMINRES):
        with pytest.raises(ValueError, match="^preconditioner must be"):
            make("ilut")
        with pytest.raises(TypeError, match="^preconditioner must be"):
            make(3)
    with pytest.raises(ValueError, match="^preconditioner must be 'jacobi', 'none' or"):
        MatrixMINRES("amg")
    with pytest.raises(ValueError, match="^restart must"):
        MatrixGMRES(restart=0)
    with pytest.raises(ValueError, match="^preconditioner 'amg' is for"):
        solve(saddle(), np.ones(112), solver=MatrixGMRES("amg"))


# --- operators without entries ------


class Matvec:
    """The least that an operator has to have."""

    def __init__(self, a):
        self.a, self.shape, self.dtype = a, a.shape, a.dtype

    def matvec(self, x):
        return self.a @ x


@pytest.mark.parametrize("name", ["convection", "saddle point", "Hermitian", "Helmholtz, damped", "Helmholtz"])
def test_an_operator_is_solved_by_its_products_alone(name):
    kind, a = MATRICES[name]
    symmetric = kind not in ("nonsymmetric", "complex-symmetric")
    b = right_hand_side(a)
    exact = np.linalg.solve(a.toarray(), b)
    for operator in (aslinearoperator(a), Matvec(a)):
        solution = solve(operator, b, symmetric=symmetric, rtol=1e-9)
        assert solution.converged, solution.message
        np.testing.assert_allclose(solution.x, exact, atol=1e-5 * abs(exact).max())
        assert "the backward error is normwise" in solution.message
        sizes = np.linalg.norm(a @ solution.x) + np.linalg.norm(b)
        assert solution.backward_error == pytest.approx(solution.true_residual / sizes, rel=1e-6)
    apply, uses = counting(a if kind != "symmetric-indefinite" else sparse.eye_array(a.shape[0]))
    if name != "Helmholtz":  # whose own inverse is not positive definite
        helped = solve(aslinearoperator(a), b, symmetric=symmetric, M=apply)
        assert helped.converged
        assert uses


def test_an_operator_is_refused_by_what_is_missing_or_wrong():
    a, b = aslinearoperator(wind()), np.ones(196)
    with pytest.raises(ValueError, match="^symmetric must be True .* or False for an operator without stored entries"):
        solve(a, b)
    with pytest.raises(ValueError, match="^solver must be one of gmres, bicgstab, minres, auto .* got 'amg'"):
        solve(a, b, solver="amg", symmetric=True)
    with pytest.raises(ValueError, match="^solver 'minres' is for symmetric operators"):
        solve(a, b, solver="minres", symmetric=False)
    with pytest.raises(ValueError, match="^block_size must be None for an operator"):
        solve(a, b, symmetric=True, block_size=2)
    with pytest.raises(ValueError, match=r"^operator must be square, .* got shape \(3, 4\)"):
        solve(aslinearoperator(np.ones((3, 4))), np.ones(3), symmetric=False)
    with pytest.raises(ValueError, match=r"^b must have shape \(196,\)"):
        solve(a, np.ones(3), symmetric=False)
    with pytest.raises(ValueError, match=r"^operator must give real numbers of shape \(4,\), got complex128"):
        solve(LinearOperator((4, 4), matvec=lambda x: 1j * x, dtype=np.float64), np.ones(4), symmetric=False)
    with pytest.raises(ValueError, match="^preconditioner must be 'none' or a map for an operator without entries"):
        solve(a, b, symmetric=False, solver=MatrixGMRES("ilu"))
    with pytest.raises(TypeError, match="^operator must be a PoissonOperator, .* or a LinearOperator, got ndarray"):
        solve(np.eye(4), np.ones(4))


# --- Dirichlet rows, sizes, verdicts ------


def test_dirichlet_rows_are_eliminated_and_the_rest_is_solved_as_its_own_kind():
    a = laplacian(900)
    held = np.random.default_rng(0).random(900) < 0.1
    rows = sparse.csr_array(sparse.diags_array(1.0 - held) @ a + sparse.diags_array(1.0 * held))
    assert MatrixSystem.of(rows).kind == "nonsymmetric"
    b = np.random.default_rng(1).standard_normal(900)
    exact = np.linalg.solve(rows.toarray(), b)
    for solver in ("auto", "amg", "ic-cg"):  # for symmetric ones: the rest is
        solution = solve(rows, b, solver=solver, rtol=1e-9)
        assert solution.converged
        assert solution.info["eliminated"] == held.sum()
        np.testing.assert_allclose(solution.x, exact, atol=1e-6 * abs(exact).max())
        assert norms.scaled_residual(rows, b, solution.x) <= 1.001e-9
    strong = sparse.csr_array([[2e4, 1.0, 0.0], [1e6, 1.0, 0.3], [0.0, 0.2, 1.0]])  # what decides x_0 depends on it
    hung = solve(strong, np.ones(3), rtol=1e-10)
    assert hung.converged
    assert "eliminated" not in hung.info
    triangle = sparse.csr_array(np.triu(np.ones((5, 5))))
    np.testing.assert_allclose(solve(triangle, np.arange(5.0)).x, np.linalg.solve(triangle.toarray(), np.arange(5.0)))


@pytest.mark.parametrize("name", ["convection", "saddle point", "Helmholtz, damped", "Hermitian"])
def test_scaling_the_matrix_and_b_scales_x_and_the_backward_error_is_of_moduli(name):
    _, a = MATRICES[name]
    b = right_hand_side(a)
    plain = solve(a, b, rtol=1e-8)
    for power in (-300, 250):
        scaled = solve(a * 2.0**power, b, rtol=1e-8)
        np.testing.assert_allclose(scaled.x * 2.0**power, plain.x, rtol=1e-9)
        assert scaled.converged
    sizes = abs(a) @ abs(plain.x) + abs(b)
    assert plain.backward_error == pytest.approx(np.max(abs(b - a @ plain.x) / sizes), rel=1e-2, abs=1e-14)
    assert norms.scaled_residual(a, b, plain.x) <= 1.001e-8


def test_singular_matrices_are_refused_or_said_and_never_called_converged():
    with pytest.raises(ValueError, match="^operator must have an entry in each row, got none in row 1"):
        solve(sparse.csr_array([[1.0, 2.0], [0.0, 0.0]]), np.ones(2))
    with pytest.raises(ValueError, match="^operator must have an entry in each column, got none in column 0"):
        solve(sparse.csr_array([[0.0, 2.0], [0.0, 1.0]]), np.ones(2))
    singular = sparse.csr_array([[1.0, 2.0], [3.0, 6.0]])
    solution = solve(singular, np.ones(2))
    assert not solution.converged
    with pytest.raises(ValueError, match="^operator must be regular for solver 'scipy-direct'"):
        solve(singular, np.ones(2), solver="scipy-direct")
    closed = wind(16)
    closed = sparse.csr_array(closed - sparse.diags_array(closed.sum(axis=1)))  # constants are a null vector
    assert solve(closed, closed @ np.arange(256.0), solver="gmres").converged


def test_auto_hands_on_from_a_method_that_is_slow_and_counts_every_iteration_once(monkeypatch):
    monkeypatch.setattr(choice_module, "INCOMPLETE_PATIENCE", 1)
    monkeypatch.setattr(choice_module, "SMALL", 10)
    upwinded = wind(40, 20.0)
    a = sparse.csr_array(wind(40, 0.0) + (upwinded - upwinded.T) / 2)  # central differences: no like of convection
    b = np.random.default_rng(0).standard_normal(1600)
    solution = solve(a, b)
    assert solution.converged
    assert "with ILU(0); not done after " in solution.message
    assert "direct went on: a factor with pivoting fits" in solution.message
    assert len(solution.residuals) == solution.iterations + 1
    cut = solve(a, b, max_iterations=3)
    assert (cut.result, cut.iterations) == (Result.MAX_ITERATIONS, 3)
    stopped = solve(a, b, callback=lambda p: p.iteration == 2)
    assert (stopped.result, stopped.iterations) == (Result.CANCELLED, 2)


def test_a_laplacian_with_a_negative_diagonal_is_solved_by_auto_as_its_negative():
    a = gallery.matrix("laplacian-3d", 4_000)
    b = np.random.default_rng(0).standard_normal((3, a.shape[0]))
    negative = prepare(sparse.csr_array(-a))
    for side, solution in zip(b, solve_many(sparse.csr_array(-a), b), strict=True):
        np.testing.assert_array_equal(solution.x, -solve(a, side).x)
        assert solution.result is Result.CONVERGED
    assert "a negative definite matrix, with its sign changed" in negative.solve(b[0]).message
    updated = negative.update(sparse.csr_array(-2.0 * a)).solve(b[0])
    assert updated.converged
    assert np.linalg.norm(b[0] + 2.0 * (a @ updated.x)) <= 1e-6 * np.linalg.norm(b[0])
    with pytest.raises(ValueError, match="pass -A and -b"):
        solve(sparse.csr_array(-a), b[0], solver="amg")
    closed = gallery.matrix("neumann-2d", 2_500)
    side = closed @ b[0, : closed.shape[0]]
    assert solve(sparse.csr_array(-closed), side).converged


def test_rows_of_a_symmetric_matrix_divided_by_volumes_are_solved_by_its_multigrid():
    stiffness = gallery.matrix("bilinear-2d", 10_000)  # positive off-diagonals, unlike convection
    rng = np.random.default_rng(0)
    volumes = np.exp(rng.uniform(-1, 1, stiffness.shape[0]))
    for sign in (1.0, -1.0):
        a = sparse.csr_array(sparse.diags_array(sign / volumes) @ stiffness)
        a.sort_indices()
        factors = find_row_scaling(a)
        np.testing.assert_allclose(factors / factors[0], volumes / volumes[0], rtol=1e-9)
        b = rng.standard_normal(a.shape[0])
        solution = solve(a, b, rtol=1e-8)
        assert "multigrid for the symmetric one" in solution.message
        assert solution.iterations <= 40
        assert np.linalg.norm(b - a @ solution.x) <= 1e-8 * np.linalg.norm(b)
    a.data[a.indptr[5000]] *= 1.0001
    assert find_row_scaling(a) is None
    assert find_row_scaling(sparse.csr_array(gallery.matrix("recirculating-2d", 2_500))) is None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_eddy_currents_are_preconditioned_by_multigrid_of_both_parts_and_waves_are_not(sign):
    a = gallery.matrix("laplacian-3d", 4_000)
    rng = np.random.default_rng(0)
    b = rng.standard_normal(a.shape[0]) + 1j * rng.standard_normal(a.shape[0])
    losses = sparse.diags_array(np.where(rng.random(a.shape[0]) < 0.3, 1e-2, 1e-4) * a.diagonal())
    eddies = sparse.csr_array(a + sign * 1j * losses)
    solution = solve(eddies, b, rtol=1e-8)
    assert solution.converged
    assert "multigrid for their sum" in solution.message
    assert solution.iterations <= 20
    assert np.linalg.norm(b - eddies @ solution.x) <= 1e-8 * np.linalg.norm(b)
    wave = sparse.csr_array(a - (0.1 - sign * 0.01j) * a.diagonal().max() * sparse.eye_array(a.shape[0]))
    assert "multigrid" not in solve(wave, b).message


def test_an_indefinite_matrix_that_conjugate_gradients_find_out_is_solved_by_auto(monkeypatch):
    from relaxon.solvers.sparse.choice import automatic as choice

    monkeypatch.setattr(choice, "choose", lambda system: choice.MatrixChoice(MATRIX_SOLVERS["cg"], "for this test"))
    a = shifted(0.7, laplacian(400))
    b = np.random.default_rng(0).standard_normal(400)
    solution = solve(a, b)
    assert solution.converged, solution.message
    assert "a symmetric indefinite matrix (the matrix is not positive definite" in solution.message
    assert len(solution.residuals) == solution.iterations + 1
    prepared = prepare(a)
    for _ in range(2):
        assert prepared.solve(b).converged


@pytest.mark.parametrize("name", gallery.matrix_names("nonsymmetric"))
def test_a_family_of_convection_is_an_m_matrix_that_keeps_mass(name):
    a = gallery.matrix(name, 800, seed=1)
    assert a.has_canonical_format
    assert (a != gallery.matrix(name, 800, seed=2)).nnz == 0
    off = a - sparse.diags_array(a.diagonal())
    assert off.data.max() <= 0
    inside = np.asarray(abs(off).sum(axis=1)).ravel() <= a.diagonal() * (1 + 1e-12)
    assert inside.all()
    assert abs(a - a.T).max() > 1
    with pytest.raises(ValueError, match="^kind must be one of spd, nonsymmetric, got 'no'"):
        gallery.matrix_names("no")
