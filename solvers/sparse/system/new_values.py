"""Checks of a matrix with new values on a known pattern: the same refusals in a fraction of the time."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.masked import refuse_masks
from relaxon.solvers.interface.elimination import DECIDED
from relaxon.solvers.kernels.threads import divide, get_num_threads
from relaxon.solvers.sparse.system.inspection import ROUNDINGS, SINGLE, look_at_halves
from relaxon.solvers.sparse.system.inspection_kernels import STORED_ZERO
from relaxon.solvers.sparse.system.matrix_kinds import SYMMETRY
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem, bring_into_range, check_form
from relaxon.solvers.sparse.system.near_null import NearNullSpace
from relaxon.solvers.sparse.system.new_values_kernels import OPENED, UNPAIRED, compare_halves, look_at_values
from relaxon.solvers.sparse.system.null_vectors import find_null_vectors
from relaxon.solvers.sparse.system.properties import MatrixProperties
from relaxon.solvers.sparse.system.row_runs import SHARED_ROWS, split_rows
from relaxon.solvers.sparse.system.row_sums import close_rows, find_constant_null_vectors

PARTS = 64
"""Number of runs of rows, each with its own flags."""
NONE = np.zeros(0, bool)
SHOWN = 6
"""Largest number of columns that an error message shows."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredPattern:
    """The pattern of a caller's matrix, stored zeros included: `indptr (n + 1,)`, sorted `indices (nnz,)`, and which
    entries were not zero, `kept (nnz,)`."""

    indptr: NDArray[Any]
    indices: NDArray[Any]
    kept: NDArray[np.bool_]

    @classmethod
    def of(cls, matrix: Any, system: MatrixSystem) -> StoredPattern | None:
        """Return the pattern of a matrix; None where it is that of the system made of it, without stored zeros."""
        if matrix.nnz == system.matrix.nnz:
            return None
        csr = matrix.tocsr()
        if not csr.has_canonical_format:
            csr = _canonicalise(csr)
        kept = csr.data != 0
        if csr.nnz == system.matrix.nnz or np.count_nonzero(kept) != system.matrix.nnz:
            return None
        kind = system.matrix.indices.dtype
        return cls(csr.indptr.astype(kind, copy=True), csr.indices.astype(kind, copy=True), kept)


def update_system(
    before: MatrixSystem, matrix: Any, stored: StoredPattern | None = None
) -> tuple[MatrixSystem, StoredPattern | None]:
    """Check `matrix`, with new values on the pattern of `before`, as `MatrixSystem.of` does; neither is modified.

    `stored` is the pattern of the first matrix with its stored zeros, where it had some. Declared properties of the
    unknowns are kept. Entries that have become zero keep their places; where zeros of `stored` have become nonzero, the
    pattern of the result differs from that of `before`.

    Raises
    ------
    TypeError, ValueError : as `MatrixSystem.of`; and ValueError, naming `operator`, with the first row whose pattern
        differs.

    Returns
    -------
    The system, and its pattern with stored zeros.
    """
    check_form(matrix)
    if matrix.shape[0] != before.unknowns:
        n = before.unknowns
        raise ValueError(
            f"operator must have the shape {(n, n)} of the matrix that was set up, got {tuple(matrix.shape)}"
        )
    refuse_masks(operator=getattr(matrix, "data", None))
    said = MatrixProperties(symmetric=before.symmetric)
    own = _place_on_pattern(before, matrix, stored)
    if own is None:
        system = _add_near_null(MatrixSystem.of(matrix, said), before.near_null)
        return system, StoredPattern.of(matrix, system)
    single = matrix.dtype == np.float32
    quick = before.unknowns >= SHARED_ROWS and own.nnz <= np.iinfo(np.int32).max and before.symmetric is not False
    found = _inspect_values(own, single, before.state) if quick and own.dtype == np.float64 else None
    if found is None:
        narrow = {np.dtype(np.float32): np.float32, np.dtype(np.complex64): np.complex64}.get(matrix.dtype)
        checked = MatrixSystem.of(own if narrow is None else own.astype(narrow), said)
        return _restore_zeros(_add_near_null(checked, before.near_null), own), stored
    diagonal, state, flags = found
    exponent = bring_into_range(own, diagonal)
    kept = None if exponent or flags & STORED_ZERO else state
    if kept is None or before.state is None or flags & OPENED or single or before.single or before.suspected:
        paired = not flags & (STORED_ZERO | UNPAIRED)
        null, nearly, suspected = find_constant_null_vectors(own, single, kept if paired else None)
        close_rows(own, nearly)
    else:
        null, nearly, suspected = before.null, NONE, False
    if exponent or nearly.any():
        diagonal = np.asarray(own.diagonal(), np.float64)
    system = replace(
        before, matrix=own, diagonal=diagonal, null=null, exponent=exponent, single=bool(nearly.any()),
        suspected=suspected, state=kept, kind="spd", why="", remark="",
    )  # fmt: skip
    return _add_near_null(system, before.near_null), stored


def _add_near_null(system: MatrixSystem, near_null: NearNullSpace | None) -> MatrixSystem:
    """Return the system with the near-null space of its unknowns and the null vectors in it."""
    if near_null is None:
        return system
    matrix = system.matrix
    if not matrix.data.all():
        matrix = matrix.copy()
        matrix.eliminate_zeros()
    vectors = find_null_vectors(matrix, near_null, system.null.labels is not None)
    return replace(system, near_null=near_null, null_vectors=vectors)


def same_pattern(one: Any, other: Any) -> bool:
    """Return whether two patterns (CSR matrices or `StoredPattern`s) have the same entries in the same order."""
    if one.indices is other.indices:
        return True
    return (
        len(one.indices) == len(other.indices)
        and np.array_equal(one.indptr, other.indptr)
        and np.array_equal(one.indices, other.indices)
    )


def _canonicalise(matrix: Any) -> Any:
    """Return a copy in CSR form with sorted columns and duplicates summed; stored zeros are kept."""
    from scipy.sparse import csr_array

    own = csr_array(matrix, copy=True)
    own.sum_duplicates()
    return own


def _place_on_pattern(before: MatrixSystem, matrix: Any, stored: StoredPattern | None) -> Any:
    """Return the values of `matrix` on the pattern of `before`; None where they fit on `stored` only."""
    csr, kept = matrix.tocsr(), before.matrix
    if same_pattern(csr, kept):
        return _fill_pattern(kept, csr.data, copy=csr is matrix)
    if stored is None or not same_pattern(csr, stored):
        csr = _canonicalise(csr)
    if stored is not None and same_pattern(csr, stored):
        return None if csr.data[~stored.kept].any() else _fill_pattern(kept, csr.data[stored.kept], copy=False)
    if not same_pattern(csr, kept):
        csr.eliminate_zeros()
        if not same_pattern(csr, kept):
            _refuse(csr, kept if stored is None or csr.nnz <= kept.nnz else stored)
    return _fill_pattern(kept, csr.data, copy=csr is matrix)


def _fill_pattern(kept: Any, data: NDArray[Any], copy: bool = True) -> Any:
    """Return a matrix with other values, float64 or complex128, on a canonical pattern, which is shared."""
    from scipy.sparse import csr_array

    wide = np.complex128 if data.dtype.kind == "c" else np.float64
    own = csr_array((data.astype(wide, copy=copy), kept.indices, kept.indptr), shape=kept.shape)
    own.has_canonical_format = True
    return own


def _refuse(csr: Any, pattern: Any) -> None:
    """Raise ValueError naming the first row in which a matrix has other entries than `pattern`."""
    common = min(len(csr.indices), len(pattern.indices))
    others = np.flatnonzero(csr.indices[:common] != pattern.indices[:common])
    lengths = np.flatnonzero(np.diff(csr.indptr) != np.diff(pattern.indptr))
    row = int(lengths[0]) if len(lengths) else csr.shape[0] - 1
    if len(others):
        row = min(row, int(np.searchsorted(pattern.indptr, others[0], "right")) - 1)
    was, now = (_format_columns(one.indices[one.indptr[row] : one.indptr[row + 1]]) for one in (pattern, csr))
    raise ValueError(
        f"operator must have the pattern of the matrix that was set up, {len(pattern.indices)} entries, got "
        f"{len(csr.indices)}: row {row} is the first that differs, with entries in columns {now} where they were in "
        f"{was}; set it up by `prepare`"
    )


def _format_columns(columns: NDArray[Any]) -> str:
    more = ", …" if len(columns) > SHOWN else ""
    return "none" if not len(columns) else ", ".join(map(str, columns[:SHOWN])) + more


def _inspect_values(
    own: Any, single: bool, before: NDArray[np.uint8] | None
) -> tuple[Array, NDArray[np.uint8], int] | None:
    """Return the diagonal, the state of each row, and flags, some relative to the state `before`.

    None where something is wrong, which the general checks then report.
    """
    n = own.shape[0]
    tolerance = SYMMETRY[np.dtype(np.float32 if single else np.float64)]
    indptr, indices = own.indptr.view(np.uint32), own.indices.view(np.uint32)
    diagonal, root, state = np.empty(n), np.empty(n), np.empty(n, np.uint8)
    after, flags = np.empty(n, np.uint32), np.zeros(PARTS, np.int64)
    bounds = split_rows(n, PARTS)
    divide(
        look_at_values, PARTS, bounds, indptr, indices, own.data, state if before is None else before, ROUNDINGS,
        SINGLE, DECIDED, diagonal, root, state, after, flags, chunks=get_num_threads(),
    )  # fmt: skip
    found = int(np.bitwise_or.reduce(flags))
    if not found & ~(STORED_ZERO | OPENED):
        # Usually all entries are pairs that agree, which threads find out together.
        filled = np.count_nonzero(diagonal)
        below = int(np.sum(after, dtype=np.int64) - np.sum(indptr[:-1], dtype=np.int64)) - filled
        if 2 * below + filled != own.nnz or look_at_halves(own, bounds, root, after, tolerance):
            found |= int(compare_halves(indptr, indices, own.data, root, tolerance, after))
    return None if found & ~(STORED_ZERO | OPENED | UNPAIRED) else (diagonal, state, found)


def _restore_zeros(checked: MatrixSystem, kept: Any) -> MatrixSystem:
    """Return the checked system on the pattern of `kept`, whose further entries have become zero."""
    if same_pattern(checked.matrix, kept):
        return replace(checked, matrix=_fill_pattern(kept, checked.matrix.data, copy=False))
    data = np.zeros(kept.nnz, checked.matrix.dtype)
    data[np.searchsorted(_keys(kept), _keys(checked.matrix))] = checked.matrix.data
    return replace(checked, matrix=_fill_pattern(kept, data, copy=False))


def _keys(matrix: Any) -> NDArray[np.int64]:
    """Return each entry's row and column as one number, ascending."""
    n = matrix.shape[0]
    return np.asarray(np.repeat(np.arange(n, dtype=np.int64), np.diff(matrix.indptr)) * n + matrix.indices)
