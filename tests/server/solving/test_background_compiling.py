"""What a server does while a solver is compiled: it waits, says how far it is, and refuses what has no time to wait."""

import threading
import zlib
from dataclasses import replace

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import relaxon
from relaxon.client import Retries, Unavailable
from relaxon.core import compile_progress
from relaxon.core.compile_progress import CompileProgress
from relaxon.proto import poisson_pb2 as pb
from relaxon.proto.poisson_pb2_grpc import PoissonServiceStub
from relaxon.proto.tensor_pb2 import TensorEnd, TensorPart
from relaxon.server.app import SERVICES, EmbeddedServer
from relaxon.server.config.settings import ServerSettings, compile_kinds
from relaxon.solvers.precompile import compiling
from relaxon.wire import tensors

pytestmark = pytest.mark.in_clear
SETTINGS = replace(ServerSettings(), port=0, compile="")
SHAPE = (8, 8)
ONCE = Retries(attempts=1)


class Slow:
    """In the place of `compile_kind`: says how far it is, and goes on when it is let."""

    def __init__(self) -> None:
        self.seconds_left = 40.0
        self.gate = threading.Event()
        self.stopped = threading.Event()
        self.asked: list[str] = []
        self.ready: set[str] = set()

    def compile_kind(self, kind, beside=False):
        if kind in self.ready or not beside:  # the solve itself looks again
            return
        self.asked.append(kind)
        compile_progress.tell(CompileProgress(3, 7, self.seconds_left))
        while not self.gate.wait(0.01):
            if self.stopped.is_set():
                return
        self.ready.add(kind)

    def is_ready(self, kind):
        return kind is None or kind in self.ready


@pytest.fixture
def slow(monkeypatch):
    slow = Slow()
    monkeypatch.setattr(compiling, "compile_kind", slow.compile_kind)
    monkeypatch.setattr(compiling, "is_ready", slow.is_ready)
    monkeypatch.setattr(compiling, "stop_compiling", slow.stopped.set)
    return slow


def grid_of(client):
    return client.poisson.grid(np.zeros(SHAPE, np.uint8), boundary="dirichlet")


def test_a_call_without_the_time_is_told_when_to_come_back_and_the_compiling_goes_on(slow):
    with EmbeddedServer(SETTINGS) as server, relaxon.connect(server.target, retries=ONCE) as client:
        with grid_of(client) as grid:
            with pytest.raises(Unavailable, match="being compiled") as caught:
                grid.solve(np.ones(SHAPE), solver="cg", timeout=8.0)
            assert caught.value.retry_seconds == slow.seconds_left
            with pytest.raises(Unavailable, match="being compiled"):
                list(grid.solve_steps([np.ones(SHAPE)], solver="cg", timeout=8.0))
            slow.gate.set()
            assert grid.solve(np.ones(SHAPE), solver="cg", timeout=60.0).converged
        assert slow.asked == ["cg 2D"]


def test_those_who_watch_on_the_client_s_side_hear_of_it(slow):
    slow.seconds_left = 1.5
    told = []

    def watch(progress):
        told.append(progress)
        slow.gate.set()

    with (
        EmbeddedServer(SETTINGS) as server,
        relaxon.connect(server.target) as client,
        grid_of(client) as grid,
        compile_progress.watch_compiling(watch),
    ):
        assert grid.solve(np.ones(SHAPE), solver="cg", timeout=30.0).converged
    assert CompileProgress(3, 7, 1.5) in told


def test_a_call_with_the_time_waits_and_hears_how_far_it_is(slow):
    with EmbeddedServer(SETTINGS) as server, relaxon.connect(server.target) as client, grid_of(client) as grid:
        b = np.ones(SHAPE)

        def requests():
            header = pb.SolveHeader(grid_id=grid.id, solver="cg", b=tensors.header_of(b), compile_progress=True)
            yield pb.SolveRequest(header=header)
            data = b.tobytes()
            yield pb.SolveRequest(b=TensorPart(chunk=data))
            yield pb.SolveRequest(b=TensorPart(end=TensorEnd(crc32=zlib.crc32(data))))

        with grpc.insecure_channel(server.target) as channel:
            kinds = []
            for reply in PoissonServiceStub(channel).Solve(requests(), timeout=60):
                kinds.append(reply.WhichOneof("message"))
                if kinds[-1] == "compiling":
                    state = reply.compiling
                    assert (state.done, state.total, state.time_left.ToSeconds()) == (3, 7, 40)
                    slow.gate.set()
        assert kinds[0] == "compiling"
        assert kinds.count("compiling") == 1
        assert "solution" in kinds


def test_a_caller_that_does_not_know_of_it_is_sent_nothing_new(slow):
    slow.gate.set()
    with EmbeddedServer(SETTINGS) as server, relaxon.connect(server.target) as client, grid_of(client) as grid:
        assert grid.solve(np.ones(SHAPE), solver="cg").converged
    assert slow.asked == ["cg 2D"]


def health_of(target, service):
    with grpc.insecure_channel(target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        found = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(found.status)


def test_health_and_status_tell_what_is_not_compiled_yet(slow):
    poisson, linear, *others = SERVICES
    settings = replace(SETTINGS, compile="cg 2D, jacobi-cg")
    with EmbeddedServer(settings) as server, relaxon.connect(server.target) as client:
        while not slow.asked:
            assert client.status().compiling.waiting
        assert health_of(server.target, poisson) == "NOT_SERVING"
        assert {health_of(server.target, one) for one in ("", linear, *others)} == {"SERVING"}
        told = client.status().compiling
        assert told.waiting == ("cg 2D", "jacobi-cg 3D")
        assert (told.kernels.used, told.kernels.limit, told.seconds_left) == (3, 7, 40.0)
        slow.gate.set()
        while health_of(server.target, poisson) == "NOT_SERVING":
            pass
        assert client.status().compiling.waiting == ()
        assert slow.asked == ["cg 2D", "jacobi-cg 3D"]


def test_the_dashboard_says_what_is_compiled(slow):
    from relaxon.server.solving.background_compiler import BackgroundCompiler
    from relaxon.server.solving.observations import Observations
    from relaxon.server.solving.sessions import SessionStore
    from relaxon.server.watching.dashboard.view import View

    class NoJobs:
        def jobs(self):
            return ()

    compiler = BackgroundCompiler()
    view = View("", SETTINGS, Observations(), SessionStore(SETTINGS), NoJobs(), compiler)
    assert view.state()["server"]["compiling"] == {"waiting": [], "done": 0, "total": 0}
    compiler.begin(["cg 2D"])
    while compiler.progress is None:
        pass
    assert view.state()["server"]["compiling"] == {"waiting": ["cg 2D"], "done": 3, "total": 7}
    slow.gate.set()
    compiler.close()


def test_a_server_that_stops_does_not_wait_for_the_compiling(slow):
    settings = replace(SETTINGS, compile="cg")
    with EmbeddedServer(settings) as server, relaxon.connect(server.target) as client:
        client.health()
    assert slow.stopped.is_set() or not slow.asked


def test_the_setting_names_kinds_and_refuses_others():
    assert compile_kinds("dcdm,  ic-cg 2D, auto  matrix, dcdm 3D, cg 3D varying,") == (
        "dcdm 3D",
        "ic-cg 2D",
        "auto matrix",
        "cg 3D varying",
    )
    assert compile_kinds("") == ()
    for wrong in ("none", "dcdm 4D", "2D"):
        with pytest.raises(ValueError, match=r"^compile must name solvers"):
            ServerSettings(compile=wrong)
