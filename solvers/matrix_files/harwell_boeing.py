"""Harwell-Boeing and Rutherford-Boeing files: compressed columns in Fortran's fixed fields, and right-hand sides.

Sources: I. Duff, R. Grimes, J. Lewis, "Users' guide for the Harwell-Boeing sparse matrix collection (release I)",
RAL-92-086 (1992); the same, "The Rutherford-Boeing sparse matrix collection", RAL-TR-97-031 (1997).
"""

from __future__ import annotations

import re
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
from relaxon.solvers.matrix_files.fortran_fields import FortranFormat

TYPE = re.compile(rb"[RCPIQ][SUHZR][AE]", re.IGNORECASE)
STORED = {"S": SYMMETRIC, "U": GENERAL, "R": GENERAL, "H": HERMITIAN, "Z": SKEW}
INTEGER_COLUMNS = 14
"""Width of the integer fields of the header."""


@dataclass(frozen=True, slots=True)
class BoeingHeader:
    """The contents of the four or five lines of the header."""

    kind: str
    """Three letters: type of values, symmetry, assembled or not."""
    rows: int
    columns: int
    entries: int
    cards: tuple[int, ...]
    """Numbers of lines of pointers, indices, values and right-hand sides."""
    formats: tuple[str, ...]
    """Fortran formats of the same, empty where there are none."""
    right: str = ""
    """The type of the right-hand sides, three letters."""
    right_count: int = 0


def is_boeing(start: bytes) -> bool:
    """Return whether a file with this start has such a header: a matrix type and sizes on its third line."""
    lines = start.split(b"\n", 4)
    if len(lines) < 4 or not TYPE.match(lines[2]):
        return False
    return lines[2][3:14].strip() == b"" and len(lines[2][14:].split()) >= 3


def read_boeing_matrix(file: MatrixBytes) -> MatrixFile:
    """Return the matrix of a file."""
    header = _read_header(file)
    matrix, notes = _read_matrix(file, header)
    kind = "Harwell-Boeing" if len(header.cards) == 4 else "Rutherford-Boeing"  # which has no right-hand sides
    return MatrixFile(matrix, f"{kind} {header.kind}", notes, STORED[header.kind[1]])


def read_boeing_columns(file: MatrixBytes) -> NDArray[Any]:
    """Return the right-hand sides behind a file's matrix as `(n, k)`."""
    header = _read_header(file)
    if len(header.cards) < 4 or not header.cards[3]:
        raise file.error_at("", "expected right-hand sides behind the matrix, the header declares none")
    if not header.right.upper().startswith("F"):
        raise file.error_at(
            "line 5",
            f"right-hand sides must be stored in full (F), got {header.right!r}, whose pattern is that of the matrix",
        )
    _read_matrix(file, header)
    count = header.rows * header.right_count * (2 if header.kind[0] == "C" else 1)
    numbers = FortranFormat.parse(header.formats[3], file).read(file, count, "values of right-hand sides")
    values = numbers.view(np.complex128) if header.kind[0] == "C" else numbers
    return values.reshape(header.right_count, header.rows).T


def _read_header(file: MatrixBytes) -> BoeingHeader:
    file.readline()
    cards = _integers(file, file.readline(), 0)
    line = file.readline()
    kind = line[:3].decode("latin-1").upper()
    sizes = _integers(file, line, INTEGER_COLUMNS)
    if len(cards) not in (4, 5) or len(sizes) < 3:
        raise file.error(f"expected lines of 4 or 5 and of 3 or 4 sizes in the header, got {cards} and {sizes}")
    rows, columns, entries = sizes[:3]
    if kind[2] == "E":
        raise file.error(f"matrix type {kind} holds unassembled elements, which are not read: assemble them first")
    texts = file.readline().decode("latin-1").rstrip("\r\n")
    formats = tuple(texts[start:stop].strip() for start, stop in ((0, 16), (16, 32), (32, 52), (52, 72)))
    right, right_count = "", 0
    if len(cards) == 5 and cards[4] > 0:
        line = file.readline()
        right = line[:3].decode("latin-1")
        right_count = _integers(file, line, INTEGER_COLUMNS)[0]
    file.check_shape(rows, columns)
    file.check_room(entries + columns + 1, 1, "pointers and indices")
    return BoeingHeader(kind, rows, columns, entries, tuple(cards[1:]), formats, right, right_count)


def _integers(file: MatrixBytes, line: bytes, start: int) -> list[int]:
    """Return the integers of a header line from a column on, in fields of fourteen characters."""
    text = line.decode("latin-1").rstrip()[start:]
    fields = [text[at : at + INTEGER_COLUMNS].strip() for at in range(0, len(text), INTEGER_COLUMNS)]
    if not fields or not all(field.isascii() and field.isdigit() for field in fields):
        raise file.error(f"expected integers in fields of {INTEGER_COLUMNS} characters, got {text[:60]!r}")
    return [int(field) for field in fields]


def _read_matrix(file: MatrixBytes, header: BoeingHeader) -> tuple[Any, tuple[str, ...]]:
    first = file.line + 1
    found = FortranFormat.parse(header.formats[0], file).read(file, header.columns + 1, "pointers")
    pointers = parse_indices(file.path, found, " of the pointers") - 1
    entries = header.entries
    if pointers[0] != 0 or pointers[-1] != entries or (np.diff(pointers) < 0).any():
        raise file.error_at(
            f"lines {first} to {file.line}",
            f"pointers must grow from 1 to {entries + 1}, got {pointers[0] + 1} to {pointers[-1] + 1}",
        )
    found = FortranFormat.parse(header.formats[1], file).read(file, entries, "row indices")
    rows = parse_indices(file.path, found, " of the row indices") - 1
    values: NDArray[Any] = np.ones(entries)
    if header.kind[0] != "P":
        if not header.formats[2] or header.cards[2] == 0:
            raise file.error(f"matrix type {header.kind} must have values, the header declares none")
        parts = 2 if header.kind[0] == "C" else 1
        values = FortranFormat.parse(header.formats[2], file).read(file, parts * entries, "values")
        values = values.view(np.complex128) if parts == 2 else values
    columns = np.repeat(np.arange(header.columns), np.diff(pointers))
    shape = header.rows, header.columns
    return assemble(file.path, shape, rows, columns, values, STORED[header.kind[1]])
