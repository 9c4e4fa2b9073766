"""Reading of matrices and right-hand sides from files, whose format is recognised by the first bytes."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files import harwell_boeing, matrix_market, numpy_files, openfoam, petsc_binary
from relaxon.solvers.matrix_files.assembly import MatrixFile, complete_half
from relaxon.solvers.matrix_files.contents import MAX_BYTES, MatrixBytes, MatrixFileError, open_bytes

START = 4096
"""Bytes by which formats are recognised: a header's comments may come first."""
FORMATS = MARKET, BOEING, PETSC, OPENFOAM, NPZ, NPY, TEXT = (
    "Matrix Market",
    "Harwell-Boeing",
    "PETSc binary",
    "OpenFOAM",
    "npz",
    "npy",
    "text",
)


def read_matrix(
    path: str | PathLike[str],
    *,
    symmetric_half: bool | None = None,
    index_base: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> Any:
    """Read a sparse matrix from a file written by a simulation code.

    Formats are Matrix Market (coordinate and array), Harwell-Boeing and Rutherford-Boeing, PETSc's binary files,
    SciPy's `.npz`, OpenFOAM's LDU (a folder of its lists, or one of them), and text with lines of `i j value` or a
    small dense matrix. Each may be compressed by gzip. The format is recognised by the content, not by the name.
    Numbers may have Fortran's exponents (`2.5D+03`, `2.5+300`). Nothing is unpickled.

    Parameters
    ----------
    path : the file, or the folder of an LDU matrix.
    symmetric_half : the meaning of a triangular matrix in a file of a general one. True completes it by its transpose,
        False takes it as it is, None refuses it, except in PETSc's files, where the upper half alone is how a symmetric
        matrix is written: it is completed.
    index_base : 0 or 1, the first index in text; None takes 0 where a 0 is among the indices, else 1.
    max_bytes : limit of the decompressed size of a compressed file. The memory for any other file is bounded by a
        multiple of its size: declared sizes are compared with it before anything is allocated.

    Returns
    -------
    matrix : a `scipy.sparse.csr_array` of float64 or complex128 in canonical form: indices sorted, duplicates summed.

    Raises
    ------
    MatrixFileError : a ValueError with the file, the line or byte, the value and what was expected.
    OSError : where the file cannot be opened.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from relaxon.solvers import read_matrix
    >>> text = "%%MatrixMarket matrix coordinate real symmetric\\n2 2 3\\n1 1 2.5D+03\\n2 1 -1\\n2 2 4\\n"
    >>> with TemporaryDirectory() as folder:
    ...     path = Path(folder, "small.mtx")
    ...     _ = path.write_text(text)
    ...     read_matrix(path).toarray().tolist()
    [[2500.0, -1.0], [-1.0, 4.0]]
    """
    return load_matrix(path, symmetric_half=symmetric_half, index_base=index_base, max_bytes=max_bytes).matrix


def load_matrix(
    path: str | PathLike[str],
    *,
    symmetric_half: bool | None = None,
    index_base: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> MatrixFile:
    """Read a matrix as `read_matrix` does; return it with the file's format and notes on what was done to the
    entries."""
    path = Path(path)
    if symmetric_half is not None and not isinstance(symmetric_half, bool):
        raise TypeError(f"symmetric_half must be True, False or None, got {symmetric_half!r}")
    if index_base not in (None, 0, 1):
        raise ValueError(f"index_base must be 0, 1 or None, got {index_base!r}")
    if path.is_dir():
        return openfoam.read_openfoam_matrix(path, max_bytes)
    with open_bytes(path, max_bytes) as file:
        layout = find_format(file)
        if layout == MARKET:
            read = matrix_market.read_market_matrix(file)
        elif layout == BOEING:
            read = harwell_boeing.read_boeing_matrix(file)
        elif layout == PETSC:
            return petsc_binary.read_petsc_matrix(file, symmetric_half)
        elif layout == OPENFOAM:
            return openfoam.read_openfoam_matrix(path, max_bytes)
        elif layout == NPZ:
            read = numpy_files.read_npz_matrix(path, max_bytes)
        elif layout == NPY:
            read = _read_dense(path, numpy_files.read_array(path, "", file.read_all()))
        else:
            read = numpy_files.read_text_matrix(file, index_base)
    return complete_half(read, path, symmetric_half)


def read_vector(path: str | PathLike[str], *, column: int | None = None, max_bytes: int = MAX_BYTES) -> NDArray[Any]:
    """Read a right-hand side from a file.

    Formats are Matrix Market (an array, or coordinates of a column), `.npy`, `.npz` (its only array, or the one named
    `b` or `rhs`), a PETSc Vec (possibly behind a matrix in the same file), the right-hand sides of a Harwell-Boeing
    file, a list of OpenFOAM, and text; each except `.npz` may be compressed by gzip. Otherwise as `read_matrix`.

    Parameters
    ----------
    path : the file.
    column : the right-hand side to read, counted from 0, of a file with several; None where it must have one.
    max_bytes : limit of the decompressed size of a compressed file.

    Returns
    -------
    b : `(n,)` float64 or complex128.

    Raises
    ------
    MatrixFileError, OSError : as `read_matrix`.
    """
    path = Path(path)
    with open_bytes(path, max_bytes) as file:
        layout = find_format(file)
        if layout == MARKET:
            columns = matrix_market.read_market_columns(file)
        elif layout == BOEING:
            columns = harwell_boeing.read_boeing_columns(file)
        elif layout == PETSC:
            columns = petsc_binary.read_petsc_columns(file)
        elif layout == OPENFOAM:
            columns = openfoam.read_openfoam_columns(file)
        elif layout == NPZ:
            columns = numpy_files.read_npz_columns(path, max_bytes)
        elif layout == NPY:
            columns = numpy_files.as_columns(path, numpy_files.read_array(path, "", file.read_all()))
        else:
            columns = numpy_files.read_text_columns(file)
    return _take_column(path, columns, column)


def find_format(file: MatrixBytes) -> str:
    """Return the format of an open file, one of `FORMATS`, and rewind the file."""
    start = file.read(START)
    file.rewind()
    if not start:
        raise file.error("expected a matrix or a vector, the file is empty")
    if start[: len(matrix_market.BANNER)].lower() == matrix_market.BANNER.lower():
        return MARKET
    if start.startswith(numpy_files.ZIP_MAGIC):
        return NPZ
    if start.startswith(numpy_files.NPY_MAGIC):
        return NPY
    if petsc_binary.is_petsc(start):
        return PETSC
    if openfoam.is_openfoam(start):
        return OPENFOAM
    if harwell_boeing.is_boeing(start):
        return BOEING
    if b"\0" in start:
        raise file.error(f"expected one of {', '.join(FORMATS)}, got other binary data")
    return TEXT


def _read_dense(path: Path, array: NDArray[Any]) -> MatrixFile:
    from scipy.sparse import csr_array

    if array.ndim != 2 or array.dtype.kind not in "biufc":
        raise MatrixFileError(path, "", f"expected a matrix, got shape {array.shape} of dtype {array.dtype}")
    return MatrixFile(csr_array(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)), "dense npy")


def _take_column(path: Path, columns: NDArray[Any], column: int | None) -> NDArray[Any]:
    count = columns.shape[1]
    if column is None and count != 1:
        raise MatrixFileError(
            path, "", f"expected one right-hand side, got {count}: pass column= (--rhs-column) to choose"
        )
    chosen = 0 if column is None else column
    if not 0 <= chosen < count:
        raise MatrixFileError(path, "", f"column must be from 0 to {count - 1}, got {column}")
    return np.ascontiguousarray(columns[:, chosen])
