"""Fitted estimators on disk: arrays as safetensors, everything else as JSON."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.classifier import ConvexNetworkClassifier
from relaxon.neuromorphic.convex.network import ConvexNetwork
from relaxon.neuromorphic.convex.regressor import ConvexNetworkRegressor
from relaxon.neuromorphic.convex.solving.admm import ConvexHistory, ConvexOutcome
from relaxon.neuromorphic.convex.solving.certificate import ConvexCertificate
from relaxon.neuromorphic.estimator_files import (
    describe_estimator,
    read_estimator,
    restore_classes,
    restore_columns,
    write_estimator,
)

KINDS = {"regressor": ConvexNetworkRegressor, "classifier": ConvexNetworkClassifier}
NETWORK = tuple(field.name for field in fields(ConvexNetwork))
HISTORY = tuple(field.name for field in fields(ConvexHistory))


def save(estimator: Any, path: Path) -> None:
    """Write `estimator` to the folder `path`, which is created where missing; each file is written atomically."""
    network = estimator._fitted()
    content = describe_estimator(estimator, KINDS) | {
        "iterations": estimator.n_iter_,
        "certificate": asdict(estimator.certificate_),
    }
    arrays = {name: getattr(network, name) for name in NETWORK}
    arrays |= {f"history_{name}": getattr(estimator.history_, name) for name in HISTORY}
    write_estimator(path, content, arrays)


def load(path: str | Path) -> ConvexNetworkRegressor | ConvexNetworkClassifier:
    """Return the estimator that `save` wrote to the folder `path`; raise `ValueError` for anything else found there."""
    folder = Path(path)
    content, arrays = read_estimator(folder, "convex network")
    try:
        restored: ConvexNetworkRegressor | ConvexNetworkClassifier = _restore(content, arrays)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} contains no complete convex network: {error!r}") from None
    return restored


def _restore(content: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Any:
    kind = content["kind"]
    estimator: Any = KINDS[kind](**content["parameters"])
    network = ConvexNetwork(**{name: arrays[name] for name in NETWORK})
    _check(network, int(content["n_features"]))
    estimator.network_ = network
    restore_columns(estimator, content)
    estimator.outcome_, estimator.n_iter_ = ConvexOutcome(content["outcome"]), int(content["iterations"])
    estimator.certificate_ = ConvexCertificate(**content["certificate"])
    estimator.history_ = ConvexHistory(**{name: arrays[f"history_{name}"] for name in HISTORY})
    outputs = network.output.shape[1]
    if kind == "classifier":
        restore_classes(estimator, content, outputs)
    else:
        estimator._outputs = content["outputs"]
        if outputs != (1 if estimator._outputs is None else estimator._outputs):
            raise ValueError(f"{estimator._outputs} outputs do not fit {outputs} columns of output weights")
    return estimator


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
