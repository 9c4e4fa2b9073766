"""Tables with targets, and rows to predict for, as they travel to the engines that are trained on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, get_args

from numpy.typing import ArrayLike

from relaxon.core import validation
from relaxon.wire import tensors
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.jobs import checked_id
from relaxon.wire.conversions.tables import sent, table

Requests = Callable[[], Iterator[Any]]
"""Gives the messages of a call anew for each attempt."""
Task = Literal["regression", "classification"]
ARGUMENTS = {"features": "X", "target": "y", "weights": "sample_weight"}
"""What the messages' fields are called here."""


def checked_task(task: object) -> None:
    """Raise ValueError where it is none."""
    if task not in get_args(Task):
        raise ValueError(f"task must be 'regression' or 'classification', got {task!r}")


def filled(
    header: Any,
    request: Any,
    X: ArrayLike,
    y: ArrayLike,
    task: str,
    sample_weight: ArrayLike | None,
    model: str,
    request_id: str,
    *,
    missing: bool = False,
) -> Requests:
    """The messages of a training whose header has its settings: TypeError or ValueError naming what cannot be sent."""
    features = table("X", X, missing=missing)
    header.features.CopyFrom(tensors.header_of(features))
    if not isinstance(model, str):
        raise TypeError(f"model must be a string, got {type(model).__name__}")
    header.model = model
    if task == "classification":
        classes, target = labels.encoded("y", y, least=2)
        header.classes.CopyFrom(classes)
    else:
        target = validation.real_array("y", y)
    if target.ndim > 2 or len(target) != len(features):
        raise ValueError(f"y must have a row for each of the {len(features)} of X, got shape {target.shape}")
    header.target.CopyFrom(tensors.header_of(target))
    weights = None if sample_weight is None else validation.real_array("sample_weight", sample_weight)
    if weights is not None:
        if weights.shape != (len(features),):
            raise ValueError(f"sample_weight must have shape ({len(features)},), got {weights.shape}")
        header.weights.CopyFrom(tensors.header_of(weights))
    header.request_id = checked_id(request_id)
    return partial(sent, request, header, {"features": features, "target": target, "weights": weights})
