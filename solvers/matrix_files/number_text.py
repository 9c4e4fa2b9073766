"""Fast parsing of numbers in text by NumPy, with Fortran's exponents, and errors that name the line.

The parsers of NumPy and C would read `2.5D+03` and `2.5+300`, as written by Fortran's `D` and `E` descriptors, as 2.5.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files.contents import MatrixBytes

Array = NDArray[np.float64]
BLOCK = 1 << 23
"""Bytes of text that are parsed at a time: temporary arrays are a few times as large."""
EXPONENT_LETTERS = bytes.maketrans(b"dDqQ", b"eeee")
NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eEdDqQ][+-]?\d+|[+-]\d+)?")
BEFORE_EXPONENT = np.zeros(256, bool)
"""Whether a sign after the character begins an exponent without a letter."""
BEFORE_EXPONENT[list(b"0123456789.")] = True
SPACE, NEWLINE = 32, 10
SHOWN = 40
"""Number of characters of an invalid text that the error quotes."""


class NumberTextError(Exception):
    """Text that is not the expected table; `line` counts from 0 within the text."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


def read_rows(file: MatrixBytes, columns: int, most: int | None, what: str) -> Array:
    """Return the rest of a file as `(rows, columns) float64`, one row a line; blank lines are skipped.

    MatrixFileError where a line has another count of numbers or anything that is not a finite number, or where there
    are more than `most` rows of `what`.
    """
    parts: list[Array] = []
    rows, rest = 0, b""
    while True:
        block = file.read(BLOCK)
        text = rest + block
        cut = len(text) if len(block) < BLOCK else text.rfind(b"\n") + 1
        text, rest = text[:cut], text[cut:]
        if len(rest) > BLOCK:
            raise file.error(f"a line is longer than {BLOCK} bytes")
        try:
            part = parse_rows(text, columns)
        except NumberTextError as error:
            raise file.error_at(f"line {file.line + error.line + 1}", error.problem) from None
        rows += len(part)
        if most is not None and rows > most:
            surplus = _line_of_row(text, most - rows + len(part))
            raise file.error_at(f"line {file.line + surplus + 1}", f"expected the end after {most} {what}, got more")
        file.line += text.count(b"\n")
        parts.append(part)
        if len(block) < BLOCK:
            return np.concatenate(parts)


def parse_rows(text: bytes, columns: int) -> Array:
    """Return lines of `columns` numbers each as `(rows, columns) float64`; NumberTextError for anything else."""
    plain = np.frombuffer(normalise_exponents(text), np.uint8)
    if not len(plain):
        return np.empty((0, columns))
    begins = plain > SPACE
    begins[1:] &= plain[:-1] <= SPACE
    starts = np.flatnonzero(plain == NEWLINE) + 1
    starts = np.concatenate([[0], starts[starts < len(plain)]])
    counts = np.add.reduceat(begins, starts, dtype=np.int32)
    wrong = np.flatnonzero((counts != columns) & (counts > 0))
    if len(wrong):
        line = int(wrong[0])
        quoted = text.split(b"\n", line + 1)[line].strip()[:SHOWN].decode("latin-1")
        raise NumberTextError(line, f"expected {columns} numbers, got {counts[line]}: {quoted!r}")
    values = _parse(plain.tobytes())
    if values is None or len(values) != int(counts.sum()) or not np.isfinite(values).all():
        raise _locate(text)
    return values.reshape(-1, columns)


def normalise_exponents(text: bytes) -> bytes:
    """Return the text with every exponent in C's form: `2.5D+03` as `2.5e+03`, `2.5+300` as `2.5e+300`."""
    if any(letter in text for letter in (b"D", b"d", b"Q", b"q")):
        text = text.translate(EXPONENT_LETTERS)
    characters = np.frombuffer(text, np.uint8)
    signs = (characters[1:] == ord("+")) | (characters[1:] == ord("-"))
    bare = np.flatnonzero(signs & BEFORE_EXPONENT[characters[:-1]]) + 1
    if not len(bare):
        return text
    return np.insert(characters, bare, ord("e")).tobytes()


def _parse(text: bytes) -> Array | None:
    """Return all numbers of a text, None where some item is not a number."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # by which NumPy reports that it stopped early
        try:
            return np.fromstring(text, np.float64, sep=" ")
        except (DeprecationWarning, ValueError):
            return None


def _locate(text: bytes) -> NumberTextError:
    """Return the error of the first item that is not a finite number."""
    for line, content in enumerate(text.split(b"\n")):
        for piece in content.split():
            quoted = piece[:SHOWN].decode("latin-1")
            if not NUMBER.fullmatch(piece):
                return NumberTextError(line, f"expected a number, got {quoted!r}")
            if not np.isfinite(float(normalise_exponents(piece))):
                return NumberTextError(line, f"expected a number that float64 holds, got {quoted!r}")
    return NumberTextError(0, "expected only numbers")


def _line_of_row(text: bytes, row: int) -> int:
    """Return the line of a row, where rows are counted without blank lines."""
    filled = [line for line, content in enumerate(text.split(b"\n")) if content.strip()]
    return filled[row]
