"""Fitted estimators on disk: arrays as safetensors, everything else as JSON."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.classifier import ConvexNetworkClassifier
from relaxon.neuromorphic.convex.network import ConvexNetwork
from relaxon.neuromorphic.convex.regressor import ConvexNetworkRegressor
from relaxon.neuromorphic.convex.solving.admm import ConvexHistory, ConvexOutcome
from relaxon.neuromorphic.convex.solving.certificate import ConvexCertificate
from relaxon.neuromorphic.estimator_files import load_estimator

NETWORK = tuple(field.name for field in fields(ConvexNetwork))
HISTORY = tuple(field.name for field in fields(ConvexHistory))


def load(path: str | Path) -> ConvexNetworkRegressor | ConvexNetworkClassifier:
    """Return the estimator that `save` wrote to the folder `path`; raise `ValueError` for anything else found there."""
    kinds = (ConvexNetworkRegressor, ConvexNetworkClassifier)
    restored: ConvexNetworkRegressor | ConvexNetworkClassifier = load_estimator(path, "convex network", kinds, _restore)
    return restored


def _restore(estimator: Any, content: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> int:
    network = ConvexNetwork(**{name: arrays[name] for name in NETWORK})
    _check(network, estimator.n_features_in_)
    estimator.network_ = network
    estimator.outcome_, estimator.n_iter_ = ConvexOutcome(content["outcome"]), int(content["iterations"])
    estimator.certificate_ = ConvexCertificate(**content["certificate"])
    estimator.history_ = ConvexHistory(**{name: arrays[f"history_{name}"] for name in HISTORY})
    return int(network.output.shape[1])


def _check(network: ConvexNetwork, features: int) -> None:
    """Raise `ValueError` for arrays whose shapes do not match or that are not finite."""
    units, outputs = network.hidden.shape[0], network.output.shape[1]
    expected = {
        "hidden": (units, features + 1),
        "output": (units, outputs),
        "shift": (features,),
        "scale": (features,),
        "target_shift": (outputs,),
        "target_unit": (outputs,),
    }
    for name, shape in expected.items():
        array = getattr(network, name)
        if array.shape != shape or array.dtype != np.float64:
            raise ValueError(f"{name} must be float64 of shape {shape}, got {array.dtype} of {array.shape}")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite")
