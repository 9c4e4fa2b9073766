"""Messages that carry an array's bytes, made and read without a copy in protobuf's own memory.

On the wire they are what `tensor.proto` says. A message like `SolveRequest(b=TensorPart(chunk=...))` is two tags and
two lengths before the bytes: written so it costs one copy, where protobuf makes several on the way out and two on the
way in. Whatever is not exactly of that form is read by protobuf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from relaxon.proto import tensor_pb2 as pb
from relaxon.wire import tensors

SMALLEST_BYTES = 1 << 12
"""A message shorter than this is protobuf's."""
LONGEST_VARINT = 5
"""Bytes; gRPC's messages are not as long as that can say."""
LENGTH_DELIMITED = 2
"""The wire type of messages and bytes."""
CHUNK_TAG = pb.TensorPart.DESCRIPTOR.fields_by_name["chunk"].number << 3 | LENGTH_DELIMITED
Channel = TypeVar("Channel")
Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]


class ChunkMessage:
    """Stands for a message whose oneof `message` has a `TensorPart` with a `chunk`, as far as that is asked for."""

    __slots__ = ("_kind", "_start", "raw")

    def __init__(self, kind: str, raw: bytes, start: int) -> None:
        self._kind = kind
        self._start = start
        self.raw = raw
        """As it travels."""

    def WhichOneof(self, oneof: str) -> str:
        """The field of `message` that is there."""
        return self._kind

    def HasField(self, name: str) -> bool:
        """Whether that field is there."""
        return name == self._kind

    def __getattr__(self, name: str) -> ChunkPart:
        if name != self._kind:
            raise AttributeError(name)
        return ChunkPart(memoryview(self.raw)[self._start :])


class ChunkPart:
    """Stands for a `TensorPart` with a `chunk`."""

    __slots__ = ("chunk",)

    def __init__(self, chunk: memoryview) -> None:
        self.chunk = chunk

    def WhichOneof(self, oneof: str) -> str:
        """The field of `part` that is there."""
        return "chunk"

    def HasField(self, name: str) -> bool:
        """Whether that field is there."""
        return name == "chunk"


def messages_of(
    kind: Any, field: str, array: NDArray[Any], *, checksum: bool = True, chunk_bytes: int = tensors.CHUNK_BYTES
) -> Iterator[Any]:
    """The parts of an array, as `tensors.parts_of`, in messages of a class. Each has its bytes when it is given out."""
    tag = kind.DESCRIPTOR.fields_by_name[field].number << 3 | LENGTH_DELIMITED
    for piece in tensors.pieces_of(array, chunk_bytes, checksum=checksum):
        if not isinstance(piece, memoryview):
            yield kind(**{field: piece})
            continue
        inner = bytes((CHUNK_TAG,)) + _varint(len(piece))
        outer = _varint(tag) + _varint(len(inner) + len(piece)) + inner
        yield ChunkMessage(field, b"".join((outer, piece)), len(outer))


def encoder(encode: Encode) -> Encode:
    """A serializer that takes these messages as well."""

    def encoded(message: Any) -> bytes:
        return message.raw if isinstance(message, ChunkMessage) else encode(message)

    return encoded


def decoder(decode: Decode) -> Decode:
    """A deserializer, of a message's `FromString`, that gives these for the messages that they can stand for."""
    kinds = _kinds(getattr(decode, "__self__", None))
    if not kinds:
        return decode

    def decoded(raw: bytes) -> Any:
        found = _read(raw, kinds) if len(raw) >= SMALLEST_BYTES else None
        return decode(raw) if found is None else found

    return decoded


def chunked(channel: Channel) -> Channel:
    """A channel, of either client, for a stub whose calls send and receive these messages."""
    return cast(Channel, _ChunkChannel(channel))


class _ChunkChannel:
    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Callable[..., Any]:
        made = getattr(self._channel, name)

        def multicallable(path: str, request_serializer: Encode, response_deserializer: Decode, **options: Any) -> Any:
            return made(
                path,
                request_serializer=encoder(request_serializer),
                response_deserializer=decoder(response_deserializer),
                **options,
            )

        return multicallable


def _kinds(message: Any) -> dict[int, str]:
    """The fields of a message's oneof `message` that are tensor parts, by the tag that they have on the wire."""
    descriptor = getattr(message, "DESCRIPTOR", None)
    oneof = None if descriptor is None else descriptor.oneofs_by_name.get("message")
    if descriptor is None or oneof is None or len(descriptor.fields) != len(oneof.fields):
        return {}
    parts = (one for one in oneof.fields if one.message_type is pb.TensorPart.DESCRIPTOR)
    # Of one byte, as all of them are.
    return {one.number << 3 | LENGTH_DELIMITED: one.name for one in parts if one.number < 16}


def _read(raw: bytes, kinds: dict[int, str]) -> ChunkMessage | None:
    """The message, where it is a field of `kinds` that is a chunk, each to the end."""
    kind = kinds.get(raw[0])
    if kind is None:
        return None
    start = _after_length(raw, 1)
    if start is None or raw[start] != CHUNK_TAG:
        return None
    start = _after_length(raw, start + 1)
    return None if start is None else ChunkMessage(kind, raw, start)


def _after_length(raw: bytes, at: int) -> int | None:
    """Where the bytes begin whose length is said at a place, if they go to the end and are not none."""
    length = shift = 0
    for position in range(at, min(at + LONGEST_VARINT, len(raw))):
        octet = raw[position]
        length |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            return position + 1 if 0 < length == len(raw) - position - 1 else None
    return None


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
