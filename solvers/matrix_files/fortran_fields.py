"""Fields of fixed width, as described by a Fortran format, which need no blanks between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files.contents import MatrixBytes
from relaxon.solvers.matrix_files.number_text import BEFORE_EXPONENT, NEWLINE, SPACE, NumberTextError, parse_rows

TOKEN = re.compile(
    r"(?P<open>\d*\()|(?P<close>\))|(?P<skip>\d*)X|(?P<scale>[+-]?\d+)P|(?P<field>\d*[IEDFG]\d+(?:\.\d+)?(?:E\d+)?)"
)
FIELD = re.compile(r"(\d*)([IEDFG])(\d+)(?:\.(\d+))?")
POINT = ord(".")
LETTERS = tuple(b"EeDdQq")
MOST_FIELDS, LONGEST, LARGEST_SCALE = 10_000, 100_000, 99
"""Limits of the fields and characters of a line and of the scale, beyond those of any sensible file."""


@dataclass(frozen=True, slots=True)
class FortranFormat:
    """Fields of `width` characters that begin at the columns `starts` of a line, such as `(1X,8I9)` or
    `(3(1P,E24.16))`.

    A number without a decimal point has `decimals` implied decimal digits; a number without an exponent is divided by
    `10^scale` (the P edit descriptor as Fortran applies it on input).
    """

    text: str
    starts: tuple[int, ...]
    width: int
    decimals: int = 0
    scale: int = 0

    @property
    def per_line(self) -> int:
        """The numbers in a line."""
        return len(self.starts)

    @classmethod
    def parse(cls, text: str, file: MatrixBytes) -> FortranFormat:
        """Return the parsed format; MatrixFileError unless it has only numeric fields of one width."""
        plain = "".join(text.upper().split())
        items = _expand(plain)
        if items is None:
            raise file.error(f"expected a Fortran format of equal fields such as (10I8) or (1P,4E20.12), got {text!r}")
        starts, at = [], 0
        for kind, width in items:
            if kind != "skip":
                starts.append(at)
            at += width
        _, letter, width, decimals = FIELD.findall(plain)[0]
        scale = re.search(r"([+-]?\d+)P", plain)
        if at > LONGEST or int(decimals or 0) > int(width) or (scale and abs(int(scale[1])) > LARGEST_SCALE):
            raise file.error(f"a Fortran format must be of a line's length and of common sizes, got {text!r}")
        return cls(
            plain, tuple(starts), int(width), 0 if letter == "I" else int(decimals or 0), int(scale[1]) if scale else 0
        )

    def read(self, file: MatrixBytes, count: int, what: str) -> NDArray[np.float64]:
        """Return the next `count` numbers of a file, which must begin a line; MatrixFileError naming line and field.

        Where the fields are not numbers, but blanks separate exactly as many, these are used: SciPy 1.17.1's `hb_write`
        declares fields that are one character wider than those it writes.
        """
        first = file.line + 1
        length = self.starts[-1] + self.width
        whole = file.readlines(-(-count // self.per_line))
        if len(whole) * self.per_line < count:
            raise file.error(f"expected {count} {what} in {self.text}, got the end of the file")
        lines = [line.rstrip(b"\r\n")[:length].ljust(length) for line in whole]
        characters = np.frombuffer(b"".join(lines), np.uint8).reshape(-1, length)
        places = np.add.outer(np.array(self.starts), np.arange(self.width)).ravel()
        cells = characters[:, places].reshape(-1, self.width)[:count]
        apart = np.full((count, self.width + 1), NEWLINE, np.uint8)
        apart[:, :-1] = cells
        try:
            numbers = parse_rows(apart.tobytes(), 1)[:, 0]
            problem, field = "", 0
        except NumberTextError as error:
            numbers, problem, field = np.empty(0), error.problem, error.line
        if not problem and len(numbers) != count:
            problem, field = "expected a number, got blanks", int((cells > SPACE).any(axis=1).argmin())
        if problem and (apart_by_blanks := _split_at_blanks(b"\n".join(whole), count)) is not None:
            return apart_by_blanks
        if problem:
            place = f"line {first + field // self.per_line}, field {field % self.per_line + 1} of {self.text}"
            raise file.error_at(place, f"{what}: {problem}")
        return self._scale(numbers, cells)

    def _scale(self, numbers: NDArray[np.float64], cells: NDArray[np.uint8]) -> NDArray[np.float64]:
        if self.decimals:
            pointless = ~(cells == POINT).any(axis=1)
            numbers[pointless] /= 10.0**self.decimals
        if self.scale:
            signed = (cells[:, 1:] == ord("+")) | (cells[:, 1:] == ord("-"))
            exponent = np.isin(cells, LETTERS).any(axis=1) | (signed & BEFORE_EXPONENT[cells[:, :-1]]).any(axis=1)
            numbers[~exponent] /= 10.0**self.scale
        return numbers


def _split_at_blanks(text: bytes, count: int) -> NDArray[np.float64] | None:
    """Return the numbers that blanks separate, each with a decimal point; None where they are not `count`."""
    pieces = text.split()
    if len(pieces) != count or not all(b"." in piece for piece in pieces):
        return None
    try:
        return parse_rows(b"\n".join(pieces), 1)[:, 0]
    except NumberTextError:
        return None


def _expand(text: str) -> list[tuple[str, int]] | None:
    """Return a line's skips and fields with their widths, with groups repeated; None unless all fields are equal."""
    stack: list[tuple[int, list[tuple[str, int]]]] = []
    done: list[tuple[str, int]] | None = None
    at = 0
    while at < len(text):
        if text[at] == ",":
            at += 1
            continue
        token = TOKEN.match(text, at)
        if token is None or done is not None or (not stack and not token["open"]):
            return None
        at = token.end()
        if token["open"]:
            # Later lines begin again at the group alone: items before it would be read once only.
            if stack and stack[-1][1]:
                return None
            stack.append((int(token["open"][:-1] or 1), []))
        elif token["close"]:
            repeat, items = stack.pop()
            if repeat * len(items) > MOST_FIELDS:
                return None
            if stack:
                stack[-1][1].extend(items * repeat)
            else:
                done = items * repeat
        elif token["skip"] is not None:
            stack[-1][1].append(("skip", int(token["skip"] or 1)))
        elif token["field"]:
            repeat, letter, width, _ = FIELD.findall(token["field"])[0]
            if not 0 < int(repeat or 1) <= MOST_FIELDS or int(width) < 1:
                return None
            stack[-1][1].extend([(letter, int(width))] * int(repeat or 1))
    fields = {item for item in done or () if item[0] != "skip"}
    return done if not stack and len(fields) == 1 else None
