"""Files of fitted estimators for tables: arrays in safetensors and the rest in JSON, so that loading runs no code."""
# Imported on first use, for their weight: safetensors.

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon._version import __version__
from relaxon.core.tensor_files import write_tensors

FORMAT = 1
MODEL, ARRAYS = "model.json", "network.safetensors"


def write_estimator(path: Path, content: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write both files to the folder `path`, which is created if missing; each file is replaced atomically."""
    path.mkdir(parents=True, exist_ok=True)
    # The arrays come first, so that a folder with a model.json is complete.
    part = path / (ARRAYS + ".part")
    write_tensors(part, arrays)
    os.replace(part, path / ARRAYS)
    part = path / (MODEL + ".part")
    part.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(part, path / MODEL)


def read_estimator(folder: Path, what: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return what `write_estimator` wrote; raise `ValueError` for other contents, with `what` naming the estimator."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        content = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        arrays = load_file(folder / ARRAYS)
    except (json.JSONDecodeError, UnicodeDecodeError, SafetensorError) as error:
        raise ValueError(f"{folder} does not contain a saved {what}: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise ValueError(f"{folder / MODEL} must have format {FORMAT}, got {found!r}")
    return content, arrays


def load_estimator(
    path: str | Path,
    what: str,
    classes: tuple[type, type],
    restore: Callable[[Any, dict[str, Any], dict[str, NDArray[Any]]], int],
) -> Any:
    """Return the estimator that a folder holds; raise `ValueError` for other contents, with `what` naming it.

    `classes` are the regressor's and the classifier's. `restore` sets the fitted attributes from what was stored, and
    returns the number of outputs.
    """
    content, arrays = read_estimator(Path(path), what)
    try:
        parameters = {name: _decode_parameter(name, value) for name, value in content["parameters"].items()}
        estimator = dict(zip(("regressor", "classifier"), classes, strict=True))[content["kind"]](**parameters)
        estimator.n_features_in_ = int(content["n_features"])
        if content["feature_names"] is not None:
            estimator.feature_names_in_ = np.array(content["feature_names"], dtype=object)
        outputs = restore(estimator, content, arrays)
        if content["kind"] == "classifier":
            estimator.classes_ = restore_classes(content["classes"])
            count = len(estimator.classes_)
            wanted, whose = 1 if count == 2 else count, f"{count} classes"
        else:
            estimator._outputs = content["outputs"]
            wanted, whose = estimator._outputs or 1, "the targets"
        if outputs != wanted:
            raise ValueError(f"{whose} need {wanted} outputs, got {outputs}")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} contains no complete {what}: {error!r}") from None
    return estimator


def describe_estimator(estimator: Any, saved: tuple[str, str]) -> dict[str, Any]:
    """Describe a fitted estimator as JSON values: its kind, parameters, columns, outcome, and classes or outputs.

    `saved` are the names of the classes that can be saved: the regressor's and the classifier's.

    Raises
    ------
    TypeError : for any other estimator, and for classes that JSON cannot represent.
    """
    if type(estimator).__name__ not in saved:
        raise TypeError(f"only {', '.join(saved)} can be saved, got {estimator!r}")
    classifies = type(estimator).__name__ == saved[1]
    content = {
        "format": FORMAT,
        "relaxon": __version__,
        "kind": "classifier" if classifies else "regressor",
        "parameters": {
            name: _encode_parameter(name, value) for name, value in estimator.get_params(deep=False).items()
        },
        "n_features": int(estimator.n_features_in_),
        "feature_names": getattr(estimator, "feature_names_in_", np.array([])).tolist() or None,
        "outcome": estimator.outcome_.value,
    }
    own = {"classes": describe_classes(estimator.classes_)} if classifies else {"outputs": estimator._outputs}
    return content | own


def describe_classes(classes: NDArray[Any]) -> dict[str, Any]:
    """Return the labels of classes as JSON values; TypeError for labels that JSON cannot represent."""
    values = classes.tolist()
    if not all(isinstance(value, str | int | float | bool) for value in values):
        raise TypeError(f"classes must be strings, numbers or booleans to be saved, got {type(values[0]).__name__}")
    return {"dtype": "object" if classes.dtype == object else classes.dtype.str, "values": values}


def restore_classes(labels: Mapping[str, Any]) -> NDArray[Any]:
    """Return the classes that `describe_classes` described."""
    return np.array(labels["values"], dtype=object if labels["dtype"] == "object" else labels["dtype"])


def _encode_parameter(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if name == "class_weight" and not isinstance(value, str | None):
        return [[_encode_parameter("", label), float(weight)] for label, weight in value.items()]
    if name == "layers" and value is not None:
        return [int(width) for width in value]
    if name in ("categorical_features", "monotone_constraints") and not isinstance(value, str | None):
        if isinstance(value, Mapping):
            return {str(column): int(direction) for column, direction in value.items()}
        return [_encode_parameter("", one) for one in value]
    if isinstance(value, np.random.RandomState):
        return None  # a generator cannot be stored; the seed that was drawn from it is
    return value


def _decode_parameter(name: str, value: Any) -> Any:
    if name == "class_weight" and isinstance(value, list):
        return dict(value)
    return tuple(value) if name == "layers" and value is not None else value
