"""One small estimator of each engine, for tests of what all of them have to do."""

from typing import Any

from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from relaxon.neuromorphic.energy import EnergyDensity, EnergyOutlierDetector, EnergyRegressor
from relaxon.neuromorphic.equilibrium import EquilibriumClassifier


def engines() -> dict[str, Any]:
    return {
        "boosted regressor": GradientBoostedNetworkRegressor(2, random_state=0),
        "boosted classifier": GradientBoostedNetworkClassifier(2, random_state=0),
        "density": EnergyDensity((4,), steps=2, partition_draws=200, random_state=0),
        "outlier detector": EnergyOutlierDetector(hidden_sizes=(4,), steps=2, random_state=0),
        "energy regressor": EnergyRegressor((4,), steps=2, random_state=0),
        "equilibrium classifier": EquilibriumClassifier((4,), epochs=1, random_state=0),
    }
