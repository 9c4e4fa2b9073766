"""Tables of numbers and words: reading CSV and Parquet, one-hot encoding, and scikit-learn's bundled data sets."""
# Imported on first use, for their weight: pyarrow, scikit-learn.

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.core.extras import require
from relaxon.neuromorphic.tabular.cells import DECIMALS
from relaxon.neuromorphic.tabular.columns import Cell, ColumnTable, abbreviate, format_word
from relaxon.neuromorphic.tabular.columns import ReadingOptions as ReadingOptions
from relaxon.neuromorphic.tabular.columns import TableError as TableError
from relaxon.neuromorphic.tabular.columns import has_words as has_words
from relaxon.neuromorphic.tabular.text_tables import read_text_table

Task = Literal["regression", "classification"]
MAX_CATEGORIES = 100
"""Maximum number of distinct words of a categorical column; a column with more holds names."""
MAX_CLASSES = 20
"""Maximum number of distinct integers of a classification target; a target with more is a quantity."""
BUNDLED = {
    "breast_cancer": "classification",
    "diabetes": "regression",
    "digits": "classification",
    "iris": "classification",
    "wine": "classification",
}


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding of a table as features: numbers unchanged, words one-hot by the categories seen in training."""

    names: tuple[str, ...]
    categories: tuple[tuple[str, ...] | None, ...]
    """Categories of each column; None for a column of numbers."""

    @property
    def feature_names(self) -> list[str]:
        out: list[str] = []
        for name, words in zip(self.names, self.categories, strict=True):
            out += [name] if words is None else [f"{name}={word}" for word in words]
        return out

    def features(self, table: ColumnTable) -> NDArray[np.float64]:
        """Return the features, `(rows, features)`; missing numbers are NaN, missing and unseen words are all zeros."""
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
                    if cell is not None and format_word(cell) in place:
                        block[row, place[format_word(cell)]] = 1.0
                parts.append(block)
        return np.hstack(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the encoding as JSON values."""
        return {"names": list(self.names), "categories": [w if w is None else list(w) for w in self.categories]}


def build_encoding(table: ColumnTable) -> Encoding:
    """Build the encoding of a table; raise `TableError` for a column with too many distinct words."""
    if not table.names:
        raise TableError("the table must have a column besides the target")
    categories: list[tuple[str, ...] | None] = []
    for name, cells in zip(table.names, table.columns, strict=True):
        if not any(isinstance(cell, str) for cell in cells):
            categories.append(None)
            continue
        words = tuple(sorted({format_word(cell) for cell in cells if cell is not None}))
        if len(words) > MAX_CATEGORIES:
            raise TableError(
                f"column {name!r} has {len(words)} different words, more than {MAX_CATEGORIES}: drop it with "
                f"--drop {name!r}, or group them"
            )
        categories.append(words)
    return Encoding(table.names, tuple(categories))


def infer_task(target: Sequence[Cell]) -> Task:
    """Return "classification" for words or few distinct integers, and otherwise "regression"."""
    if any(isinstance(cell, str) for cell in target):
        return "classification"
    values = {cell for cell in target if isinstance(cell, float)}
    whole = all(value.is_integer() for value in values)
    return "classification" if whole and len(values) <= MAX_CLASSES else "regression"


def parse_target(name: str, target: Sequence[Cell], task: Task) -> NDArray[Any]:
    """Return the target as float64 numbers, or as labels: int64 for integers, else strings."""
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
        classes = {format_word(cell) for cell in target if cell is not None}
        if len(classes) > MAX_CATEGORIES or len(classes) > max(MAX_CLASSES, len(target) / 2):
            raise TableError(
                f"the target {name!r} has {len(classes)} different words in {len(target)} rows "
                f"({abbreviate(sorted(classes))}): they are names rather than classes"
            )
        return np.array([format_word(cell) for cell in target if cell is not None])
    numbers = np.array(target, np.float64)
    return numbers.astype(np.int64) if np.array_equal(numbers, np.round(numbers)) else numbers.astype(str)


def read_table(path: Path, options: ReadingOptions | None = None) -> ColumnTable:
    """Read a table from a `.parquet` file, or from a text file with a header line and one of the usual delimiters."""
    if not path.is_file():
        raise TableError(f"there is no file {path}; the bundled data sets are {', '.join(BUNDLED)}")
    options = options or ReadingOptions()
    binary = path.suffix.lower() in (".parquet", ".pq")
    table = _read_parquet(path) if binary else read_text_table(path, options)
    for name in options.words if binary else ():
        column = table.column(name)
        column[:] = [None if cell is None else format_word(cell) for cell in column]
    if table.rows == 0:
        raise TableError(f"{path} has no rows")
    return table


def add_reading_arguments(group: argparse._ArgumentGroup) -> None:
    """Add the options for reading a table of text."""
    group.add_argument("--drop", action="append", default=[], metavar="COLUMN", help="drop a column; may be repeated")
    group.add_argument(
        "--decimal", choices=DECIMALS, help="decimal mark of a text file; by default detected for each column"
    )
    group.add_argument(
        "--words", action="append", default=[], metavar="COLUMN", help="read a column as words; may be repeated"
    )
    group.add_argument("--drop-index", action="store_true", help="drop columns without a name, such as an index")


def parse_reading_options(args: argparse.Namespace) -> ReadingOptions:
    """Return the reading options of the command line."""
    return ReadingOptions(args.decimal, tuple(args.words), args.drop_index)


def refuse_reading_arguments(args: argparse.Namespace, why: str) -> None:
    """Raise `TableError` if an option for reading a file is given; `why` ends the message."""
    has_target = hasattr(args, "target")
    if (has_target and args.target) or args.drop or args.words or args.decimal or args.drop_index:
        raise TableError(f"{'--target, ' * has_target}--drop, --words, --decimal and --drop-index {why}")


def select_target(table: ColumnTable, args: argparse.Namespace) -> list[Cell]:
    """Return the cells of the column that `--target` names; raise `TableError` if it names none."""
    if not args.target:
        raise TableError(f"--target must name a column of {args.data}: {', '.join(table.names)}")
    return table.column(args.target)


def is_bundled(name: str) -> bool:
    """Return whether `--data` names one of scikit-learn's data sets and not a file."""
    return name in BUNDLED and not Path(name).exists()


def load_bundled(name: str) -> tuple[NDArray[np.float64], NDArray[Any], list[str]]:
    """Return features, target and feature names of one of scikit-learn's data sets."""
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
        raise TableError(f"{path} is not a Parquet file: {error}") from None
    columns: list[list[Cell]] = []
    for name in found.column_names:
        values = found.column(name).to_pylist()
        kinds = {type(value) for value in values if value is not None}
        if any(isinstance(value, float) and math.isinf(value) for value in values):
            raise TableError(f"column {name!r} must hold finite numbers, got infinite ones: make these cells empty")
        if kinds <= {int, float}:
            columns.append([None if value is None or math.isnan(value) else float(value) for value in values])
        elif kinds <= {str, bool}:
            columns.append([None if value is None else str(value) for value in values])
        else:
            raise TableError(
                f"column {name!r} must hold numbers, words or booleans, got {', '.join(k.__name__ for k in kinds)}: "
                f"drop or convert it"
            )
    return ColumnTable(tuple(map(str, found.column_names)), tuple(columns))
