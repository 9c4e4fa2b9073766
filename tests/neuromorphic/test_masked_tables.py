"""Masked arrays in training tables and in what is predicted for: refused by name in every engine."""

from __future__ import annotations

import numpy as np
import pytest
from small_engines import engines

from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor
from relaxon.neuromorphic.boosting.training.sequential import train_sequentially

X = np.random.default_rng(0).standard_normal((60, 2))
Y = (X[:, 0] > 0).astype(int)
HOLES = np.zeros(X.shape, bool)
HOLES[4, 1] = True
MX = np.ma.array(np.where(HOLES, 9.96921e36, X), mask=HOLES)
MY = np.ma.array(Y, mask=HOLES[:, 1])
MW = np.ma.array(np.ones(60), mask=HOLES[:, 1])


PREDICT = ("predict", "predict_proba", "decision_function", "score_samples", "staged_predict", "quantiles", "sample")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", engines())
def test_masks_are_refused_in_fitting_and_in_predicting(name: str) -> None:
    engine = engines()[name]
    supervised = name not in ("density", "outlier detector")
    with pytest.raises(ValueError, match="^X must have no masked entries.*got 1 of 120"):
        engine.fit(MX, Y)
    if supervised:
        with pytest.raises(ValueError, match="^y must have no masked entries.*got 1 of 60"):
            engine.fit(X, MY)
    if name.startswith("boosted"):
        with pytest.raises(ValueError, match="^sample_weight must have no masked"):
            engine.fit(X, Y, sample_weight=MW)
        engine.fit(X, Y).permutation_importances(X, Y, n_repeats=1)
        with pytest.raises(ValueError, match="^y must have no masked"):
            engine.permutation_importances(X, MY)
    engine.fit(X, Y)
    asked = 0
    for method in PREDICT:
        if not hasattr(engine, method) or (name == "density" and method == "sample"):
            continue
        extra = ([0.5],) if method == "quantiles" else ()
        with pytest.raises(ValueError, match="^X must have no masked"):
            list(getattr(engine, method)(MX, *extra))
        asked += 1
    assert asked >= 1
    if name == "energy regressor":
        with pytest.raises(ValueError, match="^y must have no masked"):
            engine.log_density(X, MY)


def test_a_mask_that_hides_nothing_is_taken() -> None:
    plain = GradientBoostedNetworkRegressor(2, random_state=0).fit(X, Y).predict(X)
    found = GradientBoostedNetworkRegressor(2, random_state=0).fit(np.ma.array(X), np.ma.array(Y, mask=False))
    np.testing.assert_array_equal(found.predict(np.ma.array(X, mask=False)), plain)


def test_sequential_training_refuses_them() -> None:
    import torch

    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 1))
    with pytest.raises(ValueError, match="^X must have no masked"):
        train_sequentially(module, MX, Y.astype(float))
    with pytest.raises(ValueError, match="^y must have no masked"):
        train_sequentially(module, X, np.ma.array(Y.astype(float), mask=HOLES[:, 1]))
