"""`Classes` messages as NumPy arrays of labels and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import model_pb2
from relaxon.server.gate import errors

MAX_CLASSES = 1000
LONGEST_LABEL = 256
DTYPES = {
    "strings": np.dtype(str),
    "integers": np.dtype(np.int64),
    "doubles": np.dtype(np.float64),
    "booleans": np.dtype(bool),
}


def checked(field: str, message: model_pb2.Classes) -> NDArray[Any]:
    """The labels, which are ascending and differ; INVALID_ARGUMENT naming `field` otherwise."""
    kind = message.WhichOneof("kind")
    if kind is None:
        raise errors.invalid(field, f"{field} must hold the labels, got none")
    values = list(getattr(message, kind).values)
    if not 1 <= len(values) <= MAX_CLASSES:
        raise errors.invalid(field, f"{field} must number 1 to {MAX_CLASSES}, got {len(values)}")
    if kind == "strings" and max(map(len, values)) > LONGEST_LABEL:
        raise errors.invalid(field, f"{field} must have at most {LONGEST_LABEL} characters each")
    labels = array(kind, values)
    if kind == "doubles" and not (np.isfinite(labels).all() and (labels == np.round(labels)).all()):
        raise errors.invalid(field, f"{field} must be whole numbers where they are floating point")
    if not (labels[1:] > labels[:-1]).all():
        raise errors.invalid(field, f"{field} must be in ascending order, each once")
    return labels


def check_several(field: str, labels: NDArray[Any] | None) -> None:
    """INVALID_ARGUMENT naming `field` where a classification has one class only; None where it is none."""
    if labels is not None and len(labels) < 2:
        raise errors.invalid(field, f"{field} must number at least 2 to be trained on, got {len(labels)}")


def array(kind: str, values: list[Any]) -> NDArray[Any]:
    """Labels of one kind of the message's."""
    return np.array(values, DTYPES[kind])


def of(labels: NDArray[Any]) -> model_pb2.Classes:
    """The message for a fitted classifier's labels."""
    described = as_json(labels)
    message = model_pb2.Classes()
    getattr(message, described["kind"]).values.extend(described["values"])
    return message


def as_json(labels: NDArray[Any]) -> Mapping[str, Any]:
    """`kind` and `values`, which `array` takes."""
    kind = {"b": "booleans", "i": "integers", "u": "integers", "f": "doubles"}.get(labels.dtype.kind, "strings")
    return {"kind": kind, "values": labels.tolist()}
