"""Matrix Market files: coordinate and array, real, integer, pattern and complex, with all four symmetries.

Source: R. Boisvert, R. Pozo, K. Remington, "The Matrix Market exchange formats: initial design", NISTIR 5935 (1996).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files.assembly import (
    GENERAL,
    HERMITIAN,
    SKEW,
    SYMMETRIC,
    MatrixFile,
    assemble,
    parse_indices,
)
from relaxon.solvers.matrix_files.contents import MatrixBytes
from relaxon.solvers.matrix_files.number_text import read_rows

BANNER = b"%%MatrixMarket"
VALUES = {"real": 1, "double": 1, "integer": 1, "unsigned-integer": 1, "complex": 2, "pattern": 0}
"""Numbers of an entry, by the field in the banner."""
INTEGERS = ("integer", "unsigned-integer")
SYMMETRIES = (GENERAL, SYMMETRIC, SKEW, HERMITIAN)
MOST_DENSE = 1 << 28
"""Numbers up to which right-hand sides stored sparsely are made dense: 2 GiB."""


@dataclass(frozen=True, slots=True)
class MarketHeader:
    """The contents of a file's banner and size line; `entries` is the number of entries that must follow."""

    coordinate: bool
    field: str
    symmetry: str
    shape: tuple[int, int]
    entries: int


def read_market_matrix(file: MatrixBytes) -> MatrixFile:
    """Return the matrix of a file."""
    header = read_header(file)
    layout = f"Matrix Market {'coordinate' if header.coordinate else 'array'} {header.field} {header.symmetry}"
    rows, columns, values = _read_entries(file, header)
    matrix, notes = assemble(file.path, header.shape, rows, columns, values, header.symmetry)
    return MatrixFile(matrix, layout, notes, header.symmetry)


def read_market_columns(file: MatrixBytes) -> NDArray[Any]:
    """Return a file of right-hand sides, one a column, as `(n, k)`."""
    header = read_header(file)
    if header.symmetry != GENERAL:
        raise file.error(f"expected a general file of right-hand sides, got a {header.symmetry} matrix")
    rows, columns, values = _read_entries(file, header)
    if not header.coordinate:
        return values.reshape(header.shape[1], header.shape[0]).T
    if header.shape[0] * header.shape[1] > MOST_DENSE:
        raise file.error(f"expected right-hand sides, got a sparse file of shape {header.shape}")
    matrix, _ = assemble(file.path, header.shape, rows, columns, values)
    found: NDArray[Any] = matrix.toarray()
    return found


def read_header(file: MatrixBytes) -> MarketHeader:
    """Read the banner and the size line; the file is then at its first entry."""
    words = file.readline().decode("latin-1").lower().split()
    if len(words) != 5 or words[0] != BANNER.decode().lower() or words[1] != "matrix":
        raise file.error(f"expected '%%MatrixMarket matrix FORMAT FIELD SYMMETRY', got {' '.join(words)[:60]!r}")
    layout, field, symmetry = words[2:]
    for name, word, known in (
        ("format", layout, ("coordinate", "array")),
        ("field", field, tuple(VALUES)),
        ("symmetry", symmetry, SYMMETRIES),
    ):
        if word not in known:
            raise file.error(f"{name} must be one of {', '.join(known)}, got {word!r}")
    coordinate = layout == "coordinate"
    if field == "pattern" and (not coordinate or symmetry in (SKEW, HERMITIAN)):
        raise file.error(f"a pattern must be coordinate and general or symmetric, got {layout} {symmetry}")
    if symmetry == HERMITIAN and field != "complex":
        raise file.error(f"a hermitian matrix must be complex, got {field}")
    sizes = _read_sizes(file, 3 if coordinate else 2)
    shape = sizes[0], sizes[1]
    if symmetry != GENERAL and shape[0] != shape[1]:
        raise file.error(f"a {symmetry} matrix must be square, got {shape[0]} rows, {shape[1]} columns")
    entries = sizes[2] if coordinate else _array_entries(shape, symmetry)
    file.check_shape(*shape)
    per_line = VALUES[field] + (2 if coordinate else 0)
    file.check_room(entries, 2 * per_line, "entries")  # a digit and a separator for each number
    return MarketHeader(coordinate, field, symmetry, shape, entries)


def _read_sizes(file: MatrixBytes, count: int) -> list[int]:
    while True:
        line = file.readline()
        if not line:
            raise file.error("expected a line of sizes, got the end of the file")
        if line.strip() and not line.lstrip().startswith(b"%"):
            break
    words = line.split()
    if len(words) != count or not all(word.isdigit() for word in words):
        raise file.error(f"expected {count} sizes, got {line.strip()[:60].decode('latin-1')!r}")
    return [int(word) for word in words]


def _array_entries(shape: tuple[int, int], symmetry: str) -> int:
    n = shape[0]
    if symmetry == GENERAL:
        return n * shape[1]
    return n * (n - 1) // 2 if symmetry == SKEW else n * (n + 1) // 2


def _read_entries(file: MatrixBytes, header: MarketHeader) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return rows and columns, counted from 0, and values."""
    numbers = VALUES[header.field]
    first = file.line + 1
    table = read_rows(file, numbers + (2 if header.coordinate else 0), header.entries, "entries")
    if len(table) != header.entries:
        raise file.error_at(
            f"line {file.line + 1}", f"{header.entries} entries are declared, the file ends after {len(table)}"
        )
    if header.coordinate:
        indices, table = parse_indices(file.path, table[:, :2], f" from line {first} on") - 1, table[:, 2:]
        rows, columns = indices[:, 0], indices[:, 1]
    else:
        rows, columns = _array_places(header)
    if header.field in INTEGERS and (wrong := np.flatnonzero(np.floor(table[:, 0]) != table[:, 0])).size:
        entry = int(wrong[0])
        raise file.error_at(
            f"entry {entry + 1} from line {first} on", f"an integer file must hold whole numbers, got {table[entry, 0]}"
        )
    if numbers == 2:
        return rows, columns, np.ascontiguousarray(table).view(np.complex128)[:, 0]
    return rows, columns, table[:, 0] if numbers else np.ones(len(rows))


def _array_places(header: MarketHeader) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the places of an array's numbers, which are ordered by columns."""
    n, m = header.shape
    if header.symmetry == GENERAL:
        return np.tile(np.arange(n), m), np.repeat(np.arange(m), n)
    columns, rows = np.triu_indices(n, 1 if header.symmetry == SKEW else 0)
    return rows, columns
