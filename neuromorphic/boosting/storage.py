"""A fitted estimator on disk: arrays in safetensors, the rest in JSON; nothing that could run code when read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.binary.packing import SignMatrix, pack_signs
from relaxon.neuromorphic.boosting.estimators.classifier import GradientBoostedNetworkClassifier
from relaxon.neuromorphic.boosting.estimators.regressor import GradientBoostedNetworkRegressor
from relaxon.neuromorphic.boosting.networks.merged import Layer, MergedNetwork
from relaxon.neuromorphic.boosting.networks.signs import SignNetwork, build_sign_network
from relaxon.neuromorphic.boosting.training.runs import Outcome
from relaxon.neuromorphic.estimator_files import (
    describe_estimator,
    read_estimator,
    restore_classes,
    restore_columns,
    write_estimator,
)
from relaxon.neuromorphic.tabular.categories import TargetCategories

KINDS = {
    "regressor": GradientBoostedNetworkRegressor,
    "classifier": GradientBoostedNetworkClassifier,
}
Estimator = GradientBoostedNetworkRegressor | GradientBoostedNetworkClassifier


def save(estimator: Any, path: Path) -> None:
    """Write `estimator` to the folder `path`, made where it is not there; each file is complete or not there."""
    network = estimator._fitted()
    content = describe_estimator(estimator, KINDS) | {
        "seed": estimator._seed,
        "attempts": estimator._attempts,
        "refused": estimator.n_refused_stages_,
        "dead": estimator.n_dead_units_,
        "hidden_layers": len(network.layers),
    }
    arrays = {
        "shift": network.shift,
        "scale": network.scale,
        "output": network.output,
        "initial": network.initial,
        "intercepts": network.intercepts,
        "sizes": network.sizes,
        "gain": network.gain,
        "unit": estimator._unit,
        "train_loss": estimator.train_loss_,
        "validation_loss": estimator.validation_loss_,
        "importances": estimator.feature_importances_,
        "indicated": estimator._indicated,
    }
    if estimator._categories is not None:
        known = estimator._categories
        content["categories"] = {"places": list(known.places), "keys": [list(keys) for keys in known.keys]}
        arrays |= {f"category_means_{index}": mean for index, mean in enumerate(known.means)}
    for index, layer in enumerate(network.layers):
        # The weights of sign units in bits.
        signs = isinstance(network, SignNetwork)
        arrays |= {f"weights_{index}": pack_signs(layer.weights).packed if signs else layer.weights}
        arrays |= {f"bias_{index}": layer.bias}
    if isinstance(network, SignNetwork):
        arrays["thresholds"] = network.thresholds
    write_estimator(path, content, arrays)


def load(path: str | Path) -> Estimator:
    """The estimator that `save` wrote to the folder `path`; raises `ValueError` for anything else found there."""
    folder = Path(path)
    content, arrays = read_estimator(folder, "boosted network")
    try:
        return _restore_estimator(content, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no complete boosted network: {error!r}") from None


def _restore_estimator(content: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Estimator:
    kind = content["kind"]
    parameters = {name: _restore_parameter(name, value) for name, value in content["parameters"].items()}
    estimator: Any = KINDS[kind](**parameters)
    hidden = range(content["hidden_layers"])
    layers = tuple(Layer(_restore_weights(arrays, index), arrays[f"bias_{index}"]) for index in hidden)
    names = ("shift", "scale", "output", "initial", "intercepts", "sizes", "gain")
    network = MergedNetwork(layers=layers, **{name: arrays[name] for name in names})
    if ("thresholds" in arrays) != bool(estimator.binary):
        raise ValueError("thresholds must be there for sign units, and for them only")
    if "thresholds" in arrays:
        network = build_sign_network(network, arrays["thresholds"])
    # Models of before there were indicators have none.
    indicated = arrays.get("indicated", np.empty(0, np.int64))
    features = int(content["n_features"])
    if indicated.ndim != 1 or not np.isin(indicated, np.arange(features)).all():
        raise ValueError(f"indicated must be places of columns below {features}, got {indicated.tolist()}")
    estimator._indicated = indicated
    estimator._categories = _restore_categories(content, arrays, features, network.outputs)
    restore_columns(estimator, content)
    _check_shapes(network, len(estimator._sources(network.outputs)))
    estimator.network_ = network
    estimator.outcome_ = Outcome(content["outcome"])
    estimator._seed, estimator._attempts = int(content["seed"]), int(content["attempts"])
    # Models of before these were counted have none.
    estimator.n_refused_stages_, estimator.n_dead_units_ = int(content.get("refused", 0)), int(content.get("dead", 0))
    estimator._unit = arrays["unit"]
    estimator.train_loss_, estimator.validation_loss_ = arrays["train_loss"], arrays["validation_loss"]
    estimator.feature_importances_ = arrays["importances"]
    if kind == "classifier":
        restore_classes(estimator, content, network.outputs)
    else:
        estimator._outputs = content["outputs"]
    restored: Estimator = estimator
    return restored


def _restore_categories(
    content: dict[str, Any], arrays: dict[str, NDArray[Any]], features: int, outputs: int
) -> TargetCategories | None:
    """The categories of a stored model; None where it has none."""
    told = content.get("categories")
    if told is None:
        return None
    places, keys = tuple(map(int, told["places"])), tuple(tuple(own) for own in told["keys"])
    if len(keys) != len(places) or sorted(set(places)) != list(places) or not all(0 <= p < features for p in places):
        raise ValueError(f"categories must be of columns below {features}, each once, got {places}")
    means = tuple(arrays[f"category_means_{index}"] for index in range(len(places)))
    for own, mean in zip(keys, means, strict=True):
        if mean.shape != (len(own) + 2, outputs) or not np.isfinite(mean).all():
            raise ValueError(f"category_means must be finite and {(len(own) + 2, outputs)}, got {mean.shape}")
    return TargetCategories(places, keys, means)


def _check_shapes(network: MergedNetwork, features: int) -> None:
    """Refuse arrays whose shapes do not belong together, before a prediction meets them."""
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
    """A layer's weights; of sign units unpacked."""
    stored = arrays[f"weights_{index}"]
    if "thresholds" not in arrays:
        return stored
    return SignMatrix(stored, int(arrays["thresholds"].size)).unpack().astype(np.float64)


def _restore_parameter(name: str, value: Any) -> Any:
    if name == "class_weight" and isinstance(value, list):
        return dict(value)
    return tuple(value) if name == "layers" and value is not None else value
