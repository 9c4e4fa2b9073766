"""`ConvexNetworkClassifier`: classification by the optimal two-layer ReLU network with sampled patterns."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.convex.estimator import ConvexEstimator
from relaxon.neuromorphic.convex.program.losses import (
    HINGE,
    LOGISTIC,
    SQUARED,
    ConvexLoss,
    HingeLoss,
    LogisticLoss,
    RobustLoss,
    SoftmaxLoss,
    SquaredError,
)
from relaxon.neuromorphic.convex.solving.admm import Callback
from relaxon.neuromorphic.parameters import check_choice, store_arguments
from relaxon.neuromorphic.table_estimators import TableClassifier, find_classes, read_table
from relaxon.neuromorphic.tabular import preparation

Array = NDArray[np.float64]
LOSSES = ("logistic", "hinge", "squared")


def _has_probabilities(estimator: Any) -> bool:
    if estimator.loss != "logistic":
        raise AttributeError(f"predict_proba requires loss='logistic', got loss={estimator.loss!r}")
    return True


class ConvexNetworkClassifier(TableClassifier, ConvexEstimator):
    """A classifying two-layer ReLU network trained to the global optimum of a convex program, with a certificate.

    With two classes there is one output; with more, each class has an output with its own units. The logistic loss
    trains all outputs together (softmax). With the hinge and squared losses, and where `epsilon` is above 0, each
    output separates its class from the rest. Parameters and attributes are those of `ConvexNetworkRegressor`, and

    loss : "logistic", "hinge", or "squared" with targets −1 and 1.
    classes_ : the classes.

    >>> from sklearn.datasets import load_iris
    >>> from relaxon.neuromorphic.convex import ConvexNetworkClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = ConvexNetworkClassifier(n_patterns=20, random_state=0).fit(X, y)
    >>> model.predict_proba(X).shape, model.score(X, y) > 0.97
    ((150, 3), True)
    """

    def __init__(
        self,
        n_patterns: int = 100,
        *,
        beta: float = 1e-2,
        loss: Literal["logistic", "hinge", "squared"] = "logistic",
        program: Literal["patterns", "units"] = "patterns",
        refinements: int = 3,
        epsilon: float = 0.0,
        tol: float = 1e-4,
        max_iter: int = 5000,
        largest_factor: int = 8192,
        certificate_draws: int = 100,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        store_arguments(self, locals())

    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, callback: Callback | None = None
    ) -> Self:
        """Train on `X` (n, d) and labels `y` (n,) of at least two classes.

        `callback` is called with a `ConvexProgress` every few iterations; training ends where it returns `True`.
        """
        self.check_parameters()
        refuse_masks(sample_weight=sample_weight)
        x, given = read_table(self, X, y, dtype=np.float64, order="C")
        check_classification_targets(given)
        w = self._scale_weights(sample_weight, x)
        # A weight of 0 is equivalent to no row, so a class without any weight does not exist.
        x, given, w = x[w > 0.0], np.asarray(given)[w > 0.0], w[w > 0.0]
        self.classes_, labels = find_classes(given, " among the rows with a weight")
        x, column, w = preparation.merge_rows(x, labels[:, None].astype(np.float64), w)
        loss = self._loss(column[:, 0].astype(np.int64))
        outputs = 1 if len(self.classes_) == 2 else len(self.classes_)
        self._train(x, w, loss, np.zeros(outputs), np.ones(outputs), callback)
        return self

    def check_parameters(self) -> None:
        super().check_parameters()
        check_choice("loss", self.loss, LOSSES)

    @available_if(_has_probabilities)
    def predict_proba(self, X: ArrayLike) -> Array:
        """Return probabilities `(n, classes)`; `AttributeError` unless `loss="logistic"`."""
        from scipy.special import expit, softmax

        raw = self._predict_raw(X)
        if raw.shape[1] > 1 and self.epsilon > 0.0:
            each = expit(raw)
            return np.asarray(each / each.sum(axis=1, keepdims=True))
        if raw.shape[1] > 1:
            return np.asarray(softmax(raw, axis=1))
        return np.column_stack([expit(-raw[:, 0]), expit(raw[:, 0])])

    def _loss(self, labels: NDArray[np.int64]) -> ConvexLoss:
        classes = len(self.classes_)
        if classes > 2 and self.loss == "logistic" and self.epsilon == 0.0:
            return SoftmaxLoss(labels, classes)
        signs = np.where(labels[:, None] == (np.arange(classes) if classes > 2 else 1), 1.0, -1.0)
        made: dict[str, tuple[type[Any], int]] = {
            "hinge": (HingeLoss, HINGE),
            "logistic": (LogisticLoss, LOGISTIC),
            "squared": (SquaredError, SQUARED),
        }
        kind, code = made[self.loss]
        loss: ConvexLoss = kind(signs)
        return RobustLoss(kind(signs), code) if self.epsilon > 0.0 else loss
