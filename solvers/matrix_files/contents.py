"""The bytes of a matrix file, decompressed where it is gzip within a limit, and the error of an invalid file."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from relaxon.core import validation

MAX_BYTES = 1 << 34
"""Default limit of the decompressed size of a file: 16 GiB."""
GZIP_MAGIC = b"\x1f\x8b"
GZIP_RATIO = 1032
"""Largest ratio of decompressed and compressed size: Deflate writes at most 258 bytes for a symbol pair of two bits."""
LONGEST_LINE = 1 << 20
"""Largest length of a header line in bytes; a longer one is not text."""


EMPTY_ROWS = 1_000_000
"""Rows that a matrix may have in a shorter file: empty rows may take no bytes there, but take some in memory."""


class MatrixFileError(ValueError):
    """A file that cannot be read as a matrix or a vector; the message has the place, the value and what was
    expected."""

    def __init__(self, path: Path, place: str, problem: str) -> None:
        super().__init__(f"{path}, {place}: {problem}" if place else f"{path}: {problem}")
        self.path = path
        self.place = place
        """A line, a byte offset or a part of the file; empty for the whole file."""


class MatrixBytes:
    """A file that is open for reading from its start.

    `room` is an upper bound on its contents in bytes: its size, or the largest decompressed size.
    """

    def __init__(self, path: Path, file: IO[bytes], size: int, max_bytes: int) -> None:
        self.path = path
        self.size = size
        self.max_bytes = max_bytes
        self.offset = 0
        self.line = 0
        """Lines that `readline` has returned."""
        self.compressed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        self.room = min(max_bytes, size * GZIP_RATIO) if self.compressed else size
        self._file: gzip.GzipFile | IO[bytes] = gzip.GzipFile(fileobj=file) if self.compressed else file

    def read(self, count: int) -> bytes:
        """Return the next `count` bytes, fewer only at the end of the file."""
        with self._name_damage():
            found = self._file.read(count)
        self._advance(len(found))
        return found

    def readline(self) -> bytes:
        """Return the next line with its end, empty at the end of the file."""
        with self._name_damage():
            found = self._file.readline(LONGEST_LINE)
        self._advance(len(found))
        self.line += bool(found)
        if len(found) == LONGEST_LINE:
            raise self.error(f"a line is longer than {LONGEST_LINE} bytes: this is not a text file of numbers")
        return found

    def readlines(self, count: int) -> list[bytes]:
        """Return the next `count` lines with their ends, fewer only at the end of the file."""
        found: list[bytes] = []
        with self._name_damage():
            while len(found) < count and (line := self._file.readline(LONGEST_LINE)):
                found.append(line)
        self._advance(sum(map(len, found)))
        self.line += len(found)
        return found

    def read_all(self) -> bytes:
        """Return the rest of the file."""
        parts = iter(lambda: self.read(1 << 24), b"")
        return b"".join(parts)

    def rewind(self) -> None:
        """Go back to the start of the file."""
        self._file.seek(0)
        self.offset = self.line = 0

    def error(self, problem: str) -> MatrixFileError:
        """Return the error that names this file and the last line read."""
        return MatrixFileError(self.path, f"line {self.line}" if self.line else "", problem)

    def error_at(self, place: str, problem: str) -> MatrixFileError:
        """Return the error that names this file and a place in it."""
        return MatrixFileError(self.path, place, problem)

    def check_room(self, count: int, bytes_each: int, what: str) -> None:
        """Raise MatrixFileError where `count` items of at least `bytes_each` bytes do not fit into this file."""
        if count * bytes_each > self.room:
            held = f"at most {self.room} when decompressed" if self.compressed else f"{self.room}"
            raise self.error(
                f"{count} {what} are declared, which take at least {count * bytes_each} bytes, but the file has {held}"
            )

    def check_shape(self, rows: int, columns: int) -> None:
        """Raise MatrixFileError where a matrix has many more rows or columns than its file has bytes."""
        check_shape(self.path, self.room, rows, columns)

    def _advance(self, count: int) -> None:
        self.offset += count
        if self.compressed and self.offset > self.max_bytes:
            raise MatrixFileError(
                self.path,
                "",
                f"{self.size} bytes of gzip decompress to more than max_bytes = {self.max_bytes}; pass a larger "
                "max_bytes where that is right",
            )

    @contextmanager
    def _name_damage(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise MatrixFileError(
                self.path, f"byte {self.offset} when decompressed", f"the gzip data is damaged or truncated: {error}"
            ) from error


def check_shape(path: Path, room: int, rows: int, columns: int) -> None:
    """Raise MatrixFileError where a matrix has many more rows or columns than the `room` bytes of its source."""
    if max(rows, columns) > max(room, EMPTY_ROWS):
        raise MatrixFileError(
            path, "", f"a shape of {rows} by {columns} is declared, in which {room} bytes would leave most rows empty"
        )


@contextmanager
def open_bytes(path: Path, max_bytes: int = MAX_BYTES) -> Iterator[MatrixBytes]:
    """Open a file; OSError where it cannot be opened."""
    validation.positive_int("max_bytes", max_bytes)
    with path.open("rb") as file:
        yield MatrixBytes(path, file, path.stat().st_size, max_bytes)
