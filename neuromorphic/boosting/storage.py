"""A fitted estimator on disk: arrays in safetensors, the rest in JSON; nothing that could run code when read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from relaxon._version import __version__
from relaxon.neuromorphic.binary.packing import SignMatrix, pack_signs
from relaxon.neuromorphic.boosting.classifier import GradientBoostedNetworkClassifier
from relaxon.neuromorphic.boosting.network import Layer, MergedNetwork
from relaxon.neuromorphic.boosting.regressor import GradientBoostedNetworkRegressor
from relaxon.neuromorphic.boosting.sign_network import SignNetwork, of_signs
from relaxon.neuromorphic.boosting.training import Outcome
from relaxon.solvers.tensor_files import write_tensors

FORMAT = 1
MODEL, ARRAYS = "model.json", "network.safetensors"
KINDS = {
    "regressor": GradientBoostedNetworkRegressor,
    "classifier": GradientBoostedNetworkClassifier,
}
Estimator = GradientBoostedNetworkRegressor | GradientBoostedNetworkClassifier


def save(estimator: Any, path: Path) -> None:
    """Write `estimator` to the folder `path`, made where it is not there; each file is complete or not there."""
    network = estimator._fitted()
    kind = next((name for name, made in KINDS.items() if type(estimator) is made), None)
    if kind is None:
        raise TypeError(f"only {', '.join(made.__name__ for made in KINDS.values())} can be saved, got {estimator!r}")
    content = {
        "format": FORMAT,
        "relaxon": __version__,
        "kind": kind,
        "parameters": {name: _plain(name, value) for name, value in estimator.get_params(deep=False).items()},
        "n_features": int(estimator.n_features_in_),
        "feature_names": getattr(estimator, "feature_names_in_", np.array([])).tolist() or None,
        "outcome": estimator.outcome_.value,
        "seed": estimator._seed,
        "attempts": estimator._attempts,
        "hidden_layers": len(network.layers),
    }
    if kind == "classifier":
        content["classes"] = _classes(estimator.classes_)
    else:
        content["outputs"] = estimator._outputs
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
    }
    for index, layer in enumerate(network.layers):
        # The weights of sign units in bits.
        signs = isinstance(network, SignNetwork)
        arrays |= {f"weights_{index}": pack_signs(layer.weights).packed if signs else layer.weights}
        arrays |= {f"bias_{index}": layer.bias}
    if isinstance(network, SignNetwork):
        arrays["thresholds"] = network.thresholds
    path.mkdir(parents=True, exist_ok=True)
    # The arrays first: a folder with a model.json is complete.
    part = path / (ARRAYS + ".part")
    write_tensors(part, arrays)
    os.replace(part, path / ARRAYS)
    part = path / (MODEL + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path / MODEL)


def load(path: str | Path) -> Estimator:
    """The estimator that `save` wrote to the folder `path`; raises `ValueError` for anything else found there."""
    folder = Path(path)
    try:
        content = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no saved boosted network: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{folder / MODEL} must have format {FORMAT}, got {found!r}")
    try:
        return _restored(content, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no complete boosted network: {error!r}") from None


def _restored(content: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Estimator:
    kind = content["kind"]
    parameters = {name: _restored_parameter(name, value) for name, value in content["parameters"].items()}
    estimator: Any = KINDS[kind](**parameters)
    hidden = range(content["hidden_layers"])
    layers = tuple(Layer(_weights(arrays, index), arrays[f"bias_{index}"]) for index in hidden)
    names = ("shift", "scale", "output", "initial", "intercepts", "sizes", "gain")
    network = MergedNetwork(layers=layers, **{name: arrays[name] for name in names})
    if ("thresholds" in arrays) != bool(estimator.binary):
        raise ValueError("thresholds must be there for sign units, and for them only")
    if "thresholds" in arrays:
        network = of_signs(network, arrays["thresholds"])
    _check(network, int(content["n_features"]))
    estimator.network_ = network
    estimator.n_features_in_ = int(content["n_features"])
    if content["feature_names"] is not None:
        estimator.feature_names_in_ = np.array(content["feature_names"], dtype=object)
    estimator.outcome_ = Outcome(content["outcome"])
    estimator._seed, estimator._attempts = int(content["seed"]), int(content["attempts"])
    estimator._unit = arrays["unit"]
    estimator.train_loss_, estimator.validation_loss_ = arrays["train_loss"], arrays["validation_loss"]
    estimator.feature_importances_ = arrays["importances"]
    if kind == "classifier":
        labels = content["classes"]
        estimator.classes_ = np.array(
            labels["values"], dtype=object if labels["dtype"] == "object" else labels["dtype"]
        )
        expected = {1: 1, 2: 1}.get(len(estimator.classes_), len(estimator.classes_))
        if network.outputs != expected:
            raise ValueError(f"{len(estimator.classes_)} classes need {expected} outputs, got {network.outputs}")
    else:
        estimator._outputs = content["outputs"]
    restored: Estimator = estimator
    return restored


def _check(network: MergedNetwork, features: int) -> None:
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


def _weights(arrays: dict[str, NDArray[Any]], index: int) -> NDArray[np.float64]:
    """A layer's weights; of sign units unpacked."""
    stored = arrays[f"weights_{index}"]
    if "thresholds" not in arrays:
        return stored
    return SignMatrix(stored, int(arrays["thresholds"].size)).unpack().astype(np.float64)


def _classes(classes: NDArray[Any]) -> dict[str, Any]:
    values = classes.tolist()
    if not all(isinstance(value, str | int | float | bool) for value in values):
        raise TypeError(f"classes must be strings, numbers or booleans to be saved, got {type(values[0]).__name__}")
    return {"dtype": "object" if classes.dtype == object else classes.dtype.str, "values": values}


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if name == "class_weight" and not isinstance(value, str | None):
        return [[_plain("", label), float(weight)] for label, weight in value.items()]
    if name == "layers" and value is not None:
        return [int(width) for width in value]
    if isinstance(value, np.random.RandomState):
        return None  # a generator has no lasting state to write; the seed drawn from it is kept
    return value


def _restored_parameter(name: str, value: Any) -> Any:
    if name == "class_weight" and isinstance(value, list):
        return dict(value)
    return tuple(value) if name == "layers" and value is not None else value
