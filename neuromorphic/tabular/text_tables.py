"""Reading text tables: delimiters, number formats of other countries, lines of units, stray cells, index columns."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from relaxon.neuromorphic.tabular.cells import (
    DECIMALS,
    AmbiguousNumbers,
    are_nearly_all,
    is_count,
    parse_number,
    read_column,
)
from relaxon.neuromorphic.tabular.columns import MISSING, Cell, ColumnTable, ReadingOptions, TableError

DELIMITERS = ",;\t|"
NO_DELIMITER = "\x1f"
"""A character that does not occur in text, so that each line is a single cell."""
NO_UNIT = ("1", "-")
"""Entries of a line of units for a dimensionless quantity."""
SHOWN_STRAYS = 3
"""Maximum number of stray cells that a message lists."""


@dataclass(frozen=True, slots=True)
class _TextColumns:
    """The cells of a file by column, with None for missing ones, and their position in the file."""

    path: Path
    names: list[str]
    unnamed: list[int]
    columns: list[list[str | None]]
    comma_delimited: bool
    first_row: int
    """Row number of the first cells in the file, in which the header is row 1."""


def read_text_table(path: Path, options: ReadingOptions) -> ColumnTable:
    """Read a text file with a header line; raise `TableError` with column and row for ambiguous or stray cells."""
    if options.decimal not in (None, *DECIMALS):
        raise TableError(f"--decimal must be '.' or ',', got {options.decimal!r}")
    source = _split_cells(path)
    notes: list[str] = []
    for word in options.words:
        if word not in source.names:
            raise TableError(f"there is no column {word!r}; the columns are {', '.join(source.names)}")
    units = _find_units(source, options)
    if units:
        notes.append(f"row {source.first_row} is read as a line of units and skipped: {units}")
        columns = [cells[1:] for cells in source.columns]
        source = _TextColumns(path, source.names, source.unnamed, columns, source.comma_delimited, source.first_row + 1)
    names, typed, marks = [], [], {}
    for place, (name, cells) in enumerate(zip(source.names, source.columns, strict=True)):
        if place in source.unnamed and all(cell is None for cell in cells):
            continue  # a delimiter at the end of each line
        values, mark = _parse_column(source, name, cells, options)
        if place in source.unnamed:
            kind = "numbers the rows, as an index does" if is_count(values) else "has no name in the header"
            done = "is dropped" if options.drop_index else "is a feature unless --drop-index is given"
            notes.append(f"{name} {kind}; it {done}")
            if options.drop_index:
                continue
        names.append(name)
        typed.append(values)
        if mark is not None:
            marks[name] = mark
    return ColumnTable(tuple(names), tuple(typed), tuple(notes), marks)


def _split_cells(path: Path) -> _TextColumns:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise TableError(f"{path} must be text in UTF-8: {error}") from None
    delimiter = _find_delimiter(text)
    lines = [line for line in csv.reader(text.splitlines(), delimiter=delimiter) if line]
    if not lines:
        raise TableError(f"{path} is empty")
    given = [name.strip() for name in lines[0]]
    unnamed = [place for place, name in enumerate(given) if not name]
    names = [name or f"column {place + 1}" for place, name in enumerate(given)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise TableError(f"{path} must have column names that differ, got twice: {', '.join(map(repr, doubled))}")
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(names):
            hint = " (a comma inside a number splits it: quote such cells)" if len(line) > len(names) else ""
            raise TableError(f"{path}, row {number} must have {len(names)} cells, got {len(line)}{hint}")
    columns = [[_strip_cell(line[place]) for line in lines[1:]] for place in range(len(names))]
    return _TextColumns(path, names, unnamed, columns, delimiter == ",", 2)


def _find_delimiter(text: str) -> str:
    """Return the most frequent delimiter that splits the first lines into as many cells as the header."""
    lines = [line for line in text.splitlines()[:50] if line]
    header = lines[0] if lines else ""
    best = max(DELIMITERS, key=header.count)
    if header.count(best) == 0:
        return NO_DELIMITER
    even = []
    for delimiter in DELIMITERS:
        widths = {len(cells) for cells in csv.reader(lines, delimiter=delimiter) if cells}
        if widths != {1} and len(widths) == 1:
            even.append(delimiter)
    return max(even, key=header.count) if even else best


def _strip_cell(text: str) -> str | None:
    word = text.strip()
    return None if word.lower() in MISSING else word


def _parse_column(
    source: _TextColumns, name: str, cells: list[str | None], options: ReadingOptions
) -> tuple[list[Cell], str | None]:
    """Return the values and the decimal mark of a column: numbers if every present cell is one, otherwise words."""
    if name in options.words:
        return list(cells), None
    try:
        reading = read_column(cells, options.decimal, source.comma_delimited)
    except AmbiguousNumbers as doubt:
        row = source.first_row + cells.index(doubt.cell)
        raise TableError(
            f"column {name!r}, row {row}: {doubt.cell!r} can be read with a decimal point and with a decimal comma, "
            f"and no cell of the column settles which is meant: pass --decimal . or --decimal ,"
        ) from None
    if reading.strays:
        raise TableError(_describe_strays(source, name, cells, reading.strays))
    if not reading.numbers:
        return list(cells), None
    mark = reading.decimal or options.decimal or "."
    return [None if cell is None else parse_number(cell, mark) for cell in cells], reading.decimal


def _describe_strays(source: _TextColumns, name: str, cells: Sequence[str | None], strays: Sequence[int]) -> str:
    shown = ", ".join(f"row {source.first_row + place} has {cells[place]!r}" for place in strays[:SHOWN_STRAYS])
    more = f" and {len(strays) - SHOWN_STRAYS} more" if len(strays) > SHOWN_STRAYS else ""
    there = sum(cell is not None for cell in cells)
    return (
        f"column {name!r} holds numbers in {there - len(strays)} of {there} rows, but {shown}{more}: correct or empty "
        f"these cells, drop the column with --drop {name!r}, or read it as words with --words {name!r}"
    )


def _find_units(source: _TextColumns, options: ReadingOptions) -> str:
    """Return the line of units under the header as text, or an empty string if the first row contains data.

    It is a line of units if the columns that contain numbers in all other rows contain words in this one.
    """
    if not source.columns or len(source.columns[0]) < 3:
        return ""
    numeric = [
        place
        for place, cells in enumerate(source.columns)
        if source.names[place] not in options.words and _has_nearly_all_numbers(cells[1:], options)
    ]
    first = [source.columns[place][0] for place in numeric]
    words = [cell for cell in first if cell is not None and not _is_number(cell, options) and cell not in NO_UNIT]
    others = [cells[0] for place, cells in enumerate(source.columns) if place not in numeric]
    if not words or 2 * len(words) < len(numeric):
        return ""
    if any(cell is not None and cell not in words and cell not in NO_UNIT for cell in first):
        return ""
    # A single word above numbers could also be a stray cell, unless the rest of its row is empty.
    if len(words) == 1 and (len(numeric) > 1 or any(cell is not None for cell in others)):
        return ""
    return ", ".join(words)


def _has_nearly_all_numbers(cells: Sequence[str | None], options: ReadingOptions) -> bool:
    there = [cell for cell in cells if cell is not None]
    return bool(there) and are_nearly_all(sum(_is_number(cell, options) for cell in there), len(there))


def _is_number(cell: str, options: ReadingOptions) -> bool:
    marks = DECIMALS if options.decimal is None else (options.decimal,)
    return any(parse_number(cell, mark) is not None for mark in marks)
