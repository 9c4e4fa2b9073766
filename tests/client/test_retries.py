"""What is made again and what is not, after how long, and never for longer than the call may take."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np
import pytest
from both import KINDS, given, listed, play
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2
from google.rpc import error_details_pb2, status_pb2

import relaxon
from relaxon.client import GridLost, NotFound, ResourceExhausted, Retries, Unavailable
from relaxon.client.shared.retries import Attempts
from relaxon.core import errors
from relaxon.proto import boosting_pb2, boosting_pb2_grpc, poisson_pb2, poisson_pb2_grpc
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.wire import tensors

CELLS = np.zeros((4, 5), np.uint8)
GOOD = np.zeros((4, 5))
QUICK = Retries(attempts=4, first_seconds=0.01, longest_seconds=0.02)
AWAY, FULL = Unavailable("away"), ResourceExhausted("full", 2.0)


def attempts(seconds=100.0, now=lambda: 0.0, uniform=lambda low, high: high, **settings):
    return Attempts(Retries(**settings), seconds, now, uniform)


def test_waits_double_to_the_longest_and_end_with_the_attempts():
    one = attempts(attempts=6, first_seconds=1.0, longest_seconds=5.0)
    assert [one.wait_after(AWAY, True) for _ in range(6)] == [1.0, 2.0, 4.0, 5.0, 5.0, None]
    shortened = attempts(attempts=3, first_seconds=1.0, uniform=lambda low, high: low)
    assert [shortened.wait_after(AWAY, True) for _ in range(3)] == [0.5, 1.0, None]


def test_only_what_does_no_harm_is_repeated_when_the_server_was_away():
    assert attempts().wait_after(AWAY, False) is None
    assert attempts().wait_after(AWAY, True) is not None


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_full_server_s_wish_is_kept_and_the_callers_are_spread(idempotent):
    assert attempts(uniform=lambda low, high: low).wait_after(FULL, idempotent) == 2.0
    assert attempts().wait_after(FULL, idempotent) == 2.5
    assert attempts().wait_after(ResourceExhausted("a limit that waiting does not move"), idempotent) is None


def test_a_server_that_compiles_is_asked_again_when_it_said():
    compiling = Unavailable("the solver is being compiled")
    compiling.retry_seconds = 8.0
    assert attempts(uniform=lambda low, high: low).wait_after(compiling, True) == 8.0
    assert attempts().wait_after(compiling, True) == 10.0
    assert attempts(seconds=7.0).wait_after(compiling, True) is None


def test_no_wait_goes_beyond_the_call_s_time():
    assert attempts(seconds=2.0, uniform=lambda low, high: low).wait_after(FULL, True) is None
    assert attempts(seconds=2.1, uniform=lambda low, high: low).wait_after(FULL, True) == 2.0
    clock = iter([0.0, 3.0, 4.5])
    one = attempts(seconds=5.0, now=lambda: next(clock), first_seconds=1.0)
    assert one.left() == 2.0
    assert one.wait_after(AWAY, True) is None


@pytest.mark.parametrize(
    "error",
    [errors.DeadlineExceeded("late"), errors.InternalError("bug"), errors.InvalidArgument("b is bad"), NotFound("no")],
)
def test_no_other_error_is_repeated(error):
    assert attempts().wait_after(error, True) is None


def test_what_came_lets_the_counting_begin_anew():
    one = attempts(attempts=2)
    assert one.wait_after(AWAY, True) is not None
    one.succeeded()
    assert one.wait_after(AWAY, True) is not None
    assert one.wait_after(AWAY, True) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"attempts": 0}, "attempts must be at least 1"),
        ({"first_seconds": 0.0}, "first_seconds must be greater than 0"),
        ({"longest_seconds": 0.1}, "longest_seconds must be at least first_seconds"),
    ],
)
def test_bad_retries_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Retries(**settings)
    with pytest.raises(errors.InvalidArgument, match="^retries must be Retries") as caught:
        relaxon.connect("localhost:1", retries=3)
    assert caught.value.field == "retries"


class Scripted(
    poisson_pb2_grpc.PoissonServiceServicer,
    boosting_pb2_grpc.BoostingServiceServicer,
    operations_pb2_grpc.OperationsServicer,
):
    """Fails the first calls of each method, then answers."""

    def __init__(self, failures, code, retry_seconds):
        self.failures, self.code, self.retry_seconds = failures, code, retry_seconds
        self.calls = []
        self.deleted = False

    def _call(self, context, name):
        self.calls.append(name)
        if self.calls.count(name) <= self.failures:
            self._fail(context)

    def _fail(self, context):
        status = status_pb2.Status(code=self.code.value[0], message="no")
        if self.retry_seconds is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromMilliseconds(round(1000 * self.retry_seconds))
            status.details.add().Pack(retry)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(self.code, "no")

    def CreateGrid(self, requests, context):
        parts = sum(1 for _ in requests)
        assert parts == 3, "an attempt sends everything"
        self._call(context, "grid")
        return poisson_pb2.Grid(id="one", unknowns=20)

    def ListSolvers(self, request, context):
        self._call(context, "solvers")
        return poisson_pb2.ListSolversReply(solvers=[poisson_pb2.SolverInfo(name="cg")])

    def DeleteGrid(self, request, context):
        if self.deleted:
            self.calls.append("delete")
            context.abort(grpc.StatusCode.NOT_FOUND, "no grid")
        self.deleted = True  # but the answer may be lost
        self._call(context, "delete")
        return poisson_pb2.DeleteGridReply()

    def Solve(self, requests, context):
        header = next(requests).header
        assert header.b.shape == [4, 5]
        yield poisson_pb2.SolveReply(progress=poisson_pb2.Progress(iteration=1, residual=1.0, tolerance=0.1))
        self._call(context, "solve")
        residuals = np.zeros(1)
        told = {"x": tensors.describe_array(GOOD), "residuals": tensors.describe_array(residuals)}
        yield poisson_pb2.SolveReply(solution=poisson_pb2.SolutionHeader(result=1, **told))
        for part in tensors.split_array(GOOD):
            yield poisson_pb2.SolveReply(x=part)
        for part in tensors.split_array(residuals):
            yield poisson_pb2.SolveReply(residuals=part)

    def GetOperation(self, request, context):
        operation = operations_pb2.Operation(name=request.name)
        operation.metadata.Pack(boosting_pb2.BoostingTraining())
        return operation

    def CancelOperation(self, request, context):
        self._call(context, "cancel")
        return empty_pb2.Empty()

    def Watch(self, request, context):
        """Two steps a call, then the connection is lost; six in all."""
        self.calls.append("watch")
        for stage in range(request.skip + 1, 7):
            if stage == request.skip + 3 and self.failures:
                self._fail(context)
            yield boosting_pb2.BoostingProgress(stage=stage)

    def Truncate(self, request, context):
        self._call(context, "truncate")
        return boosting_pb2.BoostingModel(name="short")


@contextmanager
def scripted(failures=2, code=grpc.StatusCode.UNAVAILABLE, retry_seconds=None):
    service = Scripted(failures, code, retry_seconds)
    server = grpc.server(ThreadPoolExecutor(2))
    poisson_pb2_grpc.add_PoissonServiceServicer_to_server(service, server)
    boosting_pb2_grpc.add_BoostingServiceServicer_to_server(service, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield service, f"127.0.0.1:{port}"
    finally:
        server.stop(None)


async def solvers(client):
    return [one.name for one in await given(client.poisson.list_solvers())]


async def made_and_solved(client):
    grid = await given(client.poisson.grid(CELLS))
    seen = []
    solution = await given(grid.solve(GOOD, callback=lambda progress: seen.append(progress.iteration)))
    await given(grid.delete())
    return solution.result.name, seen


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_asks_is_repeated_until_it_is_answered(kind):
    with scripted() as (service, target):
        assert play(kind, target, solvers, retries=QUICK) == ["cg"]
        assert service.calls == ["solvers"] * 3
    with scripted(failures=4) as (service, target):
        with pytest.raises(Unavailable):
            play(kind, target, solvers, retries=QUICK)
        assert service.calls == ["solvers"] * 4
    with scripted() as (service, target):
        with pytest.raises(Unavailable):
            play(kind, target, solvers, retries=Retries(attempts=1))
        assert service.calls == ["solvers"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_makes_something_is_not_repeated_when_its_answer_may_be_lost(kind):
    async def truncated(client):
        return await given(client.boosting.truncate("long", 3))

    for scenario, name in ((made_and_solved, "grid"), (truncated, "truncate")):
        with scripted() as (service, target):
            with pytest.raises(Unavailable):
                play(kind, target, scenario, retries=QUICK)
            assert service.calls == [name]


@pytest.mark.parametrize("kind", KINDS)
def test_every_call_is_repeated_when_the_server_was_full(kind):
    with scripted(2, grpc.StatusCode.RESOURCE_EXHAUSTED, 0.01) as (service, target):
        result, seen = play(kind, target, made_and_solved, retries=QUICK)
        assert result == "CONVERGED"
        assert seen == [1, 1, 1]
        assert service.calls[:6] == ["grid"] * 3 + ["solve"] * 3
    with scripted(2, grpc.StatusCode.RESOURCE_EXHAUSTED) as (service, target):
        with pytest.raises(ResourceExhausted):
            play(kind, target, made_and_solved, retries=QUICK)
        assert service.calls == ["grid"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_wait_that_the_call_has_no_time_for_is_not_begun(kind):
    with scripted(1, grpc.StatusCode.RESOURCE_EXHAUSTED, 60.0) as (service, target):
        since = time.monotonic()
        with pytest.raises(ResourceExhausted) as caught:
            play(kind, target, solvers, retries=QUICK, timeout=60.0)
        assert caught.value.retry_seconds == 60.0
        assert service.calls == ["solvers"]
        assert time.monotonic() - since < 15.0


@pytest.mark.parametrize("kind", KINDS)
def test_a_grid_whose_deletion_was_done_but_not_answered_is_deleted(kind):
    async def deleted(client):
        grid = await given(client.poisson.grid(CELLS))
        await given(grid.delete())

    with scripted(failures=0) as (service, target):
        play(kind, target, deleted, retries=QUICK)
        with pytest.raises(NotFound):
            play(kind, target, deleted, retries=QUICK)
    with scripted(failures=1) as (service, target):
        service.calls.append("grid")  # making it fails not
        play(kind, target, deleted, retries=QUICK)
        assert service.calls[-2:] == ["delete", "delete"]


@pytest.mark.parametrize("kind", KINDS)
def test_progress_goes_on_where_the_connection_was_lost(kind):
    async def watched(client):
        job = await given(client.boosting.job("operations/one"))
        return [step.stage for step in await listed(job.progress())]

    with scripted() as (service, target):
        assert play(kind, target, watched, retries=QUICK) == [1, 2, 3, 4, 5, 6]
        assert service.calls == ["watch"] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_a_restarted_server_is_found_again_and_a_grid_of_the_old_one_is_told_of_as_lost(kind):
    first = EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0)).__enter__()
    port = int(first.target.rpartition(":")[2])
    second = EmbeddedServer(ServerSettings(port=port, grace_seconds=0.0))
    later = threading.Timer(0.7, second.__enter__)

    async def across(client):
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        first.__exit__(None, None, None)
        later.start()
        assert "cg" in await solvers(client)  # while no server is there
        with pytest.raises(GridLost, match="restarted") as caught:
            await given(grid.solve(np.ones((4, 5)), solver="cg"))
        assert grid.id in str(caught.value)
        assert caught.value.resource_name == grid.id
        again = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        assert (await given(again.solve(np.ones((4, 5)), solver="cg"))).converged
        await given(again.delete())
        with pytest.raises(NotFound) as caught:
            await given(again.solve(np.ones((4, 5)), solver="cg"))
        assert not isinstance(caught.value, GridLost)  # its own client has deleted it

    try:
        play(kind, first.target, across, retries=Retries(attempts=8))
    finally:
        later.join()
        second.__exit__(None, None, None)
