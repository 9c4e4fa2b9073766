"""Arrays survive the wire whole, or are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from relaxon.proto import tensor_pb2 as pb
from relaxon.wire import tensors

DTYPES = st.sampled_from(["<f4", "<f8", ">f8", "u1"])
ARRAYS = DTYPES.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=1, max_dims=3, max_side=9)))


def assembler(array):
    dtype, shape = tensors.checked_header("b", tensors.header_of(array), ("float32", "float64", "uint8"))
    return tensors.Assembler("b", dtype, shape)


def received(array, parts):
    incoming = assembler(array)
    for part in parts:
        incoming.take(pb.TensorPart.FromString(part.SerializeToString()))
    return incoming.array()


@given(ARRAYS, st.integers(1, 100), st.booleans())
def test_any_array_in_chunks_of_any_size_arrives_bit_for_bit(array, chunk_bytes, transposed):
    if transposed:
        array = array.T  # not contiguous
    came = received(array, tensors.parts_of(array, chunk_bytes))
    assert came.dtype == array.dtype.newbyteorder("=")
    assert came.shape == array.shape
    assert came.tobytes() == array.astype(array.dtype.newbyteorder("=")).tobytes()


@given(ARRAYS, st.integers(1, 100), st.data())
def test_a_changed_lost_or_doubled_part_is_noticed(array, chunk_bytes, data):
    parts = list(tensors.parts_of(array, chunk_bytes))
    which = data.draw(st.integers(0, len(parts) - 2))
    damage = data.draw(st.sampled_from(["flip", "drop", "double"]))
    if damage == "flip":
        chunk = bytearray(parts[which].chunk)
        chunk[data.draw(st.integers(0, len(chunk) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        parts[which] = pb.TensorPart(chunk=bytes(chunk))
    elif damage == "drop":
        del parts[which]
    else:
        parts.insert(which, parts[which])
    with pytest.raises(tensors.TensorError, match=r"^b has (the checksum|too)"):
        received(array, parts)


@given(ARRAYS, st.integers(1, 100), st.data())
def test_a_stream_cut_anywhere_is_incomplete(array, chunk_bytes, data):
    parts = list(tensors.parts_of(array, chunk_bytes))
    kept = parts[: data.draw(st.integers(0, len(parts) - 1))]
    with pytest.raises(tensors.TensorError, match=r"^b is incomplete: the stream ended after \d+ of \d+ bytes"):
        received(array, kept)


def test_chunks_stay_below_the_default_message_limit():
    array = np.zeros(3 * tensors.CHUNK_BYTES + 8, np.uint8)
    sizes = [len(part.SerializeToString()) for part in tensors.parts_of(array)]
    assert len(sizes) == 5
    assert max(sizes) < 4 * 2**20


def test_nothing_may_follow_the_end():
    array = np.arange(3.0)
    parts = list(tensors.parts_of(array))
    with pytest.raises(tensors.TensorError, match="goes on after its end"):
        received(array, [*parts, parts[0]])


@pytest.mark.parametrize("part", [pb.TensorPart(), pb.TensorPart(chunk=b"")])
def test_a_part_without_content_is_refused(part):
    with pytest.raises(tensors.TensorError):
        assembler(np.arange(3.0)).take(part)


@pytest.mark.parametrize(
    ("dtype", "shape", "told"),
    [
        (pb.DATA_TYPE_UNSPECIFIED, [3], "b must be an array of float32 or float64, got dtype none"),
        (77, [3], "unknown type 77"),
        (pb.DATA_TYPE_UINT8, [3], "got dtype uint8"),
        (pb.DATA_TYPE_FLOAT64, [], "1 to 3 axes, got 0"),
        (pb.DATA_TYPE_FLOAT64, [1] * 4, "1 to 3 axes, got 4"),
        (pb.DATA_TYPE_FLOAT64, [3, 0], r"got shape \(3, 0\)"),
        (pb.DATA_TYPE_FLOAT64, [-1, -8], r"got shape \(-1, -8\)"),
    ],
)
def test_an_impossible_header_is_refused(dtype, shape, told):
    with pytest.raises(tensors.TensorError, match=told):
        tensors.checked_header("b", pb.TensorHeader(dtype=dtype, shape=shape))
