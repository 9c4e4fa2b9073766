"""Tables of numbers, settings and predictions, as they travel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.core import errors, validation
from relaxon.core.masked import plain_array
from relaxon.wire import tensors


def table(name: str, value: ArrayLike, missing: bool) -> NDArray[Any]:
    """Rows and columns of numbers as float32 or float64; infinities, and NaN unless `missing`, are refused."""
    array = plain_array(name, value)
    if array.dtype.kind in "iub":
        array = array.astype(np.float64)
    if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
        raise TypeError(f"{name} must be an array of float32, float64 or integers, got dtype {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have two axes, rows and columns, and at least one of each, got {array.shape}")
    bad = int(np.count_nonzero(np.isinf(array) if missing else ~np.isfinite(array)))
    if bad:
        kind = "infinite" if missing else "NaN or infinite"
        raise ValueError(f"{name} must be finite, got {bad} {kind} of {array.size} entries")
    return array


def sent(message: Any, header: Any, arrays: Mapping[str, NDArray[Any] | None]) -> Iterator[Any]:
    """The messages of a call that streams: its header, then each array's parts under the array's name."""
    yield message(header=header)
    for name, array in arrays.items():
        for part in () if array is None else tensors.parts_of(array):
            yield message(**{name: part})


class Prediction:
    """Puts a prediction's header and its output for so many rows together; InternalError for a damaged answer."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._header: Any = None
        self._output: tensors.Assembler | None = None

    def take(self, reply: Any) -> None:
        """Place a reply."""
        try:
            if self._output is not None:
                self._output.take(reply.output)
            elif reply.WhichOneof("message") == "header":
                self._begin(reply.header)
            else:
                raise errors.InternalError("the server's answer does not start with its header")
        except tensors.TensorError as error:
            raise damaged(error) from error

    def finished(self) -> tuple[Any, NDArray[np.float64]]:
        """The header and the output, once the call has ended."""
        if self._output is None:
            raise errors.InternalError("the server's answer does not start with its header")
        try:
            return self._header, np.asarray(self._output.array(), np.float64)
        except tensors.TensorError as error:
            raise damaged(error) from error

    def _begin(self, header: Any) -> None:
        dtype, shape = tensors.checked_header("output", header.output, ("float64",))
        if shape[0] != self._rows:
            raise errors.InternalError(f"the server's output has shape {shape} for {self._rows} rows")
        self._header = header
        self._output = tensors.Assembler("output", dtype, shape)


def damaged(error: tensors.TensorError) -> errors.InternalError:
    return errors.InternalError(f"the server's answer is damaged: {error}")


def plain(name: str, value: object, annotation: str) -> int | float | str | bool:
    """A setting as its field takes it; the server knows which values are sound."""
    if annotation.startswith("int"):
        return validation.whole_number(name, value)
    if annotation.startswith("float"):
        return validation.finite_float(name, value)
    if annotation.startswith("bool"):
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {value!r}")
        return bool(value)
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {type(value).__name__}")
    return value
