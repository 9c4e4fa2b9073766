"""Networks trained by gradient boosting, unit by unit, that can be cut at any stage.

Importing this package loads nothing; scikit-learn, Numba and torch come with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_lazily

if TYPE_CHECKING:
    from relaxon.neuromorphic.boosting.estimators.classifier import GradientBoostedNetworkClassifier
    from relaxon.neuromorphic.boosting.estimators.ensembles import Ensemble, train_ensemble
    from relaxon.neuromorphic.boosting.estimators.regressor import GradientBoostedNetworkRegressor
    from relaxon.neuromorphic.boosting.networks.merged import Layer, MergedNetwork, Stage
    from relaxon.neuromorphic.boosting.networks.shapley import ShapleyValues, shapley_values
    from relaxon.neuromorphic.boosting.storage import load
    from relaxon.neuromorphic.boosting.training.runs import Outcome, StageProgress
    from relaxon.neuromorphic.boosting.training.sequential import (
        SequentiallyTrained,
        SequentialSettings,
        train_sequentially,
    )
    from relaxon.neuromorphic.tabular.categories import UnseenCategoryWarning

_HOME = {
    "Ensemble": "estimators.ensembles",
    "GradientBoostedNetworkClassifier": "estimators.classifier",
    "GradientBoostedNetworkRegressor": "estimators.regressor",
    "Layer": "networks.merged",
    "MergedNetwork": "networks.merged",
    "Outcome": "training.runs",
    "SequentialSettings": "training.sequential",
    "SequentiallyTrained": "training.sequential",
    "ShapleyValues": "networks.shapley",
    "Stage": "networks.merged",
    "StageProgress": "training.runs",
    "UnseenCategoryWarning": "relaxon.neuromorphic.tabular.categories",
    "load": "storage",
    "shapley_values": "networks.shapley",
    "train_ensemble": "estimators.ensembles",
    "train_sequentially": "training.sequential",
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
