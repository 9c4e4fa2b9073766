"""Clients that go, however they go, leave nothing on the server; those that stay or come back keep what they have."""

import asyncio
import signal
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from shared_mappings import mappings, settled

import relaxon
from relaxon import client as errors
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto import session_pb2, session_pb2_grpc
from relaxon.proto.poisson_pb2_grpc import PoissonServiceStub
from relaxon.server.gate.attendance import AttendanceList
from relaxon.server.gate.errors import ServiceError
from relaxon.wire import tensors

CELLS = np.zeros((6, 5), np.uint8)


def test_a_grid_goes_when_its_client_has_been_gone_for_the_lease_and_not_before(serving):
    server = serving(lease_seconds=0.4)
    with relaxon.connect(server.target) as stays:
        kept = stays.poisson.grid(CELLS, boundary="dirichlet")
        with relaxon.connect(server.target) as goes:
            goes.poisson.grid(CELLS)
            goes.linear.matrix(matrix())
            assert len(server.sessions) == 3
            time.sleep(0.8)
            assert len(server.sessions) == 3  # it is still there
        closed = time.monotonic()
        assert settled(lambda: len(server.sessions), 1)
        assert time.monotonic() - closed > 0.3
        assert kept.solve(np.ones(CELLS.shape), solver="cg").converged
    assert settled(lambda: len(server.sessions))
    assert settled(lambda: server.sessions.bytes)


def matrix():
    from scipy.sparse import eye_array

    return eye_array(5).tocsr()


def test_an_asyncio_client_that_goes_leaves_nothing_either(serving):
    server = serving(lease_seconds=0.2)

    async def scenario():
        async with relaxon.aio.connect(server.target) as client:
            await client.poisson.grid(CELLS)
            await client.poisson.grid(CELLS)
            assert len(server.sessions) == 2
            assert server.sessions.kept()[0].attendance == server.sessions.kept()[1].attendance != ""

    asyncio.run(scenario())
    assert settled(lambda: len(server.sessions))


@pytest.mark.in_clear
def test_an_attendance_may_be_taken_up_again_within_its_lease(serving):
    server = serving(lease_seconds=1.0)
    with grpc.insecure_channel(server.target) as channel:
        stub, poisson = session_pb2_grpc.SessionServiceStub(channel), PoissonServiceStub(channel)
        call = stub.Attend(session_pb2.AttendRequest())
        first = next(call)
        assert first.lease.ToMilliseconds() == 1000
        grid = poisson.CreateGrid(iter(grid_requests(first.id)), timeout=60)
        call.cancel()
        time.sleep(0.2)
        again = stub.Attend(session_pb2.AttendRequest(id=first.id))
        assert next(again).id == first.id
        time.sleep(1.5)
        assert [one.id for one in server.sessions.kept()] == [grid.id]
        again.cancel()
        assert settled(lambda: len(server.sessions))
        with pytest.raises(grpc.RpcError) as caught:
            next(stub.Attend(session_pb2.AttendRequest(id=first.id)))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError) as caught:
            poisson.CreateGrid(iter(grid_requests(first.id)), timeout=60)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def grid_requests(attendance, cells=CELLS):
    yield pb.CreateGridRequest(header=pb.GridHeader(cells=tensors.header_of(cells), attendance=attendance))
    for part in tensors.parts_of(cells):
        yield pb.CreateGridRequest(cells=part)


def test_attendances_are_limited_and_calls_left_over(serving):
    server = serving(max_attendances=2)
    clients = [relaxon.connect(server.target) for _ in range(3)]
    try:
        for client in clients[:2]:
            client.poisson.grid(CELLS)
        with pytest.raises(errors.ResourceExhausted, match="attendances") as caught:
            clients[2].poisson.grid(CELLS, timeout=0.5)
        assert caught.value.retry_seconds == 1.0
        assert clients[2].health() == "SERVING"
    finally:
        for client in clients:
            client.close()
    server = serving(max_calls=4)  # of which two at most only say that they are there
    with relaxon.connect(server.target) as one, relaxon.connect(server.target) as two:
        one.poisson.grid(CELLS)
        two.poisson.grid(CELLS)
        with relaxon.connect(server.target) as three, pytest.raises(errors.ResourceExhausted):
            three.poisson.grid(CELLS)
        assert one.poisson.grid(CELLS, boundary="dirichlet").solve(np.ones(CELLS.shape), solver="cg").converged


def test_a_list_forgets_who_has_gone_alone():
    async def scenario():
        gone = []
        attending = AttendanceList(3, 0.05, gone.append)
        with attending.attending("") as one:
            with attending.attending("") as two, attending.attending(two):
                attending.check(two)
            with attending.attending(two):
                await asyncio.sleep(0.15)
                assert gone == []
            await asyncio.sleep(0.15)
            assert gone == [two]
            with pytest.raises(ServiceError):
                attending.check(two)
            attending.check(one)
            attending.check("")
            assert len(attending) == 1

    asyncio.run(scenario())


VANISHING = """
import sys, threading, time
import grpc, numpy as np, relaxon
from relaxon.proto import poisson_pb2 as pb, tensors
from relaxon.proto.poisson_pb2_grpc import PoissonServiceStub
target, count = sys.argv[1], int(sys.argv[2])
cells, ready = np.zeros((400, 350), np.uint8), threading.Semaphore(0)
b = np.ones(cells.shape)

def endless(progress):
    if progress.iteration == 0:
        ready.release()

def pause():
    ready.release()
    time.sleep(100)

def half_a_grid(client):
    def requests():
        yield pb.CreateGridRequest(header=pb.GridHeader(cells=tensors.header_of(cells)))
        pause()
    client.poisson._stub.CreateGrid(requests())

def half_a_side(client):
    grid = client.poisson.grid(cells, boundary="dirichlet")
    def requests():
        yield pb.SolveRequest(header=pb.SolveHeader(grid_id=grid.id, solver="cg", b=tensors.header_of(b)))
        yield pb.SolveRequest(b=next(tensors.parts_of(b)))
        pause()
    list(client.poisson._stub.Solve(requests()))

def solving(client):
    grid = client.poisson.grid(cells, boundary="dirichlet")
    ready.release()
    while True:
        grid.solve(b, solver="cg", rtol=1e-300, max_iterations=100)

def stepping(client):
    grid = client.poisson.grid(cells, boundary="dirichlet")
    for _ in grid.solve_steps((b for _ in range(10**9)), solver="cg", rtol=1e-300, max_iterations=3):
        ready.release()

def updating(client):
    grid = client.poisson.grid(cells, boundary="dirichlet")
    ready.release()
    while True:
        grid.update(cells)

def idle(client):
    client.poisson.grid(cells)
    ready.release()
    time.sleep(100)

ways = [half_a_grid, half_a_side, solving, stepping, updating, idle]
clients = [relaxon.connect(target) for _ in range(count)]
for number, client in enumerate(clients):
    threading.Thread(target=ways[number % len(ways)], args=(client,), daemon=True).start()
for _ in clients:
    ready.acquire()
print("ready", flush=True)
time.sleep(100)
"""


@pytest.mark.in_clear
def test_clients_that_vanish_half_way_leave_no_session_mapping_thread_or_byte(serving):
    server = serving(lease_seconds=0.3, max_grids=100)
    with relaxon.connect(server.target) as client, client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        grid.solve(np.ones(CELLS.shape), solver="cg")
        status = client.status()
        before = (len(server.sessions), server.sessions.bytes, mappings(), status.calls.used, status.solves.used)
        threads = threading.active_count()
        command = [sys.executable, "-c", VANISHING, server.target, "18"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            assert len(server.sessions) >= 12
            process.send_signal(signal.SIGKILL)

        def after():
            now = client.status()
            return (len(server.sessions), server.sessions.bytes, mappings(), now.calls.used, now.solves.used)

        assert settled(after, before, 40.0), (after(), before)
        assert settled(lambda: threading.active_count() > threads + 2, False, 10.0)
        assert grid.solve(np.ones(CELLS.shape), solver="cg").converged
