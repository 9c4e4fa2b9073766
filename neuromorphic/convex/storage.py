"""A fitted estimator on disk: arrays in safetensors, the rest in JSON; nothing that could run code when read."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from relaxon._version import __version__
from relaxon.neuromorphic.boosting.storage import _classes, _plain
from relaxon.neuromorphic.convex.admm import ConvexHistory, ConvexOutcome
from relaxon.neuromorphic.convex.certificate import ConvexCertificate
from relaxon.neuromorphic.convex.classifier import ConvexNetworkClassifier
from relaxon.neuromorphic.convex.network import ConvexNetwork
from relaxon.neuromorphic.convex.regressor import ConvexNetworkRegressor
from relaxon.solvers.tensor_files import write_tensors

FORMAT = 1
MODEL, ARRAYS = "model.json", "network.safetensors"
KINDS = {"regressor": ConvexNetworkRegressor, "classifier": ConvexNetworkClassifier}
NETWORK = tuple(field.name for field in fields(ConvexNetwork))
HISTORY = tuple(field.name for field in fields(ConvexHistory))


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
        "iterations": estimator.n_iter_,
        "certificate": asdict(estimator.certificate_),
    }
    if kind == "classifier":
        content["classes"] = _classes(estimator.classes_)
    else:
        content["outputs"] = estimator._outputs
    arrays = {name: getattr(network, name) for name in NETWORK}
    arrays |= {f"history_{name}": getattr(estimator.history_, name) for name in HISTORY}
    path.mkdir(parents=True, exist_ok=True)
    # The arrays first: a folder with a model.json is complete.
    part = path / (ARRAYS + ".part")
    write_tensors(part, arrays)
    os.replace(part, path / ARRAYS)
    part = path / (MODEL + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path / MODEL)


def load(path: str | Path) -> ConvexNetworkRegressor | ConvexNetworkClassifier:
    """Return the estimator that `save` wrote to the folder `path`; raise `ValueError` for anything else found there."""
    folder = Path(path)
    try:
        content = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no saved convex network: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{folder / MODEL} must have format {FORMAT}, got {found!r}")
    try:
        restored: ConvexNetworkRegressor | ConvexNetworkClassifier = _restored(content, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no complete convex network: {error!r}") from None
    return restored


def _restored(content: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Any:
    kind = content["kind"]
    estimator: Any = KINDS[kind](**content["parameters"])
    network = ConvexNetwork(**{name: arrays[name] for name in NETWORK})
    features = int(content["n_features"])
    _check(network, features)
    estimator.network_ = network
    estimator.n_features_in_ = features
    if content["feature_names"] is not None:
        estimator.feature_names_in_ = np.array(content["feature_names"], dtype=object)
    estimator.outcome_, estimator.n_iter_ = ConvexOutcome(content["outcome"]), int(content["iterations"])
    estimator.certificate_ = ConvexCertificate(**content["certificate"])
    estimator.history_ = ConvexHistory(**{name: arrays[f"history_{name}"] for name in HISTORY})
    outputs = network.output.shape[1]
    if kind == "classifier":
        labels = content["classes"]
        classes = np.array(labels["values"], dtype=object if labels["dtype"] == "object" else labels["dtype"])
        expected = 1 if len(classes) == 2 else len(classes)
        if outputs != expected:
            raise ValueError(f"{len(classes)} classes need {expected} outputs, got {outputs}")
        estimator.classes_ = classes
    else:
        estimator._outputs = content["outputs"]
        if outputs != (1 if estimator._outputs is None else estimator._outputs):
            raise ValueError(f"{estimator._outputs} outputs do not fit {outputs} columns of output weights")
    return estimator


def _check(network: ConvexNetwork, features: int) -> None:
    """Refuse arrays whose shapes do not belong together, before a prediction meets them."""
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
