"""Files of NumPy and SciPy: `.npz` of a sparse matrix, `.npy`, and text; nothing is ever unpickled."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

import re
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files.assembly import MatrixFile, assemble, note_duplicates, parse_indices
from relaxon.solvers.matrix_files.contents import MatrixBytes, MatrixFileError, check_shape
from relaxon.solvers.matrix_files.number_text import NumberTextError, parse_rows

ZIP_MAGIC, NPY_MAGIC = b"PK", b"\x93NUMPY"
FORMATS = ("csr", "csc", "coo", "bsr", "dia")
COMMENT = re.compile(rb"[#%][^\n]*")
RIGHT_HAND_SIDES = ("b", "rhs")
"""Names of the right-hand side in an archive of several arrays."""


def read_npz_matrix(path: Path, max_bytes: int) -> MatrixFile:
    """Return the matrix of a file written by `scipy.sparse.save_npz`."""
    arrays = read_archive(path, max_bytes)
    needed = {"format", "shape", "data"}
    if not needed <= arrays.keys():
        raise MatrixFileError(
            path, "", f"expected the arrays that scipy.sparse.save_npz writes, got {', '.join(sorted(arrays))}"
        )
    name = arrays["format"].item()
    kind = name.decode("ascii", "replace") if isinstance(name, bytes) else str(name)
    if kind not in FORMATS:
        raise MatrixFileError(path, "format", f"expected one of {', '.join(FORMATS)}, got {kind!r}")
    shape = arrays["shape"]
    if shape.shape != (2,) or shape.dtype.kind not in "iu":
        raise MatrixFileError(path, "shape", f"expected two integers, got {shape!r}")
    check_shape(path, sum(array.nbytes for array in arrays.values()), *map(int, shape))
    matrix, notes = _build(path, kind, (int(shape[0]), int(shape[1])), arrays)
    return MatrixFile(matrix, f"SciPy {kind}", notes)


def read_npz_columns(path: Path, max_bytes: int) -> NDArray[Any]:
    """Return the right-hand side of an archive: its only array, or the one named b or rhs."""
    arrays = read_archive(path, max_bytes)
    if len(arrays) == 1:
        return as_columns(path, next(iter(arrays.values())))
    for name in RIGHT_HAND_SIDES:
        if name in arrays:
            return as_columns(path, arrays[name])
    raise MatrixFileError(path, "", f"expected one array, or one named b or rhs, got {', '.join(sorted(arrays))}")


def read_archive(path: Path, max_bytes: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a `.npz` file, each of the size that its own header declares."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
            if total > max_bytes:
                raise MatrixFileError(path, "", f"{total} bytes when decompressed exceed max_bytes = {max_bytes}")
            for member in archive.infolist():
                with archive.open(member) as stream:
                    # The archive declares the sizes above itself: no more is read.
                    content = stream.read(member.file_size + 1)
                name = member.filename.removesuffix(".npy")
                arrays[name] = read_array(path, name, content)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise MatrixFileError(path, "", f"the archive is damaged or truncated: {error}") from error
    return arrays


def read_array(path: Path, name: str, content: bytes) -> NDArray[Any]:
    """Return the array of a `.npy` file's content; MatrixFileError for an array of objects or a wrong length."""
    stream = BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(stream)
    except (ValueError, EOFError) as error:
        raise MatrixFileError(path, name, f"not an array in NumPy's format: {error}") from error
    if kind.hasobject:
        raise MatrixFileError(path, name, f"expected numbers, got dtype {kind}, which is never unpickled")
    wanted = int(np.prod(shape, dtype=object)) * kind.itemsize
    if wanted != len(content) - stream.tell():
        raise MatrixFileError(
            path, name, f"{wanted} bytes are declared for shape {shape} of {kind}, got {len(content) - stream.tell()}"
        )
    stream.seek(0)
    found: NDArray[Any] = np.load(stream, allow_pickle=False)
    return found


def as_columns(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """Return right-hand sides as `(n, k)` of float64 or complex128."""
    if array.ndim not in (1, 2) or array.dtype.kind not in "biufc":
        raise MatrixFileError(path, "", f"expected a vector of numbers, got shape {array.shape} of dtype {array.dtype}")
    columns = array.reshape(-1, 1) if array.ndim == 1 else array
    return columns.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def read_text_matrix(file: MatrixBytes, index_base: int | None) -> MatrixFile:
    """Return a matrix from text: `i j value` (`i j real imaginary`) on each line, or a small dense one by rows."""
    table = _read_table(file)
    count, columns = table.shape
    triples = columns in (3, 4) and count != columns
    if count == columns == 3 and _are_indices(table[:, :2]):
        raise file.error_at(
            "", "three lines of three numbers may be triples 'i j value' or a dense matrix: write it as Matrix Market"
        )
    if not triples:
        if count != columns:
            raise file.error_at("", f"expected triples 'i j value' or a square matrix, got {count} rows of {columns}")
        rows, across = np.divmod(np.arange(count * count), count)
        matrix, notes = assemble(file.path, (count, count), rows, across, table.ravel())
        matrix.eliminate_zeros()
        return MatrixFile(matrix, "dense text", notes)
    if not _are_indices(table[:, :2]):
        entry = int(
            np.flatnonzero(~(np.floor(table[:, :2]) == table[:, :2]).all(axis=1) | (table[:, :2] < 0).any(axis=1))[0]
        )
        raise file.error_at(f"entry {entry + 1}", f"expected two indices, got {table[entry, 0]:g} {table[entry, 1]:g}")
    indices = parse_indices(file.path, table[:, :2], "")
    base = int(indices.min() > 0) if index_base is None else index_base
    values = table[:, 2] if columns == 3 else table[:, 2] + 1j * table[:, 3]
    n = int(indices.max()) + 1 - base
    file.check_shape(n, n)
    matrix, notes = assemble(file.path, (n, n), indices[:, 0] - base, indices[:, 1] - base, values)
    return MatrixFile(matrix, f"text triples counted from {base}", notes)


def read_text_columns(file: MatrixBytes) -> NDArray[Any]:
    """Return right-hand sides from text, one a column; a single line is one right-hand side."""
    table = _read_table(file)
    return table.T if len(table) == 1 else table


def _are_indices(columns: NDArray[np.float64]) -> bool:
    return bool((np.floor(columns) == columns).all() and (columns >= 0).all())


def _read_table(file: MatrixBytes) -> NDArray[np.float64]:
    """Return all numbers of a text without its comments (# or %); commas separate numbers as blanks do."""
    text = COMMENT.sub(b"", file.read_all().replace(b",", b" "))
    start = len(text) - len(text.lstrip())
    first = text[start:].partition(b"\n")[0] if start < len(text) else b""
    if not first:
        raise file.error_at("", "expected numbers, got an empty file")
    try:
        return parse_rows(text, len(first.split()))
    except NumberTextError as error:
        raise file.error_at(f"line {error.line + 1}", error.problem) from None


def _build(
    path: Path, kind: str, shape: tuple[int, int], arrays: dict[str, NDArray[Any]]
) -> tuple[Any, tuple[str, ...]]:
    """Return the CSR matrix of an archive's arrays and notes, after the checks that SciPy omits."""
    from scipy import sparse

    data = arrays["data"]
    if data.dtype.kind not in "biufc":
        raise MatrixFileError(path, "data", f"expected numbers, got dtype {data.dtype}")
    if not np.isfinite(data).all():
        raise MatrixFileError(path, "data", "expected finite values, got NaN or infinity")
    data = data.astype(np.complex128 if data.dtype.kind == "c" else np.float64)
    try:
        if kind == "coo":
            return assemble(path, shape, arrays["row"].astype(np.int64), arrays["col"].astype(np.int64), data)
        if kind == "dia":
            return sparse.dia_array((data, arrays["offsets"]), shape=shape).tocsr(), ()
        matrix = getattr(sparse, f"{kind}_array")((data, arrays["indices"], arrays["indptr"]), shape=shape)
        matrix.check_format(full_check=True)
    except KeyError as error:
        raise MatrixFileError(path, "", f"a matrix in {kind} format must have an array {error}") from error
    except (ValueError, TypeError, IndexError) as error:
        if isinstance(error, MatrixFileError):
            raise
        raise MatrixFileError(path, "", f"not a valid {kind} matrix: {error}") from error
    stored = matrix.nnz
    rows = matrix.tocsr()
    rows.sum_duplicates()
    return rows, note_duplicates(stored - rows.nnz, stored)
