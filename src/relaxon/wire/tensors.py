"""NumPy arrays as the messages of `tensor.proto`: cut into chunks, put together again, and checked on the way."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from relaxon.proto import tensor_pb2 as pb
from relaxon.wire.shared_memory import SharedFile

CHUNK_BYTES = 1 << 20
"""The fastest of 1, 4 and 16 MiB, and well below gRPC's default limit of 4 MiB a message."""

DTYPES: dict[pb.DataType.ValueType, np.dtype[np.generic]] = {
    pb.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    pb.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    pb.DATA_TYPE_UINT8: np.dtype("u1"),
    pb.DATA_TYPE_INT32: np.dtype("<i4"),
    pb.DATA_TYPE_INT64: np.dtype("<i8"),
    pb.DATA_TYPE_COMPLEX64: np.dtype("<c8"),
    pb.DATA_TYPE_COMPLEX128: np.dtype("<c16"),
}
SIDES = ("float32", "float64", "complex64", "complex128")
"""Of right-hand sides and starts."""
_CODES = {dtype: code for code, dtype in DTYPES.items()}
_NAMES = {dtype: dtype.name for dtype in DTYPES.values()}  # which NumPy puts together anew each time


class TensorError(ValueError):
    """An array that did not arrive as announced; `field` is its argument, which the message starts with."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}")
        self.field = field


def header_of(array: NDArray[np.generic]) -> pb.TensorHeader:
    """The header of an array of one of `DTYPES`, in either byte order."""
    return pb.TensorHeader(dtype=_CODES[array.dtype.newbyteorder("<")], shape=array.shape)


def parts_of(
    array: NDArray[np.generic], chunk_bytes: int = CHUNK_BYTES, *, checksum: bool = True
) -> Iterator[pb.TensorPart]:
    """The parts of an array: its bytes in chunks, then its end, with a checksum unless none is wanted. No second copy
    of the whole is made where the array is C-contiguous and little-endian."""
    for piece in pieces_of(array, chunk_bytes, checksum=checksum):
        yield pb.TensorPart(chunk=bytes(piece)) if isinstance(piece, memoryview) else piece


def pieces_of(
    array: NDArray[np.generic], chunk_bytes: int = CHUNK_BYTES, *, checksum: bool = True
) -> Iterator[memoryview | pb.TensorPart]:
    """The bytes of an array's chunks, then its end."""
    octets = octets_of(array)
    found = 0
    for start in range(0, len(octets), chunk_bytes):
        chunk = octets[start : start + chunk_bytes]
        if checksum:
            found = zlib.crc32(chunk, found)
        yield chunk
    yield pb.TensorPart(end=pb.TensorEnd(crc32=found if checksum else None))


def shared_part(offset: int) -> pb.TensorPart:
    """The only part of an array that lies in the shared file."""
    return pb.TensorPart(shared=pb.SharedArray(offset=offset))


def octets_of(array: NDArray[np.generic]) -> memoryview:
    """An array's bytes as they travel; no copy where it is C-contiguous and little-endian."""
    wire = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return wire.reshape(-1).view(np.uint8).data


def checked_header(
    field: str, header: pb.TensorHeader, dtypes: Sequence[str] = ("float32", "float64")
) -> tuple[np.dtype[np.generic], tuple[int, ...]]:
    """What a header announces, as NumPy's dtype and shape. Nothing is allocated; sizes are Python integers.

    Raises
    ------
    TensorError : where the type is none of `dtypes`, or the shape has not one to three axes, each at least 1.
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


def check_range(field: str, offset: int, size: int, file: SharedFile) -> None:
    """TensorError where an array of `size` bytes does not fit into the file at the offset."""
    if not 0 <= offset <= file.size - size:
        raise TensorError(field, f"needs {size} bytes at offset {offset} of a shared file that has {file.size}")


class Assembler:
    """Takes the parts of one array in order and copies each into its place.

    `dtype` and `shape` come from `checked_header`, after the caller has found them small enough to allocate. Memory is
    taken with the first chunk.
    """

    def __init__(self, field: str, dtype: np.dtype[np.generic], shape: tuple[int, ...], checked: bool = True) -> None:
        """Checksums are compared where they come; `checked=False` leaves that out."""
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
        """Place one part, which may say where in `file` the array lies; `complete` becomes true with the last.
        TensorError where it does not fit."""
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
        """The array, of which no part may have come, is the shared file's own memory: it changes where its other owner
        writes to it. No checksum: nothing was sent."""
        if self._filled or self.complete:
            raise TensorError(self._field, "must come either in chunks or in the shared file")
        check_range(self._field, part.offset, self._size, file)
        self._array = file.view(part.offset, self._dtype, self._shape)
        self._filled, self.complete = self._size, True

    def array(self) -> NDArray[np.generic]:
        """The complete array, in this machine's byte order."""
        if not self.complete or self._array is None:
            raise self.truncated()
        return self._array.astype(self._array.dtype.newbyteorder("="), copy=False)

    def truncated(self) -> TensorError:
        """The error for a stream that ended here."""
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
