"""Categorical columns: reading them from tables and encoding them by ordered target statistics.

A category is encoded as the mean target of its rows. In training the mean is taken only over the rows of the category
that precede the row in a random order, so that its own target does not leak into it (Prokhorenkova et al. 2018); in
prediction it is taken over all training rows. Each mean includes the overall mean as one additional row, which is also
the encoding of an unseen category.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.unseen_categories import warn_of_unseen

Array = NDArray[np.float64]
Key = str | int | float | bool

PRIOR = 1.0
"""Number of rows that the overall mean counts as in the mean of each category."""
SHOWN = 3
"""Maximum number of unseen categories that a warning lists per column."""
FROM_TYPE = "from_dtype"
ABSENT = (
    "X must have no missing categories under missing='refuse', got some in column {}; with 'mean' or 'indicate' they "
    "are a category of their own"
)
WORDS = ("string", "large_string", "string_view", "utf8", "categorical", "enum", "category", "object", "str")
"""Prefixes of the names of string and categorical types in pandas, polars and Arrow."""


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns of a table: names (None for an array), values, and whether their type is a string or category."""

    names: tuple[str, ...] | None
    values: tuple[Sequence[Any] | NDArray[Any], ...]
    words: tuple[bool, ...]


@dataclass(frozen=True)
class TargetCategories:
    """The categorical columns of a fit: their indices, and the categories of each in the order of their codes.

    The code after the last category stands for missing values, and the one after it for unseen categories.
    """

    places: tuple[int, ...]
    keys: tuple[tuple[Key, ...], ...]
    means: tuple[Array, ...] = ()
    """Mean targets of each column, `(categories + 2, K)`, in the order of the codes."""

    def expand(self, x: Array, parts: Sequence[Array]) -> Array:
        """Return `x` (n, d) without the code columns, followed by the statistics of each."""
        return np.hstack([np.delete(x, self.places, axis=1), *parts])

    def sources(self, columns: NDArray[np.int64], outputs: int) -> NDArray[np.int64]:
        """Return, for each input of the network, the column of the table that it stems from."""
        kept = np.delete(columns, self.places)
        return np.concatenate([kept, np.repeat(np.array(self.places, np.int64), outputs)])

    def look_up(self, x: Array) -> Array:
        """Return `x` with the codes replaced by the mean targets of the training rows."""
        found = [mean[x[:, place].astype(np.int64)] for place, mean in zip(self.places, self.means, strict=True)]
        return self.expand(x, found)


def read_columns(X: Any) -> TableColumns:
    """Return the columns of a pandas, polars or Arrow table, of an array (n, d) or of a list of rows."""
    if hasattr(X, "column_names") and hasattr(X, "schema"):
        values = tuple(X.column(i).to_pylist() for i in range(len(X.column_names)))
        return TableColumns(
            tuple(map(str, X.column_names)), values, tuple(_holds_words(field.type) for field in X.schema)
        )
    if hasattr(X, "columns") and hasattr(X, "dtypes"):
        series = [X.iloc[:, i] if hasattr(X, "iloc") else X[:, i] for i in range(len(X.columns))]
        names = tuple(map(str, X.columns))
        return TableColumns(
            names, tuple(one.to_list() for one in series), tuple(_holds_words(one.dtype) for one in series)
        )
    rows = np.asarray(X, dtype=None if isinstance(X, np.ndarray) else object)
    if rows.ndim != 2:
        raise ValueError(f"Expected 2D array, X must be a table or (n, d) with categorical_features, got {rows.shape}")
    # Columns of numbers stay arrays, so that only one column at a time is taken apart into Python's objects.
    parts = [rows[:, i] if rows.dtype.kind in "biuf" else rows[:, i].tolist() for i in range(rows.shape[1])]
    return TableColumns(None, tuple(parts), (False,) * rows.shape[1])


def _holds_words(kind: Any) -> bool:
    name = str(kind).lower()
    return name.startswith((*WORDS, "dictionary"))


def find_categorical_columns(wanted: Any, columns: TableColumns) -> tuple[int, ...]:
    """Return the indices of the columns that `categorical_features` selects.

    Raises `ValueError` or `TypeError` for columns that do not exist.
    """
    d = len(columns.values)
    if isinstance(wanted, str):
        if wanted != FROM_TYPE:
            raise ValueError(f"categorical_features must be {FROM_TYPE!r}, names, places or a mask, got {wanted!r}")
        if columns.names is None:
            raise ValueError(f"X must be a pandas, polars or Arrow table for categorical_features={FROM_TYPE!r}")
        return tuple(i for i in range(d) if columns.words[i])
    given = list(wanted)
    if len(given) == d and all(isinstance(one, bool | np.bool_) for one in given):
        return tuple(i for i in range(d) if given[i])
    return tuple(sorted(find_places(given, columns.names, d)))


def find_places(given: Sequence[Any], names: Sequence[Any] | None, features: int) -> list[int]:
    """Return the indices of features given by names or indices; ValueError or TypeError for what is none of them."""
    found = []
    for one in given:
        if isinstance(one, str):
            if names is None or one not in names:
                raise ValueError(f"categorical_features must name columns of X, got {one!r}; X has {names}")
            found.append(list(names).index(one))
        elif isinstance(one, Integral) and not isinstance(one, bool | np.bool_):
            if not 0 <= int(one) < features:
                raise ValueError(f"categorical_features must be places from 0 to {features - 1}, got {one}")
            found.append(int(one))
        else:
            raise TypeError(f"categorical_features must hold names or places, or be a mask of {features}, got {one!r}")
    if len(set(found)) < len(found):
        raise ValueError(f"categorical_features must name each column once, got {list(given)}")
    return found


def check_categorical_features(wanted: Any) -> None:
    """Raise `ValueError` if `categorical_features` would be invalid for any table."""
    if wanted is None or (isinstance(wanted, str) and wanted == FROM_TYPE):
        return
    if isinstance(wanted, str | bytes | Real | dict) or not hasattr(wanted, "__iter__"):
        raise ValueError(f"categorical_features must be None, {FROM_TYPE!r}, names, places or a mask, got {wanted!r}")


def match_columns(columns: TableColumns, features: int, names: Any) -> None:
    """Raise `ValueError` if the columns are not those of training, by number and, where there are any, by names."""
    if len(columns.values) != features:
        raise ValueError(f"X must have the {features} columns of training, got {len(columns.values)}")
    if names is not None and columns.names is not None and columns.names != tuple(names):
        raise ValueError(f"X must have the columns of training in their order, {list(names)}, got {columns.names}")


def encode_categories(
    columns: TableColumns,
    places: tuple[int, ...],
    known: TargetCategories | None,
    missing: bool,
    absent: str = ABSENT,
    encoding: str = "the overall mean",
) -> tuple[Array, TargetCategories]:
    """Return the table as numbers (n, d) with categories as codes, which a new fit numbers by first occurrence.

    Raises `ValueError` for words in other columns and, with the text `absent` about the column, for missing categories
    if `missing` is False. Warns of unseen categories, and that their `encoding` is this.
    """
    n = len(columns.values[0]) if columns.values else 0
    x, keys = np.empty((n, len(columns.values))), []
    unseen = []
    for place, values in enumerate(columns.values):
        name = repr(columns.names[place]) if columns.names else str(place)
        if place not in places:
            x[:, place] = _parse_numbers(values, name)
            continue
        cells = [_parse_key(value, name) for value in (values.tolist() if hasattr(values, "tolist") else values)]
        if not missing and None in cells:
            raise ValueError(absent.format(name))
        if known is None:
            own = tuple(dict.fromkeys(cell for cell in cells if cell is not None))
        else:
            own = known.keys[places.index(place)]
        codes = {key: code for code, key in enumerate(own)}
        x[:, place] = [len(own) if cell is None else codes.get(cell, len(own) + 1) for cell in cells]
        keys.append(own)
        strange = [cell for cell in dict.fromkeys(cells) if cell is not None and cell not in codes]
        if strange:
            unseen.append(f"column {name} {', '.join(map(repr, strange[:SHOWN]))}{' …' * (len(strange) > SHOWN)}")
    if unseen:
        warn_of_unseen(
            f"X has categories that did not occur in training, encoded as {encoding}: {'; '.join(unseen)}",
            stacklevel=5,
        )
    return x, TargetCategories(places, tuple(keys)) if known is None else known


def _parse_numbers(values: Any, name: str) -> Array:
    if isinstance(values, np.ndarray):
        return values.astype(np.float64)
    try:
        return np.array([np.nan if value is None else value for value in values], np.float64)
    except (TypeError, ValueError):
        word = next((value for value in values if isinstance(value, str)), values[0])
        raise ValueError(
            f"X must hold numbers outside categorical_features, got {word!r} in column {name}: could not convert it to "
            "float"
        ) from None


def _parse_key(value: Any, name: str) -> Key | None:
    """Return a category as it is compared and stored, or None if it is missing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return int(value) if value.is_integer() else value
    if isinstance(value, str | int):
        return value
    raise TypeError(f"categories must be words, numbers or booleans, got {type(value).__name__} in column {name}")


def find_means(codes: NDArray[np.int64], size: int, y: Array, w: Array) -> Array:
    """Return the mean target of each code over all rows, including the prior: `(size, K)` for targets `y` (n, K)."""
    prior = w @ y / w.sum()
    weight = np.bincount(codes, weights=w, minlength=size)
    sums = np.stack([np.bincount(codes, weights=w * column, minlength=size) for column in y.T], axis=1)
    return np.asarray((sums + PRIOR * prior) / (weight + PRIOR)[:, None])


def find_ordered_means(codes: NDArray[np.int64], y: Array, w: Array, order: NDArray[np.int64]) -> Array:
    """Return the mean target of each row's code over the preceding rows in `order`, with the prior: `(n, K)`."""
    prior = w @ y / w.sum()
    # Sort the rows by code, keeping their order, and subtract the cumulative sums at which each code begins.
    by_code = order[np.argsort(codes[order], kind="stable")]
    sorted_codes, own = codes[by_code], w[by_code]
    begins = np.flatnonzero(np.r_[True, sorted_codes[1:] != sorted_codes[:-1]])
    run = np.cumsum(np.r_[False, sorted_codes[1:] != sorted_codes[:-1]])
    centred = own[:, None] * (y[by_code] - prior)
    weight, sums = np.cumsum(own) - own, np.cumsum(centred, axis=0) - centred
    weight, sums = weight - weight[begins][run], sums - sums[begins][run]
    out = np.empty_like(y)
    out[by_code] = prior + sums / (weight + PRIOR)[:, None]
    return out


def fit_statistics(found: TargetCategories, x: Array, y: Array, w: Array, seed: int) -> tuple[TargetCategories, Array]:
    """Return the categories with their means, and the training inputs with codes replaced by ordered means."""
    order = np.random.default_rng([seed, 0, 5]).permutation(len(x))
    means, parts = [], []
    for place, keys in zip(found.places, found.keys, strict=True):
        codes = x[:, place].astype(np.int64)
        mean = find_means(codes, len(keys) + 2, y, w)
        means.append(mean)
        parts.append(find_ordered_means(codes, y, w, order))
    known = TargetCategories(found.places, found.keys, tuple(means))
    return known, known.expand(x, parts)
