"""`GradientBoostedNetworkRegressor`: a network for numbers, trained unit by unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.boosting.estimators.base import LARGEST_TARGET, BoostedNetwork
from relaxon.neuromorphic.boosting.training.losses import (
    AbsoluteLoss,
    HuberLoss,
    Loss,
    PoissonLoss,
    QuantileLoss,
    SquaredLoss,
    weighted_quantile,
)
from relaxon.neuromorphic.boosting.training.runs import Callback, TrainingRows
from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.neuromorphic.parameters import check_choice, check_real, store_arguments
from relaxon.neuromorphic.tabular import preparation

Array = NDArray[np.float64]

LOSSES = ("squared", "absolute", "huber", "quantile", "poisson")
NORMAL_MAD = 1.4826
"""Standard deviations of a normal distribution in a median absolute deviation."""
HUBER_DELTA = 1.345
"""95 % efficiency where errors are normal (Huber 1981)."""


class GradientBoostedNetworkRegressor(RegressorMixin, BoostedNetwork):  # type: ignore[misc]
    """A network with logistic hidden units, trained a few units at a time on the residual of those before.

    Source: S. Emami & G. Martínez-Muñoz, "Sequential training of neural networks with gradient boosting", IEEE
    Access 2023. `newton="published"` is that algorithm; the default guards its step, fits each stage by variable
    projection and with a ridge that means the same at every stage.

    Parameters
    ----------
    n_units : hidden units in all; ignored where `layers` is given.
    loss : "squared", "absolute", "huber", "quantile" or "poisson" (targets ≥ 0, log link).
    units_per_stage : J, units trained together.
    learning_rate : η in (0, 1]; the paper's is 1.
    newton : "guarded" (the loss on the training rows never rises) or "published".
    subsample : part of the rows a stage is fitted to; "auto" is half of them, but under the guard all of fewer than
        2000.
    ridge : weight decay, as a prior is: divided by the number of rows a stage sees. None: 0.1 under the guard, where a
        stage's targets are scaled to a root mean square of 1; 1e-4, `MLPRegressor`'s, as published.
    stage_iterations, stage_tolerance : when L-BFGS stops: iterations, or relative decrease of the stage's objective.
        None: 1e-5 under the guard; 2.2e-9, SciPy's, as published.
    restarts, candidates : descents per stage, the best kept; random starts drawn for each, the best followed (under
        the guard only).
    layers : units of each hidden layer, for a deep network: a layer's units see the inputs and all units of the
        layers before, which are frozen.
    binary : units that are signs of sums of signs, in place of logistic ones; weights are kept and predictions made in
        bits. With "guarded" steps and one hidden layer only, at most 40 iterations a stage, and no export.
    bits : of the code that sign units see of each column, 1 to 64: whether it is above so many thresholds.
    missing : "refuse", or "mean": a missing input counts as its column's mean; or "indicate": besides that, units see
        whether it is missing, for each column that has missing inputs in training.
    precision : of predictions: "double", or "single" for a hidden layer in float32 (its outputs are summed in float64),
        about twice as fast and within some 1e-6 of the targets' spread. One hidden layer of logistic units only.
    categorical_features : columns that are categories: names or places, a mask, or "from_dtype" for the columns of
        words
        and of categories of a pandas, polars or Arrow table. A category counts as the mean target of its rows (of each
        class, where there are more than two); in training of those before the row in an order by chance (Prokhorenkova
        et al. 2018). Missing ones are a category unless `missing` is "refuse"; unseen ones are told by an
        `UnseenCategoryWarning` and count as the average.
    monotone_constraints : −1, 0 or 1 for each column, or a dict by name: the prediction (of two classes, the second's
        probability) never rises, may do either, or never falls with the column. Of one output and one hidden layer
        only.
    early_stopping, validation_fraction, n_iter_no_change, tol : stop once the loss on rows held out has not fallen by
        more than `tol` for so many stages, and drop the stages after the best.
    quantile, huber_delta : of those losses; δ in standard deviations, estimated by the median absolute deviation.
    warm_start : go on from the units there are when `fit` is called again with the same rows and more units.
    random_state : seed; the same seed gives the same bits.

    Attributes
    ----------
    network_ : the merged network.
    train_loss_, validation_loss_ : at the start and after each stage, mean over outputs, each output in units of its
        standard deviation (but for Poisson): ½ mean squared error, mean absolute error, mean Huber, pinball or
        `e^F − yF`.
    feature_importances_ : mean absolute gradient with respect to the standardised columns, summing to 1.
    outcome_ : how training ended; `Outcome.STALLED`, with a `ConvergenceWarning`, where ten stages in a row, each drawn
        anew, had nothing to gain.
    n_refused_stages_ : stages drawn anew because they explained less than 1e-4 of the residual's square, and less than
        one row's share of it (under the guard).
    n_dead_units_ : units left out of their stages because they added nothing but a constant.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> model = GradientBoostedNetworkRegressor(n_units=60, random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> model.n_units_, model.score(X, np.sin(3 * X[:, 0])) > 0.95
    (60, True)
    """

    loss: str
    quantile: float
    huber_delta: float
    _outputs: int | None

    def __init__(
        self,
        n_units: int = 200,
        *,
        loss: Literal["squared", "absolute", "huber", "quantile", "poisson"] = "squared",
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
        quantile: float = 0.5,
        huber_delta: float = HUBER_DELTA,
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
        """Train on `X` (n, d) and `y` (n,) or (n, K).

        `callback` sees a `StageProgress` after each stage; where it returns `True`, training ends with the stages done.
        With `checkpoints`, a fit that was cut off goes on where it was, to the same bits.
        """
        self.check_parameters()
        refuse_masks(X=X, y=y, sample_weight=sample_weight)
        x, targets = self._read_table(X, y, multi_output=True, y_numeric=True)
        w = preparation.scale_weights(self._check_weights(sample_weight, x))
        x = self._add_indicators(x, fitting=True)
        flat = np.asarray(targets, np.float64).reshape(len(x), -1)
        if np.abs(flat).max() > LARGEST_TARGET:
            raise ValueError(f"y must be at most {LARGEST_TARGET:g} in size, got {np.abs(flat).max():g}")
        if self.loss == "poisson":
            if flat.min() < 0.0:
                raise ValueError(f"y must not be negative for loss='poisson', got {flat.min():g}")
            if not (w @ flat).all():
                raise ValueError("y must have a value above 0 in each column for loss='poisson', got zeros only")
        outputs = flat.shape[1] if np.ndim(targets) == 2 else None
        if self.warm_start and hasattr(self, "network_") and outputs != self._outputs:
            raise ValueError(f"y must have the outputs of the earlier fit for a warm start, got {flat.shape[1]}")
        self._outputs = outputs
        self._train(*preparation.merge_rows(x, flat, w), None, callback, checkpoints)
        return self

    def check_parameters(self) -> None:
        super().check_parameters()
        check_choice("loss", self.loss, LOSSES)
        check_real("quantile", self.quantile, above=0.0, below=1.0)
        check_real("huber_delta", self.huber_delta, above=0.0)

    def predict(self, X: ArrayLike) -> Array:
        """`(n,)`, or `(n, K)` where the targets had columns."""
        return self._shape_output(self._predict_raw(X))

    def staged_predict(self, X: ArrayLike) -> Iterator[Array]:
        """`predict` after each stage."""
        return (self._shape_output(raw) for raw in self._predict_raw_staged(X))

    def _shape_output(self, raw: Array) -> Array:
        # Predictions beyond the largest number are it: exp of a log-mean far outside the training's inputs.
        out = np.exp(np.minimum(raw, LARGEST_LOG)) if self.loss == "poisson" else raw
        return out[:, 0] if self._outputs is None else out

    def _target_unit(self, y: Array, w: Array) -> Array:
        if self.loss == "poisson" or self.newton == "published":
            return np.ones(y.shape[1])
        return preparation.find_target_units(y, w)

    def _build_loss(self, train: TrainingRows) -> Loss:
        if self.loss == "squared":
            return SquaredLoss()
        if self.loss == "absolute":
            return AbsoluteLoss()
        if self.loss == "quantile":
            return QuantileLoss(quantile=float(self.quantile))
        if self.loss == "poisson":
            return PoissonLoss()
        return HuberLoss(
            delta=float(self.huber_delta) * np.array([_estimate_deviation(row, train.w) for row in train.y])
        )

    def _link(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags


LARGEST_LOG = 700.0


def _estimate_deviation(y: Array, w: Array) -> float:
    """A standard deviation that outliers hardly move; the standard deviation where more than half are equal."""
    spread = NORMAL_MAD * weighted_quantile(np.abs(y - weighted_quantile(y, w, 0.5)), w, 0.5)
    if spread > 0.0:
        return float(spread)
    deviation = float(np.sqrt(np.square(y - y @ w) @ w))
    return deviation if deviation > 0.0 else 1.0
