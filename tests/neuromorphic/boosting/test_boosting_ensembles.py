"""Ensembles merged into one network: the members' mean, cut anywhere, with what members made of unseen rows."""

import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_iris, make_friedman1
from sklearn.metrics import brier_score_loss

from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    load,
    train_ensemble,
)
from relaxon.neuromorphic.boosting.estimators.ensembles import average_networks

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = make_friedman1(300, 6, noise=1.0, random_state=0)


@pytest.mark.parametrize(("kind", "seen"), [("bagged", 0.632), ("cross_fitted", 0.75)])
def test_the_merged_network_is_the_mean_of_its_members(kind: Any, seen: float, tmp_path: Any) -> None:
    whole = train_ensemble(GradientBoostedNetworkRegressor(20), X, Y, kind=kind, members=4, random_state=3)
    again = train_ensemble(GradientBoostedNetworkRegressor(20), X, Y, kind=kind, members=4, random_state=3)
    np.testing.assert_array_equal(whole.model.predict(X), again.model.predict(X))
    known = ~np.isnan(whole.out_of_sample)
    assert known.mean() > 0.95 * (1.0 - seen**4)
    errors = np.square(whole.out_of_sample - Y)[known]
    assert np.square(whole.model.predict(X) - Y).mean() < errors.mean() < Y.var()
    assert whole.model.truncate(8).n_units_ == 8
    whole.model.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(X), whole.model.predict(X))


def test_networks_of_other_standardisations_have_their_mean_to_the_last_digits() -> None:
    parts = [X[:100], X[100:200] * [1, 2, 1, 1, 1, 1] + 5.0, np.where(np.arange(6) == 2, 7.0, X[200:])]
    targets = [np.stack([Y[i * 100 : i * 100 + 100], -Y[i * 100 : i * 100 + 100]], axis=1) for i in range(3)]
    models = [
        GradientBoostedNetworkRegressor(10 + i, random_state=i).fit(part, y)
        for i, (part, y) in enumerate(zip(parts, targets, strict=True))
    ]
    mean = average_networks([model.network_ for model in models])
    np.testing.assert_allclose(mean.raw(X), np.mean([model.predict(X) for model in models], axis=0), rtol=1e-10)
    assert mean.units == sum(model.n_units_ for model in models)


def test_classes_are_merged_by_their_logits() -> None:
    features, labels = load_iris(return_X_y=True)
    found = train_ensemble(GradientBoostedNetworkClassifier(10), features, labels, kind="cross_fitted", members=3)
    assert found.out_of_sample.shape == (150, 3)
    assert (found.out_of_sample.argmax(axis=1) == labels).mean() > 0.9
    assert found.model.score(features, labels) > 0.95


def test_calibrated_probabilities_of_scikit_learn_are_better_than_those_of_an_overfitted_network() -> None:
    features, labels = load_breast_cancer(return_X_y=True)
    train, test = slice(0, 250), slice(250, None)
    network = GradientBoostedNetworkClassifier(100, ridge=0.01, random_state=0)
    plain = network.fit(features[train], labels[train]).predict_proba(features[test])[:, 1]
    calibrated = CalibratedClassifierCV(network, method="sigmoid", cv=5).fit(features[train], labels[train])
    better = calibrated.predict_proba(features[test])[:, 1]
    assert brier_score_loss(labels[test], better) < brier_score_loss(labels[test], plain)


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, {"members": 1}, "members must be at least 2, got 1"),
        ({}, {"kind": "boosted"}, "kind must be .*'bagged'.*boosted"),
        ({"layers": (3, 3)}, {}, r"estimator must have one layer of logistic units to be merged, got layers=\(3, 3\)"),
        ({"binary": True}, {}, "estimator must have one layer of logistic units to be merged, got sign units"),
        ({"warm_start": True}, {}, "estimator must not have warm_start=True"),
        ({"missing": "indicate"}, {}, "estimator must not have missing='indicate'"),
        ({"n_units": 0}, {}, "n_units"),
    ],
)
def test_what_cannot_be_merged_is_refused(options: Any, arguments: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train_ensemble(GradientBoostedNetworkRegressor(**options), X, Y, **arguments)


def test_a_class_that_a_member_does_not_see_is_named() -> None:
    labels = np.r_[np.zeros(150), np.ones(149), 2.0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of too few rows of a class for the folds
        with pytest.raises(ValueError, match=r"y must have enough rows of each class for 3 cross_fitted members"):
            train_ensemble(GradientBoostedNetworkClassifier(3), X, labels, kind="cross_fitted", members=3)
