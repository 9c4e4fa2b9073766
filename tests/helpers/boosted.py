"""Tables and estimators of the tests of boosted networks."""

from typing import Any

from sklearn.datasets import make_classification, make_friedman1

from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor

X, Y = make_friedman1(700, 6, noise=0.5, random_state=1)
CX, CY = make_classification(700, 8, n_informative=5, n_classes=3, flip_y=0.1, random_state=2)
LOSSES = ("squared", "absolute", "huber", "quantile", "poisson")


def regressor(n_units: int = 12, **options: Any) -> Any:
    return GradientBoostedNetworkRegressor(n_units, **({"random_state": 0} | options))


def classifier(n_units: int = 12, **options: Any) -> Any:
    return GradientBoostedNetworkClassifier(n_units, **({"random_state": 0} | options))


def labels(classes: int) -> Any:
    return CY if classes == 3 else (CY > 0).astype(int)
