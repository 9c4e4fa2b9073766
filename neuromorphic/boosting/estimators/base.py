"""The base class of both estimators: training, staged prediction, truncation, importances and export."""
# Imported on first use, for its weight: scikit-learn's inspection.

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.boosting.estimators.inputs import TableInputs, check_monotone_constraints
from relaxon.neuromorphic.boosting.estimators.saving import save
from relaxon.neuromorphic.boosting.networks import export
from relaxon.neuromorphic.boosting.networks.compression import compress
from relaxon.neuromorphic.boosting.networks.merged import MergedNetwork, Stage, merge
from relaxon.neuromorphic.boosting.networks.signs import build_sign_network
from relaxon.neuromorphic.boosting.stages.sign_units import choose_thresholds
from relaxon.neuromorphic.boosting.training.checkpoint import BoostingCheckpoint, read_seed
from relaxon.neuromorphic.boosting.training.loop import REFUSALS, boost
from relaxon.neuromorphic.boosting.training.losses import Loss
from relaxon.neuromorphic.boosting.training.runs import (
    BoostingState,
    Callback,
    Outcome,
    StagewiseSettings,
    TrainingRows,
)
from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.neuromorphic.parameters import check_choice, check_real, check_whole
from relaxon.neuromorphic.table_estimators import draw_seed
from relaxon.neuromorphic.tabular import preparation
from relaxon.neuromorphic.tabular.categories import check_categorical_features

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

IMPORTANCE_ROWS = 1000
"""Maximum number of rows over which the gradients of the importances are averaged."""
MOST_BITS = 64
"""Maximum length of the code of a column."""


@dataclass(frozen=True, slots=True)
class StageDefaults:
    """Defaults of `ridge` and `stage_tolerance`."""

    ridge: float
    tolerance: float


GUARDED = StageDefaults(ridge=0.1, tolerance=1e-5)
PUBLISHED = StageDefaults(ridge=1e-4, tolerance=2.2e-9)
"""The weight decay of `MLPRegressor` and the stopping rule of SciPy."""
FEW_ROWS = 2000
"""Number of rows below which halving them costs accuracy, found on the benchmark's selection sets (≤ 1200 rows)."""
SMALL_SHARE, SHARE = 1.0, 0.5
"""Fraction of the rows that a stage sees for subsample="auto": all of a small table, else one half as published."""


class BoostedNetwork(TableInputs):
    """Base class of the estimators; a subclass provides the targets, the loss and the link."""

    train_loss_: Array
    validation_loss_: Array
    outcome_: Outcome
    n_refused_stages_: int
    n_dead_units_: int
    feature_importances_: Array
    _seed: int
    _attempts: int
    _unit: Array

    # ---- the fitted estimator ------------------------------------------------------------------------------------

    @property
    def n_units_(self) -> int:
        """Number of hidden units of the merged network."""
        return int(self._fitted().units)

    @property
    def n_stages_(self) -> int:
        """Number of boosting stages of the merged network."""
        return int(self._fitted().stages)

    def truncate(self, n_units: int) -> Self:
        """Return a copy with the first `n_units` units only, as if training had ended there.

        Raises `ValueError` if `n_units` is not the number of units at the end of a stage.
        """
        network = self._fitted()
        if isinstance(n_units, bool) or not isinstance(n_units, Integral):
            raise TypeError(f"n_units must be an integer, got {type(n_units).__name__}")
        if n_units not in network.ends:
            near = network.ends[np.argsort(np.abs(network.ends - int(n_units)), kind="stable")[:2]]
            raise ValueError(
                f"n_units must be the number of units at the end of a stage (0 to {network.units}), got {n_units}; "
                f"nearest: {', '.join(map(str, sorted(near)))}"
            )
        stages = int(np.flatnonzero(network.ends == n_units)[0])
        shorter = copy.copy(self)
        shorter.network_ = network.truncated(stages)
        shorter.train_loss_ = self.train_loss_[: stages + 1].copy()
        shorter.validation_loss_ = self.validation_loss_[: stages + 1].copy()
        return shorter

    def compressed(self, X: ArrayLike, n_units: int, refine: int = 0, noisy_copies: int = 0) -> Self:
        """Return a copy with the `n_units` units that best reproduce this network's outputs on the rows `X`.

        `refine` iterations then fit the units themselves to those outputs. See
        `relaxon.neuromorphic.boosting.networks.compression.compress`.
        """
        found: Self = compress(self, X, n_units, refine, noisy_copies)
        return found

    def stages(self) -> tuple[Stage, ...]:
        """Return the stages of the additive model whose sum is the merged network."""
        return tuple(self._fitted().split())

    def permutation_importances(
        self, X: ArrayLike, y: ArrayLike, *, n_repeats: int = 5, random_state: int | None = None
    ) -> Array:
        """Return by how much `score` falls if a column is shuffled, averaged over `n_repeats`: `(n_features,)`."""
        from sklearn.inspection import permutation_importance

        refuse_masks(X=X, y=y)
        found = permutation_importance(self, X, y, n_repeats=n_repeats, random_state=random_state)
        return np.asarray(found.importances_mean)

    def raw_outputs(self, X: ArrayLike) -> Array:
        """Return the outputs before the link, `(n, K)`: predictions, log-means or logits."""
        return self._predict_raw(X)

    def to_torch(self) -> torch.nn.Module:
        """Return the merged network as a float64 torch module that maps `(n, d)` to the outputs before the link.

        These are logits for the classifier, log-means for `loss="poisson"`, and otherwise predictions.
        """
        self._check_exportable("to_torch()")
        return export.to_torch(self._fitted(), self._indicated)

    def to_onnx(self) -> Any:
        """Return the network as a float64 ONNX model with input `X` and output `prediction` or `probabilities`."""
        self._check_exportable("to_onnx()")
        return export.to_onnx(self._fitted(), self._link(), self._indicated)

    def _check_exportable(self, what: str) -> None:
        """Raise `ValueError` for networks that neither torch nor ONNX can express: sign units and categories."""
        self._fitted()
        if self._categories is not None:
            raise ValueError(
                f"categorical_features must be None for {what}: its input is numeric; save() keeps categories"
            )
        if self.binary:
            raise ValueError(f"binary must be False for {what}: neither format counts bits; save() keeps them packed")

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to the folder `path` as `network.safetensors` and `model.json`, without pickle."""
        save(self, Path(path))

    # ---- training ------------------------------------------------------------------------------------------------

    def _train(
        self,
        x: Array,
        y: Array,
        w: Array,
        labels: NDArray[np.int64] | None,
        callback: Callback | None,
        checkpoints: Checkpoints | None,
    ) -> None:
        """Fit to features (n, d), encoded targets (n, K) and weights; `labels` stratify the hold-out rows."""
        again = self.warm_start and hasattr(self, "network_")
        if again and checkpoints is not None:
            raise ValueError("checkpoints must be None for a warm start that continues an earlier fit")
        if not again:
            resumed = None if checkpoints is None else read_seed(checkpoints.folder)
            self._seed = draw_seed(self.random_state, resumed)
        x = self._add_statistics(x, y, w, self._seed)
        if self.early_stopping:
            chosen, held = preparation.split_rows(len(x), self.validation_fraction, labels, self._seed)
            vx, vy, vw = x[held], y[held], w[held]
            x, y, w = x[chosen], y[chosen], w[chosen]
        if again:
            shift, scale, unit = self.network_.shift, self.network_.scale, self._unit
            thresholds = getattr(self.network_, "thresholds", None)
        else:
            shift, scale = preparation.find_standardisation(x, w)
            unit = self._target_unit(y, w)
            thresholds = choose_thresholds(x, w, int(self.bits)) if self.binary else None
        empty = self._merge((), np.zeros(y.shape[1]), np.ones(y.shape[1]), shift, scale, thresholds)
        train = preparation.build_rows(empty.standardised(x), y / unit, w)
        loss = self._build_loss(train)
        validation = preparation.build_rows(empty.standardised(vx), vy / unit, vw) if self.early_stopping else None
        settings = self._build_settings(len(x), y.shape[1])
        before, keeper = self._resume_state() if again else None, None
        if checkpoints is not None:
            keeper = BoostingCheckpoint(checkpoints, settings, loss, train, validation)
            before = keeper.read()
        trained = boost(settings, loss, train, validation, before, callback, keeper)
        self._unit = unit
        stages = tuple(trained.stages)
        self.network_ = self._merge(stages, trained.initial, loss.gain * unit, shift, scale, thresholds)
        self._attempts = trained.attempts
        self.n_refused_stages_, self.n_dead_units_ = trained.refused, trained.dead
        self.train_loss_ = np.array(trained.losses)
        self.validation_loss_ = np.array(trained.validation)
        self.outcome_ = trained.outcome
        self.feature_importances_ = self._compute_importances(x)
        if self.outcome_ is Outcome.STALLED:
            self._warn_of_stall(settings)

    def _warn_of_stall(self, settings: StagewiseSettings) -> None:
        warnings.warn(
            f"training ended with {self.n_units_} of {sum(settings.layers)} units: {REFUSALS} consecutive stages, each "
            f"drawn afresh, gained nothing with ridge={settings.ridge:g}; a smaller ridge lets later units fit "
            "finer detail, or noise",
            ConvergenceWarning,
            stacklevel=4,
        )

    def _merge(
        self,
        stages: tuple[Stage, ...],
        initial: Array,
        gain: Array,
        shift: Array,
        scale: Array,
        thresholds: Array | None,
    ) -> MergedNetwork:
        network = merge(stages, initial, gain, shift, scale)
        return network if thresholds is None else build_sign_network(network, thresholds)

    def _resume_state(self) -> BoostingState:
        wanted = sum(self._layer_sizes())
        if wanted < self.network_.units:
            raise ValueError(
                f"n_units must be at least the {self.network_.units} existing units for a warm start, got {wanted}"
            )
        return BoostingState(
            initial=self.network_.initial,
            stages=list(self.network_.split()),
            losses=list(self.train_loss_),
            validation=list(self.validation_loss_) if self.early_stopping else [],
            attempts=self._attempts,
            refused=self.n_refused_stages_,
            dead=self.n_dead_units_,
        )

    def _build_settings(self, n: int, outputs: int) -> StagewiseSettings:
        share, guarded = self.subsample, self.newton == "guarded"
        usual = GUARDED if guarded else PUBLISHED
        if isinstance(share, str):
            share = SMALL_SHARE if guarded and n < FEW_ROWS else SHARE
        return StagewiseSettings(
            layers=self._layer_sizes(),
            units_per_stage=int(self.units_per_stage),
            learning_rate=float(self.learning_rate),
            newton=self.newton,
            subsample=float(share),
            ridge=usual.ridge if self.ridge is None else float(self.ridge),
            stage_iterations=int(self.stage_iterations),
            stage_tolerance=usual.tolerance if self.stage_tolerance is None else float(self.stage_tolerance),
            restarts=int(self.restarts),
            candidates=int(self.candidates),
            patience=int(self.n_iter_no_change) if self.early_stopping else None,
            tolerance=float(self.tol),
            seed=self._seed,
            signs=bool(self.binary),
            monotone=self._directions(outputs),
        )

    def _layer_sizes(self) -> tuple[int, ...]:
        return (int(self.n_units),) if self.layers is None else tuple(int(width) for width in self.layers)

    def _compute_importances(self, x: Array) -> Array:
        """Return the mean absolute gradient of the outputs by the standardised features, normalised to a sum of 1."""
        x = x[:: -(-len(x) // IMPORTANCE_ROWS)]
        total, slopes = np.zeros(x.shape[1]), self.network_.slopes(x)
        for output in range(self.network_.outputs):
            # Each output is measured in its own unit, so that one with large values does not dominate.
            total += np.abs(self.network_.input_gradient(x, output, slopes)).mean(axis=0) / self.network_.gain[output]
        total *= self.network_.scale > 0.0
        # Missing-value indicators and category statistics are credited to the column that they stem from.
        sources = self._sources(self.network_.outputs)
        columns = np.bincount(sources, weights=total, minlength=self.n_features_in_).astype(np.float64)
        whole = columns.sum()
        return columns / whole if whole > 0.0 else columns

    def _predict_raw(self, X: ArrayLike) -> Array:
        network: MergedNetwork = self._fitted()
        if self.precision == "single":
            self._check_single()
        return network.raw(self._encode_input(X), self.precision == "single")

    def _predict_raw_staged(self, X: ArrayLike) -> Iterator[Array]:
        network: MergedNetwork = self._fitted()
        return network.staged_raw(self._encode_input(X))

    def _build_loss(self, train: TrainingRows) -> Loss:
        raise NotImplementedError

    def _target_unit(self, y: Array, w: Array) -> Array:
        """Return the unit in which each output is trained, `(K,)`."""
        return np.ones(y.shape[1])

    def _link(self) -> str:
        """Return the link from merged outputs to predictions: "identity", "exp", "logistic" or "softmax"."""
        raise NotImplementedError

    def check_parameters(self) -> None:
        """Raise `ValueError` or `TypeError` for a parameter that `fit` would refuse for any data."""
        for name in ("n_units", "units_per_stage", "stage_iterations", "restarts", "candidates", "n_iter_no_change"):
            check_whole(name, getattr(self, name))
        check_real("learning_rate", self.learning_rate, above=0.0, up_to=1.0)
        if self.subsample != "auto":
            check_real("subsample", self.subsample, above=0.0, up_to=1.0)
        for name in ("ridge", "stage_tolerance"):
            if getattr(self, name) is not None:
                check_real(name, getattr(self, name), least=0.0)
        check_real("tol", self.tol, least=0.0)
        check_real("validation_fraction", self.validation_fraction, above=0.0, below=1.0)
        check_choice("newton", self.newton, ("guarded", "published"))
        check_choice("missing", self.missing, ("refuse", "mean", "indicate"))
        check_choice("precision", self.precision, ("double", "single"))
        check_categorical_features(self.categorical_features)
        self._check_binary()
        check_monotone_constraints(self)
        self._check_single()
        for name in ("binary", "early_stopping", "warm_start"):
            if not isinstance(getattr(self, name), bool | np.bool_):
                raise TypeError(f"{name} must be True or False, got {getattr(self, name)!r}")
        if self.layers is not None:
            if isinstance(self.layers, str | bytes | Real) or len(tuple(self.layers)) == 0:
                raise ValueError(f"layers must be None or units of each hidden layer, got {self.layers!r}")
            for width in self.layers:
                check_whole("layers", width)

    def _check_single(self) -> None:
        """Raise `ValueError` if single precision is requested for a network that does not support it."""
        layers = 1 if self.layers is None else len(tuple(self.layers))
        if self.precision == "single" and (self.binary or layers > 1):
            what = "sign units" if self.binary else f"{layers} hidden layers"
            raise ValueError(
                f"precision must be 'double' for {what}, got 'single': one layer of logistic units has both"
            )

    def _check_binary(self) -> None:
        """Raise `ValueError` for parameters that sign units do not support."""
        check_whole("bits", self.bits)
        if self.bits > MOST_BITS:
            raise ValueError(f"bits must be at most {MOST_BITS}, got {self.bits}")
        if not self.binary:
            return
        if self.newton == "published":
            raise ValueError("newton must be 'guarded' for sign units: the published stage fits logistic ones")
        if self.layers is not None and len(tuple(self.layers)) > 1:
            raise ValueError(f"layers must have one layer for sign units, got {tuple(self.layers)}")
