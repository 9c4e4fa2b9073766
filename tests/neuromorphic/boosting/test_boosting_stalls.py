"""Stages that have nothing to gain are drawn anew or end the training; units that add a constant are not stored."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning

from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    Outcome,
    load,
)
from relaxon.neuromorphic.boosting.networks.merged import logistic


def fitted(model: Any, X: Any, y: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y)


def test_training_that_has_nothing_left_to_gain_ends_and_says_so(tmp_path: Any) -> None:
    X, y = load_diabetes(return_X_y=True)
    with pytest.warns(ConvergenceWarning, match=r"ended with \d+ of 200 units: 10 stages .*ridge=1;.*smaller ridge"):
        model = GradientBoostedNetworkRegressor(ridge=1.0, random_state=0).fit(X, y)
    assert model.outcome_ is Outcome.STALLED
    assert model.n_units_ < 200
    assert model.n_refused_stages_ >= 10
    # Each stored stage lowers the loss: under squares by η (2 − η) of the share that it explains, at least 1e-4.
    falls = -np.diff(model.train_loss_) / model.train_loss_[:-1]
    assert falls.min() > 0.7e-4
    model.save(tmp_path)
    again = load(tmp_path)
    assert (again.n_refused_stages_, again.outcome_) == (model.n_refused_stages_, Outcome.STALLED)


def test_training_that_needs_all_its_units_says_nothing() -> None:
    X, y = load_diabetes(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        model = GradientBoostedNetworkRegressor(n_units=60, ridge=0.01, random_state=0).fit(X, y)
    assert (model.outcome_, model.n_units_, model.n_refused_stages_) == (Outcome.COMPLETED, 60, 0)


def test_noise_alone_is_not_fitted_stage_after_stage() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(400, 3)), rng.integers(2, size=400)
    model = fitted(GradientBoostedNetworkClassifier(ridge=10.0, random_state=0), X, y)
    assert model.outcome_ is Outcome.STALLED
    assert model.n_stages_ < 20


@pytest.mark.parametrize("outputs", [1, 2])
def test_units_that_add_a_constant_only_are_not_stored(outputs: int) -> None:
    X, y = load_diabetes(return_X_y=True)
    y = np.stack([y, np.square(y)][:outputs], axis=1)
    model = fitted(GradientBoostedNetworkRegressor(60, units_per_stage=8, ridge=1.0, random_state=0), X, y)
    assert model.n_dead_units_ > 0
    network = model.network_
    h = logistic(network.standardised(X) @ network.layers[0].weights.T + network.layers[0].bias)
    assert (h.std(axis=0) * np.abs(network.output).max(axis=1)).min() > 0.0
    assert model.n_units_ == network.ends[-1] == len(network.layers[0].bias)
    # What they added is in the intercept: the merged network is the model that was trained.
    error = 0.5 * np.mean(np.square((model.predict(X).reshape(y.shape) - y) / y.std(axis=0)))
    assert error == pytest.approx(model.train_loss_[-1], rel=1e-9)


def test_a_warm_start_after_a_stall_goes_on_counting() -> None:
    X, y = load_diabetes(return_X_y=True)
    model = fitted(GradientBoostedNetworkRegressor(ridge=1.0, random_state=0, warm_start=True), X, y)
    refused, units = model.n_refused_stages_, model.n_units_
    fitted(model.set_params(ridge=0.01, n_units=units + 3), X, y)
    assert (model.n_units_, model.n_refused_stages_) == (units + 3, refused)
