"""Class labels as they travel: a list of the classes, and for each label its place in that list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core.masked import plain_array
from relaxon.proto import model_pb2 as pb

MAX_CLASSES = 1000
LONGEST_LABEL = 256
"""Characters of a label that is a string."""
_DTYPES = {
    "strings": np.dtype(str),
    "integers": np.dtype(np.int64),
    "doubles": np.dtype(np.float64),
    "booleans": np.dtype(bool),
}
"""By the names of the message's fields."""
_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "doubles", "U": "strings"}


def encode_labels(name: str, labels: ArrayLike, least: int = 1) -> tuple[pb.Classes, NDArray[np.float64]]:
    """Return the classes among the labels, and each label's place among them.

    TypeError or ValueError, naming the argument `name`, for what cannot be labels or has fewer than `least` classes:
    training needs two.
    """
    array = plain_array(name, labels)
    if array.ndim != 1:
        raise ValueError(f"{name} must have one axis for a classification, got shape {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one label, got none")
    if array.dtype == object:
        if not all(isinstance(label, str) for label in array):
            raise TypeError(f"{name} must hold strings, integers or booleans, got objects")
        array = array.astype(str)
    kind = _KINDS.get(array.dtype.kind)
    if kind is None:
        raise TypeError(f"{name} must hold strings, integers or booleans, got dtype {array.dtype}")
    if kind == "doubles" and not (np.isfinite(array).all() and (array == np.round(array)).all()):
        raise ValueError(f"{name} must hold classes, got numbers that are not whole")
    classes, places = np.unique(array, return_inverse=True)
    if len(classes) < least:
        raise ValueError(f"{name} must have at least {least} classes, got {len(classes)}: {classes[0]!r}")
    if kind == "integers" and classes.dtype.kind == "u" and classes[-1] > np.iinfo(np.int64).max:
        raise ValueError(f"{name} must fit into 64 bits with a sign, got {classes[-1]}")
    return classes_message(classes), places.astype(np.float64)


def decode_classes(message: pb.Classes) -> NDArray[Any] | None:
    """Return the classes of a message; None where it holds none."""
    kind = message.WhichOneof("kind")
    return None if kind is None else labels_array(kind, list(getattr(message, kind).values))


def validate_classes(field: str, message: pb.Classes, least: int = 1) -> NDArray[Any]:
    """Return the classes of a message from a caller; ValueError naming `field` unless they are ascending and differ."""
    kind = message.WhichOneof("kind")
    if kind is None:
        raise ValueError(f"{field} must hold the labels, got none")
    values = list(getattr(message, kind).values)
    if not 1 <= len(values) <= MAX_CLASSES:
        raise ValueError(f"{field} must number 1 to {MAX_CLASSES}, got {len(values)}")
    if kind == "strings" and max(map(len, values)) > LONGEST_LABEL:
        raise ValueError(f"{field} must have at most {LONGEST_LABEL} characters each")
    labels = labels_array(kind, values)
    if kind == "doubles" and not (np.isfinite(labels).all() and (labels == np.round(labels)).all()):
        raise ValueError(f"{field} must be whole numbers where they are floating point")
    if not (labels[1:] > labels[:-1]).all():
        raise ValueError(f"{field} must be in ascending order, each once")
    if len(labels) < least:
        raise ValueError(f"{field} must number at least {least} to be trained on, got {len(labels)}")
    return labels


def classes_message(labels: NDArray[Any]) -> pb.Classes:
    """Return the message for a classifier's labels, which are in ascending order."""
    described = classes_json(labels)
    message = pb.Classes()
    getattr(message, described["kind"]).values.extend(described["values"])
    return message


def classes_json(labels: NDArray[Any]) -> Mapping[str, Any]:
    """Return labels as JSON values: the arguments `kind` and `values` of `labels_array`."""
    return {"kind": _KINDS.get(labels.dtype.kind, "strings"), "values": labels.tolist()}


def labels_array(kind: str, values: list[Any]) -> NDArray[Any]:
    """Return labels of one of the message's kinds as an array."""
    return np.array(values, _DTYPES[kind])
