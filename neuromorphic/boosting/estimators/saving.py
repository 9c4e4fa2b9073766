"""Saving of fitted estimators: arrays in safetensors and the rest in JSON, so that loading runs no code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relaxon.neuromorphic.binary.packing import pack_signs
from relaxon.neuromorphic.boosting.networks.signs import SignNetwork
from relaxon.neuromorphic.estimator_files import describe_estimator, write_estimator

SAVED = ("GradientBoostedNetworkRegressor", "GradientBoostedNetworkClassifier")
"""The names of the classes, which import this module."""
NETWORK = ("shift", "scale", "output", "initial", "intercepts", "sizes", "gain")
FITTED = {
    "unit": "_unit",
    "train_loss": "train_loss_",
    "validation_loss": "validation_loss_",
    "importances": "feature_importances_",
}
"""The attributes that are stored as arrays, by the names of these."""


def save(estimator: Any, path: Path) -> None:
    """Write `estimator` to the folder `path`, which is created if missing; each file is replaced atomically."""
    network = estimator._fitted()
    content = describe_estimator(estimator, SAVED) | {
        "seed": estimator._seed,
        "attempts": estimator._attempts,
        "refused": estimator.n_refused_stages_,
        "dead": estimator.n_dead_units_,
        "hidden_layers": len(network.layers),
    }
    arrays = {name: getattr(network, name) for name in NETWORK}
    arrays |= {name: getattr(estimator, attribute) for name, attribute in FITTED.items()}
    arrays["indicated"] = estimator._indicated
    if estimator._categories is not None:
        known = estimator._categories
        content["categories"] = {"places": list(known.places), "keys": [list(keys) for keys in known.keys]}
        arrays |= {f"category_means_{index}": mean for index, mean in enumerate(known.means)}
    for index, layer in enumerate(network.layers):
        # The weights of sign units are packed into bits.
        signs = isinstance(network, SignNetwork)
        arrays |= {f"weights_{index}": pack_signs(layer.weights).packed if signs else layer.weights}
        arrays |= {f"bias_{index}": layer.bias}
    if isinstance(network, SignNetwork):
        arrays["thresholds"] = network.thresholds
    write_estimator(path, content, arrays)
