"""Tables with targets to train on, and rows to predict for, as they travel to the engines that learn from tables."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, get_args

from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.wire import tensors
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.engine import EngineMessages
from relaxon.wire.conversions.fields import SettingsMessage, check_settings
from relaxon.wire.conversions.tables import Requests, stream_messages, table, train_requests

Task = Literal["regression", "classification"]
ARGUMENTS = {"features": "X", "target": "y", "weights": "sample_weight"}
"""The client's names of the arguments that the messages call otherwise."""
MISSING = ("mean", "indicate")
"""The values of a setting `missing` that allow NaN in the features."""
OUTPUTS = {"predict": 1, "predict_proba": 2, "decision_function": 3}
"""The methods of an estimator, and the numbers that each service's `…Output` gives them."""


def supervised_requests(
    engine: EngineMessages[Any, Any],
    kind: type[SettingsMessage],
    X: ArrayLike,
    y: ArrayLike,
    task: str,
    settings: SettingsMessage | None,
    sample_weight: ArrayLike | None,
    model: str,
    request_id: str,
) -> Requests:
    """Return the messages that have a model trained on a table with targets; None stands for the `kind`'s defaults.

    InvalidArgument naming the argument that cannot be sent.
    """
    with errors.refusals():
        chosen = kind() if settings is None else settings
        check_settings(chosen, kind)
        arrays, header = _encode_table(X, y, task, sample_weight, getattr(chosen, "missing", None) in MISSING)
        return train_requests(engine, chosen.message(), arrays, model, request_id, **header)


def _encode_table(
    X: ArrayLike, y: ArrayLike, task: str, sample_weight: ArrayLike | None, missing: bool
) -> tuple[dict[str, NDArray[Any] | None], dict[str, Any]]:
    """Return the arrays of a table with targets, and the classes of a classification; `missing` allows NaN in X."""
    if task not in get_args(Task):
        raise ValueError(f"task must be 'regression' or 'classification', got {task!r}")
    features = table("X", X, missing)
    header: dict[str, Any] = {}
    if task == "classification":
        header["classes"], target = labels.encode_labels("y", y, least=2)
    else:
        target = validation.real_array("y", y)
    if target.ndim > 2 or len(target) != len(features):
        raise ValueError(f"y must have a row for each of the {len(features)} of X, got shape {target.shape}")
    weights = None if sample_weight is None else validation.real_array("sample_weight", sample_weight)
    if weights is not None and weights.shape != (len(features),):
        raise ValueError(f"sample_weight must have shape ({len(features)},), got {weights.shape}")
    return {"features": features, "target": target, "weights": weights}, header


def output_requests(
    engine: EngineMessages[Any, Any], output: str, model: object, X: ArrayLike, missing: bool = False, **header: Any
) -> tuple[Requests, int]:
    """Return the messages of a `Predict` call, and the number of rows that its answer will have."""
    with errors.refusals():
        features = table("X", X, missing)
        make = engine.request("Predict")
        first = engine.header("Predict")(
            model=engine.name_of(model), output=OUTPUTS[output], features=tensors.describe_array(features), **header
        )
    return partial(stream_messages, make, first, {"features": features}), len(features)


def task_text(model: Any) -> str:
    """Return what a stored model of a table predicts, and from how many columns, for a picture of it in a notebook."""
    wanted = f"{model.class_count} classes" if model.class_count else f"{model.outputs} outputs"
    return f"{model.task}, {wanted}, {model.n_features} columns"
