"""A caller's mistakes over the raw stub, past the client's own checks: the status, and the field that it names."""

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from refusals import failed_with, refused_field

from relaxon.proto import poisson_pb2 as pb
from relaxon.proto.tensor_pb2 import DATA_TYPE_FLOAT64, DATA_TYPE_UINT8, TensorEnd, TensorHeader, TensorPart
from relaxon.wire import tensors

CELLS = np.zeros((4, 5), np.uint8)
DEADLINE = 20


def grid_header(**changes):
    return pb.GridHeader(**{"cells": tensors.header_of(CELLS), **changes})


def cells_parts(cells=CELLS):
    return [pb.CreateGridRequest(cells=part) for part in tensors.parts_of(cells)]


def create(stub, header=None, parts=None):
    first = pb.CreateGridRequest(header=header or grid_header())
    return stub.CreateGrid(iter([first, *(cells_parts() if parts is None else parts)]), timeout=DEADLINE)


def float_header(*shape):
    return TensorHeader(dtype=DATA_TYPE_FLOAT64, shape=shape)


N, P = pb.BOUNDARY_NEUMANN, pb.BOUNDARY_PERIODIC
BAD_GRIDS = {
    "negative spacing": ({"spacing": [-1.0]}, "spacing", "greater than 0"),
    "one bad spacing of two": ({"spacing": [1.0, float("nan")]}, "spacing[1]", "finite"),
    "three spacings in 2-D": ({"spacing": [1.0] * 3}, "spacing", "one number or 2"),
    "unknown boundary": ({"boundary": [pb.AxisBoundary(low=N)]}, "boundary[0]", "Neumann, Dirichlet or periodic"),
    "half periodic": ({"boundary": [pb.AxisBoundary(low=N, high=P)]}, "boundary[0]", "both sides or on neither"),
    "three boundaries in 2-D": ({"boundary": [pb.AxisBoundary(low=N, high=N)] * 3}, "boundary", "2 entries"),
    "no cells": ({"cells": None}, "cells", "uint8"),
    "float cells": ({"cells": float_header(4, 5)}, "cells", "uint8"),
    "one axis": ({"cells": TensorHeader(dtype=DATA_TYPE_UINT8, shape=[4])}, "cells", "2 or 3 axes"),
    "negative shape": ({"cells": TensorHeader(dtype=DATA_TYPE_UINT8, shape=[-4, -5])}, "cells", "(-4, -5)"),
    "product overflows 64 bits": (
        {"cells": TensorHeader(dtype=DATA_TYPE_UINT8, shape=[2**62, 2**62, 16])},
        "cells",
        "at most",
    ),
    "coefficient of another shape": ({"coefficient": [float_header(4, 6)]}, "coefficient", "(4, 5)"),
    "cell values for faces": ({"coefficient": [float_header(4, 5)] * 2}, "coefficient[0]", "(5, 5)"),
    "three coefficients in 2-D": ({"coefficient": [float_header(4, 5)] * 3}, "coefficient", "3 arrays"),
}


@pytest.mark.parametrize("name", BAD_GRIDS)
def test_a_bad_grid_header_is_refused_before_the_upload(stub, server, name):
    changes, field, words = BAD_GRIDS[name]

    def call():
        return create(stub, grid_header(**changes), parts=[])

    came, description = refused_field(call)
    assert came == field
    assert words in description
    assert len(server.sessions) == 0


END = TensorEnd(crc32=0)
BAD_CELLS = {
    "truncated": (cells_parts()[:-1], "cells", "incomplete: the stream ended after 20 of 20 bytes"),
    "nothing": ([], "cells", "after 0 of 20 bytes"),
    "too few": ([pb.CreateGridRequest(cells=TensorPart(end=END))], "cells", "too few bytes"),
    "too many": (cells_parts(np.zeros(21, np.uint8)), "cells", "too many bytes"),
    "wrong checksum": (
        [*cells_parts()[:-1], pb.CreateGridRequest(cells=TensorPart(end=END))],
        "cells",
        "checksum",
    ),
    "coefficient before cells": (
        [pb.CreateGridRequest(coefficient=TensorPart(chunk=b"1"))],
        "cells",
        "complete before coefficient",
    ),
    "two headers": ([pb.CreateGridRequest(header=grid_header())], "cells", "complete before header"),
    "empty message": ([pb.CreateGridRequest()], "cells", "an empty message"),
    "more than announced": ([*cells_parts(), *cells_parts()], "cells", "after all announced arrays"),
    "unknown cell type": (cells_parts(np.full((4, 5), 3, np.uint8)), "cells", "got the value 3"),
    "no fluid": (cells_parts(np.ones((4, 5), np.uint8)), "cells", "at least one FLUID"),
}


@pytest.mark.parametrize("name", BAD_CELLS)
def test_bad_cells_are_refused_and_nothing_is_kept(stub, server, name):
    parts, field, words = BAD_CELLS[name]
    came, description = refused_field(lambda: create(stub, parts=parts))
    assert came == field
    assert words in description
    assert len(server.sessions) == 0


@pytest.mark.parametrize(("bad", "words"), [(-1.0, "at least 0"), (np.nan, "finite")])
def test_a_coefficient_must_not_be_negative_and_is_named_by_its_axis(stub, bad, words):
    faces = [np.ones((5, 5)), np.full((4, 6), bad)]
    parts = [pb.CreateGridRequest(coefficient=part) for face in faces for part in tensors.parts_of(face)]
    header = grid_header(coefficient=[tensors.header_of(face) for face in faces])
    came, description = refused_field(lambda: create(stub, header, [*cells_parts(), *parts]))
    assert (came, words in description) == ("coefficient[1]", True)


B = np.zeros((4, 5))
B[0, 0], B[3, 4] = 1.0, -1.0


def b_parts(b=B):
    return [pb.SolveRequest(b=part) for part in tensors.parts_of(b)]


def solve(stub, grid_id, parts=None, first=None, **changes):
    fields = {"grid_id": grid_id, "solver": "damped", "b": tensors.header_of(B), **changes}
    first = pb.SolveRequest(header=pb.SolveHeader(**fields)) if first is None else first
    return list(stub.Solve(iter([first, *(b_parts() if parts is None else parts)]), timeout=DEADLINE))


BAD_SOLVES = {
    "unknown solver": ({"solver": "mgcg"}, "solver", "did you mean"),
    "no solver": ({"solver": ""}, "solver", "must be one of"),
    "rtol 0": ({"rtol": 0.0}, "rtol", "greater than 0"),
    "negative rtol": ({"rtol": -1e-6}, "rtol", "greater than 0"),
    "rtol NaN": ({"rtol": float("nan")}, "rtol", "finite"),
    "negative atol": ({"atol": -1.0}, "atol", "at least 0"),
    "no iterations": ({"max_iterations": 0}, "max_iterations", "at least 1"),
    "unknown inconsistent": ({"inconsistent": 9}, "inconsistent", "got 9"),
    "no b": ({"b": None}, "b", "float32 or float64"),
    "b of another shape": ({"b": float_header(5, 4)}, "b", "(4, 5) or be packed with shape (20,)"),
    "b too large to allocate": ({"b": float_header(2**40, 2**22)}, "b", "(4, 5)"),
    "x0 of another shape": ({"x0": float_header(3)}, "x0", "(4, 5)"),
}


@pytest.mark.parametrize("name", BAD_SOLVES)
def test_a_bad_solve_header_is_refused_before_the_upload(stub, damped, name):
    changes, field, words = BAD_SOLVES[name]
    grid = create(stub)
    came, description = refused_field(lambda: solve(stub, grid.id, parts=[], **changes))
    assert came == field
    assert words in description
    assert damped.prepared == 0


BAD_SIDES = {
    "NaN": (b_parts(np.where(B == 1, np.nan, B)), "b", "must be finite, got 1 NaN"),
    "infinity": (b_parts(np.where(B == 1, np.inf, B)), "b", "must be finite, got 1 NaN or infinite of 20"),
    "inconsistent": (b_parts(np.abs(B)), "b", "not in the range"),
    "truncated": (b_parts()[:-1], "b", "incomplete"),
    "too many": (b_parts(np.zeros(21)), "b", "too many bytes"),
    "x0 for b": ([pb.SolveRequest(x0=TensorPart(chunk=b"1"))], "b", "complete before x0"),
    "cancel for b": ([pb.SolveRequest(cancel=pb.Cancel())], "b", "complete before cancel"),
}


@pytest.mark.parametrize("name", BAD_SIDES)
def test_a_bad_right_hand_side_is_refused(stub, damped, name):
    parts, field, words = BAD_SIDES[name]
    grid = create(stub)
    came, description = refused_field(lambda: solve(stub, grid.id, parts))
    assert came == field
    assert words in description
    assert damped.iterations == 0


def test_a_start_with_nan_is_refused_as_x0(stub, damped):
    x0 = np.full(B.shape, np.nan)
    parts = [*b_parts(), *(pb.SolveRequest(x0=part) for part in tensors.parts_of(x0))]
    field, description = refused_field(lambda: solve(stub, create(stub).id, parts, x0=tensors.header_of(x0)))
    assert (field, "must be finite, got 20 NaN" in description) == ("x0", True)


def test_an_array_after_the_last_announced_one_ends_the_solve(stub, endless):
    grid = create(stub)
    field, description = refused_field(lambda: solve(stub, grid.id, [*b_parts(), *b_parts()], rtol=1e-300))
    assert (field, "after all announced" in description) == ("b", True)
    assert endless.finished.wait(10)


@pytest.mark.parametrize("first", [pb.SolveRequest(), pb.SolveRequest(cancel=pb.Cancel()), b_parts()[0]])
def test_a_stream_starts_with_its_header(stub, first):
    grid = create(stub)
    assert refused_field(lambda: solve(stub, grid.id, first=first))[0] == "header"


def test_an_empty_stream_is_refused(stub):
    assert refused_field(lambda: stub.CreateGrid(iter([]), timeout=DEADLINE))[0] == "header"
    assert refused_field(lambda: list(stub.Solve(iter([]), timeout=DEADLINE)))[0] == "header"


def test_an_unknown_grid_is_not_found_and_is_named(stub):
    for call in (
        lambda: solve(stub, "nobody", parts=[]),
        lambda: stub.DeleteGrid(pb.DeleteGridRequest(id="nobody"), timeout=DEADLINE),
    ):
        resource = error_details_pb2.ResourceInfo()
        assert failed_with(call, resource) is grpc.StatusCode.NOT_FOUND
        assert (resource.resource_type, resource.resource_name) == ("relaxon.v1.Grid", "nobody")


def test_a_silent_upload_is_given_up(serving):
    import threading

    server = serving(idle_seconds=0.2)
    hold = threading.Event()

    def requests():
        yield pb.CreateGridRequest(header=grid_header())
        hold.wait(DEADLINE)

    from relaxon.proto.poisson_pb2_grpc import PoissonServiceStub

    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError) as caught:
        PoissonServiceStub(channel).CreateGrid(requests(), timeout=DEADLINE)
    hold.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert "cells: nothing was received for 0.2 seconds" in caught.value.details()


@pytest.mark.parametrize("name", ["x" * 1_000_000, "é" * 500_000, "\U0010ffff" * 200_000, "\0" * 900_000])
def test_a_name_of_any_length_is_not_found_in_an_answer_that_arrives(stub, name):
    with pytest.raises(grpc.RpcError) as caught:
        stub.DeleteGrid(pb.DeleteGridRequest(id=name), timeout=DEADLINE)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND, caught.value.details()
    assert "never made, was deleted, or has expired" in caught.value.details()
    resource = error_details_pb2.ResourceInfo()
    assert any(detail.Unpack(resource) for detail in rpc_status.from_call(caught.value).details)
    assert name.startswith(resource.resource_name.removesuffix("…"))


def test_a_message_that_grows_when_decompressed_is_refused(stub):
    grown = pb.DeleteGridRequest(id="0" * 2**26)
    with pytest.raises(grpc.RpcError) as caught:
        stub.DeleteGrid(grown, timeout=DEADLINE, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in caught.value.details()
