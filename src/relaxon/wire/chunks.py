"""Messages that carry an array's bytes, encoded and decoded without copies in protobuf's own memory.

On the wire they are exactly what `tensor.proto` defines. A message like `SolveRequest(b=TensorPart(chunk=...))` is two
tags and two lengths followed by the bytes. Written directly it costs one copy; protobuf makes several when encoding and
two when decoding. Protobuf decodes every message that does not have exactly this form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

from numpy.typing import NDArray

from relaxon.proto import tensor_pb2 as pb
from relaxon.wire import tensors

SMALLEST_BYTES = 1 << 12
"""Protobuf decodes messages shorter than this, where the copies do not matter."""
LONGEST_VARINT = 5
"""Bytes of the longest length prefix: it covers every message that gRPC can carry."""
LENGTH_DELIMITED = 2
"""Protobuf's wire type of messages and bytes."""
CHUNK_TAG = pb.TensorPart.DESCRIPTOR.fields_by_name["chunk"].number << 3 | LENGTH_DELIMITED
Channel = TypeVar("Channel")
Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]


class ChunkMessage:
    """Stands in for a message whose oneof `message` holds a `TensorPart` with a `chunk`; it has what callers read."""

    __slots__ = ("_kind", "_start", "raw")

    def __init__(self, kind: str, raw: bytes, start: int) -> None:
        self._kind = kind
        self._start = start
        self.raw = raw
        """The encoded message."""

    def WhichOneof(self, oneof: str) -> str:
        """Return the field of `message` that is set."""
        return self._kind

    def HasField(self, name: str) -> bool:
        """Return whether the field is set."""
        return name == self._kind

    def __getattr__(self, name: str) -> ChunkPart:
        if name != self._kind:
            raise AttributeError(name)
        return ChunkPart(memoryview(self.raw)[self._start :])


class ChunkPart:
    """Stands in for a `TensorPart` with a `chunk`."""

    __slots__ = ("chunk",)

    def __init__(self, chunk: memoryview) -> None:
        self.chunk = chunk

    def WhichOneof(self, oneof: str) -> str:
        """Return the field of `part` that is set."""
        return "chunk"

    def HasField(self, name: str) -> bool:
        """Return whether the field is set."""
        return name == "chunk"


def split_into_messages(
    kind: Any, field: str, array: NDArray[Any], *, checksum: bool = True, chunk_bytes: int = tensors.CHUNK_BYTES
) -> Iterator[Any]:
    """Yield the parts of an array, as `tensors.split_array` does, in the `field` of messages of class `kind`.

    Each message holds a copy of its bytes by the time it is yielded.
    """
    tag = kind.DESCRIPTOR.fields_by_name[field].number << 3 | LENGTH_DELIMITED
    for piece in tensors.split_bytes(array, chunk_bytes, checksum=checksum):
        if not isinstance(piece, memoryview):
            yield kind(**{field: piece})
            continue
        inner = bytes((CHUNK_TAG,)) + _varint(len(piece))
        outer = _varint(tag) + _varint(len(inner) + len(piece)) + inner
        yield ChunkMessage(field, b"".join((outer, piece)), len(outer))


def make_encoder(encode: Encode) -> Encode:
    """Return a serializer that also takes `ChunkMessage`s."""

    def encode_any(message: Any) -> bytes:
        return message.raw if isinstance(message, ChunkMessage) else encode(message)

    return encode_any


def make_decoder(decode: Decode) -> Decode:
    """Return a deserializer that gives a `ChunkMessage` wherever one can stand in; `decode` is a `FromString`."""
    tags = _find_tags(getattr(decode, "__self__", None))
    if not tags:
        return decode

    def decode_any(raw: bytes) -> Any:
        found = _decode_chunk(raw, tags) if len(raw) >= SMALLEST_BYTES else None
        return decode(raw) if found is None else found

    return decode_any


def wrap_channel(channel: Channel) -> Channel:
    """Wrap a channel, blocking or asyncio, for a stub whose calls send and receive `ChunkMessage`s."""
    return cast(Channel, _ChunkChannel(channel))


class _ChunkChannel:
    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def __getattr__(self, name: str) -> Callable[..., Any]:
        create = getattr(self._channel, name)

        def multicallable(path: str, request_serializer: Encode, response_deserializer: Decode, **options: Any) -> Any:
            return create(
                path,
                request_serializer=make_encoder(request_serializer),
                response_deserializer=make_decoder(response_deserializer),
                **options,
            )

        return multicallable


def _find_tags(message: Any) -> dict[int, str]:
    """Return the fields of a message's oneof `message` that are tensor parts, by their tag on the wire."""
    descriptor = getattr(message, "DESCRIPTOR", None)
    oneof = None if descriptor is None else descriptor.oneofs_by_name.get("message")
    if descriptor is None or oneof is None or len(descriptor.fields) != len(oneof.fields):
        return {}
    parts = (field for field in oneof.fields if field.message_type is pb.TensorPart.DESCRIPTOR)
    # Tags of a single byte only, which all of ours are.
    return {field.number << 3 | LENGTH_DELIMITED: field.name for field in parts if field.number < 16}


def _decode_chunk(raw: bytes, tags: dict[int, str]) -> ChunkMessage | None:
    """Return the message if it is a field of `tags` that holds a chunk and nothing follows; None otherwise."""
    kind = tags.get(raw[0])
    if kind is None:
        return None
    start = _skip_length(raw, 1)
    if start is None or raw[start] != CHUNK_TAG:
        return None
    start = _skip_length(raw, start + 1)
    return None if start is None else ChunkMessage(kind, raw, start)


def _skip_length(raw: bytes, at: int) -> int | None:
    """Return where the bytes begin whose length is encoded at `at`; None if they are empty or do not end with `raw`."""
    length = shift = 0
    for position in range(at, min(at + LONGEST_VARINT, len(raw))):
        octet = raw[position]
        length |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            return position + 1 if 0 < length == len(raw) - position - 1 else None
    return None


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number >= 0x80:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
