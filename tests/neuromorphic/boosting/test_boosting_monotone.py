"""Monotone constraints hold at any inputs, and what cannot keep them is refused."""

import warnings
from typing import Any

import numpy as np
import pytest

from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from relaxon.neuromorphic.boosting.networks.compression import compress


def problem(n: int = 300) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    return X, X[:, 0] + np.sin(3.0 * X[:, 0]) - np.exp(0.5 * X[:, 1]) + X[:, 2] ** 2 + 0.3 * rng.normal(size=n)


def fitted(kind: Any, X: Any, y: Any, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**{"n_units": 12, "monotone_constraints": [1, -1, 0], "random_state": 0, **options}).fit(X, y)


@pytest.mark.parametrize("options", [{}, {"units_per_stage": 4}, {"loss": "absolute"}])
def test_predictions_never_go_against_a_constraint(options: Any) -> None:
    X, y = problem()
    model = fitted(GradientBoostedNetworkRegressor, X, y, **options)
    network = model.network_
    products = network.layers[0].weights[:, :2] * network.output_weights
    assert (products * [1, -1] >= 0.0).all()
    rng = np.random.default_rng(1)
    at = rng.normal(scale=2.0, size=(2000, 3))
    for column, direction in ((0, 1), (1, -1)):
        further = at.copy()
        further[:, column] += rng.exponential(size=2000)
        assert (direction * (model.predict(further) - model.predict(at))).min() >= -1e-12
    assert model.score(X, y) > 0.7
    assert (np.diff(model.train_loss_) <= 0.0).all()


def test_probabilities_keep_constraints_given_by_name() -> None:
    pandas = pytest.importorskip("pandas")
    X, y = problem()
    frame = pandas.DataFrame(X, columns=["up", "down", "free"])
    model = fitted(GradientBoostedNetworkClassifier, frame, y > y.mean(), monotone_constraints={"down": -1}, n_units=8)
    higher = frame.assign(down=frame["down"] + 0.5)
    assert (model.predict_proba(higher)[:, 1] <= model.predict_proba(frame)[:, 1] + 1e-15).all()
    with pytest.raises(ValueError, match="must not have monotone_constraints"):
        compress(model, frame, 4)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"monotone_constraints": [1, 0]}, ValueError, "each of 3 columns, got 2"),
        ({"monotone_constraints": [1, 0, 2]}, ValueError, "-1, 0 or 1 for each column, got 2"),
        ({"monotone_constraints": 1}, TypeError, "must be None, -1, 0 or 1 for each column"),
        ({"monotone_constraints": {"a": 1}}, ValueError, "must name columns of X, got 'a'"),
        ({"binary": True}, ValueError, "must be None for sign units"),
        ({"newton": "published"}, ValueError, "newton must be 'guarded' for monotone_constraints"),
        ({"layers": (3, 3)}, ValueError, "layers must have one layer for monotone_constraints"),
    ],
)
def test_constraints_that_cannot_be_kept_are_refused(options: Any, error: Any, said: str) -> None:
    X, y = problem(30)
    with pytest.raises(error, match=said):
        fitted(GradientBoostedNetworkRegressor, X, y, **options)


def test_more_than_one_output_is_refused() -> None:
    X, y = problem(30)
    with pytest.raises(ValueError, match="None or zeros for more than one output, got 3 outputs"):
        fitted(GradientBoostedNetworkClassifier, X, np.digitize(y, [-1.0, 1.0]))
