"""`GradientBoostedNetworkRegressor`: a regression network trained unit by unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.boosting.estimators.base import BoostedNetwork
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
from relaxon.neuromorphic.table_estimators import TableRegressor
from relaxon.neuromorphic.tabular import preparation

Array = NDArray[np.float64]

LOSSES = ("squared", "absolute", "huber", "quantile", "poisson")
NORMAL_MAD = 1.4826
"""Standard deviation of a normal distribution divided by its median absolute deviation."""
HUBER_DELTA = 1.345
"""Default δ of the Huber loss, in standard deviations: 95 % efficiency for normal errors (Huber 1981)."""


class GradientBoostedNetworkRegressor(TableRegressor, BoostedNetwork):
    """A regression network with logistic hidden units, trained a few units at a time on the current residual.

    Source: S. Emami & G. Martínez-Muñoz, "Sequential training of neural networks with gradient boosting", IEEE
    Access 2023. `newton="published"` is that algorithm. The default, "guarded", safeguards its step, fits each stage
    by variable projection, and scales the ridge so that it means the same at every stage.

    Parameters
    ----------
    n_units : total number of hidden units; ignored if `layers` is given.
    loss : "squared", "absolute", "huber", "quantile" or "poisson" (targets ≥ 0, log link).
    units_per_stage : J, the number of units trained together.
    learning_rate : η in (0, 1]; the paper uses 1.
    newton : "guarded" (the training loss never rises) or "published".
    subsample : fraction of the rows that a stage is fitted to. "auto" is one half, or 1 for guarded training on fewer
        than 2000 rows.
    ridge : weight decay, divided by the number of rows that a stage sees, as a prior would be. None means 0.1 if
        guarded, where the targets of a stage are scaled to a root mean square of 1, and 1e-4 (the default of
        `MLPRegressor`) if published.
    stage_iterations, stage_tolerance : stopping rule of L-BFGS: maximum number of iterations and relative decrease of
        the stage's objective. A tolerance of None means 1e-5 if guarded and 2.2e-9 (SciPy's default) if published.
    restarts, candidates : L-BFGS runs per stage, of which the best is kept, and random starting points drawn for each
        run, of which the best is used (guarded only).
    layers : number of units of each hidden layer of a deep network. The units of a layer see the inputs and all units
        of the layers below, which are frozen.
    binary : use units that are signs of sums of signs instead of logistic ones. Weights are stored as bits, and
        predictions count bits. Requires guarded training and a single hidden layer; a stage takes at most 40
        iterations, and the network cannot be exported.
    bits : length of the code by which sign units see a column, 1 to 64: one bit per threshold that it exceeds or not.
    missing : "refuse"; "mean", which replaces a missing input by the mean of its column; or "indicate", which also
        adds an indicator input for each column that has missing values in the training rows.
    precision : precision of predictions: "double", or "single", which evaluates the hidden layer in float32 and sums
        its outputs in float64. "single" is about twice as fast, accurate to about 1e-6 of the targets' spread, and
        requires a single hidden layer of logistic units.
    categorical_features : the categorical columns: names, indices, a mask, or "from_dtype" for the string and
        categorical columns of a pandas, polars or Arrow table. A category is encoded as the mean target of its rows
        (of each class, if there are more than two). In training the mean is taken over the rows that precede the row
        in a random order (Prokhorenkova et al. 2018). Missing values are a category of their own unless `missing` is
        "refuse". Unseen categories raise an `UnseenCategoryWarning` and are encoded as the overall mean.
    monotone_constraints : −1, 0 or 1 for each column, or a dict by column name. The prediction (for two classes, the
        probability of the second) never rises with a column of −1 and never falls with a column of 1. Requires a
        single output and a single hidden layer.
    early_stopping, validation_fraction, n_iter_no_change, tol : stop once the loss on the hold-out rows has not
        improved by more than `tol` for `n_iter_no_change` stages, and drop the stages after the best one.
    quantile, huber_delta : parameters of those losses; δ is in standard deviations, which are estimated by the median
        absolute deviation.
    warm_start : continue from the existing units if `fit` is called again with the same rows and more units.
    random_state : seed; the same seed gives the same bits.

    Attributes
    ----------
    network_ : the merged network.
    train_loss_, validation_loss_ : loss before training and after each stage, averaged over the outputs, each in units
        of its standard deviation (except for Poisson): ½ mean squared error, mean absolute error, mean Huber loss,
        mean pinball loss, or mean `e^F − yF`.
    feature_importances_ : mean absolute gradient with respect to the standardised columns, normalised to a sum of 1.
    outcome_ : how training ended. `Outcome.STALLED` comes with a `ConvergenceWarning` and means that ten consecutive
        stages, each drawn afresh, gained nothing.
    n_refused_stages_ : number of stages rejected and drawn again because they explained less than 1e-4 of the squared
        residual and less than one row's share of it (guarded only).
    n_dead_units_ : number of units dropped from their stages because they contributed only a constant.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor
    >>> X = np.linspace(-2, 2, 200).reshape(-1, 1)
    >>> model = GradientBoostedNetworkRegressor(n_units=60, random_state=0).fit(X, np.sin(3 * X[:, 0]))
    >>> model.n_units_, model.score(X, np.sin(3 * X[:, 0])) > 0.95
    (60, True)
    """

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

        `callback` receives a `StageProgress` after each stage; if it returns `True`, training stops and the stages so
        far are kept. With `checkpoints`, an interrupted fit is resumed and gives the same bits as an uninterrupted one.
        """
        self.check_parameters()
        refuse_masks(sample_weight=sample_weight)
        x, targets = self._read_table(X, y, multi_output=True, y_numeric=True)
        w = preparation.scale_weights(self._check_weights(sample_weight, x))
        x = self._add_indicators(x, fitting=True)
        flat, outputs = self._flatten_targets(targets)
        if self.loss == "poisson":
            if flat.min() < 0.0:
                raise ValueError(f"y must not be negative for loss='poisson', got {flat.min():g}")
            if not (w @ flat).all():
                raise ValueError("y must have a value above 0 in each column for loss='poisson', got zeros only")
        if self.warm_start and hasattr(self, "network_") and outputs != self._outputs:
            raise ValueError(f"y must have the outputs of the previous fit for a warm start, got {flat.shape[1]}")
        self._outputs = outputs
        self._train(*preparation.merge_rows(x, flat, w), None, callback, checkpoints)
        return self

    def check_parameters(self) -> None:
        super().check_parameters()
        check_choice("loss", self.loss, LOSSES)
        check_real("quantile", self.quantile, above=0.0, below=1.0)
        check_real("huber_delta", self.huber_delta, above=0.0)

    def predict(self, X: ArrayLike) -> Array:
        """Return predictions, `(n,)`, or `(n, K)` if the targets had columns."""
        return self._shape_output(self._predict_raw(X))

    def staged_predict(self, X: ArrayLike) -> Iterator[Array]:
        """Yield what `predict` returns after each stage."""
        return (self._shape_output(raw) for raw in self._predict_raw_staged(X))

    def _shape_output(self, raw: Array) -> Array:
        # Far outside the training inputs the exponential of the log-mean would overflow; it is clipped instead.
        return super()._shape_output(np.exp(np.minimum(raw, LARGEST_LOG)) if self.loss == "poisson" else raw)

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
        tags.target_tags.positive_only = self.loss == "poisson"
        return tags


LARGEST_LOG = 700.0
"""Largest log-mean of a Poisson prediction: `exp` of it is still finite in float64."""


def _estimate_deviation(y: Array, w: Array) -> float:
    """Estimate a robust standard deviation; return the ordinary one if more than half of the values are equal."""
    spread = NORMAL_MAD * weighted_quantile(np.abs(y - weighted_quantile(y, w, 0.5)), w, 0.5)
    if spread > 0.0:
        return float(spread)
    deviation = float(np.sqrt(np.square(y - y @ w) @ w))
    return deviation if deviation > 0.0 else 1.0
