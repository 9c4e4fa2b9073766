"""Class labels as they travel: each as its place in a list of the classes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core.masked import plain_array
from relaxon.proto import model_pb2 as pb

_DTYPES = {
    "strings": np.dtype(str),
    "integers": np.dtype(np.int64),
    "doubles": np.dtype(np.float64),
    "booleans": np.dtype(bool),
}
_KINDS = {"b": "booleans", "i": "integers", "u": "integers", "f": "doubles", "U": "strings"}


def encoded(name: str, labels: ArrayLike, least: int = 1) -> tuple[pb.Classes, NDArray[np.float64]]:
    """The classes among the labels, and each label's place in them; refusals name the argument `name`. There must be at
    least so many classes: two to train on."""
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
    message = pb.Classes()
    getattr(message, kind).values.extend(classes.tolist())
    return message, places.astype(np.float64)


def decoded(message: pb.Classes) -> NDArray[Any] | None:
    """The classes of a message; None where it holds none."""
    kind = message.WhichOneof("kind")
    if kind is None:
        return None
    return np.array(list(getattr(message, kind).values), _DTYPES[kind])
