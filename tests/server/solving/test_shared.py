"""Arrays handed over through shared memory: the same answers, no trust in what a caller names, nothing left behind."""

import fcntl
import gc
import itertools
import os
import subprocess
import sys
import threading

import grpc
import numpy as np
import pytest
from refusals import refused_field
from shared_mappings import mappings, settled

import relaxon
from relaxon import client as errors
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto.poisson_pb2_grpc import PoissonServiceStub
from relaxon.proto.tensor_pb2 import SharedArray, TensorPart
from relaxon.solvers import PoissonGrid, Result, solve
from relaxon.wire import handover, tensors
from relaxon.wire import shared_memory as shared_files
from relaxon.wire.shared_memory import SharedFile

CELLS = np.zeros((400, 350), np.uint8)
CELLS[100:200, 50:60] = 1
B = np.random.default_rng(0).standard_normal(CELLS.shape)
OPTIONS = {"solver": "damped", "max_iterations": 3}
SMALL = np.zeros((4, 5), np.uint8)


ROOM = 10**6


def descriptors():
    found = 0
    for entry in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{entry}") == shared_files.LINK
        except OSError:
            continue
    return found


def at_rest():
    """How many mappings there are when what earlier tests have left to other servers is gone, too."""
    settled(mappings)
    return mappings()


@pytest.fixture
def handed(monkeypatch):
    """How many arrays were taken from shared files, on both sides."""
    count = itertools.count()
    view = tensors.Assembler.take_shared

    def counting(self, part, file):
        next(count)
        view(self, part, file)

    monkeypatch.setattr(tensors.Assembler, "take_shared", counting)
    return lambda: int(repr(count).strip("count()"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("packed", [False, True])
def test_a_shared_solution_is_the_sent_one_bit_for_bit(server, client, damped, handed, dtype, packed):
    local = PoissonGrid(CELLS, boundary="dirichlet")
    b, x0 = B.astype(dtype), np.ones(CELLS.shape)
    b = local.pack(b) if packed else b
    ours = solve(local, b, x0=x0, **OPTIONS)
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        for round_ in range(1, 3):
            theirs = grid.solve(b, x0=x0, **OPTIONS)
            np.testing.assert_array_equal(theirs.x, ours.x)
            assert handed() == 3 * round_  # b and x0 there, x here
    with relaxon.connect(server.target, shared_memory=False) as other:
        with other.poisson.grid(CELLS, boundary="dirichlet") as grid:
            np.testing.assert_array_equal(grid.solve(b, x0=x0, **OPTIONS).x, ours.x)
        assert handed() == 6


def test_a_server_may_take_no_shared_files(serving, damped, handed):
    server = serving(shared_memory=False)
    with relaxon.connect(server.target) as client, client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        expected = solve(PoissonGrid(CELLS, boundary="dirichlet"), B, **OPTIONS)
        np.testing.assert_array_equal(grid.solve(B, **OPTIONS).x, expected.x)
        assert server.sessions.kept()[0].shared is None
    assert handed() == 0


def no_memory(*arguments):
    raise OSError("no space")


def test_where_memory_is_short_arrays_are_sent(client, damped, handed, monkeypatch):
    monkeypatch.setattr(os, "posix_fallocate", no_memory)
    expected = solve(PoissonGrid(CELLS, boundary="dirichlet"), B, **OPTIONS)
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        np.testing.assert_array_equal(grid.solve(B, **OPTIONS).x, expected.x)
    assert handed() == 0


def test_threads_that_share_a_grid_each_get_their_own_answer(client, damped):
    local = PoissonGrid(CELLS, boundary="dirichlet")
    sides = [k * B for k in range(1, 5)]
    expected = [solve(local, b, **OPTIONS).x for b in sides]
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        found = [[] for _ in sides]
        threads = [
            threading.Thread(target=lambda b=b, own=own: own.extend(grid.solve(b, **OPTIONS).x for _ in range(4)))
            for b, own in zip(sides, found, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    for own, one in zip(found, expected, strict=True):
        assert len(own) == 4
        for x in own:
            np.testing.assert_array_equal(x, one)


def test_a_file_is_used_no_more_after_a_solve_that_was_cut_off(client, endless, handed):
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        with pytest.raises(errors.DeadlineExceeded):
            grid.solve(B, solver="damped", rtol=1e-300, timeout=0.5)
        assert endless.finished.wait(20)
        before = handed()
        assert grid.solve(B, **OPTIONS).result is Result.MAX_ITERATIONS
        assert handed() == before


def test_a_refused_solve_leaves_the_file_in_use(client, damped, handed):
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        with pytest.raises(errors.InvalidArgument):
            grid.solve(B, solver="nothing")
        before = handed()
        grid.solve(B, **OPTIONS)
        assert handed() == before + 2


def test_neither_mappings_nor_descriptors_are_left_behind(client, damped):
    before = at_rest()
    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        assert mappings() == before + 2  # the client's and the server's, which are this process both
        assert descriptors() == 2  # which go with the mappings
        grid.solve(B, **OPTIONS)
    del grid
    assert settled(mappings, before)
    assert settled(descriptors)


def test_no_garbage_collection_is_needed_for_a_file_to_be_gone(serving, endless):
    """Whatever way a call ends: what it worked with is dropped with it, not when the collector comes by."""
    server = serving(lease_seconds=0.1)
    bad = np.full(CELLS.shape, np.nan)

    def served():
        with open("/proc/self/maps", encoding="utf-8") as lines:
            return sum(shared_files.LINK in line for line in lines)

    before = at_rest()
    gc.disable()
    try:
        with relaxon.connect(server.target) as client:
            stub, told = client.poisson._stub, SharedFile.create(CELLS.size * 16)
            request = pb.GridHeader(cells=tensors.header_of(CELLS), shared=told[1].message())
            cells = [pb.CreateGridRequest(cells=part) for part in tensors.parts_of(CELLS)]
            for ending in ("refused", "cut off", "step refused", "steps cut off"):
                kept = stub.CreateGrid(iter([pb.CreateGridRequest(header=request), *cells]), timeout=60)
                assert kept.shared
                _end_badly(stub, kept.id, told[0], bad if "refused" in ending else B, steps="step" in ending)
                stub.DeleteGrid(pb.DeleteGridRequest(id=kept.id), timeout=60)
                assert settled(served, before + 1, 5.0), ending  # the test's own
        del told
    finally:
        gc.enable()


def _end_badly(stub, grid_id, file, b, steps):
    """A call whose array lies in the file: refused for it, or cut off while it is solved."""
    file.write(0, b)
    part = TensorPart(shared=SharedArray(offset=0))
    header = {"grid_id": grid_id, "solver": "damped", "rtol": 1e-300, "inconsistent": pb.INCONSISTENT_PROJECT}
    if steps:
        first = [
            pb.StepsRequest(header=pb.StepsHeader(**header)),
            pb.StepsRequest(step=pb.StepHeader(b=tensors.header_of(b), shared_x=0)),
            pb.StepsRequest(b=part),
        ]
        call = stub.SolveSteps(iter(first), timeout=0.5)
    else:
        header |= {"b": tensors.header_of(b), "shared_x": 0}
        first = [pb.SolveRequest(header=pb.SolveHeader(**header)), pb.SolveRequest(b=part)]
        call = stub.Solve(iter(first), timeout=0.5)
    with pytest.raises(grpc.RpcError):
        list(call)


def test_a_refused_grid_leaves_no_file(serving):
    before = at_rest()
    server = serving(max_cells=10)
    with relaxon.connect(server.target) as client, pytest.raises(errors.ResourceExhausted):
        client.poisson.grid(CELLS)
    assert settled(mappings, before)
    assert settled(descriptors)


KILLED = """
import os, signal, sys
import numpy as np
import relaxon
client = relaxon.connect(sys.argv[1])
grid = client.poisson.grid(np.zeros((400, 350), np.uint8), boundary="dirichlet")
assert grid._handover.file is not None
def killed(progress):
    os.kill(os.getpid(), signal.SIGKILL)
grid.solve(np.ones((400, 350)), solver="cg", rtol=1e-300, callback=killed)
"""


@pytest.mark.in_clear
def test_the_file_of_a_client_that_is_killed_in_a_solve_is_gone(serving):
    before = at_rest()
    server = serving(lease_seconds=0.2)
    client = subprocess.run([sys.executable, "-c", KILLED, server.target], timeout=120, check=False)
    assert client.returncode == -9
    assert settled(lambda: len(server.sessions))
    assert settled(mappings, before)
    assert settled(lambda: server.sessions.bytes)


def test_small_arrays_are_worth_no_file():
    with handover.offered(handover.SMALLEST_BYTES // 8, wanted=True) as (file, told):
        assert (file, told) == (None, None)


@pytest.fixture
def offer():
    file, offered = SharedFile.create(1000)
    yield file, offered.message()
    offered.close()


def test_a_file_is_opened_by_who_knows_its_token(offer):
    file, told = offer
    file.write(16, np.arange(4.0))
    found = SharedFile.open(told, ROOM)
    assert found.size == 1000
    np.testing.assert_array_equal(found.view(16, np.dtype("<f8"), (2, 2)), [[0.0, 1.0], [2.0, 3.0]])


def test_a_file_cannot_be_shortened_under_the_server_s_hands(offer):
    descriptor = offer[1].file_descriptor
    for size in (10, 10**6):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)
    with pytest.raises(PermissionError):
        fcntl.fcntl(descriptor, shared_files.ADD_SEALS, 0)


def _other(told, made):
    """Another descriptor in the place of the one that was told; it is closed with the test's process."""
    os.dup2(made, told.file_descriptor)
    os.close(made)


def _memory(told, size, seals=shared_files.SEALS, name=shared_files.NAME):
    made = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.truncate(made, size)
    os.pwrite(made, told.token, max(0, size - len(told.token)))
    fcntl.fcntl(made, shared_files.ADD_SEALS, seals)
    _other(told, made)


DECEITS = {
    "another token": lambda told: setattr(told, "token", bytes(32)),
    "no token": lambda told: setattr(told, "token", b""),
    "a longer token": lambda told: setattr(told, "token", told.token + b"1"),
    "no process": lambda told: setattr(told, "process", 0),
    "a process that is not": lambda told: setattr(told, "process", 2**62),
    "a negative process": lambda told: setattr(told, "process", -1),
    "another process": lambda told: setattr(told, "process", 1),
    "a negative descriptor": lambda told: setattr(told, "file_descriptor", -1),
    "a descriptor that is not": lambda told: setattr(told, "file_descriptor", 2**62),
    "a file with a name": lambda told: _other(told, os.open(__file__, os.O_RDONLY)),
    "a folder": lambda told: _other(told, os.open("/", os.O_RDONLY)),
    "a pipe": lambda told: _other(told, os.pipe()[0]),
    "a device": lambda told: _other(told, os.open("/dev/zero", os.O_RDWR)),
    "another memory file": lambda told: _memory(told, 1032, name="other"),
    "one that is not sealed": lambda told: _memory(told, 1032, seals=0),
    "one that may shrink": lambda told: _memory(told, 1032, seals=shared_files.SEAL_SEAL | shared_files.SEAL_GROW),
    "one that may be written to by none": lambda told: _memory(told, 1032, seals=shared_files.SEALS | 0x8),
    "an empty one": lambda told: _memory(told, 0),
    "one with a token alone": lambda told: _memory(told, 32),
    "one longer than is of use": lambda told: _memory(told, ROOM + 33),
}


@pytest.mark.parametrize("deceit", DECEITS)
def test_a_file_that_is_not_as_told_is_not_opened(offer, deceit):
    _, told = offer
    before = mappings()
    DECEITS[deceit](told)
    assert SharedFile.open(told, ROOM) is None
    assert mappings() == before


def test_without_memory_files_arrays_are_sent(offer, monkeypatch):
    monkeypatch.setattr(shared_files, "fcntl", None)
    assert SharedFile.open(offer[1], ROOM) is None
    with handover.offered(10**6, wanted=True) as (file, told):
        assert (file, told) == (None, None)


def test_what_is_offered_is_counted_before_it_is_opened(serving):
    entries = CELLS.size
    server = serving(memory_bytes=32 * entries)
    with relaxon.connect(server.target) as client, pytest.raises(errors.ResourceExhausted, match="memory"):
        client.poisson.grid(CELLS)
    with relaxon.connect(server.target, shared_memory=False) as client, client.poisson.grid(CELLS):
        assert server.sessions.bytes < 32 * entries


@pytest.fixture
def raw(server, offer):
    """A stub, and a grid made with `offer`."""
    told = offer[1]
    header = pb.GridHeader(
        cells=tensors.header_of(SMALL),
        boundary=[pb.AxisBoundary(low=pb.BOUNDARY_DIRICHLET, high=pb.BOUNDARY_DIRICHLET)],
        shared=told,
    )
    cells = [pb.CreateGridRequest(cells=part) for part in tensors.parts_of(SMALL)]
    with grpc.insecure_channel(server.target) as channel:
        stub = PoissonServiceStub(channel)
        grid = stub.CreateGrid(iter([pb.CreateGridRequest(header=header), *cells]), timeout=60)
        assert grid.shared
        yield stub, grid.id


def ask(raw, parts, **changes):
    stub, grid_id = raw
    header = {"grid_id": grid_id, "solver": "damped", "b": tensors.header_of(np.zeros(SMALL.shape)), **changes}
    requests = [pb.SolveRequest(header=pb.SolveHeader(**header)), *(pb.SolveRequest(b=part) for part in parts)]
    return list(stub.Solve(iter(requests), timeout=60))


def at(offset):
    return [TensorPart(shared=SharedArray(offset=offset))]


def test_the_stream_may_name_an_array_s_place_in_the_file(raw, offer, damped):
    file, _ = offer
    b = np.arange(20.0).reshape(SMALL.shape)
    file.write(8, b)
    replies = ask(raw, at(8), shared_x=400)
    assert [reply.x.shared.offset for reply in replies if reply.HasField("x")] == [400]
    x = file.view(400, np.dtype("<f8"), SMALL.shape)
    np.testing.assert_array_equal(x, solve(PoissonGrid(SMALL, boundary="dirichlet"), b, solver="damped").x)
    # Without the wish, x is sent.
    assert not any(reply.x.HasField("shared") for reply in ask(raw, at(8)))


@pytest.mark.parametrize("offset", [-1, 841, 2**62])
def test_a_place_outside_the_file_is_refused(raw, damped, offset):
    field, words = refused_field(lambda: ask(raw, at(offset)))
    assert (field, "160 bytes at offset" in words) == ("b", True)
    field, words = refused_field(lambda: ask(raw, [], shared_x=offset))
    assert (field, "160 bytes at offset" in words) == ("shared_x", True)


def test_what_is_in_a_file_is_checked_like_what_is_sent(raw, offer, damped):
    offer[0].write(0, np.full(SMALL.shape, np.nan))
    field, words = refused_field(lambda: ask(raw, at(0)))
    assert (field, "must be finite" in words) == ("b", True)


def test_an_array_comes_in_one_way(raw, damped):
    chunk = TensorPart(chunk=bytes(8))
    assert "either in chunks or" in refused_field(lambda: ask(raw, [chunk, *at(0)]))[1]


def test_a_grid_without_a_file_has_no_shared_arrays(client, stub, damped):
    grid = client.poisson.grid(SMALL, boundary="dirichlet")
    field, words = refused_field(lambda: ask((stub, grid.id), at(0)))
    assert (field, "none was agreed on" in words) == ("b", True)


def test_the_header_may_name_the_place_of_b(raw, offer, damped):
    file, _ = offer
    b = np.arange(20.0).reshape(SMALL.shape)
    file.write(16, b)
    ours = solve(PoissonGrid(SMALL, boundary="dirichlet"), b, solver="damped").x
    ask(raw, [], shared_b=16, shared_x=400)
    np.testing.assert_array_equal(file.view(400, np.dtype("<f8"), SMALL.shape), ours)
    ask(raw, [], shared_b=16, shared_x=16)
    np.testing.assert_array_equal(file.view(16, np.dtype("<f8"), SMALL.shape), ours)
    file.write(16, np.full(SMALL.shape, np.inf))
    field, words = refused_field(lambda: ask(raw, [], shared_b=16))
    assert (field, "must be finite" in words) == ("b", True)


@pytest.mark.parametrize("offset", [-1, -(2**62), 841, 2**62])
def test_a_place_of_b_outside_the_file_is_refused(raw, damped, offset):
    field, words = refused_field(lambda: ask(raw, [], shared_b=offset))
    assert (field, "160 bytes at offset" in words) == ("b", True)
    field, words = refused_field(lambda: steps_at(raw, offset))
    assert (field, "160 bytes at offset" in words) == ("b", True)


def steps_at(raw, offset, *parts):
    stub, grid_id = raw
    requests = [
        pb.StepsRequest(header=pb.StepsHeader(grid_id=grid_id, solver="damped")),
        pb.StepsRequest(step=pb.StepHeader(b=tensors.header_of(np.zeros(SMALL.shape)), shared_b=offset)),
        *(pb.StepsRequest(b=part) for part in parts),
    ]
    return list(stub.SolveSteps(iter(requests), timeout=60))


def test_what_is_named_in_the_header_is_not_sent_as_well(raw, offer, endless):
    offer[0].write(0, np.ones(SMALL.shape))
    field, words = refused_field(lambda: ask(raw, at(0), shared_b=0))
    assert (field, "after all announced arrays were complete" in words) == ("b", True)
    endless.gate.set()
    field, words = refused_field(lambda: steps_at(raw, 0, *at(0)))
    assert (field, "must come next, got b" in words) == ("step", True)


def test_a_place_of_b_means_nothing_where_no_file_is_shared(client, stub, damped):
    with client.poisson.grid(SMALL, boundary="dirichlet") as grid:
        field, words = refused_field(lambda: ask((stub, grid.id), [], shared_b=0))
        assert (field, "none was agreed on" in words) == ("b", True)
        field, words = refused_field(lambda: steps_at((stub, grid.id), 0))
        assert (field, "none was agreed on" in words) == ("b", True)


def test_a_solve_leaves_its_memory_to_the_next_but_not_what_is_still_to_be_sent(server, damped):
    """Over TCP the solution is written from the solver's own array."""
    local = PoissonGrid(CELLS, boundary="dirichlet")
    sides = [B, 2 * B, 3 * B]
    for shared_memory in (True, False):
        with (
            relaxon.connect(server.target, shared_memory=shared_memory) as client,
            client.poisson.grid(CELLS, boundary="dirichlet") as grid,
        ):
            places = [one.set_ups for one in server.sessions.kept() if one.id == grid.id]
            for b in sides:
                theirs = grid.solve(b, **OPTIONS)
                np.testing.assert_array_equal(theirs.x, solve(local, b, **OPTIONS).x)
                kept = places[0]["damped"].front.memory._kept
                assert set(kept) == ({"b", "x"} if shared_memory else {"b"})
            steps = list(grid.solve_steps(sides, **OPTIONS))
            assert set(places[0]["damped"].front.memory._kept) == ({"b", "x"} if shared_memory else {"b"})
            start = None
            for b, one in zip(sides, steps, strict=True):
                start = solve(local, b, x0=start, **OPTIONS).x
                np.testing.assert_array_equal(one.x, start)
