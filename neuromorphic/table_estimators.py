"""What the scikit-learn estimators share: rows, weights, classes and outputs, read and checked in one way."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from relaxon.core.masked import refuse_masks

Array = NDArray[np.float64]
LARGEST_TARGET = 1e150
"""Largest absolute target: the squares of larger ones overflow float64."""


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
        flat = np.asarray(targets, np.float64).reshape(len(targets), -1)
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
    refuse_masks(X=X)
    return np.asarray(validate_data(estimator, X, dtype=dtype, reset=False))


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
    return int(check_random_state(random_state).randint(2**31 - 1))
