"""Neural networks trained unit by unit by gradient boosting, which can be truncated at any stage.

Importing this package loads nothing heavy; scikit-learn, Numba and torch are imported with the first name that needs
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relaxon.core.extras import offer_imports

if TYPE_CHECKING:
    from relaxon.core.unseen_categories import UnseenCategoryWarning as UnseenCategoryWarning
    from relaxon.neuromorphic.boosting.estimators.classifier import (
        GradientBoostedNetworkClassifier as GradientBoostedNetworkClassifier,
    )
    from relaxon.neuromorphic.boosting.estimators.ensembles import Ensemble as Ensemble
    from relaxon.neuromorphic.boosting.estimators.ensembles import train_ensemble as train_ensemble
    from relaxon.neuromorphic.boosting.estimators.regressor import (
        GradientBoostedNetworkRegressor as GradientBoostedNetworkRegressor,
    )
    from relaxon.neuromorphic.boosting.networks.merged import Layer as Layer
    from relaxon.neuromorphic.boosting.networks.merged import MergedNetwork as MergedNetwork
    from relaxon.neuromorphic.boosting.networks.merged import Stage as Stage
    from relaxon.neuromorphic.boosting.networks.shapley import ShapleyValues as ShapleyValues
    from relaxon.neuromorphic.boosting.networks.shapley import shapley_values as shapley_values
    from relaxon.neuromorphic.boosting.storage import load as load
    from relaxon.neuromorphic.boosting.training.runs import Outcome as Outcome
    from relaxon.neuromorphic.boosting.training.runs import StageProgress as StageProgress
    from relaxon.neuromorphic.boosting.training.sequential import SequentiallyTrained as SequentiallyTrained
    from relaxon.neuromorphic.boosting.training.sequential import SequentialSettings as SequentialSettings
    from relaxon.neuromorphic.boosting.training.sequential import train_sequentially as train_sequentially

__getattr__, __dir__ = offer_imports(__name__)
