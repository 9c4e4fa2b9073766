"""Conditional densities: those of the targets, with categories as inputs."""

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from scipy.stats import norm  # noqa: E402

from relaxon.neuromorphic.energy import EnergyRegressor, UnseenCategoryWarning, load_estimator  # noqa: E402

FAST = {"steps": 60, "random_state": 0}


def test_a_conditional_density_is_that_of_the_targets():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (3000, 1))
    y = 3 * x[:, 0] + (0.3 + 0.2 * x[:, 0]) * rng.standard_normal(3000)
    model = EnergyRegressor(random_state=0).fit(x, y)
    at = np.array([[-0.8], [0.0], [0.8]])
    mean, deviation = model.predict(at, return_std=True)
    np.testing.assert_allclose(mean, [-2.4, 0.0, 2.4], atol=0.12)
    np.testing.assert_allclose(deviation, [0.14, 0.3, 0.46], rtol=0.3)
    quantiles = model.quantiles(at, [0.1, 0.9])
    expected = [-2.4, 0.0, 2.4] + np.array([0.14, 0.3, 0.46]) * norm.ppf([[0.1], [0.9]])
    np.testing.assert_allclose(quantiles, expected.T, atol=0.2)
    # The density is one of y: it integrates to one, and the quantiles are its own.
    grid = np.linspace(-8, 8, 4001)
    p = np.exp(model.log_density(np.zeros((4001, 1)), grid))
    assert p.sum() * 0.004 == pytest.approx(1, abs=1e-3)
    draws = model.sample([[0.0]], 5000, random_state=1)[0]
    assert np.quantile(draws, 0.9) == pytest.approx(float(model.quantiles([[0.0]], 0.9)[0, 0]), abs=0.05)
    for bad in ([0.0], [1.0], [np.nan]):
        with pytest.raises(ValueError, match="levels"):
            model.quantiles(at, bad)
    with pytest.raises(ValueError, match="y"):
        model.log_density(at, [1.0])


def categorical(count, seed=0):
    """y is normal about 1 for "calm" and about ±2 for "torn", and never looks at the number."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["calm", "torn", "wide"], count)
    centre = np.select([kind == "calm", kind == "torn"], [1.0, np.where(rng.random(count) < 0.5, 2.0, -2.0)], 0.0)
    y = centre + np.where(kind == "wide", 3.0, 0.3) * rng.standard_normal(count)
    return np.column_stack([kind, rng.standard_normal(count)]).astype(object), y


def test_categories_have_densities_of_their_own(tmp_path):
    x, y = categorical(1500)
    model = EnergyRegressor((32,), categorical_features=[0], steps=400, random_state=0).fit(x, y)
    at = np.array([["calm", 0.0], ["torn", 0.0], ["wide", 0.0], ["unknown", 0.0]], dtype=object)
    with pytest.warns(UnseenCategoryWarning, match="'unknown'"):
        mean, deviation = model.predict(at, return_std=True)
    np.testing.assert_allclose(mean[:3], [1.0, 0.0, 0.0], atol=0.45)
    np.testing.assert_allclose(deviation[:3], [0.3, 2.02, 3.0], rtol=0.25)
    assert np.isfinite([mean, deviation]).all()
    low, high = model.quantiles(at[1:2], [0.25, 0.75])[0]
    assert low < -1.5
    assert high > 1.5
    model.save(tmp_path / "m")
    again = load_estimator(tmp_path / "m")
    np.testing.assert_array_equal(again.predict(at[:3]), model.predict(at[:3]))
    assert again.categories_ == model.categories_


def test_numbered_categories_in_any_order_of_columns_and_by_name_are_the_same_model():
    pandas = pytest.importorskip("pandas")
    x, y = categorical(200)
    named = pandas.DataFrame({"kind": x[:, 0], "size": x[:, 1].astype(float)})
    options = {"hidden_sizes": (4,), "steps": 20, "nodes": 40, "random_state": 0}
    by_place = quiet_fit_regressor(EnergyRegressor(categorical_features=(0,), **options), x, y)
    by_name = quiet_fit_regressor(EnergyRegressor(categorical_features=["kind"], **options), named, y)
    np.testing.assert_array_equal(by_place.predict(x[:9]), by_name.predict(named.iloc[:9]))
    numbered = x.copy()
    numbered[:, 0] = np.unique(x[:, 0].astype(str), return_inverse=True)[1]
    by_number = quiet_fit_regressor(EnergyRegressor(categorical_features=(0,), **options), numbered, y)
    np.testing.assert_array_equal(by_number.predict(numbered[:9]), by_place.predict(x[:9]))


def test_columns_are_categorical_by_their_type_and_unseen_ones_are_told():
    pandas = pytest.importorskip("pandas")
    x, y = categorical(200)
    frame = pandas.DataFrame({"size": x[:, 1].astype(float), "kind": pandas.Categorical(x[:, 0])})
    options = {"hidden_sizes": (4,), "steps": 20, "nodes": 40, "random_state": 0}
    named, typed, masked = (
        quiet_fit_regressor(EnergyRegressor(categorical_features=one, **options), frame, y)
        for one in (["kind"], "from_dtype", [False, True])
    )
    np.testing.assert_array_equal(typed.predict(frame), named.predict(frame))
    np.testing.assert_array_equal(masked.predict(frame), named.predict(frame))
    assert list(typed.feature_names_in_) == ["size", "kind"]
    odd = pandas.DataFrame({"size": [0.0, 0.0], "kind": ["odd", "calm"]})
    with pytest.warns(UnseenCategoryWarning, match="column 'kind' 'odd'") as caught:
        typed.predict(odd)
    assert caught[0].filename == __file__
    with pytest.raises(ValueError, match="columns of training in their order"):
        typed.predict(odd[["kind", "size"]])


def quiet_fit_regressor(model, x, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(x, y)


@pytest.mark.parametrize(
    ("features", "change", "named"),
    [
        ("kind", {}, "categorical_features"),
        ([2], {}, "categorical_features"),
        ([True], {}, "categorical_features"),
        (["kind"], {}, "categorical_features"),
        ([0, 0], {}, "categorical_features"),
        ([1], {}, "must hold numbers outside categorical_features, got '[a-z]+' in column 0"),
        ([0], {0: None}, "no missing categories, got some in column 0"),
        ([0], {0: np.nan}, "no missing categories, got some in column 0"),
        ([0], {1: np.inf}, r"finite|infinity"),
    ],
)
def test_bad_categories_are_refused(features, change, named):
    x, y = categorical(40)
    for column, value in change.items():
        x[3, column] = value
    with pytest.raises((ValueError, TypeError), match=named):
        EnergyRegressor((4,), categorical_features=features, **FAST).fit(x, y)
