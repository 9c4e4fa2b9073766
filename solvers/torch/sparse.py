"""`sparse_solve`: the solution of a sparse system as a function that torch can differentiate in `b` and stored values.

`x` is a root of `A x − b`, which `relaxon.implicit` differentiates: with `Aᵀ λ = g`, the gradient is `λ` in `b` and
`−λ_i x_j` in the stored value of row i and column j, on the pattern only. Each of its systems is one more solve by the
same set-up. Source: M. B. Giles, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation", 2008, section 2.3.1.
"""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relaxon.core import scaling
from relaxon.core.solve_options import Inconsistent
from relaxon.solvers.driver.solve import prepare
from relaxon.solvers.sparse.engine import MatrixSolver
from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix
from relaxon.solvers.torch.solving import (
    FLOATS,
    DifferentiableOptions,
    Log,
    SymmetricSystem,
    Unconverged,
    check_batch,
    check_float,
    derive_solve,
    is_mapped,
    to_array,
    unwrap_values,
)

LAYOUTS = (torch.sparse_csr, torch.sparse_coo)


def sparse_solve(
    A: torch.Tensor | tuple[Any, torch.Tensor] | PreparedMatrix,
    b: torch.Tensor,
    *,
    solver: str | MatrixSolver | None = None,
    rtol: float = 1e-8,
    adjoint_rtol: float | None = None,
    max_iterations: int | None = None,
    x0: torch.Tensor | None = None,
    inconsistent: Inconsistent = "error",
    unconverged: Unconverged = "error",
    log: Log | None = None,
) -> torch.Tensor:
    """Solve `A x = b` for `x`, differentiable in `b` and in the stored values of A.

    Parameters
    ----------
    A : symmetric positive definite, or singular by constants, as for `relaxon.solvers.solve`: a torch tensor `(n, n)`
        in CSR or COO layout; or `(pattern, values)`, a SciPy sparse matrix whose stored entries get these `values`,
        `(nnz,)` in the order of its `.data`; float32 or float64. Or the result of `prepare(A)`, so that many calls
        share one set-up: then it is a constant. Duplicate entries are summed.
    b : `(n,)`, or `(n, k)` for k right-hand sides; float32 or float64, on any device. Solves run on the CPU in float64:
        tensors on other devices are copied there and back.
    solver : name or object, None for "auto"; not allowed with a prepared solver, which has its own.
    rtol, adjoint_rtol : tolerance on the true relative residual of the solve and of the adjoint solve (`rtol` where
        None). Derivatives are as accurate as both.
    max_iterations, x0, inconsistent : as for `relaxon.solvers.solve`; `x0` is a constant of the shape of `b`. Adjoint
        solves of a singular system always project the gradient.
    unconverged : "error" raises `NotConvergedError`, from the backward pass too; "record" continues with the last
        iterate and needs `log`.
    log : a list to which ("forward" or "adjoint", `Solution`) is appended for each solve.

    Returns
    -------
    x : of the shape and on the device of `b`, in the wider dtype of `b` and the values.

    The gradient of a torch tensor is on its pattern. A stored value and its mirror image are separate variables: build
    both from one where A is to stay symmetric. Torch's constructors of sparse tensors silently lose second derivatives
    (`findings/torch_sparse_second_derivative.sh`): use `(pattern, values)` for these, which is differentiable to any
    order.

    Raises
    ------
    TypeError, ValueError : naming the argument, before any work.
    NotConvergedError : see `unconverged`.

    Examples
    --------
    >>> import torch
    >>> from relaxon.solvers import gallery
    >>> from relaxon.solvers.torch import sparse_solve
    >>> pattern = gallery.matrix("laplacian-2d", 400)
    >>> values = torch.tensor(pattern.data, requires_grad=True)
    >>> b = torch.ones(pattern.shape[0], dtype=torch.float64, requires_grad=True)
    >>> x = sparse_solve((pattern, values), b, rtol=1e-12)
    >>> x.sum().backward()
    >>> bool(torch.allclose(b.grad, x)), bool(torch.allclose(values.grad @ values, -x.sum()))
    (True, True)
    """
    prepared = A if isinstance(A, PreparedMatrix) else None
    if prepared is not None:
        if solver is not None:
            raise ValueError(f"solver must be omitted with a prepared solver, got {solver!r}")
        rows, columns, values = _constants(prepared)
        n = prepared.unknowns
    else:
        rows, columns, values, n = _entries(A)
    terms = DifferentiableOptions(rtol, adjoint_rtol, max_iterations, inconsistent, unconverged, log)
    _check_side("b", b, n)
    if x0 is not None:
        _check_side("x0", x0, n)
        if x0.shape != b.shape:
            raise ValueError(f"x0 must have the shape of b, {tuple(b.shape)}, got {tuple(x0.shape)}")
    system = _SparseSystem(n, rows, columns, prepared, solver, terms)
    if prepared is None and not is_mapped(values):
        system.prepare_for(values)  # raises for invalid matrices before any other work
    dtype = torch.promote_types(b.dtype, values.dtype)
    several = b.ndim == 2
    right, start = (None if v is None else (v.T if several else v).to(dtype) for v in (b, x0))
    x: torch.Tensor = derive_solve(system, "sparse_solve", int(several))(start, right, values.to(dtype))
    return x.T if several else x


@dataclass(frozen=True)
class _SparseSystem(SymmetricSystem):
    """The systems of one call: the pattern, their solvers, and the residual of which their solution is a root."""

    n: int
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    prepared: PreparedMatrix | None
    solver: str | MatrixSolver | None
    terms: DifferentiableOptions
    set_up: list[tuple[NDArray[Any], PreparedMatrix]] = field(default_factory=list)

    def residual(self, x: torch.Tensor, b: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """Return `A x − b`, `(…, n)`, differentiable."""
        rows, columns = (torch.as_tensor(index, device=x.device) for index in (self.rows, self.columns))
        products = values.to(x.device) * x.index_select(-1, columns)
        return torch.zeros_like(x).index_add(-1, rows, products) - b

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.n,)

    def prepare_for(self, values: torch.Tensor) -> PreparedMatrix:
        if self.prepared is not None:
            return self.prepared
        from scipy.sparse import coo_array, csr_array

        data = to_array(values)
        for known, prepared in self.set_up:
            if np.array_equal(known, data):
                return prepared
        matrix = csr_array(coo_array((data, (self.rows, self.columns)), shape=(self.n, self.n)))
        made: PreparedMatrix = prepare(matrix, solver=self.solver)
        if made.system.kind in ("nonsymmetric", "complex-symmetric"):
            raise ValueError("A must be symmetric: the adjoint of another matrix needs a set-up of its transpose")
        self.set_up.append((data.copy(), made))
        return made


def _constants(prepared: PreparedMatrix) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor]:
    """Return rows, columns and values of a prepared matrix, in the caller's scale."""
    matrix = prepared.system.matrix.tocoo()
    data = matrix.data.copy()
    scaling.scale(data, prepared.system.exponent)
    return matrix.row.astype(np.int64), matrix.col.astype(np.int64), torch.from_numpy(data)


def _entries(A: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor, int]:
    """Return rows, columns and values of the entries, and the number of unknowns."""
    if isinstance(A, tuple) and len(A) == 2:
        return _pattern_entries(*A)
    if not isinstance(A, torch.Tensor):
        raise TypeError(
            "A must be a sparse torch tensor, (pattern, values) or the result of prepare(matrix), "
            f"got {type(A).__name__}; for a SciPy matrix use (matrix, torch.tensor(matrix.data))"
        )
    if A.layout not in LAYOUTS:
        raise TypeError(f"A must be in CSR or COO layout, got {A.layout}")
    if A.ndim != 2 or A.shape[0] != A.shape[1] or A.shape[0] == 0 or A.dense_dim() != 0:
        raise ValueError(f"A must be a square matrix with at least one row, got shape {tuple(A.shape)}")
    if A.dtype not in FLOATS:
        raise TypeError(f"A must hold float32 or float64, got {A.dtype}")
    n = int(A.shape[0])
    if A.layout == torch.sparse_coo:
        summed = A.coalesce()
        rows, columns = summed.indices().detach().cpu().numpy()
        return rows, columns, summed.values(), n
    counts = np.diff(A.crow_indices().detach().cpu().numpy())
    columns = A.col_indices().detach().cpu().numpy().astype(np.int64)
    return np.repeat(np.arange(n, dtype=np.int64), counts), columns, A.values(), n


def _pattern_entries(pattern: Any, values: Any) -> tuple[NDArray[np.int64], NDArray[np.int64], torch.Tensor, int]:
    from scipy.sparse import issparse

    if not issparse(pattern):
        raise TypeError(f"A[0] must be a SciPy sparse matrix, got {type(pattern).__name__}")
    if len(pattern.shape) != 2 or pattern.shape[0] != pattern.shape[1] or pattern.shape[0] == 0:
        raise ValueError(f"A[0] must be a square matrix with at least one row, got shape {tuple(pattern.shape)}")
    if pattern.format not in ("csr", "csc", "coo"):
        raise TypeError(f"A[0] must be in CSR, CSC or COO format, whose entries have an order, got {pattern.format!r}")
    check_batch("A[1]", values, (int(pattern.nnz),))
    if values.ndim != 1:
        raise ValueError(f"A[1] must have shape ({pattern.nnz},), got {tuple(values.shape)}")
    if not torch.isfinite(unwrap_values(values).detach()).all():
        raise ValueError("A[1] must be finite, got NaN or infinity")
    if pattern.format == "coo":
        rows, columns = pattern.coords if hasattr(pattern, "coords") else (pattern.row, pattern.col)
    else:
        major = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
        rows, columns = (major, pattern.indices) if pattern.format == "csr" else (pattern.indices, major)
    return np.asarray(rows, np.int64), np.asarray(columns, np.int64), values, int(pattern.shape[0])


def _check_side(name: str, value: Any, n: int) -> None:
    """Raise TypeError or ValueError unless `value` is a dense float tensor `(n,)` or `(n, k)`."""
    check_float(name, value)
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {value.layout}")
    if value.ndim not in (1, 2) or value.shape[0] != n or value.numel() == 0:
        raise ValueError(f"{name} must have shape ({n},) or ({n}, k), got {tuple(value.shape)}")
