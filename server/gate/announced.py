"""Arrays that a request's header announces, checked before memory is taken for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from relaxon.proto import tensor_pb2
from relaxon.server.gate import errors
from relaxon.wire import tensors

FLOATS = ("float32", "float64")


@contextmanager
def refusing() -> Iterator[None]:
    """INVALID_ARGUMENT, naming the argument, for an array of the caller's that the block finds to be wrong."""
    try:
        yield
    except tensors.TensorError as error:
        raise errors.invalid(error.field, str(error)) from None


@dataclass(frozen=True, slots=True)
class AnnouncedArray:
    """An array that is yet to come; `name` is the argument that it is."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str, header: tensor_pb2.TensorHeader, dtypes: tuple[str, ...] = FLOATS) -> AnnouncedArray:
        """From its header; INVALID_ARGUMENT naming the argument where no array can be like that."""
        with refusing():
            return cls(name, *tensors.checked_header(name, header, dtypes))
