"""The measures of other libraries: a solver that says that it converged has met the one that the page names for it."""

import numpy as np
import pyamg
import pytest
from scipy import sparse
from scipy.sparse import linalg

from relaxon.solvers import norms, solve

TOLERANCE = 1e-6


def system(mixed, side=20):
    """A five-point Laplacian, with unknowns in units from 1e-3 to 1e3 where `mixed`; b; the inverse of the diagonal."""
    path = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(side, side))
    rng = np.random.default_rng(1)
    b = rng.normal(size=side * side)
    units = sparse.diags_array(10.0 ** (rng.uniform(-3, 3, side * side) if mixed else np.zeros(side * side)))
    A = sparse.csr_matrix(units @ sparse.csr_array(sparse.kronsum(path, path)) @ units)
    return A, b, sparse.csr_matrix(sparse.diags_array(1 / A.diagonal()))


def test_the_measures_are_what_their_formulas_say():
    A, b, M = system(mixed=True)
    x, x0 = np.random.default_rng(2).normal(size=(2, b.size))
    r, inverse = b - A.toarray() @ x, M.toarray()
    mean = A.toarray() @ np.full(b.size, x0.mean())
    factor = np.sum(np.abs(A.toarray() @ x0 - mean) + np.abs(b - mean))
    expected = {
        norms.relative_residual(A, b, x): np.linalg.norm(r) / np.linalg.norm(b),
        norms.scaled_residual(A, b, x): np.sqrt(r @ inverse @ r) / np.sqrt(b @ inverse @ b),
        norms.preconditioned_residual(A, b, x, M): np.linalg.norm(inverse @ r) / np.linalg.norm(inverse @ b),
        norms.natural_residual(A, b, x, M): np.sqrt((r @ inverse @ r) / (b @ inverse @ b)),
        norms.backward_residual(A, b, x): np.linalg.norm(r) / (np.linalg.norm(A.toarray()) * np.linalg.norm(x)),
        norms.normal_residual(A, b, x): np.linalg.norm(A @ r) / (np.linalg.norm(A.toarray()) * np.linalg.norm(r)),
        norms.openfoam_residual(A, b, x, x0): np.abs(r).sum() / factor,
    }
    for found, right in expected.items():
        assert found == pytest.approx(right, rel=1e-9)


def test_huge_rows_hide_nothing_from_the_scaled_residual():
    A, b, _ = system(mixed=False)
    held = np.arange(b.size) < 20
    A = sparse.csr_array(A + sparse.diags_array(np.where(held, 1e12, 0.0)))
    b = np.where(held, 1e12, 0.0)
    guess = np.where(held, 1.0, 0.0)
    assert norms.relative_residual(A, b, guess) < 1e-6
    assert norms.scaled_residual(A, b, guess) > 0.5
    solution = solve(A, b, rtol=1e-8)
    assert solution.converged
    assert norms.scaled_residual(A, b, solution.x) <= 1e-8 * (1 + 1e-6)


def test_a_zero_right_hand_side_has_residual_0_at_0_and_none_elsewhere():
    A, b, M = system(mixed=False)
    zero = np.zeros_like(b)
    assert norms.relative_residual(A, zero, zero) == norms.preconditioned_residual(A, zero, zero, M) == 0.0
    assert norms.relative_residual(A, zero, b) == np.inf


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", ["cg", "bicgstab", "gmres"])
def test_scipy_s_number_is_that_of_the_true_residual(name, mixed):
    A, b, M = system(mixed)
    options = {"restart": 100} if name == "gmres" else {}
    x, info = getattr(linalg, name)(A, b, M=M, rtol=TOLERANCE, maxiter=20_000, **options)
    assert info == 0
    assert norms.relative_residual(A, b, x) <= 1.01 * TOLERANCE


def test_minres_stops_by_another_measure_and_the_true_residual_is_far_above():
    A = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(1000, 1000)).tocsr()
    b = np.ones(1000)
    x, info = linalg.minres(A, b, rtol=TOLERANCE, maxiter=20_000)
    assert info == 0
    assert min(norms.backward_residual(A, b, x), norms.normal_residual(A, b, x)) <= TOLERANCE
    assert norms.relative_residual(A, b, x) > 100 * TOLERANCE
    assert norms.relative_residual(A, b, solve(A, b, rtol=TOLERANCE).x) <= TOLERANCE


def test_pyamg_s_cg_measures_the_residual_and_its_gmres_the_preconditioned_one():
    A, b, M = system(mixed=True)
    x, info = pyamg.krylov.cg(A, b, M=M, tol=TOLERANCE, maxiter=20_000)
    assert info == 0
    assert norms.relative_residual(A, b, x) <= 1.01 * TOLERANCE
    x, info = pyamg.krylov.gmres(A, b, M=M, tol=TOLERANCE, restart=200, maxiter=200)
    assert info == 0
    assert norms.preconditioned_residual(A, b, x, M) <= 1.01 * TOLERANCE
    assert norms.relative_residual(A, b, x) > 100 * TOLERANCE
