"""Messages that carry an array's bytes: on the wire and to their reader what protobuf's are."""

import random

import numpy as np
import pytest
from google.protobuf.message import DecodeError

from relaxon.proto import linear_pb2, poisson_pb2
from relaxon.proto.tensor_pb2 import SharedArray, TensorEnd, TensorPart
from relaxon.wire import chunks, tensors

KINDS = [
    (poisson_pb2.CreateGridRequest, ("cells", "coefficient")),
    (poisson_pb2.UpdateGridRequest, ("cells", "coefficient")),
    (poisson_pb2.SolveRequest, ("b", "x0")),
    (poisson_pb2.StepsRequest, ("b", "x0", "cells", "coefficient")),
    (poisson_pb2.SolveReply, ("x", "residuals")),
    (linear_pb2.CreateMatrixRequest, ("indptr", "indices", "data")),
]
EACH = [(kind, field) for kind, fields in KINDS for field in fields]
LENGTHS = (1, 127, 128, 4095, 4096, 16383, 16384, 100_001)


@pytest.mark.parametrize(("kind", "field"), EACH)
@pytest.mark.parametrize("checksum", [True, False])
def test_what_is_sent_is_what_protobuf_would_send(kind, field, checksum):
    encode = chunks.encoder(kind.SerializeToString)
    for length in LENGTHS:
        array = np.random.default_rng(length).integers(0, 256, length).astype(np.uint8)
        for size in (length, 5000):
            ours = chunks.messages_of(kind, field, array, checksum=checksum, chunk_bytes=size)
            theirs = tensors.parts_of(array, size, checksum=checksum)
            for one, part in zip(ours, theirs, strict=True):
                assert encode(one) == kind(**{field: part}).SerializeToString()


@pytest.mark.parametrize("array", [np.arange(24.0).reshape(4, 6).T, np.arange(5, dtype=">f8"), np.arange(9)[::2]])
def test_arrays_in_any_order_are_sent_in_the_wire_s(array):
    first, end = chunks.messages_of(poisson_pb2.SolveRequest, "b", array)
    assert bytes(first.b.chunk) == np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()
    assert end.b.WhichOneof("part") == "end"


@pytest.mark.parametrize(("kind", "field"), EACH)
def test_what_is_read_is_what_protobuf_would_read(kind, field):
    decode = chunks.decoder(kind.FromString)
    for length in LENGTHS:
        message = kind(**{field: TensorPart(chunk=bytes(range(256)) * (length // 256) + bytes(length % 256))})
        found = decode(message.SerializeToString())
        assert isinstance(found, chunks.ChunkMessage) == (length >= chunks.SMALLEST_BYTES - 3)
        assert found.WhichOneof("message") == field
        assert found.HasField(field)
        part = getattr(found, field)
        assert part.WhichOneof("part") == "chunk"
        assert part.HasField("chunk")
        assert not part.HasField("shared")
        assert bytes(part.chunk) == getattr(message, field).chunk
    for other in (TensorPart(end=TensorEnd(crc32=3)), TensorPart(shared=SharedArray(offset=7)), TensorPart()):
        assert decode(kind(**{field: other}).SerializeToString()) == kind(**{field: other})


def read(decode, raw):
    """What comes of it, in a form that can be compared."""
    try:
        found = decode(raw)
    except DecodeError:
        return "no message"
    kind = found.WhichOneof("message")
    part = getattr(found, kind) if kind in ("b", "x0") else None
    return kind, part and part.WhichOneof("part"), part and bytes(part.chunk)


def test_damaged_messages_are_read_as_protobuf_reads_them():
    """Bytes changed, cut off, put in and put on, at and around the tags and lengths above all."""
    chance = random.Random(1)
    kind = poisson_pb2.SolveRequest
    decode = chunks.decoder(kind.FromString)
    good = kind(b=TensorPart(chunk=chance.randbytes(5000))).SerializeToString()
    other = kind(x0=TensorPart(chunk=chance.randbytes(4500))).SerializeToString()
    ours = 0
    for _ in range(20_000):
        raw = bytearray(chance.choice((good, other)))
        for _ in range(chance.randint(1, 3)):
            at = chance.choice((chance.randrange(8), chance.randrange(len(raw))))
            match chance.randrange(5):
                case 0:
                    raw[at] ^= 1 << chance.randrange(8)
                case 1:
                    del raw[at : at + chance.randint(1, 3)]
                case 2:
                    raw[at:at] = chance.randbytes(chance.randint(1, 3))
                case 3:
                    raw += chance.choice((b"\x00", b"\x0a\x00", good, other, chance.randbytes(4)))
                case 4:
                    raw[at : at + 1] = bytes((raw[at] | 0x80, 0))  # a length in more bytes than it needs
        ours += chunks._read(bytes(raw), {18: "b", 26: "x0"}) is not None
        assert read(decode, bytes(raw)) == read(kind.FromString, bytes(raw)), raw[:12].hex()
    assert ours > 1000
    for length in range(12):
        for _ in range(300):
            raw = bytes(chance.choice((18, 10, 0x80, 0xFF, chance.randrange(256))) for _ in range(length)) + bytes(4096)
            assert read(decode, raw) == read(kind.FromString, raw), raw[:12].hex()


def test_messages_of_other_kinds_are_protobuf_s_own():
    assert chunks.decoder(poisson_pb2.Grid.FromString) == poisson_pb2.Grid.FromString
    with pytest.raises(AttributeError):
        _ = chunks.ChunkMessage("b", bytes(10), 3).x0
