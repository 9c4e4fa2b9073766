"""Assembly of a file's entries as a CSR matrix: symmetric halves, duplicates, and the range of indices."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files.contents import MatrixFileError

LARGEST_INDEX = 2.0**53
"""Beyond this, float64, in which text is parsed, cannot represent every integer."""
GENERAL, SYMMETRIC, SKEW, HERMITIAN = "general", "symmetric", "skew-symmetric", "hermitian"


@dataclass(frozen=True, slots=True)
class MatrixFile:
    """A matrix read from a file: `matrix` is a CSR array of float64 or complex128 in canonical form.

    `layout` is the format of the file, `notes` are sentences on what was done besides reading, and `stored` is the
    symmetry that the file declares.
    """

    matrix: Any
    layout: str
    notes: tuple[str, ...] = ()
    stored: str = GENERAL


def assemble(
    path: Path,
    shape: tuple[int, int],
    rows: NDArray[Any],
    columns: NDArray[Any],
    values: NDArray[Any],
    stored: str = GENERAL,
) -> tuple[Any, tuple[str, ...]]:
    """Return the CSR matrix of entries `(rows, columns)`, counted from 0, and notes; half a matrix is completed.

    MatrixFileError where an index is outside `shape`, or where a file of one triangle holds entries of both.
    """
    from scipy.sparse import coo_array

    check_indices(path, rows, shape[0], "row")
    check_indices(path, columns, shape[1], "column")
    count = len(values)
    if stored != GENERAL:
        _check_half(path, shape, rows, columns, values, stored)
        off = rows != columns
        other = values[off]
        if stored == SKEW:
            other = -other
        elif stored == HERMITIAN:
            other = other.conj()
        rows, columns = np.concatenate([rows, columns[off]]), np.concatenate([columns, rows[off]])
        values = np.concatenate([values, other])
    matrix = coo_array((values, (rows, columns)), shape=shape).tocsr()
    matrix.sum_duplicates()
    matrix.sort_indices()
    summed = len(values) - matrix.nnz
    return matrix, note_duplicates(summed, count)


def note_duplicates(summed: int, stored: int) -> tuple[str, ...]:
    """Return the note on duplicates among the stored entries, none where there were none."""
    note = f"{summed} duplicates among {stored} stored entries were added to others in the same place"
    return (note,) if summed > 0 else ()


def parse_indices(path: Path, values: NDArray[np.float64], place: str) -> NDArray[np.int64]:
    """Return numbers that were parsed as float64 as indices of the same shape; MatrixFileError where one is not
    whole."""
    wrong = (np.floor(values) != values) | (np.abs(values) > LARGEST_INDEX)
    if wrong.any():
        entry = int(np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))[0])
        raise MatrixFileError(path, f"entry {entry + 1}{place}", f"indices must be whole, got {values[entry]}")
    return values.astype(np.int64)


def check_indices(path: Path, indices: NDArray[Any], limit: int, what: str, base: int = 1) -> None:
    """Raise MatrixFileError where an index, counted from 0 here and from `base` in the file, is not in range."""
    if not len(indices) or (indices.min() >= 0 and indices.max() < limit):
        return
    entry = int(np.flatnonzero((indices < 0) | (indices >= limit))[0])
    raise MatrixFileError(
        path,
        f"entry {entry + 1}",
        f"expected a {what} from {base} to {limit - 1 + base}, got {int(indices[entry]) + base} (counted from {base})",
    )


def _check_half(
    path: Path, shape: tuple[int, int], rows: NDArray[Any], columns: NDArray[Any], values: NDArray[Any], stored: str
) -> None:
    if shape[0] != shape[1]:
        raise MatrixFileError(path, "", f"a {stored} matrix must be square, got {shape[0]} rows, {shape[1]} columns")
    above, below = rows < columns, rows > columns
    if above.any() and below.any():
        entry = int(np.flatnonzero(above)[0])
        raise MatrixFileError(
            path,
            f"entry {entry + 1}",
            f"a {stored} file must hold one triangle only, got entries of both: ({int(rows[entry]) + 1}, "
            f"{int(columns[entry]) + 1}) is above the diagonal, others are below it",
        )
    diagonal = values[rows == columns]
    if (stored == SKEW and diagonal.any()) or (stored == HERMITIAN and np.imag(diagonal).any()):
        wanted = "zero" if stored == SKEW else "real"
        raise MatrixFileError(path, "", f"the diagonal of a {stored} matrix must be {wanted}, got other entries")


def complete_half(read: MatrixFile, path: Path, symmetric_half: bool | None) -> MatrixFile:
    """Return the matrix, completed by its transpose where the caller declares it half of a symmetric one.

    A triangular matrix in a general file, with entries off the diagonal, may be meant either way: MatrixFileError where
    the caller has declared neither.
    """
    matrix = read.matrix
    half = find_half(matrix)
    if read.stored != GENERAL or symmetric_half is False or (half is None and not symmetric_half):
        return read
    if half is None:
        raise MatrixFileError(path, "", "symmetric_half needs a triangular matrix, got entries on both sides")
    if symmetric_half is None:
        raise MatrixFileError(
            path,
            "",
            f"all entries lie on or {half} the diagonal, in a file that does not tell whether this is a triangular "
            "matrix or half a symmetric one: pass symmetric_half=True (--symmetric-half yes) to complete it by its "
            "transpose, False (no) to take it as it is",
        )
    note = f"completed by its transpose: the file holds the entries on and {half} the diagonal"
    return MatrixFile(mirror(matrix), read.layout, (*read.notes, note))


def find_half(matrix: Any) -> str | None:
    """Return the side, "above" or "below", of a triangular square matrix with entries off the diagonal; else None."""
    if matrix.shape[0] != matrix.shape[1]:
        return None
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    above, below = bool((matrix.indices > rows).any()), bool((matrix.indices < rows).any())
    return None if above == below else "above" if above else "below"


def mirror(matrix: Any) -> Any:
    """Return the symmetric matrix of a triangular one, whose diagonal counts once."""
    from scipy.sparse import csr_array, diags_array

    whole = csr_array(matrix + matrix.T - diags_array(matrix.diagonal()))
    whole.sort_indices()
    return whole
