"""Cells of text as numbers: decimal points and commas, thousands separators, and which of them a column means.

`1.234` is one and a bit, or one thousand two hundred and thirty-four: a column is read one way only where a cell of its
own shows which. A cell shows it where the other reading does not fit: `28,7`, `1.234,5`, `0.25`, `12,345,678`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Decimal = Literal[".", ","]
DECIMALS: tuple[Decimal, Decimal] = (".", ",")
NEARLY_ALL = 0.9
"""Share of numbers in a column from which the other cells are strays; one stray among `FEWEST` numbers is one too."""
FEWEST = 3
SPACES = " \u00a0\u202f'’"
"""Thousands separators that stand for nothing else."""
_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_PATTERNS: dict[Decimal, re.Pattern[str]] = {
    ".": re.compile(
        rf"[+-]?(?:[1-9][0-9]{{0,2}}(?:,[0-9]{{3}})+|[1-9][0-9]{{0,2}}(?:[{SPACES}][0-9]{{3}})+|[0-9]+)?"
        rf"(?:\.[0-9]*)?{_EXPONENT}"
    ),
    ",": re.compile(
        rf"[+-]?(?:[1-9][0-9]{{0,2}}(?:\.[0-9]{{3}})+|[1-9][0-9]{{0,2}}(?:[{SPACES}][0-9]{{3}})+|[0-9]+)?"
        rf"(?:,[0-9]*)?{_EXPONENT}"
    ),
}


class AmbiguousNumbers(ValueError):
    """A column whose cells are numbers in two readings, with a cell as the witness."""

    def __init__(self, cell: str) -> None:
        super().__init__(cell)
        self.cell = cell


@dataclass(frozen=True, slots=True)
class ColumnReading:
    """How a column of text is read."""

    decimal: Decimal | None
    """The decimal mark that was found; None where no cell has one, or the cells are words."""
    strays: tuple[int, ...]
    """Places of the cells that are no numbers in a column that is otherwise of numbers; empty where all are words."""
    numbers: bool


def parse_number(cell: str, decimal: Decimal) -> float | None:
    """Return a cell's value with that decimal mark, thousands separators left out; None where it is no number.

    >>> parse_number("1.234,5", ","), parse_number("1,234.5", "."), parse_number("1_1", "."), parse_number("28,7", ".")
    (1234.5, 1234.5, None, None)
    """
    text = cell.replace("−", "-")
    if _PATTERNS[decimal].fullmatch(text) is None:
        return None
    for separator in SPACES + ("," if decimal == "." else "."):
        text = text.replace(separator, "")
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def read_column(cells: Sequence[str | None], decimal: Decimal | None, comma_delimited: bool) -> ColumnReading:
    """Find how a column's cells, missing ones None, are meant.

    `decimal` is what the caller says of the file, None where nothing. In a file with commas between its cells a decimal
    comma is not looked for, and a point is a decimal point. `AmbiguousNumbers` where no cell shows which is meant.
    """
    there = [(place, cell) for place, cell in enumerate(cells) if cell is not None]
    marks: tuple[Decimal, ...] = DECIMALS if decimal is None else (decimal,)
    fits = {mark: [parse_number(cell, mark) is not None for _, cell in there] for mark in marks}
    best = max(marks, key=lambda mark: sum(fits[mark]))
    count, strays = sum(fits[best]), tuple(place for (place, _), fit in zip(there, fits[best], strict=True) if not fit)
    if there and count == 0:
        return ColumnReading(None, (), False)
    if strays:
        return ColumnReading(None, strays if are_nearly_all(count, len(there)) else (), False)
    if decimal is None and all(all(fits[mark]) for mark in marks):
        return _resolve_ambiguity(there, comma_delimited)
    if best == "," and decimal is None and comma_delimited:
        raise AmbiguousNumbers(next(cell for _, cell in there if parse_number(cell, ".") is None))
    return ColumnReading(best if any("." in cell or "," in cell for _, cell in there) else None, (), True)


def are_nearly_all(numbers: int, cells: int) -> bool:
    """Whether so many numbers make the column's other cells strays."""
    others = cells - numbers
    return others <= max(1, round((1 - NEARLY_ALL) * cells)) and numbers >= FEWEST * others


def _resolve_ambiguity(there: Sequence[tuple[int, str]], comma_delimited: bool) -> ColumnReading:
    """All cells are numbers in both readings."""
    doubtful = next((cell for _, cell in there if parse_number(cell, ".") != parse_number(cell, ",")), None)
    if doubtful is None:
        return ColumnReading(None, (), True)
    if comma_delimited and not any("," in cell for _, cell in there):
        return ColumnReading(".", (), True)
    raise AmbiguousNumbers(doubtful)


def is_count(values: Sequence[float | str | None]) -> bool:
    """Whether a column counts the rows, from 0 or from 1."""
    return any(all(value == start + place for place, value in enumerate(values)) for start in (0, 1))
