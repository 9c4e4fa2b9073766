"""Fields of fixed width, as a Fortran format describes them: they need no blanks between them."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.matrix_files.contents import MatrixBytes
from relaxon.solvers.matrix_files.number_text import BEFORE_EXPONENT, NEWLINE, SPACE, NumberTextError, parse_rows

SCALE = re.compile(r"([+-]?\d+)P,?")
FIELDS = re.compile(r"\((?:(\d+)\()?(\d*)([IEDFG])(\d+)(?:\.(\d+))?(?:E\d+)?\)?\)")
POINT = ord(".")
LETTERS = tuple(b"EeDdQq")


@dataclass(frozen=True, slots=True)
class FortranFormat:
    """`per_line` fields of `width` characters each, as `(10I8)` or `(1P,4E20.12)` say.

    A number without a point has `decimals` of its digits behind one; a number without an exponent is divided by
    `10^scale` (the P edit descriptor, which Fortran's input applies so).
    """

    text: str
    per_line: int
    width: int
    decimals: int = 0
    scale: int = 0

    @classmethod
    def parse(cls, text: str, file: MatrixBytes) -> FortranFormat:
        """Return the format; MatrixFileError for one that has anything but equal fields of numbers."""
        plain = "".join(text.upper().split())
        scales = SCALE.findall(plain)
        found = FIELDS.fullmatch(SCALE.sub("", plain).replace(",", ""))
        if found is None or len(scales) > 1 or plain.count("(") != plain.count(")"):
            raise file.error(f"expected a Fortran format of equal fields such as (10I8) or (1P,4E20.12), got {text!r}")
        outer, inner, letter, width, decimals = found.groups()
        per_line = int(outer or 1) * int(inner or 1)
        if per_line < 1 or int(width) < 1:
            raise file.error(f"a Fortran format must have fields of at least one character, got {text!r}")
        digits = int(decimals or 0) if letter != "I" else 0
        return cls(plain, per_line, int(width), digits, int(scales[0]) if scales else 0)

    def read(self, file: MatrixBytes, count: int, what: str) -> NDArray[np.float64]:
        """Return the next `count` numbers of a file, which must start a line; MatrixFileError naming line and field."""
        first = file.line + 1
        length = self.per_line * self.width
        lines: list[bytes] = []
        for _ in range(-(-count // self.per_line)):
            line = file.readline()
            if not line:
                raise file.error(f"expected {count} {what} in {self.text}, got the end of the file")
            lines.append(line.rstrip(b"\r\n")[:length].ljust(length))
        cells = np.frombuffer(b"".join(lines), np.uint8).reshape(-1, self.width)[:count]
        apart = np.full((count, self.width + 1), NEWLINE, np.uint8)
        apart[:, :-1] = cells
        try:
            numbers = parse_rows(apart.tobytes(), 1)[:, 0]
            problem, field = "", 0
        except NumberTextError as error:
            numbers, problem, field = np.empty(0), error.problem, error.line
        if not problem and len(numbers) != count:
            problem, field = "expected a number, got blanks", int((cells > SPACE).any(axis=1).argmin())
        if problem:
            place = f"line {first + field // self.per_line}, field {field % self.per_line + 1} of {self.text}"
            raise file.error_at(place, f"{what}: {problem}")
        return self._scaled(numbers, cells)

    def _scaled(self, numbers: NDArray[np.float64], cells: NDArray[np.uint8]) -> NDArray[np.float64]:
        if self.decimals:
            pointless = ~(cells == POINT).any(axis=1)
            numbers[pointless] /= 10.0**self.decimals
        if self.scale:
            signed = (cells[:, 1:] == ord("+")) | (cells[:, 1:] == ord("-"))
            exponent = np.isin(cells, LETTERS).any(axis=1) | (signed & BEFORE_EXPONENT[cells[:, :-1]]).any(axis=1)
            numbers[~exponent] /= 10.0**self.scale
        return numbers
