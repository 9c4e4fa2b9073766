"""Networks trained by gradient boosting, unit by unit, that can be cut at any stage.

Importing this package loads nothing; scikit-learn, Numba and torch come with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.boosting.categories import UnseenCategoryWarning
    from relaxon.neuromorphic.boosting.classifier import GradientBoostedNetworkClassifier
    from relaxon.neuromorphic.boosting.ensembles import Ensemble, train_ensemble
    from relaxon.neuromorphic.boosting.network import Layer, MergedNetwork, Stage
    from relaxon.neuromorphic.boosting.regressor import GradientBoostedNetworkRegressor
    from relaxon.neuromorphic.boosting.runs import Outcome, StageProgress
    from relaxon.neuromorphic.boosting.sequential import SequentiallyTrained, SequentialSettings, train_sequentially
    from relaxon.neuromorphic.boosting.shapley import ShapleyValues, shapley_values
    from relaxon.neuromorphic.boosting.storage import load

_HOME = {
    "Ensemble": "ensembles",
    "GradientBoostedNetworkClassifier": "classifier",
    "GradientBoostedNetworkRegressor": "regressor",
    "Layer": "network",
    "MergedNetwork": "network",
    "Outcome": "runs",
    "SequentialSettings": "sequential",
    "SequentiallyTrained": "sequential",
    "ShapleyValues": "shapley",
    "Stage": "network",
    "StageProgress": "runs",
    "UnseenCategoryWarning": "categories",
    "load": "storage",
    "shapley_values": "shapley",
    "train_ensemble": "ensembles",
    "train_sequentially": "sequential",
}

__all__ = [
    "Ensemble",
    "GradientBoostedNetworkClassifier",
    "GradientBoostedNetworkRegressor",
    "Layer",
    "MergedNetwork",
    "Outcome",
    "SequentialSettings",
    "SequentiallyTrained",
    "ShapleyValues",
    "Stage",
    "StageProgress",
    "UnseenCategoryWarning",
    "load",
    "shapley_values",
    "train_ensemble",
    "train_sequentially",
]


__getattr__, __dir__ = offer_lazily(__name__, _HOME, __all__)
