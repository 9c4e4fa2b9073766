"""What the scikit-learn estimators share: rows, weights, classes and outputs, read and checked in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.tabular.categories import read_columns

Array = NDArray[np.float64]
LARGEST_TARGET = 1e150
"""Largest absolute target: the squares of larger ones overflow float64."""
DATES = ("date", "time", "duration", "period")
"""Prefixes of the names of dates and times among the types of NumPy, pandas, polars and Arrow."""
MOST_NAMED = 5
"""Maximum number of columns that a message names."""


class NetworkEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator that is fitted once it has a `network_`."""

    network_: Any

    def _fitted(self) -> Any:
        check_is_fitted(self)
        return self.network_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def _check_weights(self, sample_weight: ArrayLike | None, X: Array) -> Array:
        return np.asarray(_check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True))


class TableClassifier(ClassifierMixin):  # type: ignore[misc]
    """The predictions of a classifier by its outputs: one for the second of two classes, else one for each class."""

    classes_: NDArray[Any]

    def decision_function(self, X: ArrayLike) -> Array:
        """Return the outputs: `(n,)` for the second of two classes, otherwise `(n, classes)`."""
        return self._shape_output(self._predict_raw(X))

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class with the largest output for each row, `(n,)`."""
        return self._labels(self._predict_raw(X))

    def _labels(self, raw: Array) -> NDArray[Any]:
        chosen = raw.argmax(axis=1) if raw.shape[1] > 1 or len(self.classes_) == 1 else (raw[:, 0] > 0.0).astype(int)
        return np.asarray(self.classes_[chosen])

    def _shape_output(self, raw: Array) -> Array:
        return raw[:, 0] if raw.shape[1] == 1 else raw


class TableRegressor(RegressorMixin):  # type: ignore[misc]
    """The targets of a regressor with one or several outputs."""

    _outputs: int | None
    """Number of columns of the targets; None for targets `(n,)`."""

    def _flatten_targets(self, targets: Any) -> tuple[Array, int | None]:
        """Return targets as `(n, K)` and the number of their columns, None for `(n,)`."""
        flat = read_numbers("y", targets).reshape(len(targets), -1)
        if np.abs(flat).max() > LARGEST_TARGET:
            raise ValueError(f"y must be at most {LARGEST_TARGET:g} in size, got {np.abs(flat).max():g}")
        return flat, flat.shape[1] if np.ndim(targets) == 2 else None

    def _shape_output(self, raw: Array) -> Array:
        return raw[:, 0] if self._outputs is None else raw

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


def read_rows(estimator: Any, X: ArrayLike, dtype: Any = np.float64) -> NDArray[Any]:
    """Return rows for a fitted estimator, checked against the columns of its fit."""
    check_is_fitted(estimator)
    return np.asarray(read_table(estimator, X, dtype=dtype, reset=False))


def read_table(estimator: Any, X: Any, y: Any = "no_validation", **options: Any) -> Any:
    """Return what scikit-learn's `validate_data` returns, and refuse by name what it takes for numbers or cannot read.

    Raises `ValueError` or `TypeError` for masked entries, dates, tensors that require gradients, and columns of words.
    """
    numeric = {"X": X, "y": y} if options.get("y_numeric") else {"X": X}
    refuse_masks(**numeric | ({} if isinstance(y, str) else {"y": y}))
    for name, value in numeric.items():
        if getattr(value, "requires_grad", False) is True:
            raise TypeError(f"{name} must not require gradients, got a tensor that does: pass {name}.detach()")
        _refuse_dates(name, value)
    try:
        return validate_data(estimator, X, y, **options)
    except (TypeError, ValueError) as error:
        said = str(error)
        if "convert string" in said or "float()" in said:
            words = list_cells(X, lambda cell: not _is_number(cell))
            name = "X" if words or all(map(_is_number, np.ravel(numeric.get("y", 0.0)))) else "y"
            advice = f", got {words}: encode or drop such columns" if words else ""
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{name} must hold numbers{advice} ({said})") from error
        if said.startswith("Input X contains"):
            cells = list_cells(X, lambda cell: not _is_finite(cell))
            raise ValueError(f"X must be finite, got {cells}: {said}") from error
        raise


def read_numbers(name: str, value: Any) -> Array:
    """Return an argument as float64; ValueError or TypeError naming it if it does not hold numbers."""
    _refuse_dates(name, value)
    try:
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers: {error}") from error


def _refuse_dates(name: str, value: Any) -> None:
    """Raise `TypeError` for an array or a table of dates, whose numbers depend on the library that stores them."""
    if hasattr(value, "schema") and hasattr(value, "column_names"):
        types = {str(field.name): str(field.type) for field in value.schema}
    elif hasattr(value, "dtypes") and hasattr(value, "columns"):
        types = {str(column): str(kind) for column, kind in zip(value.columns, value.dtypes, strict=True)}
    else:
        types = {"": str(getattr(value, "dtype", ""))}
    found = [f"{kind} in {column!r}" if column else kind for column, kind in types.items() if is_date(kind)]
    if found:
        listed = ", ".join(found[:MOST_NAMED])
        raise TypeError(f"{name} must hold numbers, got {listed}: give the time since a date, in a unit of your choice")


def is_date(kind: str) -> bool:
    """Return whether a type, given by its name, is one of dates or times."""
    return kind.lower().startswith(DATES)


def list_cells(X: Any, is_bad: Callable[[Any], bool]) -> str:
    """List the columns with bad cells, each with the first one; empty if X is not a table. Missing cells are None."""
    try:
        columns = read_columns(X)
    except (TypeError, ValueError):
        return ""
    found = []
    for place, values in enumerate(columns.values):
        bad = [repr(getattr(cell, "item", lambda c=cell: c)()) for cell in values if is_bad(cell)]
        if bad:
            found.append(f"{bad[0]} in column {repr(columns.names[place]) if columns.names else place}")
    return ", ".join(found[:MOST_NAMED]) + (", …" if len(found) > MOST_NAMED else "")


def _is_finite(cell: Any) -> bool:
    try:
        return bool(np.isfinite(np.float64(cell)))
    except TypeError:  # pandas.NA
        return False


def _is_number(cell: Any) -> bool:
    """Return whether NumPy takes a cell for a number; a missing cell counts as one."""
    try:
        np.float64(cell)
    except (TypeError, ValueError):
        return cell is None or type(cell).__name__ == "NAType"
    return True


def find_classes(labels: ArrayLike, among: str = "") -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the classes and each label's index `(n,)`; ValueError for fewer than two, `among` the rows it names."""
    classes, found = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        only = repr(classes.tolist()[0]) if len(classes) else "none"
        raise ValueError(f"y must have at least two classes{among}, got one class: {only}")
    return classes, found


def draw_seed(random_state: Any, stored: int | None = None) -> int:
    """Return the seed of a fit: that of the checkpoint to resume if `random_state` is None, else a drawn one."""
    if random_state is None and stored is not None:
        return stored
    return int(read_random_state(random_state).randint(2**31 - 1))


def read_random_state(random_state: Any) -> np.random.RandomState:
    """Return the generator of a `random_state`; ValueError naming the argument if it is none."""
    try:
        made: np.random.RandomState = check_random_state(random_state)
        return made
    except ValueError as error:
        wanted = "None, an integer from 0 to 2³² − 1 or a numpy.random.RandomState"
        raise ValueError(f"random_state must be {wanted}, got {random_state!r}") from error
