"""Loading of the fitted estimators that `relaxon.neuromorphic.energy.storage.save_estimator` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from relaxon.neuromorphic.energy.estimators.density import EnergyDensity
from relaxon.neuromorphic.energy.estimators.outliers import EnergyOutlierDetector
from relaxon.neuromorphic.energy.estimators.regressor import EnergyRegressor
from relaxon.neuromorphic.energy.storage import load_modules


def load_estimator(folder: Path | str) -> Any:
    """Return the estimator that `save_estimator` wrote; raise `ValueError` for any other contents."""
    kinds: dict[str, Any] = {made.__name__: made for made in (EnergyDensity, EnergyOutlierDetector, EnergyRegressor)}
    modules, card, tensors = load_modules(folder)
    try:
        parameters = {name: tuple(v) if isinstance(v, list) else v for name, v in card["parameters"].items()}
        estimator = kinds[card["estimator"]](**parameters)
        estimator.n_features_in_ = int(card["features"])
        if card["feature_names"] is not None:
            estimator.feature_names_in_ = np.array(card["feature_names"], dtype=object)
        estimator._restore(modules, card["fitted"], tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} does not contain a complete estimator: {error!r}") from error
    return estimator
