"""Networks with fewer units that give the same outputs, and exact Shapley values."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris

from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    load,
    shapley_values,
)


@pytest.fixture(scope="module")
def model() -> Any:
    X, y = load_diabetes(return_X_y=True)
    return GradientBoostedNetworkRegressor(30, ridge=0.01, random_state=0).fit(X[:, :4], y)


def test_all_units_give_the_same_outputs_and_half_of_them_nearly(model: Any, tmp_path: Any) -> None:
    X, _ = load_diabetes(return_X_y=True)
    X = X[:, :4]
    kept = model.predict(X)
    np.testing.assert_allclose(model.compressed(X, 30).predict(X), kept, rtol=1e-5)
    half = model.compressed(X, 15)
    assert half.n_units_ == 15
    left = np.std(half.predict(X) - kept)
    assert left < 0.6 * np.std(model.truncate(15).predict(X) - kept)
    assert left < np.std(model.compressed(X, 8).predict(X) - kept)
    refined = model.compressed(X, 15, refine=50)
    assert np.std(refined.predict(X) - kept) < 0.8 * left
    with pytest.raises(ValueError, match="refine must be at least 0, got -1"):
        model.compressed(X, 15, refine=-1)
    with pytest.raises(ValueError, match="noisy_copies must be at least 0, got -1"):
        model.compressed(X, 15, noisy_copies=-1)
    half.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(X), half.predict(X))
    np.testing.assert_array_equal(model.predict(X), kept)


def test_noisy_copies_make_the_outputs_agree_on_rows_not_seen_too(model: Any) -> None:
    X, _ = load_diabetes(return_X_y=True)
    rows, others = X[:100, :4], X[100:, :4]
    whole = model.predict(others)
    left = [np.std(model.compressed(rows, 15, 100, copies).predict(others) - whole) for copies in (0, 0, 3)]
    assert left[0] == left[1]
    assert left[2] < 0.8 * left[0]


def test_classes_are_kept_with_half_of_the_units() -> None:
    X, y = load_iris(return_X_y=True)
    model = GradientBoostedNetworkClassifier(20, random_state=0).fit(X, y)
    assert (model.compressed(X, 10).predict(X) == model.predict(X)).mean() > 0.99


def test_what_cannot_be_compressed_is_refused(model: Any) -> None:
    X, y = load_diabetes(return_X_y=True)
    with pytest.raises(ValueError, match="n_units must be at most the 30 units there are, got 31"):
        model.compressed(X[:, :4], 31)
    with pytest.raises(ValueError, match="n_units must be at least 1, got 0"):
        model.compressed(X[:, :4], 0)
    deep = GradientBoostedNetworkRegressor(layers=(2, 2), random_state=0).fit(X, y)
    with pytest.raises(ValueError, match="one layer of logistic units to be compressed, got 2 hidden layers"):
        deep.compressed(X, 1)


def test_exact_shapley_values_are_those_of_all_orders_of_the_columns(model: Any) -> None:
    X, _ = load_diabetes(return_X_y=True)
    rows, others = X[:2, :4], X[50:55, :4]
    told = shapley_values(model, rows, others, method="exact")
    plain = np.zeros((2, 4))
    for order in permutations(range(4)):
        for index, row in enumerate(rows):
            mixed = others.copy()
            before = model.predict(mixed).mean()
            for column in order:
                mixed[:, column] = row[column]
                after = model.predict(mixed).mean()
                plain[index, column] += (after - before) / 24
                before = after
    np.testing.assert_allclose(told.values, plain, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(told.values.sum(axis=1) + told.base, model.predict(rows))
    assert not told.standard_errors.any()
    sampled = shapley_values(model, rows, others, orders=200)
    assert (np.abs(sampled.values - plain) < 5.0 * sampled.standard_errors + 1e-9).mean() > 0.8


def test_exact_values_leave_out_columns_that_no_unit_sees_and_refuse_too_many() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 20))
    X[:, 12:] = 1.0
    y = X[:, 0] * X[:, 1]
    model = GradientBoostedNetworkRegressor(3, random_state=0).fit(X, y)
    told = shapley_values(model, X[:1], X[:2], method="exact")
    assert not told.values[:, 12:].any()
    full = GradientBoostedNetworkRegressor(3, random_state=0).fit(rng.normal(size=(80, 20)), y)
    with pytest.raises(
        ValueError, match="method must be 'sampled' for more than 15 active columns, got 'exact' with 20"
    ):
        shapley_values(full, X[:1], X[:2], method="exact")
    with pytest.raises(ValueError, match="method must be 'sampled' or 'exact'"):
        shapley_values(model, X[:1], X[:2], method="quick")
