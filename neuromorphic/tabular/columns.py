"""Named columns of numbers and words, the options for reading them, and their error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from relaxon.neuromorphic.tabular.cells import Decimal

Cell = float | str | None
"""A number, a word, or None for a missing cell."""

MISSING = ("", "?", "na", "n/a", "nan", "null", "none")
"""Cell contents that mean a missing value, regardless of case."""
SHOWN, SHOWN_WORDS = 20, 4
"""Maximum number of characters of a word, and of words of a column, in a message."""


class TableError(ValueError):
    """A table that cannot be used for training; the message says what to change."""


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """Named columns of equal length, each containing numbers or words."""

    names: tuple[str, ...]
    columns: tuple[list[Cell], ...]
    notes: tuple[str, ...] = field(default=(), compare=False)
    """Remarks for the user on how the file was read."""
    marks: Mapping[str, str] = field(default_factory=dict, compare=False)
    """The decimal marks that were found, by column name."""

    @property
    def rows(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def column(self, name: str) -> list[Cell]:
        if name not in self.names:
            raise TableError(f"there is no column {name!r}; the columns are {', '.join(self.names)}")
        return self.columns[self.names.index(name)]

    def without(self, names: Sequence[str]) -> ColumnTable:
        for name in names:
            self.column(name)
        kept = [index for index, name in enumerate(self.names) if name not in names]
        names, columns = tuple(self.names[i] for i in kept), tuple(self.columns[i] for i in kept)
        return ColumnTable(names, columns, self.notes, self.marks)

    def describe(self, name: str) -> str:
        """Describe how a column was read: as numbers with their decimal mark or as words, and with how many missing."""
        cells = self.column(name)
        words = {format_word(cell) for cell in cells if cell is not None} if has_words(cells) else None
        mark = {",": ", decimal comma", ".": ", decimal point"}.get(self.marks.get(name, ""), "")
        kind = f"numbers{mark}" if words is None else f"{len(words)} words ({abbreviate(sorted(words))})"
        missing = sum(cell is None for cell in cells)
        return f"{name!r}: {kind}" + (f", {missing} of {len(cells)} missing" if missing else "")


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """Options for reading a text file."""

    decimal: Decimal | None = None
    """The decimal mark, "." or ","; None to detect it."""
    words: tuple[str, ...] = ()
    """Columns to read as words even if they look like numbers."""
    drop_index: bool = False
    """Whether to drop columns without a name."""


def format_word(cell: float | str) -> str:
    return cell if isinstance(cell, str) else f"{cell:g}"


def has_words(cells: Sequence[Cell]) -> bool:
    return any(isinstance(cell, str) for cell in cells)


def abbreviate(words: Sequence[str]) -> str:
    """List the first few words, each shortened."""
    shown = [word if len(word) <= SHOWN else word[: SHOWN - 1] + "…" for word in words[:SHOWN_WORDS]]
    return ", ".join(shown) + (", …" if len(words) > SHOWN_WORDS else "")
