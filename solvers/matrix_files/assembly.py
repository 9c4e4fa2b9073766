"""Entries that a file holds as a CSR matrix: the other half of a symmetric one, duplicates, limits of indices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files.contents import MatrixFileError

LARGEST_INDEX = 2.0**53
"""Beyond it float64, in which text is read, does not hold every integer."""
GENERAL, SYMMETRIC, SKEW, HERMITIAN = "general", "symmetric", "skew-symmetric", "hermitian"


@dataclass(frozen=True, slots=True)
class MatrixFile:
    """A matrix as it was read: `matrix` is a CSR array of float64 or complex128 in canonical form.

    `layout` names the file's format, `notes` say in a sentence each what was done beyond reading, `stored` is the
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

    MatrixFileError where an index is outside of `shape`, or where a file of half a matrix holds entries of both halves.
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
    notes = (f"{summed} duplicates among {count} stored entries were added to others of the same place",)
    return matrix, notes if summed else ()


def parse_indices(path: Path, values: NDArray[np.float64], place: str) -> NDArray[np.int64]:
    """Return numbers that were read as indices, in whatever shape; MatrixFileError where one is not whole."""
    wrong = (np.floor(values) != values) | (np.abs(values) > LARGEST_INDEX)
    if wrong.any():
        entry = int(np.flatnonzero(wrong.reshape(len(values), -1).any(axis=1))[0])
        raise MatrixFileError(path, f"entry {entry + 1}{place}", f"indices must be whole, got {values[entry]}")
    return values.astype(np.int64)


def check_indices(path: Path, indices: NDArray[Any], limit: int, what: str, base: int = 1) -> None:
    """Raise MatrixFileError where an index, counted from 0 here and from `base` in the file, is not below `limit`."""
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
            f"a {stored} file must hold one triangle alone, got entries of both: ({int(rows[entry]) + 1}, "
            f"{int(columns[entry]) + 1}) is above the diagonal, others are below it",
        )
    diagonal = values[rows == columns]
    if (stored == SKEW and diagonal.any()) or (stored == HERMITIAN and np.imag(diagonal).any()):
        wanted = "zero" if stored == SKEW else "real"
        raise MatrixFileError(path, "", f"the diagonal of a {stored} matrix must be {wanted}, got other entries on it")


def complete_half(read: MatrixFile, path: Path, symmetric_half: bool | None) -> MatrixFile:
    """Return the matrix, completed by its transpose where the caller says that it is half a symmetric one.

    A triangular matrix of a general file, with entries off the diagonal, may be meant either way: MatrixFileError where
    the caller has said neither.
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
            f"all entries lie on or {half} the diagonal, in a file that does not say whether this is a triangular "
            "matrix or half a symmetric one: pass symmetric_half=True (--symmetric-half yes) to complete it by its "
            "transpose, False (no) to take it as it is",
        )
    note = f"completed by its transpose: the file holds what lies on and {half} the diagonal"
    return MatrixFile(mirror(matrix), read.layout, (*read.notes, note))


def find_half(matrix: Any) -> str | None:
    """Return "above" or "below" for a square triangular matrix with entries off the diagonal, None for any other."""
    if matrix.shape[0] != matrix.shape[1]:
        return None
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    above, below = bool((matrix.indices > rows).any()), bool((matrix.indices < rows).any())
    return None if above == below else "above" if above else "below"


def mirror(matrix: Any) -> Any:
    """Return a triangular matrix with its transpose, its diagonal once."""
    from scipy.sparse import csr_array, diags_array

    whole = csr_array(matrix + matrix.T - diags_array(matrix.diagonal()))
    whole.sort_indices()
    return whole
