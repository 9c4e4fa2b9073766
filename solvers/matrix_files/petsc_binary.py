"""PETSc's binary files, as written by MatView and VecView: big-endian, with indices of 32 or 64 bits.

A symmetric matrix (SBAIJ) is written as its upper half with the header of a general matrix, as which MatLoad silently
reads it. A `.info` file next to it has the block size.
"""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files.assembly import MatrixFile, check_indices, mirror
from relaxon.solvers.matrix_files.contents import MatrixBytes

MATRIX, VECTOR = 1211216, 1211214
"""PETSc's class identifiers."""
DENSE = -1
"""The number of entries in the header of a dense matrix, stored row by row."""
SCALARS = (">f8", ">c16", ">f4")
"""Types of values of PETSc's builds; which one it is follows only from the length of the file."""
BLOCK_SIZE = re.compile(r"-matload_block_size\s+(\d+)")


def is_petsc(start: bytes) -> bool:
    """Return whether a file with this start is one of PETSc."""
    return _index_type(start) is not None


def read_petsc_matrix(file: MatrixBytes, symmetric_half: bool | None) -> MatrixFile:
    """Return the first matrix of a file; half a symmetric one is completed unless `symmetric_half` is False."""
    content = file.read_all()
    index = _index_type(content)
    assert index is not None  # by is_petsc
    at = 0
    while at < len(content):
        identifier = _integers(file, content, at, 1, index)[0]
        if identifier == MATRIX:
            matrix, _ = _matrix_at(file, content, at, index)
            return _complete_upper_half(
                file.path, matrix, f"PETSc binary, {index.itemsize * 8}-bit indices", symmetric_half
            )
        at = _vector_at(file, content, at, index)[1]
    raise file.error_at("", "expected a matrix, the file holds only vectors")


def read_petsc_columns(file: MatrixBytes) -> NDArray[Any]:
    """Return the first vector of a file, past any matrices, as `(n, 1)`."""
    content = file.read_all()
    index = _index_type(content)
    assert index is not None
    at = 0
    while at < len(content):
        if _integers(file, content, at, 1, index)[0] == VECTOR:
            return _vector_at(file, content, at, index)[0].reshape(-1, 1)
        at = _matrix_at(file, content, at, index)[1]
    raise file.error_at("", "expected a vector, the file holds only matrices")


def _index_type(start: bytes) -> np.dtype[Any] | None:
    for name in (">i4", ">i8"):
        kind = np.dtype(name)
        if len(start) >= kind.itemsize and int(np.frombuffer(start, kind, 1)[0]) in (MATRIX, VECTOR):
            return kind
    return None


def _integers(file: MatrixBytes, content: bytes, at: int, count: int, kind: np.dtype[Any]) -> NDArray[np.int64]:
    if at + count * kind.itemsize > len(content):
        raise file.error_at(
            f"byte {at}", f"expected {count} integers of {kind.itemsize} bytes, the file ends at byte {len(content)}"
        )
    return np.frombuffer(content, kind, count, at).astype(np.int64)


def _matrix_at(file: MatrixBytes, content: bytes, at: int, index: np.dtype[Any]) -> tuple[Any, int]:
    """Return the matrix whose header is at byte `at`, and the byte where it ends."""
    from scipy.sparse import csr_array

    identifier, rows, columns, entries = _integers(file, content, at, 4, index).tolist()
    place = f"byte {at}"
    if identifier != MATRIX or rows < 0 or columns < 0 or entries < DENSE:
        raise file.error_at(place, f"expected the header of a matrix, got {identifier}, {rows}, {columns}, {entries}")
    file.check_shape(rows, columns)
    at += 4 * index.itemsize
    if entries == DENSE:
        values, at = _scalars_at(file, content, at, rows * columns, index)
        return csr_array(values.reshape(rows, columns)), at
    lengths = _integers(file, content, at, rows, index)
    if (lengths < 0).any() or int(lengths.sum()) != entries:
        raise file.error_at(place, f"row lengths must sum to the {entries} entries declared, got {int(lengths.sum())}")
    at += rows * index.itemsize
    indices = _integers(file, content, at, entries, index)
    check_indices(file.path, indices, columns, "column", 0)
    values, at = _scalars_at(file, content, at + entries * index.itemsize, entries, index)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    matrix = csr_array((values, indices, starts), shape=(rows, columns))
    matrix.sum_duplicates()
    return matrix, at


def _vector_at(file: MatrixBytes, content: bytes, at: int, index: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    identifier, length = _integers(file, content, at, 2, index).tolist()
    if identifier != VECTOR or length < 0:
        raise file.error_at(f"byte {at}", f"expected the header of a matrix or a vector, got {identifier}, {length}")
    return _scalars_at(file, content, at + 2 * index.itemsize, length, index)


def _scalars_at(
    file: MatrixBytes, content: bytes, at: int, count: int, index: np.dtype[Any]
) -> tuple[NDArray[Any], int]:
    """Return numbers of the type after which the file ends or another object begins, and the byte where that is."""
    for name in SCALARS:
        kind = np.dtype(name)
        end = at + count * kind.itemsize
        if end == len(content) or (end < len(content) and _index_type(content[end : end + 8]) == index):
            values = np.frombuffer(content, kind, count, at)
            if not np.isfinite(values).all():
                bad = int(np.flatnonzero(~np.isfinite(values))[0])
                raise file.error_at(f"byte {at + bad * kind.itemsize}", f"expected finite values, got {values[bad]}")
            return values.astype(np.complex128 if kind.kind == "c" else np.float64), end
    raise file.error_at(
        f"byte {at}",
        f"expected {count} values of 8 bytes (16 where complex, 4 in single precision), got {len(content) - at} bytes",
    )


def _complete_upper_half(path: Path, matrix: Any, layout: str, symmetric_half: bool | None) -> MatrixFile:
    """Complete the upper half of a symmetric matrix, which is recognised by no blocks below the diagonal."""
    size = _block_size(path)
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    below = matrix.indices // size < rows // size
    above = matrix.indices // size > rows // size
    square = matrix.shape[0] == matrix.shape[1]
    if symmetric_half is False or not square or below.any() or not above.any():
        return MatrixFile(matrix, layout)
    if size > 1:
        # Diagonal blocks are stored in full: of these only the upper half is mirrored.
        coordinates = matrix.tocoo()
        inside = ~above & (coordinates.col < coordinates.row)
        if not _blocks_are_symmetric(matrix, size):
            return MatrixFile(matrix, layout)
        coordinates.data[inside] = 0.0
        matrix = coordinates.tocsr()
        matrix.eliminate_zeros()
    note = (
        "completed by its transpose: nothing is stored below the diagonal, as MatView writes a symmetric matrix "
        "(SBAIJ) under the header of a general one"
    )
    return MatrixFile(mirror(matrix), f"{layout}, upper half", (note,))


def _blocks_are_symmetric(matrix: Any, size: int) -> bool:
    """Return whether the stored diagonal blocks are symmetric."""
    entries = matrix.tocoo()
    inside = entries.row // size == entries.col // size
    from scipy.sparse import coo_array

    blocks = coo_array((entries.data[inside], (entries.row[inside], entries.col[inside])), shape=matrix.shape).tocsr()
    return bool(abs(blocks - blocks.T).max() <= 1e-12 * abs(blocks).max())


def _block_size(path: Path) -> int:
    """Return the block size in the `.info` file of a matrix file, 1 where there is none."""
    beside = path.with_name(path.name + ".info")
    try:
        found = BLOCK_SIZE.search(beside.read_text("latin-1"))
    except OSError:
        return 1
    return max(1, int(found.group(1))) if found else 1
