"""`GradientBoostedNetworkClassifier`: a classification network trained unit by unit."""
# Imported on first use, for their weight: scipy.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.boosting.estimators.base import BoostedNetwork
from relaxon.neuromorphic.boosting.training.losses import BinaryLogLoss, CompSumBoostingLoss, LogLoss, Loss, softmax
from relaxon.neuromorphic.boosting.training.runs import Callback, TrainingRows
from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.neuromorphic.parameters import check_choice, check_real, store_arguments
from relaxon.neuromorphic.table_estimators import TableClassifier, find_classes
from relaxon.neuromorphic.tabular import preparation

Array = NDArray[np.float64]


class GradientBoostedNetworkClassifier(TableClassifier, BoostedNetwork):
    """A classification network with logistic hidden units, trained a few units at a time on the current residual.

    For two classes the network has a single output, the logit of the second class. For more classes it has one output
    per class (softmax) on a shared hidden layer. Parameters and attributes are those of
    `GradientBoostedNetworkRegressor`, and

    loss : "log_loss", or "comp-sum", the comp-sum loss of Mao, Mohri and Zhong 2023.
    tau : τ of "comp-sum", above 0 and below 2. 1 is the log-loss; larger values give less weight to outlying rows.
    class_weight : None, "balanced" or a dict with a weight for each class.
    classes_ : the classes.
    train_loss_ : mean loss; in nats for "log_loss".

    >>> from sklearn.datasets import load_iris
    >>> from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = GradientBoostedNetworkClassifier(n_units=10, random_state=0).fit(X, y)
    >>> model.predict_proba(X).shape, model.score(X, y) > 0.97
    ((150, 3), True)
    """

    def __init__(
        self,
        n_units: int = 200,
        *,
        loss: Literal["log_loss", "comp-sum"] = "log_loss",
        tau: float = 1.0,
        units_per_stage: int = 1,
        learning_rate: float = 0.5,
        newton: Literal["guarded", "published"] = "guarded",
        subsample: float | Literal["auto"] = "auto",
        ridge: float | None = None,
        stage_iterations: int = 200,
        stage_tolerance: float | None = None,
        restarts: int = 1,
        candidates: int = 8,
        layers: tuple[int, ...] | None = None,
        binary: bool = False,
        bits: int = 4,
        missing: Literal["refuse", "mean", "indicate"] = "refuse",
        precision: Literal["double", "single"] = "double",
        categorical_features: Any = None,
        monotone_constraints: Any = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        store_arguments(self, locals())

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        callback: Callback | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """Train on `X` (n, d) and labels `y` (n,) of at least two classes.

        `callback` receives a `StageProgress` after each stage; if it returns `True`, training stops and the stages so
        far are kept. With `checkpoints`, an interrupted fit is resumed and gives the same bits as an uninterrupted one.
        """
        self.check_parameters()
        refuse_masks(sample_weight=sample_weight)
        x, given = self._read_table(X, y)
        check_classification_targets(given)
        w = self._check_weights(sample_weight, x)
        x = self._add_indicators(x, fitting=True)
        # Rows of weight 0 are dropped, so that a class of such rows only does not count as a class.
        x, given, w = x[w > 0.0], np.asarray(given)[w > 0.0], w[w > 0.0]
        if self.class_weight is not None:
            w = w * compute_sample_weight(self.class_weight, given)
            if not (w > 0.0).any() or not np.isfinite(w).all():
                raise ValueError(f"class_weight must leave rows with a finite weight above 0, got {self.class_weight}")
            x, given, w = x[w > 0.0], given[w > 0.0], w[w > 0.0]
        w = preparation.scale_weights(w)
        classes, labels = find_classes(given, " among the rows with a weight")
        if self.warm_start and hasattr(self, "network_") and not np.array_equal(classes, self.classes_):
            raise ValueError(f"y must have the classes of the previous fit for a warm start, got {classes.tolist()}")
        self.classes_ = classes
        x, column, w = preparation.merge_rows(x, labels[:, None].astype(np.float64), w)
        labels = column[:, 0].astype(np.int64)
        if len(classes) == 2:
            targets = 2.0 * column - 1.0
        else:
            targets = np.zeros((len(x), len(classes)))
            targets[np.arange(len(x)), labels] = 1.0
        self._train(x, targets, w, labels, callback, checkpoints)
        return self

    def check_parameters(self) -> None:
        super().check_parameters()
        check_choice("loss", self.loss, ("log_loss", "comp-sum"))
        check_real("tau", self.tau, above=0.0, below=2.0)
        if self.loss == "log_loss" and self.tau != 1.0:
            raise ValueError(f"tau must be 1 unless loss is 'comp-sum', got {self.tau!r}")
        if self.loss == "comp-sum" and self.newton == "published":
            raise ValueError(
                "newton must be 'guarded' for loss 'comp-sum': the published algorithm supports the log-loss only"
            )

    def staged_decision_function(self, X: ArrayLike) -> Iterator[Array]:
        """Yield what `decision_function` returns after each stage."""
        return (self._shape_output(raw) for raw in self._predict_raw_staged(X))

    def predict_proba(self, X: ArrayLike) -> Array:
        """Return the class probabilities, `(n, classes)`."""
        return self._probabilities(self._predict_raw(X))

    def staged_predict_proba(self, X: ArrayLike) -> Iterator[Array]:
        """Yield what `predict_proba` returns after each stage."""
        return (self._probabilities(raw) for raw in self._predict_raw_staged(X))

    def staged_predict(self, X: ArrayLike) -> Iterator[NDArray[Any]]:
        """Yield what `predict` returns after each stage."""
        return (self._labels(raw) for raw in self._predict_raw_staged(X))

    def _probabilities(self, raw: Array) -> Array:
        if len(self.classes_) == 1:
            return np.ones((len(raw), 1))
        if raw.shape[1] > 1:
            return np.ascontiguousarray(softmax(raw.T).T)
        from scipy.special import expit

        # Each probability is computed by its own exponential, so that a small one keeps its relative accuracy.
        return np.column_stack([expit(-raw[:, 0]), expit(raw[:, 0])])

    def _build_loss(self, train: TrainingRows) -> Loss:
        if self.loss == "comp-sum":
            return CompSumBoostingLoss(float(self.tau), len(train.y))
        if len(train.y) == 1:
            return BinaryLogLoss()
        # The published algorithm starts from 0 if there are more than two classes.
        return LogLoss(priors=self.newton == "guarded")

    def _link(self) -> str:
        return "softmax" if self.network_.outputs > 1 else "logistic"
