"""A sparse matrix as a checked system: validation, canonical form, and its constant null vectors."""

# Imported on first use, for its weight: scipy.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import scaling
from relaxon.core.masked import refuse_masks
from relaxon.solvers.grid.nullspace import NullSpace
from relaxon.solvers.interface.elimination import is_decided
from relaxon.solvers.sparse.system import vector_kernels as kernels
from relaxon.solvers.sparse.system.inspection import (
    Inspection,
    extract_principal,
    inspect,
    look_at_matrix,
    room_for_copy,
)
from relaxon.solvers.sparse.system.inspection_kernels import DECIDES, STORED_ZERO
from relaxon.solvers.sparse.system.matrix_kinds import NAMES, SYMMETRY, Finding, find_kind
from relaxon.solvers.sparse.system.near_null import NearNullSpace
from relaxon.solvers.sparse.system.null_vectors import NullComponent, find_null_vectors
from relaxon.solvers.sparse.system.properties import MatrixProperties
from relaxon.solvers.sparse.system.row_runs import SHARED_ROWS
from relaxon.solvers.sparse.system.row_sums import close_rows, find_constant_null_vectors

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class MatrixSystem:
    """A checked matrix and its properties: a copy in canonical CSR form, float64 or complex128, without stored zeros.

    `null` holds the connected components whose rows all sum to zero, each of which has a constant null vector; its
    labels have shape `(1, 1, n)`, for the kernels.
    """

    matrix: Any
    diagonal: Array
    null: NullSpace
    exponent: int = 0
    """The caller's matrix is `2^exponent` times this one; 0 unless its entries are extreme."""
    single: bool = False
    """Whether rows sum to zero only to the rounding of float32."""
    suspected: bool = False
    """Whether the rows of a whole component sum to about the rounding of float32 though their entries are float64."""
    kept: NDArray[np.int64] | None = None
    """The unknowns of a larger system of which this is the principal submatrix, None where there is none."""
    whole: int = 0
    """The number of unknowns of that larger system, 0 where there is none."""
    near_null: NearNullSpace | None = None
    """The caller's nodes and near-null vectors."""
    null_vectors: tuple[NullComponent, ...] = ()
    """Components with null vectors among their combinations; projecting these out includes constants."""
    state: NDArray[np.uint8] | None = None
    """Each row's state as the compiled inspection finds it, where there was one; its indices are then int32."""
    kind: str = "spd"
    """"spd", "symmetric-indefinite", "nonsymmetric", "hermitian" or "complex-symmetric", judged by the entries. Whether
    a symmetric matrix with a positive diagonal is in fact definite only a solver can find out."""
    why: str = ""
    """The evidence that it is not of the kind "spd"."""
    remark: str = ""
    """What a caller should know about how the kind was determined."""
    symmetric: bool | None = None
    """What the caller declared."""

    @property
    def unknowns(self) -> int:
        return len(self.diagonal)

    @property
    def is_complex(self) -> bool:
        """Whether entries are complex; vectors are then stored as pairs of real numbers, `(2 unknowns,) float64`."""
        return bool(self.matrix.dtype.kind == "c")

    @property
    def inverse_diagonal(self) -> Array:
        """`1/D`, 0 in empty rows, as a new array."""
        return np.divide(1.0, self.diagonal, out=np.zeros_like(self.diagonal), where=self.diagonal > 0)

    @classmethod
    def of(cls, matrix: Any, properties: MatrixProperties | None = None) -> MatrixSystem:
        """Check `matrix` and its properties, and bring a copy into canonical form.

        TypeError or ValueError, before any work, unless it is a square matrix with finite entries. A symmetric matrix
        with a positive diagonal is of the kind "spd"; empty rows are allowed there, and each such unknown is a
        component of its own. Of the conditions for positive definiteness only the 2 × 2 minors are checked
        (`|a_ij| ≤ √(a_ii a_jj)`); a solver finds out the rest.
        """
        from scipy.sparse import csr_array

        check_form(matrix)
        refuse_masks(operator=getattr(matrix, "data", None))
        said = None if properties is None else properties.validate(int(matrix.shape[0]))
        symmetric = None if said is None else said.symmetric
        if np.dtype(matrix.dtype).kind == "c":
            matrix = drop_zero_imaginary(matrix)
        dtype = np.dtype(np.float32 if matrix.dtype == np.float32 else np.float64)
        wide = np.complex128 if matrix.dtype.kind == "c" else np.float64
        own, found = (None, None) if symmetric is False else _inspect_copy(matrix, SYMMETRY[dtype])
        if own is None:
            own = csr_array(matrix, dtype=wide, copy=True)
            found = None if symmetric is False or wide != np.float64 else _inspect(own, SYMMETRY[dtype])
        remark = ""
        if found is None:
            own = _canonicalise(own)
            finding = find_kind(own, np.dtype(matrix.dtype), symmetric)
            remark = finding.remark
            if finding.kind != "spd":
                return _make_other_kind(own, finding, said is not None and said.has_nodes, symmetric)
            diagonal = np.asarray(own.diagonal(), np.float64)
        else:
            diagonal = found.diagonal
        exponent = bring_into_range(own, diagonal)
        state = None if found is None or exponent else found.state
        null, nearly, suspected = find_constant_null_vectors(own, dtype == np.float32, state)
        close_rows(own, nearly)
        if state is None or nearly.any():
            diagonal = np.asarray(own.diagonal(), np.float64)
        near_null = None if said is None else NearNullSpace.of(said, own)
        single, vectors = bool(nearly.any()), _find_null_vectors(own, near_null, null)
        return cls(
            own,
            diagonal,
            null,
            exponent,
            single,
            suspected,
            near_null=near_null,
            null_vectors=vectors,
            state=state,
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
        null: NullSpace | None = None,
    ) -> MatrixSystem:
        """Return the system of a principal submatrix of a checked matrix, on the unknowns `kept`, without a copy.

        `near_null` is that of the larger system; `found` is the compiled inspection of the rows, where there was one,
        and `null` their singular components, where known.
        """
        from scipy.sparse import csr_array

        own = csr_array(matrix)
        own.sort_indices()
        exponent = bring_into_range(own, np.asarray(own.diagonal(), np.float64) if found is None else found.diagonal)
        found = None if exponent else found
        state = None if found is None else found.state
        suspected = False
        if null is None or state is None:
            null, _, suspected = find_constant_null_vectors(own, False, state)
        diagonal = np.asarray(own.diagonal(), np.float64) if found is None else found.diagonal
        part = None if near_null is None else near_null.part(kept)
        vectors = _find_null_vectors(own, part, null)
        return cls(own, diagonal, null, exponent, False, suspected, kept, whole, part, vectors, state)

    def without(self, kept: NDArray[np.int64], faced: NDArray[Any]) -> MatrixSystem:
        """Return the system of the unknowns `kept`; `faced` are the columns of all entries in the other rows."""
        if self.state is None:
            return MatrixSystem.part(self.matrix[kept][:, kept], kept, self.unknowns, self.near_null)
        # The compiled inspection has found a symmetric pattern with int32 indices.
        own = extract_principal(self.matrix, kept, faced)
        if len(faced) == self.unknowns - len(kept) and not (self.single or self.suspected):  # only diagonal entries
            found = Inspection(0, self.diagonal[kept], self.state[kept])
            null = self.null.without(kept)
            return MatrixSystem.part(own, kept, self.unknowns, self.near_null, found, null)
        return MatrixSystem.part(own, kept, self.unknowns, self.near_null, look_at_matrix(own, own).found)

    def find_decided(self) -> NDArray[np.bool_]:
        """Return where the diagonal decides: see `relaxon.solvers.interface.elimination`."""
        if self.state is not None:
            return np.asarray(self.state & DECIDES, np.bool_)
        return is_decided(self.diagonal, np.asarray(abs(self.matrix).sum(axis=1)).ravel() - self.diagonal)

    def project(self, v: Array) -> Array:
        """Project the null vectors out of `v`, `(n,)`, in place: each singular component's mean, or rigid motions."""
        if self.null.labels is not None:
            self.null.project(v.reshape(1, 1, -1))
        for component in self.null_vectors:
            component.project(v)
        return v

    def defect(self, b: Array) -> tuple[float, int]:
        """Return the largest `|Σ v b| / Σ |v b|` over the null vectors `v`, and its number, for `describe`."""
        found = [self.null.defect(b.reshape(1, 1, -1))]
        begin = len(self.null.sizes)
        for component in self.null_vectors:
            defect, which = component.defect(b)
            found.append((defect, begin + which))
            begin += len(component.names)
        return max(found)

    def describe(self, number: int) -> str:
        """Return a description of the null vector with that number from `defect`."""
        if number < len(self.null.sizes):
            return f"component {number} ({self.null.sizes[number]} unknowns, rows that sum to zero)"
        names = [f"along {name} it" for component in self.null_vectors for name in component.describe_tests()]
        return names[number - len(self.null.sizes)]

    def apply(self, x: Array, out: Array) -> Array:
        """Write `out ← A x`, and return `out`."""
        if self.is_complex:
            out.view(np.complex128)[...] = self.matrix @ x.view(np.complex128)
            return out
        kernels.multiply(self.matrix, x, out)
        return out

    def residual(self, b: Array, x: Array, out: Array) -> float:
        """Write `out ← b − A x` in float64, and return its norm."""
        with np.errstate(over="ignore", invalid="ignore"):
            np.subtract(b, self.apply(x, out), out=out)
        return float(np.sqrt(kernels.dot(out, out)))

    def regular(self) -> Any:
        """Return the matrix with an equation `x_i = 0` added for one unknown of each null vector.

        Where `b` is consistent, its solution also solves the singular system; the null vectors are projected out
        afterwards.
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
            held[unknowns[component.choose_pinned()]] = 1.0
        return csr_array(self.matrix + diags_array(held * (float(self.diagonal.max()) or 1.0)))


def _find_null_vectors(matrix: Any, near_null: NearNullSpace | None, null: NullSpace) -> tuple[NullComponent, ...]:
    if near_null is None:
        return ()
    return find_null_vectors(matrix, near_null, null.labels is not None)


def _inspect_copy(matrix: Any, tolerance: float) -> tuple[Any, Inspection | None]:
    """Return a copy of a large matrix, made while it is inspected, and what `_inspect` returns; None twice where the
    matrix is not of a form that can be copied so."""
    own = room_for_copy(matrix) if matrix.shape[0] >= SHARED_ROWS else None
    return (None, None) if own is None else (own, _drop_zeros(own, inspect(matrix, tolerance, own)))


def _inspect(own: Any, tolerance: float) -> Inspection | None:
    """Return the findings of the compiled inspection, None unless the matrix is canonical and of the kind "spd".

    The index arrays of `own` may be replaced by int32 ones.
    """
    if not own.shape[0] >= SHARED_ROWS or own.nnz > np.iinfo(np.int32).max:
        return None
    if own.indices.dtype != np.int32 or own.indptr.dtype != np.int32:
        own.indices, own.indptr = own.indices.astype(np.int32), own.indptr.astype(np.int32)
    return _drop_zeros(own, inspect(own, tolerance))


def _drop_zeros(own: Any, found: Inspection) -> Inspection | None:
    """Return the findings where nothing is wrong but stored zeros, which are removed from `own`; else None."""
    if found.flags == STORED_ZERO:
        own.eliminate_zeros()
    return found if found.flags in (0, STORED_ZERO) else None


def _canonicalise(own: Any) -> Any:
    """Return the matrix sorted, without duplicates and stored zeros; ValueError where an entry is not finite."""
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


def _make_other_kind(own: Any, finding: Finding, has_nodes: bool, symmetric: bool | None) -> MatrixSystem:
    """Return the system of a canonical matrix of another kind than "spd"; ValueError where a row or column is empty."""
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


def drop_zero_imaginary(matrix: Any) -> Any:
    """Return a complex matrix's real part where its imaginary part is zero, else the matrix."""
    entries = matrix.tocsr()
    return matrix if entries.data.imag.any() else entries.real


def check_form(matrix: Any) -> None:
    """Raise ValueError unless the matrix is square with at least one row, TypeError for a dtype that is not taken."""
    shape = tuple(matrix.shape)
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"operator must be a square matrix, got shape {shape}")
    if shape[0] == 0:
        raise ValueError("operator must have at least one row, got shape (0, 0)")
    kind = np.dtype(matrix.dtype)
    if kind.kind not in "iufc" or kind.itemsize > (16 if kind.kind == "c" else 8):
        raise TypeError(f"operator must hold float32, float64, complex64, complex128 or integers, got dtype {kind}")


def bring_into_range(matrix: Any, sizes: Array) -> int:
    """Divide the entries by a power of two, in place, where the largest of `sizes` is extreme; return its exponent."""
    largest = float(sizes.max())
    exponent = 0 if largest == 0 or scaling.is_safe(largest) else scaling.exponent_of(largest)
    scaling.scale(matrix.data.view(np.float64), -exponent)
    return exponent


def real_form(system: MatrixSystem) -> MatrixSystem:
    """Return the system on pairs of real and imaginary parts, which has the Hermitian one's eigenvalues, each twice.

    Its kind is "spd" where the diagonal and the 2 × 2 minors allow it, else "symmetric-indefinite".
    """
    from scipy.sparse import bsr_array

    a = system.matrix
    blocks = np.empty((a.nnz, 2, 2))
    blocks[:, 0, 0] = blocks[:, 1, 1] = a.data.real
    blocks[:, 1, 0] = a.data.imag
    blocks[:, 0, 1] = -a.data.imag
    n = 2 * system.unknowns
    form = bsr_array((blocks, a.indices, a.indptr), shape=(n, n)).tocsr()
    form.eliminate_zeros()
    return MatrixSystem.of(form)
