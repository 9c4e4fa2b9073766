"""Categorical columns of a table as network inputs: one indicator per category."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.tabular.categories import (
    TableColumns,
    TargetCategories,
    check_categorical_features,
    encode_categories,
    find_categorical_columns,
)

Array = NDArray[np.float64]
MOST_CATEGORIES = 1000
"""Maximum number of categories of a column; a column with more holds numbers or names."""
ABSENT = "X must have no missing categories, got some in column {}: give them a category of their own"
UNSEEN = "no category"


@dataclass(frozen=True)
class IndicatorCategories:
    """The categorical columns and their categories in ascending order.

    The first layer of a network thus learns a vector for each category. A category that did not occur in training has
    no indicator and is encoded as all zeros, with an `UnseenCategoryWarning`.
    """

    columns: tuple[int, ...]
    values: tuple[tuple[Any, ...], ...]

    @classmethod
    def fit(cls, columns: TableColumns, wanted: Any) -> IndicatorCategories:
        """Collect the categories of a table's columns; `wanted` is the estimator's `categorical_features`.

        Raises `ValueError` or `TypeError` for columns that do not exist, and for categories that are missing or too
        many.
        """
        check_categorical_features(wanted)
        places = find_categorical_columns(wanted, columns)
        known = encode_categories(columns, places, None, False, ABSENT)[1]
        for place, keys in zip(places, known.keys, strict=True):
            if len(keys) > MOST_CATEGORIES:
                name = columns.names[place] if columns.names else place
                raise ValueError(f"X must have at most {MOST_CATEGORIES} categories in {name!r}, got {len(keys)}")
        return cls(places, tuple(tuple(sorted(keys, key=_rank)) for keys in known.keys))

    def read_codes(self, columns: TableColumns) -> Array:
        """Return the table as numbers `(n, d)`, with the place of each category among its column's instead of it."""
        known = TargetCategories(self.columns, self.values)
        return encode_categories(columns, self.columns, known, False, ABSENT, UNSEEN)[0]

    def encode(self, x: Array) -> Array:
        """Return the columns of `read_codes` that are not categories, followed by the indicators, `(n, inputs)`."""
        indicators = [
            x[:, column, None] == np.arange(len(values))
            for column, values in zip(self.columns, self.values, strict=True)
        ]
        others = np.delete(x, self.columns, axis=1)
        return np.concatenate([others, *[one.astype(np.float64) for one in indicators]], axis=1)

    @property
    def indicators(self) -> int:
        """Number of inputs that are indicators."""
        return sum(map(len, self.values))


def _rank(key: Any) -> tuple[bool, Any]:
    return isinstance(key, str), key
