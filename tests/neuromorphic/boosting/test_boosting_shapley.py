"""Sampled Shapley values: their sum, their error against all orders, and what is exact."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris

from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    shapley_values,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def fitted() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    y = X[:, 0] * X[:, 1] + np.sin(2.0 * X[:, 2])
    return GradientBoostedNetworkRegressor(30, random_state=0).fit(X, y), X


def every_order(model: Any, rows: Any, background: Any) -> Any:
    """Shapley's formula itself: all orders of the columns, all background rows."""
    d = rows.shape[1]
    total = np.zeros(rows.shape)
    for order in permutations(range(d)):
        for other in background:
            mixed = np.tile(other, (len(rows), 1))
            before = model.predict(mixed)
            for column in order:
                mixed[:, column] = rows[:, column]
                after = model.predict(mixed)
                total[:, column] += after - before
                before = after
    return total / (len(background) * len(list(permutations(range(d)))))


def test_the_values_sum_to_the_output_less_the_backgrounds_mean(fitted: Any) -> None:
    model, X = fitted
    found = shapley_values(model, X[:5], X[100:116], orders=16)
    np.testing.assert_allclose(found.base, model.predict(X[100:116]).mean())
    np.testing.assert_allclose(found.values.sum(axis=1), model.predict(X[:5]) - found.base, atol=1e-10)


def test_the_error_is_the_standard_error(fitted: Any) -> None:
    model, X = fitted
    exact = every_order(model, X[:8], X[100:108])
    runs = [shapley_values(model, X[:8], X[100:108], orders=40, random_state=seed) for seed in range(12)]
    off = np.array([(run.values - exact) / run.standard_errors for run in runs])
    assert np.abs(off).mean() < 1.3
    assert 0.85 < (np.abs(off) < 2.1).mean() <= 1.0
    few = shapley_values(model, X[:8], X[100:108], orders=8).standard_errors.mean()
    assert runs[0].standard_errors.mean() < 0.7 * few


def test_a_sum_over_columns_has_exact_values_from_any_orders(fitted: Any) -> None:
    X = fitted[1]
    apart = GradientBoostedNetworkRegressor(4, random_state=0).fit(X, X[:, 0])
    network = apart.network_
    network.layers[0].weights[:] = np.eye(4)[: network.units]
    for cached in ("_packed", "_packed_single"):
        network.__dict__.pop(cached, None)
    found = shapley_values(apart, X[:3], X[50:54], orders=2)
    np.testing.assert_allclose(found.values, every_order(apart, X[:3], X[50:54]), atol=1e-12)


def test_classes_have_values_of_each_logit() -> None:
    X, y = load_iris(return_X_y=True)
    model = GradientBoostedNetworkClassifier(10, random_state=0).fit(X, y)
    found = shapley_values(model, X[:3], X[::10], orders=4)
    assert found.values.shape == found.standard_errors.shape == (3, 4, 3)
    assert np.shape(found.base) == (3,)
    same = shapley_values(model, X[:3], X[::10], orders=4)
    np.testing.assert_array_equal(found.values, same.values)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"orders": 1}, "orders must be at least 2, for a standard error, got 1"),
        ({"X": np.ones((2, 3))}, "X must have the 4 columns of training, got 3"),
        ({"background": np.ones((2, 5))}, "background must have the 4 columns of training, got 5"),
        ({"background": np.full((2, 4), np.nan)}, "background contains NaN"),
    ],
)
def test_what_cannot_be_explained_is_refused(fitted: Any, arguments: Any, message: str) -> None:
    model, X = fitted
    with pytest.raises(ValueError, match=message):
        shapley_values(model, **{"X": X[:2], "background": X[:4], **arguments})
