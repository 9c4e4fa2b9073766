"""The inputs of a network: the numbers of a table, missing-value indicators and category statistics."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.boosting.networks.merged import MergedNetwork
from relaxon.neuromorphic.table_estimators import NetworkEstimator, read_table
from relaxon.neuromorphic.tabular.categories import (
    Key,
    TableColumns,
    TargetCategories,
    encode_categories,
    find_categorical_columns,
    fit_statistics,
    match_columns,
    read_columns,
)

Array = NDArray[np.float64]


class TableInputs(NetworkEstimator):
    """Base class of the estimators that turns the rows of a table into the inputs of a network."""

    network_: MergedNetwork
    _indicated: NDArray[np.int64]
    _categories: TargetCategories | None

    def _read_table(self, X: Any, y: Any, **options: Any) -> tuple[Array, Any]:
        """Return the checked rows and targets of a fit, with categories replaced by integer codes."""
        again = self.warm_start and hasattr(self, "network_")
        if self.categorical_features is None:
            if again and self._categories is not None:
                raise ValueError("categorical_features must be those of the previous fit for a warm start, got None")
            self._categories = None
            x, y = read_table(self, X, y, dtype=np.float64, order="C", ensure_all_finite=self._finite, **options)
            return x, y
        refuse_masks(X=X)
        columns = read_columns(X)
        places = find_categorical_columns(self.categorical_features, columns)
        x, found = encode_categories(columns, places, None, self.missing != "refuse")
        x, y = read_table(self, x, y, dtype=np.float64, order="C", ensure_all_finite=self._finite, **options)
        if again and (
            self._categories is None or (found.places, found.keys) != (self._categories.places, self._categories.keys)
        ):
            raise ValueError("X must have the categories of the previous fit for a warm start")
        self._categories = found
        if columns.names is not None:
            self.feature_names_in_ = np.array(columns.names, dtype=object)
        return x, y

    def _add_statistics(self, x: Array, y: Array, w: Array, seed: int) -> Array:
        """Replace category codes by ordered target statistics; store the statistics of all rows for prediction."""
        if self._categories is None:
            return x
        self._categories, inputs = fit_statistics(self._categories, x, y, w, seed)
        return inputs

    def _encode_input(self, X: ArrayLike) -> Array:
        """Return the network's inputs for the rows of a prediction."""
        known = self._categories
        if known is None and self._is_valid(X):
            return self._add_indicators(np.asarray(X), fitting=False)
        if known is None:
            checked = read_table(self, X, reset=False, dtype=np.float64, order="C", ensure_all_finite=self._finite)
            return self._add_indicators(np.asarray(checked), fitting=False)
        refuse_masks(X=X)
        columns = read_columns(X)
        match_columns(columns, self.n_features_in_, getattr(self, "feature_names_in_", None))
        x, _ = encode_categories(columns, known.places, known, self.missing != "refuse")
        x = check_array(x, dtype=np.float64, order="C", ensure_all_finite=self._finite)
        return known.look_up(self._add_indicators(x, fitting=False))

    def _is_valid(self, X: Any) -> bool:
        """Return whether `X` is a finite float64 array of the trained width, which validation would not change."""
        plain = type(X) is np.ndarray and X.dtype == np.float64 and X.ndim == 2 and X.flags.c_contiguous
        if not plain or len(X) == 0 or X.shape[1] != self.n_features_in_ or hasattr(self, "feature_names_in_"):
            return False
        with np.errstate(over="ignore", invalid="ignore"):
            return bool(np.isfinite(X.sum()))

    def _add_indicators(self, x: Array, fitting: bool) -> Array:
        """Append an indicator column of 0 and 1 for each column whose missing values are indicated."""
        if fitting and not (self.warm_start and hasattr(self, "network_")):
            found = np.isnan(x).any(axis=0) if self.missing == "indicate" else np.zeros(x.shape[1], bool)
            self._indicated = np.flatnonzero(found)
        if not len(self._indicated):
            return x
        return np.hstack([x, np.isnan(x[:, self._indicated]).astype(np.float64)])

    @property
    def _finite(self) -> bool | str:
        return True if self.missing == "refuse" else "allow-nan"

    def _sources(self, outputs: int) -> NDArray[np.int64]:
        """Return, for each input of the network, the column of the table that it stems from."""
        columns = np.concatenate([np.arange(self.n_features_in_), self._indicated])
        return columns if self._categories is None else self._categories.sources(columns, outputs)

    def _directions(self, outputs: int) -> tuple[int, ...] | None:
        """Return the monotone direction of each input of the network, 0 for none; None if all are 0."""
        given, d = self.monotone_constraints, self.n_features_in_
        if given is None:
            return None
        places = () if self._categories is None else self._categories.places
        wanted = _find_directions(given, list(getattr(self, "feature_names_in_", ())), d, outputs, places)
        kept = [int(wanted[i]) for i in range(d) if i not in places]
        # Missing-value indicators and category statistics are not constrained.
        return (*kept, *(0,) * (len(self._sources(outputs)) - len(kept))) if any(kept) else None

    @property
    def categories_(self) -> dict[int, tuple[Key, ...]]:
        """The categories of each categorical column, by the column's index; empty if there is no such column."""
        known = getattr(self, "_categories", None)
        return {} if known is None else dict(zip(known.places, known.keys, strict=True))

    def check_columns(self, features: int, outputs: int) -> None:
        """Raise `ValueError` or `TypeError` for a parameter that `fit` would refuse for any array (n, `features`).

        `outputs` is the number of the network's outputs: 1 for two classes, otherwise the number of classes.
        """
        places: tuple[int, ...] = ()
        if self.categorical_features is not None:
            nameless = TableColumns(None, ((),) * features, (False,) * features)
            places = find_categorical_columns(self.categorical_features, nameless)
        if self.monotone_constraints is not None:
            _find_directions(self.monotone_constraints, [], features, outputs, places)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self.missing != "refuse"
        return tags


def _find_directions(given: Any, names: list[Any], features: int, outputs: int, places: tuple[int, ...]) -> list[Any]:
    """Return the monotone direction of each column; raise `ValueError` if they do not fit the table or the outputs.

    `places` are the indices of the categorical columns.
    """
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise ValueError(f"monotone_constraints must name columns of X, got {unknown[0]!r}; X has {names}")
        given = [given.get(name, 0) for name in names]
    wanted = list(given)
    if len(wanted) != features:
        raise ValueError(
            f"monotone_constraints must have one of -1, 0, 1 for each of {features} columns, got {len(wanted)}"
        )
    if outputs > 1 and any(wanted):
        raise ValueError(f"monotone_constraints must be None or zeros for more than one output, got {outputs} outputs")
    strange = [place for place in places if wanted[place] != 0]
    if strange:
        raise ValueError(
            f"monotone_constraints must be 0 for categorical columns, got {wanted[strange[0]]} for {strange[0]}"
        )
    return wanted


def check_monotone_constraints(estimator: Any) -> None:
    """Raise `ValueError` or `TypeError` for constraints that are invalid for any table or for this kind of network."""
    given = estimator.monotone_constraints
    if given is None:
        return
    if isinstance(given, str | bytes | Integral) or not hasattr(given, "__iter__"):
        raise TypeError(
            f"monotone_constraints must be None, -1, 0 or 1 for each column, or a dict by name, got {given!r}"
        )
    wanted = list(given.values()) if isinstance(given, Mapping) else list(given)
    for one in wanted:
        if isinstance(one, bool | np.bool_) or not isinstance(one, Integral) or int(one) not in (-1, 0, 1):
            raise ValueError(f"monotone_constraints must be -1, 0 or 1 for each column, got {one!r}")
    if not any(wanted):
        return
    if estimator.binary:
        raise ValueError("monotone_constraints must be None for sign units (binary=True): signs of weights are never 0")
    if estimator.newton == "published":
        raise ValueError("newton must be 'guarded' for monotone_constraints: a published step may turn a unit round")
    if estimator.layers is not None and len(tuple(estimator.layers)) > 1:
        raise ValueError(f"layers must have one layer for monotone_constraints, got {tuple(estimator.layers)}")
