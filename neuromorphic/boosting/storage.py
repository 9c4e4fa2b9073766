"""Loading of the fitted estimators that `save` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.binary.packing import SignMatrix
from relaxon.neuromorphic.boosting.estimators.classifier import GradientBoostedNetworkClassifier
from relaxon.neuromorphic.boosting.estimators.regressor import GradientBoostedNetworkRegressor
from relaxon.neuromorphic.boosting.estimators.saving import FITTED, NETWORK
from relaxon.neuromorphic.boosting.networks.merged import Layer, MergedNetwork
from relaxon.neuromorphic.boosting.networks.signs import SignNetwork, build_sign_network
from relaxon.neuromorphic.boosting.training.runs import Outcome
from relaxon.neuromorphic.estimator_files import load_estimator
from relaxon.neuromorphic.tabular.categories import TargetCategories

Estimator = GradientBoostedNetworkRegressor | GradientBoostedNetworkClassifier


def load(path: str | Path) -> Estimator:
    """Return the estimator that `save` wrote to the folder `path`; raise `ValueError` for any other contents."""
    kinds = (GradientBoostedNetworkRegressor, GradientBoostedNetworkClassifier)
    restored: Estimator = load_estimator(path, "boosted network", kinds, _restore_fit)
    return restored


def _restore_fit(estimator: Any, content: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> int:
    hidden = range(content["hidden_layers"])
    layers = tuple(Layer(_restore_weights(arrays, index), arrays[f"bias_{index}"]) for index in hidden)
    network = MergedNetwork(layers=layers, **{name: arrays[name] for name in NETWORK})
    if ("thresholds" in arrays) != bool(estimator.binary):
        raise ValueError("thresholds must be present for sign units and only for them")
    if "thresholds" in arrays:
        network = build_sign_network(network, arrays["thresholds"])
    # Models stored before indicators existed have none.
    indicated = arrays.get("indicated", np.empty(0, np.int64))
    features = estimator.n_features_in_
    if indicated.ndim != 1 or not np.isin(indicated, np.arange(features)).all():
        raise ValueError(f"indicated must be places of columns below {features}, got {indicated.tolist()}")
    estimator._indicated = indicated
    estimator._categories = _restore_categories(content, arrays, features, network.outputs)
    _check_shapes(network, len(estimator._sources(network.outputs)))
    estimator.network_ = network
    estimator.outcome_ = Outcome(content["outcome"])
    estimator._seed, estimator._attempts = int(content["seed"]), int(content["attempts"])
    # Models stored before these were counted lack them.
    estimator.n_refused_stages_, estimator.n_dead_units_ = int(content.get("refused", 0)), int(content.get("dead", 0))
    for name, attribute in FITTED.items():
        setattr(estimator, attribute, arrays[name])
    return network.outputs


def _restore_categories(
    content: dict[str, Any], arrays: dict[str, NDArray[Any]], features: int, outputs: int
) -> TargetCategories | None:
    """Return the categories of a stored model, or None if it has none."""
    stored, count = content.get("categories"), sum(name.startswith("category_means_") for name in arrays)
    if stored is None:
        if count:
            raise ValueError(f"categories must be given for category_means of {count} columns, got none")
        return None
    places, keys = tuple(map(int, stored["places"])), tuple(tuple(own) for own in stored["keys"])
    if len(keys) != len(places) or sorted(set(places)) != list(places) or not all(0 <= p < features for p in places):
        raise ValueError(f"categories must be of columns below {features}, each once, got {places}")
    if count != len(places):
        raise ValueError(f"category_means must be of {len(places)} columns, got {count}")
    means = tuple(arrays[f"category_means_{index}"] for index in range(count))
    for own, mean in zip(keys, means, strict=True):
        if mean.shape != (len(own) + 2, outputs) or not np.isfinite(mean).all():
            raise ValueError(f"category_means must be finite and {(len(own) + 2, outputs)}, got {mean.shape}")
    return TargetCategories(places, keys, means)


def _check_shapes(network: MergedNetwork, features: int) -> None:
    """Raise `ValueError` for arrays whose shapes are inconsistent, before they are used in a prediction."""
    wide, outputs = features, network.outputs
    if isinstance(network, SignNetwork):
        if network.thresholds.ndim != 2 or network.thresholds.shape[1] != features or len(network.layers) > 1:
            raise ValueError(f"thresholds must be (bits, {features}) of one layer, got {network.thresholds.shape}")
        if np.isnan(network.thresholds).any():
            raise ValueError("thresholds must not hold NaN")
        wide = network.thresholds.size
    for index, layer in enumerate(network.layers):
        if layer.weights.shape != (len(layer.bias), wide):
            raise ValueError(f"weights_{index} must be {(len(layer.bias), wide)}, got {layer.weights.shape}")
        wide += len(layer.bias)
    units = sum(len(layer.bias) for layer in network.layers)
    shapes = {
        "shift": (network.shift.shape, (features,)),
        "scale": (network.scale.shape, (features,)),
        "output": (network.output.shape, (units, outputs)),
        "intercepts": (network.intercepts.shape, (network.stages, outputs)),
        "gain": (network.gain.shape, (outputs,)),
        "sizes": ((int(network.sizes.sum()),), (units,)),
    }
    for name, (found, expected) in shapes.items():
        if found != expected:
            raise ValueError(f"{name} must be {expected}, got {found}")
    arrays = (network.shift, network.scale, network.output, network.initial, network.intercepts, network.gain)
    if not all(np.isfinite(array).all() for array in (*arrays, *[layer.weights for layer in network.layers])):
        raise ValueError("the arrays must be finite")


def _restore_weights(arrays: dict[str, NDArray[Any]], index: int) -> NDArray[np.float64]:
    """Return the weights of a layer, unpacked from bits for sign units."""
    stored = arrays[f"weights_{index}"]
    if "thresholds" not in arrays:
        return stored
    return SignMatrix(stored, int(arrays["thresholds"].size)).unpack().astype(np.float64)
