"""Tables of numbers as they travel, with targets to train on or rows to predict for, and the arrays of an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.masked import plain_array
from relaxon.wire import tensors
from relaxon.wire.conversions import labels
from relaxon.wire.conversions.engine import EngineMessages
from relaxon.wire.conversions.fields import SettingsMessage, check_settings, check_text
from relaxon.wire.conversions.jobs import validate_request_id

Task = Literal["regression", "classification"]
ARGUMENTS = {"features": "X", "target": "y", "weights": "sample_weight"}
"""The client's names of the arguments that the messages call otherwise."""
MISSING = ("mean", "indicate")
"""The values of a setting `missing` that allow NaN in the features."""
OUTPUTS = {"predict": 1, "predict_proba": 2, "decision_function": 3}
"""The methods of an estimator, and the numbers that each service's `…Output` gives them."""
Array = NDArray[np.float64]
Requests = Callable[[], Iterator[Any]]
"""Yields the messages of a call anew for each attempt."""


def table(name: str, value: ArrayLike, missing: bool = False) -> NDArray[Any]:
    """Return rows and columns of numbers as float32 or float64.

    TypeError or ValueError, naming the argument, for anything else, for infinities and, unless `missing`, for NaN.
    """
    array = plain_array(name, value)
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(f"{name} must be an array of float32, float64 or integers, got dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have two axes, rows and columns, and at least one of each, got {array.shape}")
    check_finite(name, array, missing)
    return array


def check_finite(name: str, array: NDArray[Any], missing: bool = False) -> None:
    """Raise ValueError, naming the array, where an entry is infinite or, unless entries may be `missing`, NaN."""
    bad = int(np.count_nonzero(np.isinf(array) if missing else ~np.isfinite(array)))
    if bad:
        kind = "infinite" if missing else "NaN or infinite"
        raise ValueError(f"{name} must be finite, got {bad} {kind} of {array.size} entries")


def stream_messages(message: Any, header: Any, arrays: Mapping[str, NDArray[Any] | None]) -> Iterator[Any]:
    """Yield the messages of a stream: its header, then the parts of each array under the array's name."""
    yield message(header=header)
    for name, array in arrays.items():
        for part in () if array is None else tensors.split_array(array):
            yield message(**{name: part})


def array_messages(message: Any, arrays: Mapping[str, NDArray[Any]], /, **header: Any) -> Iterator[Any]:
    """Yield the messages of an answer: a header that announces each array under its name, then the arrays' parts."""
    announced = {name: tensors.describe_array(array) for name, array in arrays.items()}
    return stream_messages(message, {**announced, **header}, arrays)


def train_requests(
    engine: EngineMessages[Any, Any],
    settings: Any,
    arrays: Mapping[str, NDArray[Any] | None],
    model: str,
    request_id: str,
    **header: Any,
) -> Requests:
    """Return the messages of a `Train` call; `header` holds the fields of its header that other engines lack."""
    make = engine.request("Train")
    first = engine.header("Train")(
        model=check_text("model", model), settings=settings, request_id=validate_request_id(request_id), **header
    )
    for name, array in arrays.items():
        if array is not None:
            getattr(first, name).CopyFrom(tensors.describe_array(array))
    return partial(stream_messages, make, first, arrays)


class GatheredArrays:
    """Puts together an answer's header and the arrays that it announces; InternalError for a damaged answer."""

    def __init__(self, **dtypes: str) -> None:
        """`dtypes` are those of the arrays, by their names in the replies and in the header, in order of arrival."""
        self._dtypes = dtypes
        self.header: Any = None
        self._arrays: dict[str, tensors.Assembler] = {}

    @property
    def complete(self) -> bool:
        """Whether everything has arrived."""
        return self.header is not None and all(one.complete for one in self._arrays.values())

    def take(self, reply: Any) -> None:
        """Place a reply."""
        kind = reply.WhichOneof("message")
        try:
            if kind == "header" and self.header is None:
                self._begin(reply.header)
            elif kind in self._arrays:
                self._arrays[kind].take(getattr(reply, kind))
            elif self.header is None:
                raise _report_missing_header()
            else:
                raise errors.InternalError(f"the server sent {kind or 'an empty message'} out of turn")
        except tensors.TensorError as error:
            raise _report_damage(error) from error

    def finished(self) -> tuple[Any, Any]:
        """Return the header and the arrays by name, once the call has ended."""
        if self.header is None:
            raise _report_missing_header()
        try:
            return self.header, {name: np.asarray(one.array()) for name, one in self._arrays.items()}
        except tensors.TensorError as error:
            raise _report_damage(error) from error

    def _begin(self, header: Any) -> None:
        for name, dtype in self._dtypes.items():
            announced = tensors.read_header(name, getattr(header, name), (dtype,))
            self._check_shape(name, announced[1])
            self._arrays[name] = tensors.Assembler(name, *announced)
        self.header = header

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raise InternalError where an array is announced in a shape that it cannot have."""


class Prediction(GatheredArrays):
    """Puts together the header and the output of an answer for a number of rows; InternalError for a damaged answer."""

    def __init__(self, rows: int, name: str = "output") -> None:
        """`name` is that of the array in the replies."""
        super().__init__(**{name: "float64"})
        self._rows = rows

    def finished(self) -> tuple[Any, Any]:
        """Return the header and the output, once the call has ended."""
        header, arrays = super().finished()
        (output,) = arrays.values()
        return header, output

    def _check_shape(self, name: str, shape: tuple[int, ...]) -> None:
        if shape[0] != self._rows:
            raise errors.InternalError(f"the server's {name} has shape {shape} for {self._rows} rows")


def reshape_array(name: str, array: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return an array of an answer in the shape that it must have; InternalError where its size is another."""
    if array.size != math.prod(shape):
        raise errors.InternalError(f"the server's {name} has shape {array.shape}, where {shape} was expected")
    return array.reshape(shape)


def _report_missing_header() -> errors.InternalError:
    return errors.InternalError("the server's answer does not start with its header")


def _report_damage(error: tensors.TensorError) -> errors.InternalError:
    return errors.InternalError(f"the server's answer is damaged: {error}")


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
