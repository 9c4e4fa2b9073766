"""Limits as callers meet them: quotas of each token's owner, a memory budget, nothing allocated before admission."""

import asyncio
import threading
import tracemalloc

import numpy as np
import pytest
from secured import Authority
from shared_mappings import settled

import relaxon
from relaxon import client as errors
from relaxon.client import BoostingSettings, Retries
from relaxon.proto import linear_pb2, tensor_pb2
from relaxon.proto import poisson_pb2 as pb
from relaxon.server.gate import tokens
from relaxon.server.gate.identity import Role
from relaxon.server.jobs.database import SqliteJobStore
from relaxon.solvers.driver import registry

pytestmark = pytest.mark.in_clear
CELLS = np.zeros((20, 20), np.uint8)
ONCE = Retries(attempts=1)


@pytest.fixture
def two(tmp_path, serving):
    """Starts a server with the given settings; gives it and a client for each of two callers."""
    authority = Authority.make(tmp_path, "a", Role.TRAIN)
    other = tokens.add(authority.token_file, "b", Role.TRAIN)
    clients = []

    def start(**settings):
        server = serving(**authority.settings, **settings)
        for token in (authority.token, other):
            options = {"token": token, "root_certificates": authority.roots, "retries": ONCE}
            clients.append(relaxon.connect(server.target, **options))
        return server, *clients

    yield start
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    ("settings", "subject"),
    [
        ({"max_client_sessions": 1}, "client_sessions"),
        ({"max_client_cells": 700}, "client_cells"),
    ],
)
def test_one_caller_s_sessions_make_room_for_its_own_and_cost_the_other_nothing(two, endless, settings, subject):
    _, a, b = two(**settings)
    others = b.poisson.grid(CELLS, boundary="dirichlet")
    first = a.poisson.grid(CELLS, boundary="dirichlet")
    second = a.poisson.grid(CELLS, boundary="dirichlet")  # in the place of the first
    with pytest.raises(errors.GridLost):
        first.solve(np.ones(CELLS.shape), solver="cg")
    assert second.solve(np.ones(CELLS.shape), solver="cg").converged
    assert others.solve(np.ones(CELLS.shape), solver="cg").converged
    tried = []

    def callback(progress):
        """In a solve: its grid is in use, and cannot make room."""
        if not tried:
            with pytest.raises(errors.ResourceExhausted, match=subject) as caught:
                a.poisson.grid(CELLS)
            tried.append(caught.value.retry_seconds)
            b.poisson.grid(CELLS)
        return True

    second.solve(np.ones(CELLS.shape), solver="damped", rtol=1e-300, callback=callback)
    assert tried == [1.0]


def test_one_caller_s_memory_makes_room_and_is_refused_where_all_of_it_is_in_use(two):
    # A grid takes some 70 kB, its set-up as much, and a solve some 90 kB: two grids fit, one and a solve with it.
    _, a, b = two(max_client_bytes=260_000)
    first, second = (a.poisson.grid(CELLS, boundary="dirichlet") for _ in range(2))
    tried = []

    def callback(progress):
        if not tried:
            with pytest.raises(errors.ResourceExhausted, match="client_bytes") as caught:
                a.poisson.grid(CELLS)
            tried.append(caught.value.retry_seconds)
            b.poisson.grid(CELLS)
        return True

    first.solve(np.ones(CELLS.shape), solver="cg", rtol=1e-300, callback=callback)
    assert tried == [1.0]
    with pytest.raises(errors.GridLost):
        second.solve(np.ones(CELLS.shape), solver="cg")


def test_one_caller_s_jobs_are_limited_and_the_other_s_go_on(two, monkeypatch):
    saved = SqliteJobStore.saved

    async def saved_slowly(database):
        await asyncio.sleep(0.4)
        await saved(database)

    # A job's place is free as soon as its end can be read, however long the disk takes to write that down.
    monkeypatch.setattr(SqliteJobStore, "saved", saved_slowly)
    _, a, b = two(max_client_jobs=1)
    x = np.random.default_rng(0).standard_normal((50, 3))
    endless = BoostingSettings(n_units=10_000, learning_rate=1e-3)
    job = a.boosting.train(x, x[:, 0], settings=endless)
    with pytest.raises(errors.ResourceExhausted, match="client_jobs") as caught:
        a.boosting.train(x, x[:, 0], settings=endless)
    assert caught.value.retry_seconds > 0
    other = b.boosting.train(x, x[:, 0], settings=endless)
    for one in (job, other):
        one.cancel()
    assert settled(lambda: job.state.name in ("DONE", "FAILED"), True)
    a.boosting.train(x, x[:, 0], settings=BoostingSettings(n_units=1)).result(timeout=60)


ABSURD = (2**20, 2**20, 2**20)
HUGE = (2**27,)
FLOAT64, INT64, UINT8 = tensor_pb2.DATA_TYPE_FLOAT64, tensor_pb2.DATA_TYPE_INT64, tensor_pb2.DATA_TYPE_UINT8


def test_nothing_is_allocated_for_what_is_refused(serving):
    """Headers that announce gigabytes end before memory is taken for them."""
    server = serving(memory_bytes=2**22)
    with relaxon.connect(server.target, retries=ONCE) as client:
        grid = client.poisson.grid(CELLS, boundary="dirichlet")
        poisson, linear = client.poisson._stub, client.linear._stub
        tensor = tensor_pb2.TensorHeader
        big = tensor(dtype=FLOAT64, shape=HUGE)
        calls = [
            lambda: poisson.CreateGrid(iter([_grid(tensor(dtype=UINT8, shape=ABSURD))]), timeout=60),
            lambda: poisson.CreateGrid(iter([_grid(tensor(dtype=UINT8, shape=(1, 2**26)))]), timeout=60),
            lambda: poisson.CreateGrid(
                iter([_grid(tensor(dtype=UINT8, shape=CELLS.shape), tensor(dtype=FLOAT64, shape=ABSURD))]), timeout=60
            ),
            lambda: list(poisson.Solve(iter([pb.SolveRequest(header=pb.SolveHeader(grid_id=grid.id, b=big))]))),
            lambda: list(
                poisson.SolveSteps(
                    iter(
                        [
                            pb.StepsRequest(header=pb.StepsHeader(grid_id=grid.id, solver="cg")),
                            pb.StepsRequest(step=pb.StepHeader(b=big)),
                        ]
                    )
                )
            ),
            lambda: linear.CreateMatrix(iter([_matrix(tensor(dtype=INT64, shape=HUGE), big)]), timeout=60),
            lambda: linear.CreateMatrix(
                iter([_matrix(tensor(dtype=INT64, shape=(5,)), tensor(dtype=FLOAT64, shape=(2**40,)))]), timeout=60
            ),
        ]
        tracemalloc.start()
        try:
            for call in calls:
                with pytest.raises(errors.RelaxonError) as caught, errors_translated():
                    call()
                assert isinstance(caught.value, errors.ResourceExhausted | errors.InvalidArgument), caught.value
            assert tracemalloc.get_traced_memory()[1] < 2**22
        finally:
            tracemalloc.stop()
        assert server.sessions.bytes == server.sessions.kept()[0].bytes


def errors_translated():
    from relaxon.core.errors import translated

    return translated()


def _grid(cells, *coefficient):
    return pb.CreateGridRequest(header=pb.GridHeader(cells=cells, coefficient=coefficient))


def _matrix(indptr, data):
    indices = tensor_pb2.TensorHeader(dtype=INT64, shape=data.shape)
    return linear_pb2.CreateMatrixRequest(header=linear_pb2.MatrixHeader(indptr=indptr, indices=indices, data=data))


def test_a_flood_of_grids_and_solves_stays_within_the_budget(serving):
    """Many threads that all want more than there is: each is served or refused, and what is counted never exceeds."""
    server = serving(memory_bytes=3 * 2**20, max_grids=1000, workers=1)
    highest, outcomes, stop = [0], [], threading.Event()

    async def counted():
        return server.sessions.bytes

    def watch():
        while not stop.is_set():  # where it is counted: another thread would see sums that are half made
            found = asyncio.run_coroutine_threadsafe(counted(), server._loop).result(20)
            highest[0] = max(highest[0], found)

    def flood(number):
        rng = np.random.default_rng(number)
        with relaxon.connect(server.target, retries=ONCE) as client:
            for _ in range(12):
                cells = np.zeros((int(rng.integers(10, 120)), 60), np.uint8)
                try:
                    grid = client.poisson.grid(cells, boundary="dirichlet")
                    solver = str(rng.choice(["cg", "jacobi-cg", "ic-cg"]))
                    outcomes.append(grid.solve(np.ones(cells.shape), solver=solver).converged)
                except (errors.ResourceExhausted, errors.GridLost):
                    outcomes.append(None)

    watcher = threading.Thread(target=watch)
    threads = [threading.Thread(target=flood, args=(number,)) for number in range(6)]
    watcher.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    stop.set()
    watcher.join()
    assert len(outcomes) == 72
    assert outcomes.count(True) > 0
    assert False not in outcomes
    assert 0 < highest[0] <= server.sessions.budget


def test_the_solvers_have_figures_of_their_own():
    """What a solver needs is known before it is set up; one that nobody has measured counts for a lot."""
    from relaxon.server.solving import footprint

    named = {entry.name for entry in registry.list_solvers()}
    assert named <= set(footprint.CONSTANT)
