"""The stopping criteria of other libraries' solvers, as functions of `(A, b, x, M)`; docs/tolerances.md compares them.

`A` and `M` are anything with a product: SciPy sparse matrices, `LinearOperator`s, arrays. `M` approximates `A⁻¹`.
relaxon's own are `relative_residual` and `scaled_residual`, in float64.
"""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
DECIDED = 1e4
"""A diagonal entry decides its unknown where it is so many times the sum of the others' magnitudes."""
ROUNDING = 1e-3
"""The tolerance for rounding in the sum of squared couplings that is compared with `1/DECIDED`."""


def relative_residual(A: Any, b: Vector, x: Vector) -> float:
    """Return `‖b − A x‖₂ / ‖b‖₂`: relaxon's; SciPy's and PyAMG's `cg` and `bicgstab`, SciPy's `gmres`, PETSc's
    "unpreconditioned" norm."""
    return _ratio(float(np.linalg.norm(b - A @ x)), float(np.linalg.norm(b)))


def scaled_residual(A: Any, b: Vector, x: Vector) -> float:
    """Return `‖D^−½ (b − A x)‖₂ / ‖D^−½ b'‖₂`, `D` the diagonal of a sparse matrix: relaxon's second test, for matrices
    and where κ varies. Left out are the unknowns that their own diagonal decides, `a_ii ≥ 10⁴ Σ_{j≠i} |a_ij|` and
    `Σ_{j≠i} |a_ij a_ji| / (a_ii a_jj) ≤ 10⁻⁴`; `b'` is `b` without what these contribute. Of the diagonal the magnitude
    counts, or the row's largest where it is zero; no unknown of a complex matrix is left out."""
    size = abs(A)
    diagonal = np.abs(A.diagonal())
    others = np.asarray(size.sum(axis=1)).ravel() - diagonal
    scale = np.where(diagonal > 0, diagonal, size.max(axis=1).toarray().ravel())
    inverse = np.divide(1.0, scale, out=np.zeros(len(scale)), where=scale > 0)
    couplings = (size.multiply(size.T).tocsr() @ inverse) * inverse - (diagonal > 0)
    decided = (diagonal > 0) & (diagonal >= DECIDED * others) & (couplings * DECIDED <= 1.0 + ROUNDING)
    weight = np.sqrt(np.where(decided & (A.dtype.kind != "c"), 0.0, inverse))
    side = weight * (b - A @ np.where(decided, x, 0.0))
    return _ratio(float(np.linalg.norm(weight * (b - A @ x))), float(np.linalg.norm(side)))


def preconditioned_residual(A: Any, b: Vector, x: Vector, M: Any) -> float:
    """Return `‖M (b − A x)‖₂ / ‖M b‖₂`: PETSc's default with left preconditioning, PyAMG's `gmres`."""
    return _ratio(float(np.linalg.norm(M @ (b - A @ x))), float(np.linalg.norm(M @ b)))


def natural_residual(A: Any, b: Vector, x: Vector, M: Any) -> float:
    """Return `√(rᵀ M r) / √(bᵀ M b)` with `r = b − A x`, for symmetric positive definite `M`: PETSc's "natural" norm,
    hypre's PCG where its two-norm is not asked for."""
    r = b - A @ x
    return _ratio(math.sqrt(max(float(r @ (M @ r)), 0.0)), math.sqrt(max(float(b @ (M @ b)), 0.0)))


def backward_residual(A: Any, b: Vector, x: Vector) -> float:
    """Return `‖b − A x‖₂ / (‖A‖_F ‖x‖₂)` for a matrix, sparse or dense: what SciPy's `minres` tests first.

    Its `‖A‖` is estimated from the coefficients of all its iterations: below the Frobenius norm at first, and above it
    where there are more iterations than unknowns.
    """
    return _ratio(float(np.linalg.norm(b - A @ x)), _size(A) * float(np.linalg.norm(x)))


def normal_residual(A: Any, b: Vector, x: Vector) -> float:
    """Return `‖A r‖₂ / (‖A‖_F ‖r‖₂)` with `r = b − A x`, for a symmetric matrix: the other test of `minres`.

    It is also small where `x` solves the system in the least-squares sense only.
    """
    r = b - A @ x
    return _ratio(float(np.linalg.norm(A @ r)), _size(A) * float(np.linalg.norm(r)))


def openfoam_factor(A: Any, b: Vector, x0: Vector) -> float:
    """Return OpenFOAM's normFactor `Σ (|A x0 − A x̄| + |b − A x̄|)`, where `x̄` is the mean of the start `x0`."""
    mean = A @ np.full_like(x0, x0.mean())
    return float(np.abs(A @ x0 - mean).sum() + np.abs(b - mean).sum())


def openfoam_residual(A: Any, b: Vector, x: Vector, x0: Vector) -> float:
    """Return OpenFOAM's residual of `x`, `Σ |b − A x|` over the factor of its start `x0`.

    Examples
    --------
    What OpenFOAM's `tolerance` of 1e-6 asks for, reached or bettered by `atol`, as `‖r‖₁ ≤ √n ‖r‖₂`:

    >>> import numpy as np
    >>> from relaxon.solvers import PoissonGrid, norms, solve
    >>> grid = PoissonGrid(np.zeros((24, 24), np.uint8), boundary="dirichlet")
    >>> A, b, x0 = grid.operator().to_csr(), np.ones(576), np.linspace(0.0, 1.0, 576)
    >>> atol = 1e-6 * norms.openfoam_factor(A, b, x0) / np.sqrt(b.size)
    >>> x = solve(A, b, x0=x0, rtol=1e-15, atol=atol).x
    >>> norms.openfoam_residual(A, b, x, x0) <= 1e-6
    True
    """
    return _ratio(float(np.abs(b - A @ x).sum()), openfoam_factor(A, b, x0))


def _size(A: Any) -> float:
    """Return the Frobenius norm of a matrix, sparse or dense."""
    from scipy.sparse import issparse
    from scipy.sparse.linalg import norm

    return float(norm(A) if issparse(A) else np.linalg.norm(A))


def _ratio(numerator: float, denominator: float) -> float:
    if denominator == 0.0:
        return 0.0 if numerator == 0.0 else math.inf
    return numerator / denominator
