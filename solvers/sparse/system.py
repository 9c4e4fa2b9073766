"""A sparse matrix as a system to solve: what is refused, its canonical form, and its constant null vectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers import scaling
from relaxon.solvers.masked import refuse_masks
from relaxon.solvers.nullspace import NullSpace
from relaxon.solvers.sparse.near_null import NearNullSpace
from relaxon.solvers.sparse.properties import MatrixProperties
from relaxon.solvers.sparse.row_sums import close_rows, component_null_vectors

if TYPE_CHECKING:
    from relaxon.solvers.sparse.inspection import Inspection

Array = NDArray[np.float64]
SYMMETRY = {np.dtype(np.float32): 1e-5, np.dtype(np.float64): 1e-10}
"""How far `a_ij` and `a_ji` may lie apart, relative to `√(a_ii a_jj)`: some hundred roundings of an assembly."""
NEARLY_SYMMETRIC = 1e3
"""Times that, an assembly was still meant to be symmetric, and its mean with its transpose is what was meant."""

LOOKED_AT = 20_000
"""Rows from which on a compiled look at a matrix is quicker than SciPy's checks one by one."""


@runtime_checkable
class SparseMatrix(Protocol):
    """What SciPy's sparse matrices and arrays have in common."""

    shape: Any

    def tocsr(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class MatrixSystem:
    """A checked matrix: canonical CSR in float64 without stored zeros, a copy of its own, and what follows from it.

    `null` holds the connected components whose rows all sum to zero, each with a constant null vector; its labels
    have shape `(1, 1, n)`, for the kernels.
    """

    matrix: Any
    diagonal: Array
    null: NullSpace
    exponent: int = 0
    """The caller's matrix is `2^exponent` times this one: not 0 where its entries are extreme."""
    single: bool = False
    """Whether rows sum to zero to the rounding of float32 only."""
    suspected: bool = False
    """Whether rows of a whole component sum to about the rounding of float32, which is not what their entries are."""
    kept: NDArray[np.int64] | None = None
    """Where this is the principal submatrix of another: its unknowns there."""
    whole: int = 0
    """The other's number of unknowns, 0 where there is none."""
    near_null: NearNullSpace | None = None
    """What the caller says of nodes and near-null vectors."""

    @property
    def unknowns(self) -> int:
        return len(self.diagonal)

    @property
    def inverse_diagonal(self) -> Array:
        """`1/D`, 0 in empty rows; a new array."""
        return np.divide(1.0, self.diagonal, out=np.zeros_like(self.diagonal), where=self.diagonal > 0)

    @classmethod
    def of(cls, matrix: Any, properties: MatrixProperties | None = None) -> MatrixSystem:
        """Check `matrix` and what is said of it, and bring it into canonical form; it is not modified.

        TypeError or ValueError, before any work, for what is not a real, square, symmetric matrix with finite
        entries and a positive diagonal. A row without any entry is allowed: its unknown is a component of its own.
        Of what positive definiteness asks, the minors of two rows are checked (`|a_ij| ≤ √(a_ii a_jj)`); the rest is
        not known before a solver finds out.
        """
        from scipy.sparse import csr_array

        _check_form(matrix)
        refuse_masks(operator=getattr(matrix, "data", None))
        unknowns = int(matrix.shape[0])
        near_null = None if properties is None else NearNullSpace.of(properties.checked(unknowns), unknowns)
        dtype = np.dtype(np.float32 if matrix.dtype == np.float32 else np.float64)
        own = csr_array(matrix, dtype=np.float64, copy=True)
        found = _sound(own, SYMMETRY[dtype])
        if found is None:
            own, diagonal = _checked(own, SYMMETRY[dtype])
        else:
            diagonal = found.diagonal
        exponent = _bring_into_range(own, diagonal)
        rows = None if found is None or exponent else (found.sums, found.magnitudes)
        null, nearly, suspected = component_null_vectors(own, dtype == np.float32, rows)
        close_rows(own, nearly)
        diagonal, single = np.asarray(own.diagonal(), np.float64), bool(nearly.any())
        return cls(own, diagonal, null, exponent, single, suspected, near_null=near_null)

    @classmethod
    def part(
        cls, matrix: Any, kept: NDArray[np.int64], whole: int, near_null: NearNullSpace | None = None
    ) -> MatrixSystem:
        """Make a system of the principal submatrix of the unknowns `kept` of a checked one; it is taken over.

        `near_null` is the whole one's.
        """
        from scipy.sparse import csr_array

        own = csr_array(matrix)
        own.sort_indices()
        exponent = _bring_into_range(own, np.asarray(own.diagonal(), np.float64))
        null, _, suspected = component_null_vectors(own, single=False)
        diagonal = np.asarray(own.diagonal(), np.float64)
        part = None if near_null is None else near_null.part(kept)
        return cls(own, diagonal, null, exponent, suspected=suspected, kept=kept, whole=whole, near_null=part)

    def project(self, v: Array) -> Array:
        """Subtract, in place, the mean of each singular component; returns `v`, `(n,)`."""
        if self.null.labels is not None:
            self.null.project(v.reshape(1, 1, -1))
        return v

    def defect(self, b: Array) -> tuple[float, int]:
        """The largest |Σ b| / Σ |b| over the singular components, and which it is."""
        return self.null.defect(b.reshape(1, 1, -1))

    def apply(self, x: Array, out: Array) -> Array:
        """`out ← A x`."""
        from relaxon.solvers.sparse import kernels

        kernels.multiply(self.matrix, x, out)
        return out

    def residual(self, b: Array, x: Array, out: Array) -> float:
        """`out ← b − A x`, in float64; returns its norm."""
        from relaxon.solvers.sparse import kernels

        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(b, self.apply(x, out), out=out)
        return float(np.sqrt(kernels.dot(out, out)))

    def regular(self) -> Any:
        """The matrix with an equation `x_i = 0` added for one unknown of each singular component.

        Where `b` is consistent, its solution is one of the system's own; the mean is set afterwards.
        """
        if self.null.labels is None:
            return self.matrix
        from scipy.sparse import csr_array, diags_array

        held = np.zeros(self.unknowns)
        found, first = np.unique(self.null.labels, return_index=True)
        held[first[found > 0]] = float(self.diagonal.max()) or 1.0
        return csr_array(self.matrix + diags_array(held))


def _sound(own: Any, tolerance: float) -> Inspection | None:
    """What a fast look finds, where it finds the matrix in canonical form and in order; `own` may be given int32
    indices."""
    from relaxon.solvers.sparse.inspection import inspect
    from relaxon.solvers.sparse.inspection_kernels import STORED_ZERO

    if not own.shape[0] >= LOOKED_AT or own.nnz > np.iinfo(np.int32).max:
        return None
    if own.indices.dtype != np.int32 or own.indptr.dtype != np.int32:
        own.indices, own.indptr = own.indices.astype(np.int32), own.indptr.astype(np.int32)
    found = inspect(own, tolerance)
    if found.flags == STORED_ZERO:
        own.eliminate_zeros()
    return found if found.flags in (0, STORED_ZERO) else None


def _checked(own: Any, tolerance: float) -> tuple[Any, Array]:
    """The matrix in canonical form and its diagonal, after the checks one by one, with what to say."""
    from scipy.sparse import csr_array

    if not np.isfinite(own.data).all():
        bad = int(np.count_nonzero(~np.isfinite(own.data)))
        raise ValueError(f"operator must be finite, got {bad} NaN or infinite of {own.nnz} entries")
    own.sum_duplicates()
    own.eliminate_zeros()
    own.sort_indices()
    if own.nnz <= np.iinfo(np.int32).max and own.indices.dtype != np.int32:
        own = csr_array((own.data, own.indices.astype(np.int32), own.indptr.astype(np.int32)), shape=own.shape)
    diagonal = _checked_diagonal(own)
    _check_symmetry(own, diagonal, tolerance)
    _check_minors(own, diagonal, tolerance)
    return own, diagonal


def _check_form(matrix: Any) -> None:
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"operator must be a square matrix, got shape {shape}")
    if shape[0] == 0:
        raise ValueError("operator must have at least one row, got shape (0, 0)")
    kind = np.dtype(matrix.dtype)
    if kind.kind not in "iuf" or kind.itemsize > np.dtype(np.float64).itemsize:
        raise TypeError(f"operator must hold float32, float64 or integers, got dtype {kind}")


def _bring_into_range(matrix: Any, diagonal: Array) -> int:
    """Divide the entries by a power of two, in place, where the largest is extreme; its exponent."""
    largest = float(diagonal.max())
    exponent = 0 if largest == 0 or scaling.is_safe(largest) else scaling.exponent_of(largest)
    scaling.scale(matrix.data, -exponent)
    return exponent


def _checked_diagonal(matrix: Any) -> Array:
    diagonal: Array = np.asarray(matrix.diagonal(), np.float64)
    wrong = (diagonal <= 0) & (np.diff(matrix.indptr) > 0)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"operator must have a positive diagonal, got {diagonal[row]} in row {row} "
            f"({np.count_nonzero(wrong)} such rows): it is not positive definite"
        )
    return diagonal


def _check_symmetry(matrix: Any, diagonal: Array, tolerance: float) -> None:
    difference = (matrix - matrix.T).tocoo()
    if difference.nnz == 0:
        return
    scale = np.sqrt(diagonal)[difference.row] * np.sqrt(diagonal)[difference.col]
    excess = np.abs(difference.data) - tolerance * scale
    worst = int(excess.argmax())
    if excess[worst] > 0:
        i, j = int(difference.row[worst]), int(difference.col[worst])
        raise ValueError(
            f"operator must be symmetric to {tolerance:g} √(a_ii a_jj), got a[{i}, {j}] = {matrix[i, j]:.17g} and "
            f"a[{j}, {i}] = {matrix[j, i]:.17g}: {_way_to_symmetry(matrix, difference, excess, scale, tolerance)}"
        )


def _way_to_symmetry(matrix: Any, difference: Any, excess: Array, scale: Array, tolerance: float) -> str:
    """What the caller of a matrix that is not symmetric can do."""
    wrong = excess > 0
    alone = np.diff(matrix.indptr) == 1
    held = alone[difference.row[wrong]] | alone[difference.col[wrong]]
    if held.all():
        rows = np.unique(np.concatenate([difference.row[wrong], difference.col[wrong]]))
        first = int(rows[alone[rows]][0])
        return (
            f"{np.count_nonzero(alone[rows])} rows, the first of them {first}, hold their diagonal alone while their "
            "columns are kept (Dirichlet rows): there x_i = b_i / a_ii is known, so subtract a[:, i] x_i from the "
            "other entries of b and set the other entries of column i to zero"
        )
    worst = float((np.abs(difference.data)[wrong] / np.maximum(scale[wrong], np.finfo(float).tiny)).max())
    if worst <= NEARLY_SYMMETRIC * tolerance:
        return "where that is rounding, pass (A + A.T) / 2"
    return "it needs a solver for nonsymmetric systems, as (A + A.T) / 2 is another system"


def _check_minors(matrix: Any, diagonal: Array, tolerance: float) -> None:
    rows = np.repeat(np.arange(len(diagonal)), np.diff(matrix.indptr))
    root = np.sqrt(diagonal)
    excess = np.abs(matrix.data) - (1.0 + tolerance) * root[rows] * root[matrix.indices]
    worst = int(excess.argmax()) if len(excess) else 0
    if len(excess) and excess[worst] > 0 and rows[worst] != matrix.indices[worst]:
        i, j = int(rows[worst]), int(matrix.indices[worst])
        raise ValueError(
            f"operator must be positive definite, got |a[{i}, {j}]| = {abs(matrix.data[worst]):.6g} above "
            f"√(a[{i}, {i}] a[{j}, {j}]) = {root[i] * root[j]:.6g}"
        )
