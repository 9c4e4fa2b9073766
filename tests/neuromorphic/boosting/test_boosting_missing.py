"""Missing inputs that units see, and predictions in single precision."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, make_friedman1

from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    load,
)


def holed(share: float = 0.3) -> tuple[Any, Any]:
    """Rows whose target is higher where the first column is missing."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4))
    gone = rng.random(500) < share
    y = np.where(gone, 3.0, np.sin(X[:, 0])) + 0.5 * X[:, 1]
    X[gone, 0] = np.nan
    return X, y


def model(**options: Any) -> GradientBoostedNetworkRegressor:
    return GradientBoostedNetworkRegressor(40, random_state=0, **options)


def test_that_an_input_is_missing_is_learned_where_it_is_indicated() -> None:
    X, y = holed()
    seen = model(missing="indicate").fit(X[:300], y[:300]).score(X[300:], y[300:])
    blind = model(missing="mean").fit(X[:300], y[:300]).score(X[300:], y[300:])
    assert seen > 0.95 > blind + 0.1


def test_indicators_go_with_what_is_stored_exported_and_cut(tmp_path: Any) -> None:
    torch, onnx = pytest.importorskip("torch"), pytest.importorskip("onnx")
    from onnx.reference import ReferenceEvaluator

    X, y = holed()
    fitted = model(missing="indicate").fit(X, y)
    assert len(fitted.feature_importances_) == 4
    assert fitted.feature_importances_.argmax() == 0
    fitted.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(X), fitted.predict(X))
    raw = fitted.to_torch()(torch.tensor(X)).detach().numpy()[:, 0]
    np.testing.assert_allclose(raw, fitted.predict(X), atol=1e-10)
    exported = fitted.to_onnx()
    onnx.checker.check_model(exported)
    found = ReferenceEvaluator(exported).run(None, {"X": X})[0][:, 0]
    np.testing.assert_allclose(found, fitted.predict(X), atol=1e-10)
    assert fitted.truncate(10).predict(X[:3]).shape == (3,)


def test_a_column_without_gaps_in_training_takes_its_mean_for_one_later() -> None:
    X, y = holed()
    fitted = model(missing="indicate").fit(X, y)
    row = X[:1].copy()
    row[0, 2] = np.nan
    filled = row.copy()
    filled[0, 2] = X[:, 2].mean()
    assert fitted.predict(row)[0] == pytest.approx(fitted.predict(filled)[0], abs=1e-9)


def test_indicators_work_for_classes_sign_units_and_warm_starts() -> None:
    X, y = holed()
    labels = y > 1.5
    for options in ({}, {"binary": True}):
        classes = GradientBoostedNetworkClassifier(40, missing="indicate", random_state=0, **options)
        assert classes.fit(X, labels).score(X, labels) > 0.9
    warm = model(missing="indicate", warm_start=True).set_params(n_units=20).fit(X, y)
    longer = warm.set_params(n_units=40).fit(X, y).predict(X)
    np.testing.assert_array_equal(longer, model(missing="indicate").fit(X, y).predict(X))


def test_single_precision_predicts_within_its_rounding() -> None:
    X, y = make_friedman1(800, noise=1.0, random_state=0)
    fitted = model().fit(X, y)
    double = fitted.predict(X)
    single = fitted.set_params(precision="single").predict(X)
    assert 0.0 < np.abs(single - double).max() < 1e-5 * y.std()
    X, y = load_breast_cancer(return_X_y=True)
    classes = GradientBoostedNetworkClassifier(20, random_state=0).fit(X, y)
    double = classes.predict_proba(X)
    np.testing.assert_allclose(classes.set_params(precision="single").predict_proba(X), double, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "half"}, "precision must be .*'double'.*'single'.*half"),
        ({"precision": "single", "binary": True}, "precision must be 'double' for sign units, got 'single'"),
        ({"precision": "single", "layers": (5, 5)}, "precision must be 'double' for 2 hidden layers, got 'single'"),
        ({"missing": "guess"}, "missing must be .*'indicate'.*guess"),
    ],
)
def test_what_cannot_be_is_refused(options: Any, message: str) -> None:
    X, y = holed(0.0)
    with pytest.raises(ValueError, match=message):
        model(**options).fit(X, y)
