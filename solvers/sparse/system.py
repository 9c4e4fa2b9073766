"""A sparse matrix as a system to solve: what is refused, its canonical form, and its constant null vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from relaxon.core import scaling
from relaxon.core.masked import refuse_masks
from relaxon.solvers.grid.nullspace import NullSpace
from relaxon.solvers.sparse.general.kinds import NAMES, SYMMETRY, Finding, find_kind
from relaxon.solvers.sparse.near_null import NearNullSpace
from relaxon.solvers.sparse.null_vectors import NullComponent, find_null_vectors
from relaxon.solvers.sparse.properties import MatrixProperties
from relaxon.solvers.sparse.row_sums import close_rows, component_null_vectors

if TYPE_CHECKING:
    from relaxon.solvers.sparse.inspection import Inspection

Array = NDArray[np.float64]
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
    null_vectors: tuple[NullComponent, ...] = ()
    """Components with null vectors among the combinations of these, whose projection includes that of constants."""
    rows: tuple[Array, Array] | None = None
    """The sums of each row's entries and of their magnitudes, where they are known."""
    kind: str = "spd"
    """"spd", "symmetric-indefinite", "nonsymmetric", "hermitian" or "complex-symmetric", by its entries: whether a
    symmetric matrix with a positive diagonal is definite is not known before a solver finds out."""
    why: str = ""
    """What shows that it is not of the kind "spd"."""
    remark: str = ""
    """What a caller should know of how the kind was found."""
    symmetric: bool | None = None
    """What the caller said."""

    @property
    def unknowns(self) -> int:
        return len(self.diagonal)

    @property
    def is_complex(self) -> bool:
        """Whether entries are complex: vectors are then pairs of real numbers, `(2 unknowns,) float64`."""
        return bool(self.matrix.dtype.kind == "c")

    @property
    def inverse_diagonal(self) -> Array:
        """`1/D`, 0 in empty rows; a new array."""
        return np.divide(1.0, self.diagonal, out=np.zeros_like(self.diagonal), where=self.diagonal > 0)

    @classmethod
    def of(cls, matrix: Any, properties: MatrixProperties | None = None) -> MatrixSystem:
        """Check `matrix` and what is said of it, and bring it into canonical form; it is not modified.

        TypeError or ValueError, before any work, for what is not a square matrix with finite entries. What is
        symmetric with a positive diagonal is of the kind "spd": a row without any entry is allowed there, its unknown
        is a component of its own. Of what positive definiteness asks, the minors of two rows are checked
        (`|a_ij| ≤ √(a_ii a_jj)`); the rest is not known before a solver finds out.
        """
        from scipy.sparse import csr_array

        check_form(matrix)
        refuse_masks(operator=getattr(matrix, "data", None))
        said = None if properties is None else properties.checked(int(matrix.shape[0]))
        symmetric = None if said is None else said.symmetric
        if np.dtype(matrix.dtype).kind == "c":
            matrix = as_real_where_it_is(matrix)
        dtype = np.dtype(np.float32 if matrix.dtype == np.float32 else np.float64)
        wide = np.complex128 if matrix.dtype.kind == "c" else np.float64
        own, found = (None, None) if symmetric is False else _sound_copy(matrix, SYMMETRY[dtype])
        if own is None:
            own = csr_array(matrix, dtype=wide, copy=True)
            found = None if symmetric is False or wide != np.float64 else _sound(own, SYMMETRY[dtype])
        remark = ""
        if found is None:
            own = _canonical(own)
            finding = find_kind(own, np.dtype(matrix.dtype), symmetric)
            remark = finding.remark
            if finding.kind != "spd":
                return _of_another_kind(own, finding, said is not None and said.has_nodes, symmetric)
            diagonal = np.asarray(own.diagonal(), np.float64)
        else:
            diagonal = found.diagonal
        exponent = bring_into_range(own, diagonal)
        rows = None if found is None or exponent else (found.sums, found.magnitudes)
        state = None if rows is None or found is None else found.state
        null, nearly, suspected = component_null_vectors(own, dtype == np.float32, rows, state)
        close_rows(own, nearly)
        if rows is None or nearly.any():
            diagonal = np.asarray(own.diagonal(), np.float64)
        near_null = None if said is None else NearNullSpace.of(said, own)
        single, vectors = bool(nearly.any()), _null_vectors(own, near_null, null)
        return cls(
            own,
            diagonal,
            null,
            exponent,
            single,
            suspected,
            near_null=near_null,
            null_vectors=vectors,
            rows=rows,
            remark=remark,
            symmetric=symmetric,
        )

    @classmethod
    def part(
        cls,
        matrix: Any,
        kept: NDArray[np.int64],
        whole: int,
        near_null: NearNullSpace | None = None,
        found: Inspection | None = None,
    ) -> MatrixSystem:
        """Make a system of the principal submatrix of the unknowns `kept` of a checked one; it is taken over.

        `near_null` is the whole one's; `found` is what a compiled look finds in the rows, where there was one.
        """
        from scipy.sparse import csr_array

        own = csr_array(matrix)
        own.sort_indices()
        exponent = bring_into_range(own, np.asarray(own.diagonal(), np.float64) if found is None else found.diagonal)
        found = None if exponent else found
        rows, state = (None, None) if found is None else ((found.sums, found.magnitudes), found.state)
        null, _, suspected = component_null_vectors(own, False, rows, state)
        diagonal = np.asarray(own.diagonal(), np.float64) if found is None else found.diagonal
        part = None if near_null is None else near_null.part(kept)
        vectors = _null_vectors(own, part, null)
        return cls(own, diagonal, null, exponent, False, suspected, kept, whole, part, vectors, rows)

    def without(self, kept: NDArray[np.int64], faced: NDArray[Any]) -> MatrixSystem:
        """Return the system of the unknowns `kept` alone; `faced` are the columns of all entries in the other rows."""
        if self.rows is None:
            return MatrixSystem.part(self.matrix[kept][:, kept], kept, self.unknowns, self.near_null)
        # A compiled look has found a symmetric pattern, with int32 indices.
        from relaxon.solvers.sparse.inspection import look, principal

        own = principal(self.matrix, kept, faced)
        return MatrixSystem.part(own, kept, self.unknowns, self.near_null, look(own, own).found)

    def magnitudes(self) -> Array:
        """The sum of each row's magnitudes."""
        return np.asarray(abs(self.matrix).sum(axis=1)).ravel() if self.rows is None else self.rows[1]

    def project(self, v: Array) -> Array:
        """Take the null vectors out of `v`, `(n,)`, in place: each singular component's mean, rigid motions, say."""
        if self.null.labels is not None:
            self.null.project(v.reshape(1, 1, -1))
        for component in self.null_vectors:
            component.project(v)
        return v

    def defect(self, b: Array) -> tuple[float, int]:
        """The largest |Σ v b| / Σ |v b| over the null vectors `v`, and which it is, for `describe`."""
        found = [self.null.defect(b.reshape(1, 1, -1))]
        begin = len(self.null.sizes)
        for component in self.null_vectors:
            defect, which = component.defect(b)
            found.append((defect, begin + which))
            begin += len(component.names)
        return max(found)

    def describe(self, number: int) -> str:
        """Say which null vector `defect` has numbered so."""
        if number < len(self.null.sizes):
            return f"component {number} ({self.null.sizes[number]} unknowns, rows that sum to zero)"
        names = [f"along {name} it" for component in self.null_vectors for name in component.described()]
        return names[number - len(self.null.sizes)]

    def apply(self, x: Array, out: Array) -> Array:
        """`out ← A x`."""
        from relaxon.solvers.sparse import kernels

        if self.is_complex:
            out.view(np.complex128)[...] = self.matrix @ x.view(np.complex128)
            return out
        kernels.multiply(self.matrix, x, out)
        return out

    def residual(self, b: Array, x: Array, out: Array) -> float:
        """`out ← b − A x`, in float64; returns its norm."""
        from relaxon.solvers.sparse import kernels

        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(b, self.apply(x, out), out=out)
        return float(np.sqrt(kernels.dot(out, out)))

    def regular(self) -> Any:
        """The matrix with an equation `x_i = 0` added for one unknown of each null vector.

        Where `b` is consistent, its solution is one of the system's own; the null vectors are taken out afterwards.
        """
        if self.null.labels is None and not self.null_vectors:
            return self.matrix
        from scipy.sparse import csr_array, diags_array

        held = np.zeros(self.unknowns)
        if self.null.labels is not None:
            found, first = np.unique(self.null.labels, return_index=True)
            held[first[found > 0]] = 1.0
        for component in self.null_vectors:
            unknowns = np.arange(self.unknowns) if component.index is None else component.index
            held[unknowns] = 0.0
            held[unknowns[component.pinned()]] = 1.0
        return csr_array(self.matrix + diags_array(held * (float(self.diagonal.max()) or 1.0)))


def _null_vectors(matrix: Any, near_null: NearNullSpace | None, null: NullSpace) -> tuple[NullComponent, ...]:
    if near_null is None:
        return ()
    return find_null_vectors(matrix, near_null, null.labels is not None)


def _sound_copy(matrix: Any, tolerance: float) -> tuple[Any, Inspection | None]:
    """A copy of a large matrix made while it is looked at, and what `_sound` says; None twice where it is not one that
    can be copied so."""
    from relaxon.solvers.sparse.inspection import inspect, room_for_copy

    own = room_for_copy(matrix) if matrix.shape[0] >= LOOKED_AT else None
    return (None, None) if own is None else (own, _without_zeros(own, inspect(matrix, tolerance, own)))


def _sound(own: Any, tolerance: float) -> Inspection | None:
    """What a fast look finds, where it finds the matrix in canonical form and in order; `own` may be given int32
    indices."""
    from relaxon.solvers.sparse.inspection import inspect

    if not own.shape[0] >= LOOKED_AT or own.nnz > np.iinfo(np.int32).max:
        return None
    if own.indices.dtype != np.int32 or own.indptr.dtype != np.int32:
        own.indices, own.indptr = own.indices.astype(np.int32), own.indptr.astype(np.int32)
    return _without_zeros(own, inspect(own, tolerance))


def _without_zeros(own: Any, found: Inspection) -> Inspection | None:
    """What was found where nothing is amiss, or stored zeros alone, which are taken out; else None."""
    from relaxon.solvers.sparse.inspection_kernels import STORED_ZERO

    if found.flags == STORED_ZERO:
        own.eliminate_zeros()
        return replace(found, state=None)
    return found if found.flags == 0 else None


def _canonical(own: Any) -> Any:
    """The matrix sorted, without duplicates and stored zeros; ValueError where an entry is not finite."""
    from scipy.sparse import csr_array

    if not np.isfinite(own.data).all():
        bad = int(np.count_nonzero(~np.isfinite(own.data)))
        raise ValueError(f"operator must be finite, got {bad} NaN or infinite of {own.nnz} entries")
    own.sum_duplicates()
    own.eliminate_zeros()
    own.sort_indices()
    if own.nnz <= np.iinfo(np.int32).max and own.indices.dtype != np.int32:
        own = csr_array((own.data, own.indices.astype(np.int32), own.indptr.astype(np.int32)), shape=own.shape)
    return own


def _of_another_kind(own: Any, finding: Finding, has_nodes: bool, symmetric: bool | None) -> MatrixSystem:
    """The system of a canonical matrix that is not of the kind "spd"; ValueError where a row or a column is empty."""
    for name, filled in (("row", np.diff(own.indptr)), ("column", np.bincount(own.indices, minlength=own.shape[0]))):
        if not filled.all():
            place = int(np.argmin(filled > 0))
            raise ValueError(f"operator must have an entry in each {name}, got none in {name} {place}: it is singular")
    if has_nodes:
        raise ValueError(
            "near_null, coordinates and block_size must be None for an operator that is not symmetric positive "
            f"definite, got {NAMES[finding.kind]} one: {finding.why}"
        )
    exponent = bring_into_range(own, np.abs(own.data))
    null = NullSpace(None, np.zeros(1, np.int64))
    return MatrixSystem(
        own, own.diagonal(), null, exponent, kind=finding.kind, why=finding.why, remark=finding.remark,
        symmetric=symmetric,
    )  # fmt: skip


def as_real_where_it_is(matrix: Any) -> Any:
    """Return a complex matrix's real part where its imaginary part is zero, else the matrix."""
    entries = matrix.tocsr()
    return matrix if entries.data.imag.any() else entries.real


def check_form(matrix: Any) -> None:
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"operator must be a square matrix, got shape {shape}")
    if shape[0] == 0:
        raise ValueError("operator must have at least one row, got shape (0, 0)")
    kind = np.dtype(matrix.dtype)
    if kind.kind not in "iufc" or kind.itemsize > (16 if kind.kind == "c" else 8):
        raise TypeError(f"operator must hold float32, float64, complex64, complex128 or integers, got dtype {kind}")


def bring_into_range(matrix: Any, sizes: Array) -> int:
    """Divide the entries by a power of two, in place, where the largest of `sizes` is extreme; its exponent."""
    largest = float(sizes.max())
    exponent = 0 if largest == 0 or scaling.is_safe(largest) else scaling.exponent_of(largest)
    scaling.scale(matrix.data.view(np.float64), -exponent)
    return exponent
