"""Sample weights: their unit does not matter, whole numbers count rows, and a mean of 1 changes no bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import make_classification, make_friedman1

from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from relaxon.neuromorphic.tabular import preparation

X, Y = make_friedman1(300, 6, noise=0.5, random_state=1)
CX, CY = make_classification(300, 6, n_informative=5, n_redundant=1, n_classes=3, flip_y=0.05, random_state=2)
# None of the units is a power of two: the sums round differently, the models are equal to rounding only.
UNITS = {"sum to one": 1 / 300, "tiny": 1e-6, "inverse variances": 3.7e6, "denormal": 1e-310, "huge": 1e305}


def fitted(kind: str, w: Any, **options: Any) -> Any:
    made = GradientBoostedNetworkRegressor if kind == "regressor" else GradientBoostedNetworkClassifier
    x, y = (X, Y) if kind == "regressor" else (CX, CY)
    return made(12, random_state=0, **options).fit(x, y, sample_weight=w)


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
@pytest.mark.parametrize("unit", UNITS)
def test_weights_in_any_unit_give_the_model_of_mean_one(kind: str, unit: str) -> None:
    """Before, `1/n` shrank R² from 0.97 to 0.79 and 1e-6 left the mean."""
    w = np.random.default_rng(3).uniform(0.5, 1.5, 300)
    x, y = (X, Y) if kind == "regressor" else (CX, CY)
    usual, other = fitted(kind, w / w.mean()), fitted(kind, w * UNITS[unit])
    assert usual.score(x, y) > 0.75
    assert other.score(x, y) == pytest.approx(usual.score(x, y), abs=0.02)
    # The first stages have not yet parted by rounding.
    np.testing.assert_allclose(other.train_loss_[:4], usual.train_loss_[:4], rtol=1e-3)


@pytest.mark.parametrize("kind", ["regressor", "classifier"])
def test_equal_weights_of_any_size_are_no_weights(kind: str) -> None:
    plain = fitted(kind, None)
    for w in (np.full(300, 2.0**-20), np.full(300, 1.0)):
        np.testing.assert_array_equal(fitted(kind, w).network_.raw(X), plain.network_.raw(X))


def test_a_power_of_two_as_unit_changes_no_bit() -> None:
    w = np.random.default_rng(3).uniform(0.5, 1.5, 300) * 0.3
    found = [fitted("regressor", w * 2.0**power, early_stopping=True).network_.raw(X) for power in (-30, 0, 30)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[2], found[1])


def test_class_weights_have_no_unit_either() -> None:
    small = fitted("classifier", None, class_weight={0: 2.5e-6, 1: 1.25e-6, 2: 1.25e-6})
    usual = fitted("classifier", None, class_weight={0: 2.5, 1: 1.25, 2: 1.25})
    assert usual.score(CX, CY) > 0.75
    np.testing.assert_allclose(small.train_loss_[:4], usual.train_loss_[:4], rtol=1e-3)


def test_weights_of_mean_one_and_counts_are_taken_as_they_are() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        w = rng.uniform(0.1, 2.0, 257)
        w /= w.mean()
        assert preparation.scale_weights(w) is w
    counts = rng.integers(0, 5, 257).astype(float)
    assert preparation.scale_weights(counts) is counts


def test_rows_without_weight_do_not_count_as_rows() -> None:
    w = np.array([0.2, 0.0, 0.1, 0.0])
    np.testing.assert_allclose(preparation.scale_weights(w), [4 / 3, 0.0, 2 / 3, 0.0])
    assert w.tolist() == [0.2, 0.0, 0.1, 0.0]
