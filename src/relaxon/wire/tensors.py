"""NumPy arrays as the messages of `tensor.proto`: split into chunks, reassembled, and checked on the way."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import tensor_pb2 as pb
from relaxon.wire.shared_memory import SharedFile

CHUNK_BYTES = 1 << 20
"""Bytes of a chunk: the fastest of 1, 4 and 16 MiB, and well below gRPC's default limit of 4 MiB per message."""

DTYPES: dict[pb.DataType.ValueType, np.dtype[np.generic]] = {
    pb.DataType.Value(f"DATA_TYPE_{name.upper()}"): np.dtype(np.dtype(name).newbyteorder("<").str)
    for name in ("float32", "float64", "uint8", "int32", "int64", "complex64", "complex128")
}
FLOATS = ("float32", "float64")
"""The dtypes of most arrays that a request may carry."""
SIDES = (*FLOATS, "complex64", "complex128")
"""The dtypes of right-hand sides and initial guesses."""
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_NAMES = {dtype: dtype.name for dtype in DTYPES.values()}  # NumPy composes the name anew on each access


class TensorError(ValueError):
    """An array that does not match its header. `field` names the argument, with which the message starts."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def describe_array(array: NDArray[np.generic]) -> pb.TensorHeader:
    """Return the header of an array with one of `DTYPES`, in either byte order."""
    return pb.TensorHeader(dtype=_CODES[array.dtype.newbyteorder("<")], shape=array.shape)


def split_array(
    array: NDArray[np.generic], chunk_bytes: int = CHUNK_BYTES, *, checksum: bool = True
) -> Iterator[pb.TensorPart]:
    """Yield an array's parts: its bytes in chunks, then its end, which carries a checksum if `checksum` is True.

    A C-contiguous, little-endian array is never copied as a whole.
    """
    for piece in split_bytes(array, chunk_bytes, checksum=checksum):
        yield pb.TensorPart(chunk=bytes(piece)) if isinstance(piece, memoryview) else piece


def split_bytes(
    array: NDArray[np.generic], chunk_bytes: int = CHUNK_BYTES, *, checksum: bool = True
) -> Iterator[memoryview | pb.TensorPart]:
    """Yield the bytes of an array chunk by chunk, then its end."""
    octets = view_bytes(array)
    found = 0
    for start in range(0, len(octets), chunk_bytes):
        chunk = octets[start : start + chunk_bytes]
        if checksum:
            found = zlib.crc32(chunk, found)
        yield chunk
    yield pb.TensorPart(end=pb.TensorEnd(crc32=found if checksum else None))


def make_shared_part(offset: int) -> pb.TensorPart:
    """Return the single part of an array that lies at an offset of the shared file."""
    return pb.TensorPart(shared=pb.SharedArray(offset=offset))


def view_bytes(array: NDArray[np.generic]) -> memoryview:
    """Return an array's bytes as they travel; no copy if it is C-contiguous and little-endian."""
    wire = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return wire.reshape(-1).view(np.uint8).data


def read_header(
    field: str, header: pb.TensorHeader, dtypes: Sequence[str] = FLOATS
) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    """Return the NumPy dtype and the shape that a header announces. Nothing is allocated; sizes are Python integers.

    Raises
    ------
    TensorError : if the type is not one of `dtypes`, or the shape does not have 1 to 3 axes of at least one entry each.
    """
    dtype = DTYPES.get(header.dtype)
    if dtype is None or _NAMES[dtype] not in dtypes:
        came = "none" if header.dtype == pb.DATA_TYPE_UNSPECIFIED else dtype or f"the unknown type {header.dtype}"
        raise TensorError(field, f"must be an array of {' or '.join(dtypes)}, got dtype {came}")
    shape = tuple(header.shape)
    if not 1 <= len(shape) <= 3:
        raise TensorError(field, f"must have 1 to 3 axes, got {len(shape)}")
    if min(shape) < 1:
        raise TensorError(field, f"must have at least one entry on every axis, got shape {shape}")
    return dtype, shape


@dataclass(frozen=True, slots=True)
class AnnouncedArray:
    """An array that a header announces and that has not arrived yet; `name` is the argument it belongs to."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, name: str, header: pb.TensorHeader, dtypes: Sequence[str] = FLOATS) -> AnnouncedArray:
        """Read the array's header; TensorError, as `read_header`, if no such array is accepted."""
        return cls(name, *read_header(name, header, dtypes))

    @property
    def size(self) -> int:
        """The number of entries."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.size * self.dtype.itemsize


def check_range(field: str, offset: int, size: int, file: SharedFile) -> None:
    """Raise TensorError if an array of `size` bytes at the offset does not fit into the file."""
    if not 0 <= offset <= file.size - size:
        raise TensorError(field, f"needs {size} bytes at offset {offset} of a shared file that has {file.size}")


class Assembler:
    """Assembles one array from its parts, which arrive in order.

    `dtype` and `shape` come from `read_header`, once the caller has checked that there is memory for them. The array
    is allocated with the first chunk.
    """

    def __init__(self, field: str, dtype: np.dtype[np.generic], shape: tuple[int, ...], checked: bool = True) -> None:
        """With `checked=False`, checksums that arrive are not compared."""
        self._field = field
        self._dtype, self._shape = dtype, shape
        self._size = math.prod(shape) * dtype.itemsize
        self._checked = checked
        self._array: NDArray[np.generic] | None = None
        self._octets = np.empty(0, np.uint8)
        self._filled = 0
        self._checksum = 0
        self.complete = False

    def take(self, part: pb.TensorPart, file: SharedFile | None = None) -> None:
        """Store one part, which may refer to an array in `file`. `complete` becomes True with the last part.

        Raises
        ------
        TensorError : if the part does not fit what was announced, or is out of order.
        """
        kind = part.WhichOneof("part")
        if kind == "shared" and file is not None:
            self.take_shared(part.shared, file)
            return
        if kind is None:
            raise TensorError(self._field, "has a part that holds neither a chunk nor an end")
        if self.complete:
            raise TensorError(self._field, "goes on after its end")
        if kind == "shared":
            raise TensorError(self._field, "is said to lie in a shared file, where none was agreed on")
        if kind == "chunk":
            self._place(part.chunk)
        else:
            self._finish(part.end)

    def take_shared(self, part: pb.SharedArray, file: SharedFile) -> None:
        """Take the array as a view of the shared file, which the other process may still write to.

        No chunk of it may have arrived before. There is no checksum, since nothing was sent.
        """
        if self._filled or self.complete:
            raise TensorError(self._field, "must come either in chunks or in the shared file")
        check_range(self._field, part.offset, self._size, file)
        self._array = file.view(part.offset, self._dtype, self._shape)
        self._filled, self.complete = self._size, True

    def array(self) -> NDArray[np.generic]:
        """Return the complete array in native byte order; TensorError if parts are missing."""
        if not self.complete or self._array is None:
            raise self.truncated()
        return self._array.astype(self._array.dtype.newbyteorder("="), copy=False)

    def truncated(self) -> TensorError:
        """Return the error for a stream that ended with the parts taken so far."""
        return TensorError(self._field, f"is incomplete: the stream ended after {self._filled} of {self._size} bytes")

    def _place(self, chunk: bytes | memoryview) -> None:
        if not chunk:
            raise TensorError(self._field, "has an empty chunk")
        end = self._filled + len(chunk)
        if end > self._size:
            raise TensorError(
                self._field, f"has too many bytes: {end} or more, where its header announces {self._size}"
            )
        if self._array is None:
            self._array = np.empty(self._shape, self._dtype)
            self._octets = self._array.reshape(-1).view(np.uint8)
        self._octets[self._filled : end] = np.frombuffer(chunk, np.uint8)
        if self._checked:
            self._checksum = zlib.crc32(chunk, self._checksum)
        self._filled = end

    def _finish(self, end: pb.TensorEnd) -> None:
        if self._filled != self._size:
            raise TensorError(
                self._field,
                f"has too few bytes: {self._filled}, where its header announces {math.prod(self._shape)} "
                f"entries in {self._size}",
            )
        if self._checked and end.HasField("crc32") and end.crc32 != self._checksum:
            raise TensorError(self._field, f"has the checksum {self._checksum:08x}, where its end says {end.crc32:08x}")
        self.complete = True
