"""Categorical columns: ordered target statistics, tables of three libraries, unseen and missing categories."""

import warnings
from typing import Any

import numpy as np
import pytest

from relaxon.neuromorphic.boosting import (
    GradientBoostedNetworkClassifier,
    GradientBoostedNetworkRegressor,
    UnseenCategoryWarning,
    load,
    shapley_values,
    train_ensemble,
)
from relaxon.neuromorphic.tabular.categories import PRIOR, find_means, find_ordered_means

pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")
LEVELS = {"a": 0.0, "b": 1.0, "c": 2.0, "d": -1.0, "é": -2.0}


def table(n: int = 300, seed: int = 0) -> tuple[Any, Any]:
    """A pandas table of a number and a category that both count, and what they make."""
    rng = np.random.default_rng(seed)
    town, x = rng.choice(list(LEVELS), n), rng.normal(size=n)
    y = np.array([LEVELS[word] for word in town]) + x + 0.1 * rng.normal(size=n)
    return pandas.DataFrame({"x": x, "town": pandas.Categorical(town)}), y


def fitted(kind: Any = GradientBoostedNetworkRegressor, X: Any = None, y: Any = None, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind(**{"n_units": 15, "categorical_features": "from_dtype", "random_state": 0, **options}).fit(X, y)


@pytest.fixture(scope="module")
def model() -> Any:
    X, y = table()
    return fitted(X=X, y=y)


def test_a_rows_own_target_has_no_part_in_its_statistic() -> None:
    rng = np.random.default_rng(0)
    codes, y, w, order = rng.integers(4, size=40), rng.normal(size=(40, 2)), rng.random(40), rng.permutation(40)
    found, prior = find_ordered_means(codes, y, w, order), w @ y / w.sum()
    for place, row in enumerate(order):
        before = [other for other in order[:place] if codes[other] == codes[row]]
        plain = (w[before] @ y[before] + PRIOR * prior) / (w[before].sum() + PRIOR)
        np.testing.assert_allclose(found[row], plain, atol=1e-12)
    means = find_means(codes, 5, y, w)
    own = codes == 2
    np.testing.assert_allclose(means[2], (w[own] @ y[own] + PRIOR * prior) / (w[own].sum() + PRIOR))
    np.testing.assert_allclose(means[4], prior)


def test_categories_are_learnt_from_each_kind_of_table_to_the_same_bits(model: Any, tmp_path: Any) -> None:
    X, y = table()
    later, wanted = table(seed=1)
    assert model.score(later, wanted) > 0.97
    assert model.feature_importances_.shape == (2,)
    assert model.feature_importances_[1] > 0.2
    arrow = pyarrow.Table.from_pandas(X)
    array = np.array(X.astype(object))
    for other, options in (
        (arrow, {}),
        (X.astype({"town": str}), {"categorical_features": ["town"]}),
        (array, {"categorical_features": [1]}),
        (array.tolist(), {"categorical_features": [False, True]}),
    ):
        np.testing.assert_array_equal(fitted(X=other, y=y, **options).predict(other), model.predict(X))
    model.save(tmp_path)
    np.testing.assert_array_equal(load(tmp_path).predict(arrow), model.predict(X))


def test_polars_tables_are_read() -> None:
    polars = pytest.importorskip("polars")
    X, y = table()
    other = polars.DataFrame({"x": X["x"].to_numpy(), "town": polars.Series(X["town"].astype(str).tolist())})
    np.testing.assert_array_equal(fitted(X=other, y=y).predict(other), fitted(X=X, y=y).predict(X))


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_have_statistics_of_their_own(classes: int) -> None:
    X, y = table()
    labels = np.digitize(y, [0.0, 1.5][: classes - 1])
    found = fitted(GradientBoostedNetworkClassifier, X, labels)
    assert found.score(X, labels) > 0.9
    assert len(found.network_.scale) == 1 + (1 if classes == 2 else 3)


def test_a_random_column_of_many_categories_does_not_lower_the_held_out_score() -> None:
    X, y = table(600)
    later, wanted = table(600, seed=1)
    rng = np.random.default_rng(2)
    for part in (X, later):
        part["name"] = [f"n{i}" for i in rng.integers(300, size=600)]
    some = {"categorical_features": ["town"]}
    without = fitted(X=X.drop(columns="name"), y=y, **some).score(later.drop(columns="name"), wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnseenCategoryWarning)
        found = fitted(X=X, y=y, categorical_features=["town", "name"]).score(later, wanted)
    assert found > without - 0.005


def test_unseen_categories_are_told_and_count_as_the_average(model: Any) -> None:
    X, _ = table(3)
    strange = X.assign(town=["zz", "a", "y"])
    with pytest.warns(UnseenCategoryWarning, match=r"column 'town' 'zz', 'y'"):
        found = model.predict(strange)
    known = model._categories
    assert np.isfinite(found).all()
    np.testing.assert_allclose(known.means[0][-1], known.means[0][-2])


def test_missing_categories_are_one_of_their_own_or_refused() -> None:
    X, y = table()
    X["town"] = [None if word == "c" else word for word in X["town"]]
    with pytest.raises(ValueError, match=r"no missing categories under missing='refuse', got some in column 'town'"):
        fitted(X=X, y=y, categorical_features=["town"])
    found = fitted(X=X, y=y, categorical_features=["town"], missing="mean")
    later, wanted = table(seed=1)
    later["town"] = [None if word == "c" else word for word in later["town"]]
    assert found.score(later, wanted) > 0.97


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ("words", ValueError, "categorical_features must be None, 'from_dtype'"),
        (3, ValueError, "categorical_features must be None"),
        (["nowhere"], ValueError, "name columns of X, got 'nowhere'"),
        ([7], ValueError, "places from 0 to 1, got 7"),
        ([1, 1], ValueError, "each column once"),
        ([1.5], TypeError, "names or places"),
        ([], ValueError, "numbers outside categorical_features, got '.*' in column 'town'"),
    ],
)
def test_what_is_no_categorical_column_is_refused_by_name(given: Any, error: Any, said: str) -> None:
    X, y = table(20)
    with pytest.raises(error, match=said):
        GradientBoostedNetworkRegressor(2, categorical_features=given).fit(X, y)


def test_what_has_no_categories_says_so(model: Any) -> None:
    X, y = table()
    with pytest.raises(ValueError, match="categorical_features must be None for to_torch"):
        model.to_torch()
    with pytest.raises(ValueError, match="must not have categorical_features"):
        shapley_values(model, X, X)
    with pytest.raises(ValueError, match="must not have categorical_features"):
        train_ensemble(model, X, y)
    with pytest.raises(ValueError, match="2 columns of training, got 1"):
        model.predict(X[["x"]])
    with pytest.raises(ValueError, match="columns of training in their order"):
        model.predict(X[["town", "x"]])
    with pytest.raises(TypeError, match="words, numbers or booleans, got tuple in column 'town'"):
        model.predict(X.astype(object).assign(town=[(1, 2)] * len(X)))


def test_a_warm_start_goes_on_with_the_same_statistics() -> None:
    X, y = table()
    whole = fitted(X=X, y=y)
    part = fitted(X=X, y=y, n_units=5, warm_start=True)
    part.set_params(n_units=15).fit(X, y)
    np.testing.assert_array_equal(part.predict(X), whole.predict(X))
    with pytest.raises(ValueError, match="categories of the earlier fit"):
        part.fit(X.assign(town="a"), y)
