"""Arrays handed over through shared memory: the same answers, no trust in what a caller names, nothing left behind."""

import gc
import itertools
import os
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from test_refusals import refused_field

import relaxon
from relaxon import client as errors
from relaxon.client import handover
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import shared as shared_files
from relaxon.proto import tensors
from relaxon.proto.poisson_pb2_grpc import PoissonServiceStub
from relaxon.proto.shared import SharedFile
from relaxon.proto.tensor_pb2 import SharedArray, TensorPart
from relaxon.solvers import PoissonGrid, Result, solve

CELLS = np.zeros((400, 350), np.uint8)
CELLS[100:200, 50:60] = 1
B = np.random.default_rng(0).standard_normal(CELLS.shape)
OPTIONS = {"solver": "damped", "max_iterations": 3}
SMALL = np.zeros((4, 5), np.uint8)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """In the place of /dev/shm, which other programs use too."""
    monkeypatch.setattr(shared_files, "FOLDER", tmp_path)


def names():
    return {path.name for path in shared_files.FOLDER.glob("relaxon-*")}


@pytest.fixture
def handed(monkeypatch):
    """How many arrays were read from shared files."""
    count = itertools.count()
    read = SharedFile.read

    def counting(self, offset, octets):
        if len(octets) > shared_files.TOKEN_BYTES:
            next(count)
        read(self, offset, octets)

    monkeypatch.setattr(SharedFile, "read", counting)
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
        assert server.sessions.find(grid.id).shared is None
    assert handed() == 0
    assert not names()


def test_where_memory_is_short_arrays_are_sent(client, damped, handed, monkeypatch):
    write = SharedFile.write

    def failing(self, offset, octets):
        if len(octets) > shared_files.TOKEN_BYTES:
            raise OSError("no space")
        write(self, offset, octets)

    monkeypatch.setattr(SharedFile, "write", failing)
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


def test_neither_names_nor_descriptors_are_left_behind(client, damped):
    def descriptors():
        gc.collect()
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in _open_descriptors()]
        return sum(link.startswith(f"{shared_files.FOLDER}/relaxon-") for link in links)

    with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        assert not names()
        assert descriptors() == 2  # the client's and the server's, which are this process both
        grid.solve(B, **OPTIONS)
    for _ in range(100):  # the call's own frames may live for a moment longer than its reply
        client.health()
        if descriptors() == 0:
            break
    assert descriptors() == 0
    assert not names()


def test_a_refused_grid_leaves_no_name(serving):
    server = serving(max_cells=10)
    with relaxon.connect(server.target) as client, pytest.raises(errors.ResourceExhausted):
        client.poisson.grid(CELLS)
    assert not names()


def test_small_arrays_are_worth_no_file():
    with handover.offered(handover.SMALLEST_BYTES // 8, wanted=True) as (file, told):
        assert (file, told) == (None, None)


@pytest.fixture
def offer():
    file, told = SharedFile.create(1000)
    return file, told


def test_a_file_is_opened_by_who_knows_its_token(offer):
    file, told = offer
    file.write(10, memoryview(b"hello"))
    found = SharedFile.open(told)
    assert found.size == 1000
    came = bytearray(5)
    found.read(10, memoryview(came))
    assert came == b"hello"


def _path(told):
    return shared_files.FOLDER / told.name


def _renamed(told, name):
    _path(told).rename(_path(told).with_name(name))
    told.name = name


def _renamed_link(told):
    real = _path(told)
    real.rename(real.with_name(real.name + ".real"))
    real.symlink_to(real.with_name(real.name + ".real"))


DECEITS = {
    "another token": lambda told: setattr(told, "token", bytes(32)),
    "no token": lambda told: setattr(told, "token", b""),
    "a path": lambda told: setattr(told, "name", f"../{shared_files.FOLDER.name}/{told.name}"),
    "an absolute path": lambda told: setattr(told, "name", str(_path(told))),
    "another kind of name": lambda told: setattr(told, "name", "relaxon-1"),
    "a longer name": lambda told: _renamed(told, told.name + ".npy"),
    "a name with a line's end": lambda told: _renamed(told, told.name + "\n"),
    "a file that others may read": lambda told: _path(told).chmod(0o644),
    "a short file": lambda told: os.truncate(_path(told), 20),
    "a file without room": lambda told: _path(told).write_bytes(told.token),
    "a link": _renamed_link,
    "nothing": lambda told: _path(told).unlink(),
    "a pipe": lambda told: (_path(told).unlink(), os.mkfifo(_path(told), 0o600)),
    "a folder": lambda told: (_path(told).unlink(), _path(told).mkdir(0o600)),
}


@pytest.mark.parametrize("deceit", DECEITS)
def test_a_file_that_is_not_as_told_is_not_opened(offer, deceit):
    _, told = offer
    DECEITS[deceit](told)
    assert SharedFile.open(told) is None


def test_without_the_folder_there_are_no_files(offer, monkeypatch, tmp_path):
    monkeypatch.setattr(shared_files, "FOLDER", tmp_path / "nowhere")
    assert SharedFile.open(offer[1]) is None
    with handover.offered(10**6, wanted=True) as (file, told):
        assert (file, told) == (None, None)


@pytest.fixture
def raw(server, offer):
    """A stub, and a grid made with `offer`."""
    _, told = offer
    header = pb.GridHeader(
        cells=tensors.header_of(SMALL),
        boundary=[pb.AxisBoundary(low=pb.BOUNDARY_DIRICHLET, high=pb.BOUNDARY_DIRICHLET)],
        shared=told,
    )
    cells = [pb.CreateGridRequest(cells=part) for part in tensors.parts_of(SMALL)]
    with grpc.insecure_channel(server.target) as channel:
        stub = PoissonServiceStub(channel)
        grid = stub.CreateGrid(iter([pb.CreateGridRequest(header=header), *cells]), timeout=20)
        assert grid.shared
        yield stub, grid.id


def ask(raw, parts, **changes):
    stub, grid_id = raw
    header = {"grid_id": grid_id, "solver": "damped", "b": tensors.header_of(np.zeros(SMALL.shape)), **changes}
    requests = [pb.SolveRequest(header=pb.SolveHeader(**header)), *(pb.SolveRequest(b=part) for part in parts)]
    return list(stub.Solve(iter(requests), timeout=20))


def at(offset):
    return [TensorPart(shared=SharedArray(offset=offset))]


def test_the_stream_may_name_an_array_s_place_in_the_file(raw, offer, damped):
    file, _ = offer
    b = np.arange(20.0).reshape(SMALL.shape)
    file.write(8, tensors.octets_of(b))
    replies = ask(raw, at(8), shared_x=400)
    assert [reply.x.shared.offset for reply in replies if reply.HasField("x")] == [400]
    x = np.empty(SMALL.shape)
    file.read(400, memoryview(x.reshape(-1).view(np.uint8)))
    np.testing.assert_array_equal(x, solve(PoissonGrid(SMALL, boundary="dirichlet"), b, solver="damped").x)
    # Without the wish, x is sent.
    assert not any(reply.x.HasField("shared") for reply in ask(raw, at(8)))


@pytest.mark.parametrize("offset", [-1, 841, 2**62])
def test_a_place_outside_the_file_is_refused(raw, damped, offset):
    field, words = refused_field(lambda: ask(raw, at(offset)))
    assert (field, "160 bytes at offset" in words) == ("b", True)
    field, words = refused_field(lambda: ask(raw, [], shared_x=offset))
    assert (field, "160 bytes at offset" in words) == ("shared_x", True)


def test_a_file_cut_short_later_is_incomplete(raw, offer, damped):
    os.truncate(_path(offer[1]), 100)
    field, words = refused_field(lambda: ask(raw, at(0)))
    assert (field, words) == ("b", "b is incomplete: the shared file ends after 100 of 160 bytes")


def test_what_is_in_a_file_is_checked_like_what_is_sent(raw, offer, damped):
    offer[0].write(0, tensors.octets_of(np.full(SMALL.shape, np.nan)))
    field, words = refused_field(lambda: ask(raw, at(0)))
    assert (field, "must be finite" in words) == ("b", True)


def test_an_array_comes_in_one_way(raw, damped):
    chunk = TensorPart(chunk=bytes(8))
    assert "either in chunks or" in refused_field(lambda: ask(raw, [chunk, *at(0)]))[1]


def test_a_grid_without_a_file_has_no_shared_arrays(client, stub, damped):
    grid = client.poisson.grid(SMALL, boundary="dirichlet")
    field, words = refused_field(lambda: ask((stub, grid.id), at(0)))
    assert (field, "none was agreed on" in words) == ("b", True)


def _open_descriptors():
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink() and _exists(entry)]


def _exists(entry):
    try:
        os.readlink(entry)
    except OSError:
        return False
    return True
