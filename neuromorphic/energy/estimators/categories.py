"""Columns of a table that hold categories, as inputs of a network: one indicator for each category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MOST_CATEGORIES = 1000
"""Of one column: more is a number, or a name for each row."""


@dataclass(frozen=True)
class IndicatorCategories:
    """The columns that hold categories, and each one's categories in ascending order.

    A network's first layer makes a vector of its own of each category's indicator. A category that was not in the
    training rows has no indicator: what the network says of it is what it says of none.
    """

    columns: tuple[int, ...]
    values: tuple[tuple[Any, ...], ...]

    @classmethod
    def fit(cls, x: NDArray[Any], columns: tuple[int, ...]) -> IndicatorCategories:
        """Take the categories of `x (n, d)`; ValueError naming X where a column has too many."""
        values = []
        for column in columns:
            each = {one.item() if isinstance(one, np.generic) else one for one in x[:, column].tolist()}
            if not (all(isinstance(one, str) for one in each) or all(isinstance(one, int | float) for one in each)):
                kinds = ", ".join(sorted({type(one).__name__ for one in each}))
                raise ValueError(f"X must have strings or numbers as categories in feature {column}, got {kinds}")
            found = sorted(each)
            if len(found) > MOST_CATEGORIES:
                raise ValueError(
                    f"X must have at most {MOST_CATEGORIES} categories in feature {column}, got {len(found)}"
                )
            values.append(tuple(found))
        return cls(columns, tuple(values))

    def encode(self, x: NDArray[Any]) -> Array:
        """The other columns as numbers, then the indicators, `(n, inputs)`; ValueError for what is no number."""
        others = [column for column in range(x.shape[1]) if column not in self.columns]
        try:
            numbers = x[:, others].astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"X must hold finite numbers in features that are not among categorical_features: {error}"
            ) from error
        if not np.isfinite(numbers).all():
            raise ValueError("X must be finite in features that are not among categorical_features")
        indicators = [
            x[:, column, None] == np.array(values, dtype=object)
            for column, values in zip(self.columns, self.values, strict=True)
        ]
        return np.concatenate([numbers, *[one.astype(np.float64) for one in indicators]], axis=1)

    @property
    def indicators(self) -> int:
        """How many inputs are indicators."""
        return sum(map(len, self.values))


def find_categorical_columns(given: Sequence[Any], features: int, names: Sequence[Any] | None) -> tuple[int, ...]:
    """Return the places of `categorical_features`, given as places or as names; ValueError naming it otherwise."""
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
        raise TypeError(f"categorical_features must be a sequence of features or None, got {given!r}")
    known = [] if names is None else list(names)
    found = []
    for one in given:
        if isinstance(one, str):
            if one not in known:
                raise ValueError(f"categorical_features must name features of X, got {one!r}")
            found.append(known.index(one))
        elif isinstance(one, bool | np.bool_) or not isinstance(one, int | np.integer) or not 0 <= one < features:
            raise ValueError(f"categorical_features must be names or places from 0 to {features - 1}, got {one!r}")
        else:
            found.append(int(one))
    if len(set(found)) < len(found):
        raise ValueError(f"categorical_features must name each feature once, got {list(given)!r}")
    return tuple(found)
