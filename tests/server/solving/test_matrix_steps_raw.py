"""`UpdateMatrix` and `SolveMatrixSteps` as another client may call them: out of turn, of wrong sizes, cut off."""

import threading
import time

import grpc
import numpy as np
import pytest
from refusals import refused_field
from scipy import sparse
from shared_mappings import settled

import relaxon
from relaxon.core.solution import Result
from relaxon.proto import linear_pb2 as pb
from relaxon.proto import linear_pb2_grpc, poisson_pb2
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.solvers.sparse import MATRIX_SOLVERS
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.wire import tensors

N = 30
A = sparse.csr_array(sparse.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(N, N)))
B = np.arange(1.0, N + 1)


class Paced(MatrixSolver):
    """Damped Jacobi, 5 ms an iteration until its gate is set."""

    name = "paced"
    summary = "for tests"

    def __init__(self):
        self.gate, self.started, self.finished = threading.Event(), threading.Event(), threading.Event()
        self.iterations = 0

    def prepare_matrix(self, system):
        return _Paced(self, system)


class _Paced(MatrixEngine):
    default_max_iterations = 20_000

    def __init__(self, solver, system):
        self.solver, self.system, self.info = solver, system, {}

    def run(self, b, x, monitor, max_iterations):
        solver, r = self.solver, np.empty_like(b)
        solver.finished.clear()
        try:
            verdict = monitor.record(self.system.residual(b, x, r))
            solver.started.set()
            while verdict is None and monitor.iterations < max_iterations:
                solver.gate.wait(0.005)
                x += 0.9 * self.system.inverse_diagonal * r
                solver.iterations += 1
                verdict = monitor.record(self.system.residual(b, x, r))
            return verdict or Result.MAX_ITERATIONS
        finally:
            solver.finished.set()


@pytest.fixture
def paced(monkeypatch):
    solver = Paced()
    monkeypatch.setitem(MATRIX_SOLVERS, "paced", solver)
    yield solver
    solver.gate.set()


@pytest.fixture(scope="module")
def server():
    """One for all: each test leaves it as it was."""
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, compile="")) as started:
        yield started


@pytest.fixture(scope="module")
def client(server):
    with relaxon.connect(
        server.target, timeout=60, transfer_timeout=60, retries=relaxon.client.Retries(1)
    ) as connected:
        yield connected


@pytest.fixture(scope="module")
def stub(server):
    with grpc.insecure_channel(server.target) as channel:
        yield linear_pb2_grpc.LinearSystemServiceStub(channel)


@pytest.fixture
def kept(client):
    with client.linear.matrix(A) as made:
        yield made


def header(kept, **changes):
    return pb.MatrixStepsRequest(header=poisson_pb2.StepsHeader(**{"grid_id": kept.id, "solver": "cg", **changes}))


def step(b=B, **change):
    """A step, with the arrays of `change` announced and sent."""
    told = pb.MatrixChange(**{name: tensors.header_of(array) for name, array in change.items()}) if change else None
    yield pb.MatrixStepsRequest(step=pb.MatrixStepHeader(b=tensors.header_of(b), change=told))
    for name in ("indptr", "indices", "data"):
        if name in change:
            for part in tensors.parts_of(change[name]):
                yield pb.MatrixStepsRequest(**{name: part})
    for part in tensors.parts_of(b):
        yield pb.MatrixStepsRequest(b=part)


PATTERN = {"indptr": A.indptr, "indices": A.indices}
OTHER = sparse.csr_array(sparse.diags_array([-1.0, 2.5, -1.0], offsets=[-2, 0, 2], shape=(N, N)))
ANNOUNCED = pb.MatrixChange(data=tensors.header_of(A.data))
STEPS = {
    "no header": (lambda kept: [*step()], "header", "got step"),
    "two headers": (lambda kept: [header(kept), header(kept)], "step", "got header"),
    "b before its step": (lambda kept: [header(kept), *[*step()][1:]], "step", "got b"),
    "an empty message": (lambda kept: [header(kept), pb.MatrixStepsRequest()], "step", "got an empty message"),
    "no b": (lambda kept: [header(kept), pb.MatrixStepsRequest(step=pb.MatrixStepHeader())], "b", "dtype"),
    "b of another shape": (lambda kept: [header(kept), *step(np.ones(3))], "b", r"must have shape (30,)"),
    "values that do not come": (
        lambda kept: [
            header(kept),
            pb.MatrixStepsRequest(step=pb.MatrixStepHeader(b=tensors.header_of(B), change=ANNOUNCED)),
            *[*step()][1:],
        ],
        "data",
        "before b",
    ),
    "an unknown solver": (lambda kept: [header(kept, solver="none")], "solver", "must be one of"),
    "a bad tolerance": (lambda kept: [header(kept, rtol=-1.0)], "rtol", "greater than 0"),
    "NaN": (lambda kept: [header(kept), *step(np.full(N, np.nan))], "b", "finite"),
}
CHANGES = {
    "no values": ({}, "data", "dtype"),
    "too few values": ({"data": A.data[1:]}, "data", "must have shape (88,)"),
    "values in a table": ({"data": A.data.reshape(2, -1)}, "data", "must have shape (88,)"),
    "integers": ({"data": A.data.astype(np.int32)}, "data", "got dtype int32"),
    "rows without columns": ({"data": A.data, "indptr": A.indptr}, "indices", "one of them"),
    "columns without rows": ({"data": A.data, "indices": A.indices}, "indptr", "one of them"),
    "another size": ({"data": A.data, "indptr": A.indptr[:-1], "indices": A.indices}, "indptr", "31 entries, got 30"),
    "fewer values than columns": ({**PATTERN, "data": A.data[1:]}, "data", "as long as indices"),
    "rows that fall": ({**PATTERN, "data": A.data, "indptr": A.indptr[::-1].copy()}, "indptr", "must start with 0"),
    "columns out of range": ({**PATTERN, "data": A.data, "indices": A.indices + 1}, "indices", "from 0 to 29, got 30"),
    "another pattern": (
        {"indptr": OTHER.indptr, "indices": OTHER.indices, "data": OTHER.data},
        "operator",
        "row 0 is the first that differs, with entries in columns 0, 2 where they were in 0, 1",
    ),
    "values that are not finite": ({"data": A.data * np.inf}, "operator", "finite"),
}


def update(kept, change, id=None):
    told = pb.MatrixChange(**{name: tensors.header_of(array) for name, array in change.items()})
    yield pb.UpdateMatrixRequest(header=pb.UpdateMatrixHeader(id=kept.id if id is None else id, change=told))
    for name in ("indptr", "indices", "data"):
        if name in change:
            for part in tensors.parts_of(change[name]):
                yield pb.UpdateMatrixRequest(**{name: part})


def is_as_before(server, stub, kept, before):
    """What was refused has left no memory counted, no place taken and the matrix as it was."""
    set_ups = sum(place.kept_bytes for one in server.sessions.kept() for place in one.set_ups.values())
    return settled(lambda: server.sessions.bytes <= before + set_ups, True) and kept.solve(B, solver="cg").converged


@pytest.mark.parametrize("name", STEPS)
def test_a_step_out_of_turn_is_refused_by_name(stub, server, kept, name):
    requests, field, words = STEPS[name]
    before = server.sessions.bytes
    came, description = refused_field(lambda: list(stub.SolveMatrixSteps(iter(requests(kept)), timeout=60)))
    assert came == field
    assert words in description
    assert is_as_before(server, stub, kept, before)


@pytest.mark.parametrize("way", ["update", "step"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_change_that_does_not_fit_is_refused_by_name(stub, server, kept, name, way):
    change, field, words = CHANGES[name]
    before = server.sessions.bytes
    if way == "step" and not change:
        requests = [header(kept), pb.MatrixStepsRequest(step=pb.MatrixStepHeader(change=pb.MatrixChange()))]
        came, description = refused_field(lambda: list(stub.SolveMatrixSteps(iter(requests), timeout=60)))
    elif way == "step":
        requests = [header(kept), *step(), *step(**change), *step()]
        came, description = refused_field(lambda: list(stub.SolveMatrixSteps(iter(requests), timeout=60)))
    else:
        came, description = refused_field(lambda: stub.UpdateMatrix(update(kept, change), timeout=60))
    assert came == field
    assert words in description
    assert is_as_before(server, stub, kept, before)


def test_a_change_may_come_in_any_order_and_with_entries_twice(stub, kept):
    twice = {"indptr": 2 * A.indptr, "indices": np.repeat(A.indices, 2), "data": np.repeat(A.data, 2)}
    reply = stub.UpdateMatrix(update(kept, twice), timeout=60)
    assert (reply.unknowns, reply.entries) == (N, A.nnz)
    np.testing.assert_allclose(2 * A @ kept.solve(B, solver="cg", rtol=1e-10).x, B, rtol=1e-7)
    stub.UpdateMatrix(update(kept, {"data": 3 * A.data}), timeout=60)  # in the order of the first ones still
    np.testing.assert_allclose(3 * A @ kept.solve(B, solver="cg", rtol=1e-10).x, B, rtol=1e-7)


def test_a_matrix_that_is_not_there_is_not_found(stub, kept):
    calls = (
        lambda: stub.UpdateMatrix(update(kept, {"data": A.data}, id="none"), timeout=60),
        lambda: list(stub.SolveMatrixSteps(iter([header(kept, grid_id="none"), *step()]), timeout=60)),
        lambda: stub.DescribeMatrix(pb.DescribeMatrixRequest(id="none"), timeout=60),
    )
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_grid_is_no_matrix(stub, client):
    with client.poisson.grid(np.zeros((4, 4), np.uint8), boundary="dirichlet") as grid:
        with pytest.raises(grpc.RpcError) as caught:
            stub.UpdateMatrix(update(grid, {"data": A.data}), timeout=60)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


def test_a_cancel_stops_the_step_that_it_names_and_no_other(kept, paced, stub):
    goes_on = threading.Event()

    def requests():
        yield header(kept, solver="paced", rtol=1e-300)
        yield from step(data=2 * A.data)
        yield pb.MatrixStepsRequest(cancel=poisson_pb2.CancelStep(step=7))  # of which there is none yet
        assert paced.started.wait(20)
        yield pb.MatrixStepsRequest(cancel=poisson_pb2.CancelStep(step=0))
        goes_on.wait(20)
        paced.gate.set()
        yield from step()

    results = []
    for reply in stub.SolveMatrixSteps(requests(), timeout=60):
        if reply.HasField("solution"):
            results.append(reply.solution.result)
            goes_on.set()
    assert results[0] == poisson_pb2.RESULT_CANCELLED
    assert results[1] != poisson_pb2.RESULT_CANCELLED


@pytest.mark.parametrize("way", ["deadline", "cancel"])
def test_a_call_that_is_cut_off_stops_its_step_and_gives_back_what_it_had(server, client, kept, paced, stub, way):
    held = threading.Event()

    def requests():
        yield header(kept, solver="paced", rtol=1e-300)
        yield from step()
        yield from step(data=2 * A.data)
        held.wait(30)

    call = stub.SolveMatrixSteps(requests(), timeout=1.0 if way == "deadline" else 30)
    assert paced.started.wait(20)
    if way == "cancel":
        call.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    held.set()
    assert caught.value.code().name == {"deadline": "DEADLINE_EXCEEDED", "cancel": "CANCELLED"}[way]
    assert paced.finished.wait(20)
    assert settled(lambda: client.status().solves.used)
    count = paced.iterations
    paced.gate.set()
    time.sleep(0.1)
    assert paced.iterations == count  # the second step was never begun
    assert settled(lambda: server.sessions.kept()[0].users)
    np.testing.assert_allclose(A @ kept.solve(B, solver="cg", rtol=1e-10).x, B, rtol=1e-7)


def test_an_update_waits_for_the_solve_that_runs(kept, paced):
    found = []
    solving = threading.Thread(target=lambda: found.append(kept.solve(B, solver="paced", rtol=1e-8)))
    solving.start()
    assert paced.started.wait(20)
    updating = threading.Thread(target=lambda: kept.update(2.0 * A))
    updating.start()
    time.sleep(0.1)
    assert updating.is_alive()
    paced.gate.set()
    for thread in (solving, updating):
        thread.join(30)
        assert not thread.is_alive()
    np.testing.assert_allclose(A @ found[0].x, B, rtol=1e-5)
    np.testing.assert_allclose(2 * A @ kept.solve(B, solver="paced", rtol=1e-8).x, B, rtol=1e-5)


def test_a_matrix_that_is_deleted_under_its_steps_lets_them_end(server, client):
    kept = client.linear.matrix(A)
    found = kept.solve_steps(iter([B, B, B]), solver="cg")
    next(found)
    kept.delete()
    assert len(server.sessions) == 0
    assert server.sessions.bytes > 0  # counted for as long as it is used
    assert all(one.converged for one in found)
    assert settled(lambda: server.sessions.bytes)


def test_a_server_that_stops_ends_the_steps(paced):
    server = EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0, compile="")).__enter__()
    stopped = []
    with relaxon.connect(server.target) as client:
        kept = client.linear.matrix(A)

        def solving():
            try:
                list(kept.solve_steps(iter([B, B]), solver="paced", rtol=1e-300))
            except relaxon.client.RelaxonError as error:
                stopped.append(error)

        thread = threading.Thread(target=solving)
        thread.start()
        assert paced.started.wait(20)
        server.__exit__(None, None, None)
        thread.join(30)
        assert not thread.is_alive()
    assert len(stopped) == 1
    assert isinstance(stopped[0], relaxon.client.Unavailable | relaxon.client.Cancelled)


def test_values_larger_than_what_is_left_of_the_memory_are_refused_before_they_come(serving):
    server = serving(memory_bytes=300_000)
    with grpc.insecure_channel(server.target) as channel, relaxon.connect(server.target) as client:
        stub = linear_pb2_grpc.LinearSystemServiceStub(channel)
        kept = client.linear.matrix(A)
        many = 10**7
        change = pb.MatrixChange(
            data=tensors.header_of(np.broadcast_to(1.0, many)),
            indices=tensors.header_of(np.broadcast_to(np.int32(0), many)),
            indptr=tensors.header_of(A.indptr),
        )
        first = pb.UpdateMatrixRequest(header=pb.UpdateMatrixHeader(id=kept.id, change=change))
        with pytest.raises(grpc.RpcError) as caught:
            stub.UpdateMatrix(iter([first]), timeout=60)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert settled(lambda: client.status().solves.used)


def test_a_dashboard_s_session_says_how_many_levels_there_are(server, client):
    from relaxon.solvers import gallery, prepare

    a = gallery.matrix("laplacian-2d", 600)
    with client.linear.matrix(a) as kept:
        kept.solve(a @ np.ones(a.shape[0]), solver="amg")
        kept.solve(a @ np.ones(a.shape[0]), solver="cg")
        summary = prepare(a, solver="amg").summary()
        expected = f"amg ({len(summary.levels)} levels, operator complexity {summary.operator_complexity:.2f})"
        assert server.sessions.kept()[0].set_up_labels() == [expected, "cg"]


def test_what_is_looked_at_before_memory_is_taken_is_what_the_engine_takes():
    from relaxon.server.solving import matrices
    from relaxon.solvers.sparse import properties

    assert matrices.MAX_VECTORS == properties.MAX_VECTORS
    assert tuple(matrices.RIGID_MOTIONS) == properties.DIMENSIONS
