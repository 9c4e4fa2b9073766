"""Convex networks as estimators: scikit-learn's contract, prediction from the network, storage, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.utils.estimator_checks import parametrize_with_checks

from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor, load

SMALL = {
    "n_patterns": 4,
    "certificate_draws": 2,
    "beta": 0.01,
    "max_iter": 400,
    "tol": 1e-3,
    "refinements": 1,
    "random_state": 0,
}


@parametrize_with_checks(
    [
        ConvexNetworkRegressor(**SMALL),
        ConvexNetworkClassifier(**SMALL),
        ConvexNetworkClassifier(**SMALL | {"program": "units", "loss": "hinge", "n_patterns": 40, "refinements": 0}),
    ]
)
def test_estimators_satisfy_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.fixture(scope="module")
def table() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 3)) * [1.0, 5.0, 0.2] + [0.0, 10.0, -3.0]
    return X, np.abs(X[:, 0]) + 0.3 * X[:, 1]


def test_the_stored_estimator_predicts_the_same_bits(table: tuple[Any, Any], tmp_path: Path) -> None:
    X, y = table
    labels = np.where(y > 3.0, "high", "low")
    for model in (
        ConvexNetworkRegressor(**SMALL).fit(X, np.column_stack([y, -y])),
        ConvexNetworkClassifier(**SMALL).fit(X, labels),
    ):
        model.save(tmp_path)
        again = load(tmp_path)
        assert np.array_equal(again.predict(X), model.predict(X))
        assert again.certificate_ == model.certificate_
        assert again.outcome_ is model.outcome_
        assert np.array_equal(again.history_.relative_gap, model.history_.relative_gap)
        assert again.get_params() == model.get_params()


def test_the_torch_module_is_the_network(table: tuple[Any, Any]) -> None:
    torch = pytest.importorskip("torch")
    X, y = table
    model = ConvexNetworkRegressor(**SMALL).fit(X, np.column_stack([y, -y]))
    module = model.to_torch()
    assert np.allclose(module(torch.tensor(X)).detach().numpy(), model.predict(X), rtol=1e-12)
    module(torch.tensor(X)).sum().backward()
    assert module.hidden.grad.abs().sum() > 0.0


def test_probabilities_are_those_of_the_outputs() -> None:
    X, y = load_iris(return_X_y=True)
    model = ConvexNetworkClassifier(**SMALL).fit(X, y)
    p = model.predict_proba(X)
    assert np.allclose(p.sum(axis=1), 1.0)
    assert np.array_equal(model.classes_[p.argmax(axis=1)], model.predict(X))
    with pytest.raises(AttributeError, match="predict_proba"):
        ConvexNetworkClassifier(**SMALL | {"loss": "hinge"}).fit(X, y).predict_proba(X)


@pytest.mark.parametrize(
    ("parameter", "value", "said"),
    [
        ("beta", 0.0, "beta must be greater than 0"),
        ("beta", float("nan"), "beta must be greater than 0"),
        ("beta", "much", "beta must be a number"),
        ("n_patterns", 0, "n_patterns must be at least 1"),
        ("n_patterns", 2.5, "n_patterns must be an integer"),
        ("tol", -1.0, "tol must be greater than 0"),
        ("loss", "huber", "loss must be"),
        ("program", "full", "program must be 'patterns' or 'units'"),
    ],
)
def test_parameters_are_refused_by_name(table: tuple[Any, Any], parameter: str, value: Any, said: str) -> None:
    X, y = table
    for model in (ConvexNetworkRegressor(), ConvexNetworkClassifier()):
        with pytest.raises((TypeError, ValueError), match=said):
            model.set_params(**{parameter: value}).fit(X, y > 3.0)


def test_one_class_is_refused(table: tuple[Any, Any]) -> None:
    X, y = table
    with pytest.raises(ValueError, match="at least two classes"):
        ConvexNetworkClassifier().fit(X, np.ones(len(y)))
    with pytest.raises(ValueError, match="at least two classes"):
        ConvexNetworkClassifier().fit(X, y > 3.0, sample_weight=(y > 3.0).astype(float))
