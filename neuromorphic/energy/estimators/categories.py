"""Categorical columns of a table as network inputs: one indicator per category."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.tabular.categories import find_places

Array = NDArray[np.float64]
MOST_CATEGORIES = 1000
"""Maximum number of categories of a column; a column with more holds numbers or names."""


@dataclass(frozen=True)
class IndicatorCategories:
    """The categorical columns and their categories in ascending order.

    The first layer of a network thus learns a vector for each category. A category that did not occur in training has
    no indicator and is encoded as all zeros.
    """

    columns: tuple[int, ...]
    values: tuple[tuple[Any, ...], ...]

    @classmethod
    def fit(cls, x: NDArray[Any], columns: tuple[int, ...]) -> IndicatorCategories:
        """Collect the categories of `x (n, d)`; raise `ValueError` for a column with too many."""
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
        """Return the other columns as numbers, followed by the indicators, `(n, inputs)`.

        Raises `ValueError` if one of the other columns is not numeric.
        """
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
        """Number of inputs that are indicators."""
        return sum(map(len, self.values))


def find_categorical_columns(given: Sequence[Any], features: int, names: Sequence[Any] | None) -> tuple[int, ...]:
    """Return the column indices of `categorical_features`, given as indices or names; raise `ValueError` otherwise."""
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray):
        raise TypeError(f"categorical_features must be a sequence of features or None, got {given!r}")
    return tuple(find_places(given, None if names is None else list(names), features))
