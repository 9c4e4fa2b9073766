"""Tables of numbers and words: reading CSV and Parquet, one-hot encoding, scikit-learn's own data sets."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.core.extras import require
from relaxon.neuromorphic.tabular.cells import DECIMALS, Decimal

Task = Literal["regression", "classification"]
Cell = float | str | None
"""A number, a word, or nothing."""

MISSING = ("", "?", "na", "n/a", "nan", "null", "none")
"""What stands for a missing cell, in any case."""
MAX_CATEGORIES = 100
"""More different words than this in a column are names rather than categories."""
MAX_CLASSES = 20
"""A target of whole numbers with more different values than this is a quantity."""
SHOWN, SHOWN_WORDS = 20, 4
"""Characters of a word, and words of a column, that are said."""
BUNDLED = {
    "breast_cancer": "classification",
    "diabetes": "regression",
    "digits": "classification",
    "iris": "classification",
    "wine": "classification",
}


class TableError(ValueError):
    """A table that cannot be trained on; the message says what to change."""


@dataclass(frozen=True, slots=True)
class ColumnTable:
    """Named columns of equal length, each of numbers or of words."""

    names: tuple[str, ...]
    columns: tuple[list[Cell], ...]
    notes: tuple[str, ...] = field(default=(), compare=False)
    """What was found out in reading it that a person should know."""
    marks: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Decimal marks that were found, by column."""

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
        """How a column is read: numbers with their decimal mark, or words; and how many cells are missing."""
        cells = self.column(name)
        words = {_word(cell) for cell in cells if cell is not None} if has_words(cells) else None
        mark = {",": ", decimal comma", ".": ", decimal point"}.get(self.marks.get(name, ""), "")
        kind = f"numbers{mark}" if words is None else f"{len(words)} words ({_abbreviate(sorted(words))})"
        missing = sum(cell is None for cell in cells)
        return f"{name!r}: {kind}" + (f", {missing} of {len(cells)} missing" if missing else "")


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a table becomes features: a number as it is, a word as one column for each category seen in training."""

    names: tuple[str, ...]
    categories: tuple[tuple[str, ...] | None, ...]
    """Of each column; None for numbers."""

    @property
    def feature_names(self) -> list[str]:
        out: list[str] = []
        for name, words in zip(self.names, self.categories, strict=True):
            out += [name] if words is None else [f"{name}={word}" for word in words]
        return out

    def features(self, table: ColumnTable) -> NDArray[np.float64]:
        """`(rows, features)`; a missing number is NaN, a missing or unseen word has no column set."""
        parts = []
        for name, words in zip(self.names, self.categories, strict=True):
            cells = table.column(name)
            if words is None:
                bad = next((cell for cell in cells if isinstance(cell, str)), None)
                if bad is not None:
                    raise TableError(f"column {name!r} must hold numbers, as in training, got {bad!r}")
                parts.append(np.array([[math.nan if cell is None else cell] for cell in cells], np.float64))
            else:
                place = {word: index for index, word in enumerate(words)}
                block = np.zeros((len(cells), len(words)))
                for row, cell in enumerate(cells):
                    if cell is not None and _word(cell) in place:
                        block[row, place[_word(cell)]] = 1.0
                parts.append(block)
        return np.hstack(parts)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"names": list(self.names), "categories": [w if w is None else list(w) for w in self.categories]}


def build_encoding(table: ColumnTable) -> Encoding:
    """The encoding that a table's cells ask for; a column with too many words is refused by name."""
    if not table.names:
        raise TableError("the table must have a column beside the target")
    categories: list[tuple[str, ...] | None] = []
    for name, cells in zip(table.names, table.columns, strict=True):
        if not any(isinstance(cell, str) for cell in cells):
            categories.append(None)
            continue
        words = tuple(sorted({_word(cell) for cell in cells if cell is not None}))
        if len(words) > MAX_CATEGORIES:
            raise TableError(
                f"column {name!r} has {len(words)} different words, more than {MAX_CATEGORIES}: leave it out with "
                f"--drop {name!r}, or group them"
            )
        categories.append(words)
    return Encoding(table.names, tuple(categories))


def infer_task(target: Sequence[Cell]) -> Task:
    """Classification for words, or for few different whole numbers; regression else."""
    if any(isinstance(cell, str) for cell in target):
        return "classification"
    values = {cell for cell in target if isinstance(cell, float)}
    whole = all(value.is_integer() for value in values)
    return "classification" if whole and len(values) <= MAX_CLASSES else "regression"


def parse_target(name: str, target: Sequence[Cell], task: Task) -> NDArray[Any]:
    """The target as training takes it: float64, or labels (whole numbers as int64, words as strings)."""
    missing = sum(cell is None for cell in target)
    if missing:
        raise TableError(f"the target {name!r} is missing in {missing} of {len(target)} rows: fill or remove them")
    if task == "regression":
        bad = next((cell for cell in target if isinstance(cell, str)), None)
        if bad is not None:
            raise TableError(f"the target {name!r} must hold numbers for a regression, got {bad!r}")
        return np.array(target, np.float64)
    if len(set(target)) < 2:
        raise TableError(f"the target {name!r} must have at least two classes, got {target[0]!r} only")
    if has_words(target):
        classes = {_word(cell) for cell in target if cell is not None}
        if len(classes) > MAX_CATEGORIES or len(classes) > max(MAX_CLASSES, len(target) / 2):
            raise TableError(
                f"the target {name!r} has {len(classes)} different words in {len(target)} rows "
                f"({_abbreviate(sorted(classes))}): these are names rather than classes"
            )
        return np.array([_word(cell) for cell in target if cell is not None])
    numbers = np.array(target, np.float64)
    return numbers.astype(np.int64) if np.array_equal(numbers, np.round(numbers)) else numbers.astype(str)


@dataclass(frozen=True, slots=True)
class ReadingOptions:
    """What a caller says of a text file: its decimal mark ("." or ","), columns that are words whatever they look like,
    and whether columns without a name are left out."""

    decimal: Decimal | None = None
    words: tuple[str, ...] = ()
    drop_index: bool = False


def read_table(path: Path, options: ReadingOptions | None = None) -> ColumnTable:
    """A table from a `.parquet` file, or from a text file with a header line and one of the usual delimiters."""
    from relaxon.neuromorphic.tabular.text_tables import read_text_table

    if not path.is_file():
        raise TableError(f"there is no file {path}; the sets by name are {', '.join(BUNDLED)}")
    options = options or ReadingOptions()
    binary = path.suffix.lower() in (".parquet", ".pq")
    table = _read_parquet(path) if binary else read_text_table(path, options)
    for name in options.words if binary else ():
        column = table.column(name)
        column[:] = [None if cell is None else _word(cell) for cell in column]
    if table.rows == 0:
        raise TableError(f"{path} has no rows")
    return table


def add_reading_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how a table of text is read."""
    group.add_argument(
        "--drop", action="append", default=[], metavar="COLUMN", help="leave a column out; may be repeated"
    )
    group.add_argument(
        "--decimal", choices=DECIMALS, help="decimal mark of a text file; found for each column where a cell shows it"
    )
    group.add_argument(
        "--words", action="append", default=[], metavar="COLUMN", help="read a column as words; may be repeated"
    )
    group.add_argument("--drop-index", action="store_true", help="leave out columns without a name, such as an index")


def parse_reading_options(args: argparse.Namespace) -> ReadingOptions:
    """What the command line says of a file."""
    return ReadingOptions(args.decimal, tuple(args.words), args.drop_index)


def refuse_reading_arguments(args: argparse.Namespace, why: str) -> None:
    """Raise `TableError` where one of the arguments that read a file is given; `why` ends the sentence."""
    has_target = hasattr(args, "target")
    if (has_target and args.target) or args.drop or args.words or args.decimal or args.drop_index:
        raise TableError(f"{'--target, ' * has_target}--drop, --words, --decimal and --drop-index {why}")


def select_target(table: ColumnTable, args: argparse.Namespace) -> list[Cell]:
    """Return the cells of the column that `--target` names; raise `TableError` where it names none."""
    if not args.target:
        raise TableError(f"--target must name a column of {args.data}: {', '.join(table.names)}")
    return table.column(args.target)


def is_bundled(name: str) -> bool:
    """Whether `--data` names one of scikit-learn's sets, and no file."""
    return name in BUNDLED and not Path(name).exists()


def load_bundled(name: str) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
    """One of scikit-learn's sets: features, target and the names of the features."""
    from sklearn import datasets

    found = getattr(datasets, f"load_{name}")()
    names = [str(feature) for feature in found.feature_names]
    labels = found.target
    if BUNDLED[name] == "classification" and not np.array_equal(found.target_names, np.unique(labels)):
        labels = np.asarray(found.target_names)[labels]
    return np.asarray(found.data, np.float64), labels, names


def _read_parquet(path: Path) -> ColumnTable:
    require(("pyarrow",), "a Parquet file")
    import pyarrow
    from pyarrow import parquet

    try:
        found = parquet.read_table(path)
    except pyarrow.ArrowInvalid as error:
        raise TableError(f"{path} is no Parquet file: {error}") from None
    columns: list[list[Cell]] = []
    for name in found.column_names:
        values = found.column(name).to_pylist()
        kinds = {type(value) for value in values if value is not None}
        if any(isinstance(value, float) and math.isinf(value) for value in values):
            raise TableError(f"column {name!r} must hold finite numbers, got infinite ones: leave them empty")
        if kinds <= {int, float}:
            columns.append([None if value is None or math.isnan(value) else float(value) for value in values])
        elif kinds <= {str, bool}:
            columns.append([None if value is None else str(value) for value in values])
        else:
            raise TableError(
                f"column {name!r} must hold numbers, words or booleans, got {', '.join(k.__name__ for k in kinds)}: "
                f"leave it out or convert it"
            )
    return ColumnTable(tuple(map(str, found.column_names)), tuple(columns))


def _word(cell: float | str) -> str:
    return cell if isinstance(cell, str) else f"{cell:g}"


def has_words(cells: Sequence[Cell]) -> bool:
    return any(isinstance(cell, str) for cell in cells)


def _abbreviate(words: Sequence[str]) -> str:
    """The first of some words, each cut short."""
    shown = [word if len(word) <= SHOWN else word[: SHOWN - 1] + "…" for word in words[:SHOWN_WORDS]]
    return ", ".join(shown) + (", …" if len(words) > SHOWN_WORDS else "")
