"""What is seen of the server from outside: request ids, logs, metrics, traces, status, channelz; and a clean drain."""

import json
import logging
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import relaxon
from relaxon import client as errors
from relaxon.cli import main
from relaxon.client import BoostingSettings
from relaxon.server import app
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.watching import logs, tracing
from relaxon.server.watching.metrics import Metrics

LIST = "/relaxon.v1.PoissonService/ListSolvers"
DELETE = "/relaxon.v1.PoissonService/DeleteGrid"
CELLS = np.zeros((4, 4), np.uint8)


def trailing(call):
    return dict(call.trailing_metadata())


@pytest.mark.parametrize("given", ["abc-123", "a/b:c=d@e.f_g+h"])
def test_a_request_id_comes_back_in_answers_and_errors(server, given):
    with grpc.insecure_channel(server.target) as channel:
        metadata = (("x-request-id", given),)
        _, call = channel.unary_unary(LIST).with_call(b"", metadata=metadata, timeout=60)
        assert trailing(call)["x-request-id"] == given
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(DELETE)(b"", metadata=metadata, timeout=60)
        assert trailing(caught.value)["x-request-id"] == given
        info = error_details_pb2.RequestInfo()
        assert any(detail.Unpack(info) for detail in rpc_status.from_call(caught.value).details)
        assert info.request_id == given


@pytest.mark.parametrize("given", [None, "a b", "x" * 129, "a\x1b[31m", '"}'])
def test_a_request_id_that_is_none_is_replaced_by_a_fresh_one(server, given):
    metadata = () if given is None or not given.isprintable() else (("x-request-id", given),)
    with grpc.insecure_channel(server.target) as channel:
        made = {
            trailing(channel.unary_unary(LIST).with_call(b"", metadata=metadata, timeout=60)[1])["x-request-id"]
            for _ in range(2)
        }
    assert len(made) == 2
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in made)


def test_the_log_is_an_object_a_line_with_the_call_s_id(serving, capsys):
    root = logging.getLogger()
    kept, level = root.handlers[:], root.level
    try:
        logs.set_up(ServerSettings(log_format="json"))
        server = serving(log_calls=True)
        with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(DELETE)(b"", metadata=(("x-request-id", "find-me"),), timeout=60)
        time.sleep(0.2)
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    finally:
        root.handlers[:], root.level = kept, level
    (line,) = [line for line in lines if line.get("request_id") == "find-me"]
    assert line["method"] == DELETE
    assert line["code"] == "NOT_FOUND"
    assert line["level"] == "info"
    assert line["seconds"] >= 0


def test_a_line_break_from_a_caller_stays_within_its_line():
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\nb %s", ("c\r\nd",), None)
    assert json.loads(logs.JsonLines().format(record))["message"] == "a\nb c\r\nd"
    assert "\n" not in logs.JsonLines().format(record)


def figures(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as reply:
        text = reply.read().decode()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in text.splitlines() if line[0] != "#"}


@pytest.fixture
def free_port(monkeypatch):
    """Has the metrics' endpoint take a free port, whatever the setting says; gives the ports that it took."""
    ports = []
    serve = Metrics.serve

    def on_a_free_port(self, port):
        end = serve(self, 0)
        ports.append(self.port)
        return end

    monkeypatch.setattr(Metrics, "serve", on_a_free_port)
    return ports


def test_prometheus_reads_calls_solves_and_what_is_kept(serving, free_port):
    pytest.importorskip("prometheus_client")
    server = serving(metrics_port=1)
    with relaxon.connect(server.target) as client, client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        solution = grid.solve(np.ones((4, 4)), solver="cg")
        grid.solve(np.ones((4, 4)), solver="cg", max_iterations=1, rtol=1e-14)
        read = figures(free_port[0])
        with pytest.raises(errors.InvalidArgument):
            grid.solve(np.ones((4, 4)), solver="none")
    assert read['relaxon_solves_total{result="converged",solver="cg"}'] == 1
    assert read['relaxon_solves_total{result="max_iterations",solver="cg"}'] == 1
    assert read['relaxon_solve_iterations_sum{result="converged",solver="cg"}'] == solution.iterations
    assert read['relaxon_solve_iterations_sum{result="max_iterations",solver="cg"}'] == 1
    assert read['relaxon_calls_total{code="OK",method="/relaxon.v1.PoissonService/Solve"}'] == 2
    assert read["relaxon_sessions"] == 1
    assert read["relaxon_cells"] == 16
    assert read['relaxon_received_bytes_total{method="/relaxon.v1.PoissonService/Solve"}'] > 2 * 16 * 8
    assert read["relaxon_memory_bytes"] > 2**20
    assert read['relaxon_jobs{state="running"}'] == 0


def test_methods_that_are_not_served_are_one_line_however_many(serving, free_port):
    pytest.importorskip("prometheus_client")
    server = serving(metrics_port=1)
    with grpc.insecure_channel(server.target) as channel:
        for number in range(5):
            with pytest.raises(grpc.RpcError):
                channel.unary_unary(f"/a.B/C{number}")(b"", timeout=60)
    time.sleep(0.1)
    read = figures(free_port[0])
    assert read['relaxon_calls_total{code="UNIMPLEMENTED",method="unknown"}'] == 5
    assert not any("a.B" in name for name in read)


def test_a_metrics_port_that_is_taken_is_an_error(server):
    pytest.importorskip("prometheus_client")
    port = int(server.target.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), EmbeddedServer(ServerSettings(port=0, metrics_port=port)):
        pass


@pytest.fixture
def spans(monkeypatch):
    """An exporter in memory in the place of the one over the network."""
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "exporting", lambda: (provider, provider.shutdown))
    return exporter


def test_a_call_and_its_solve_are_spans_of_the_caller_s_trace(serving, spans):
    server = serving(traces=True)
    trace = "0af7651916cd43dd8448eb211c80319c"
    with relaxon.connect(server.target) as client, client.poisson.grid(CELLS, boundary="dirichlet") as grid:
        solution = grid.solve(np.ones((4, 4)), solver="cg")
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError):
        channel.unary_unary(DELETE)(b"", metadata=(("traceparent", f"00-{trace}-b7ad6b7169203331-01"),), timeout=60)
    time.sleep(0.1)
    ended = spans.get_finished_spans()
    (solve,) = [span for span in ended if span.name == "solve"]
    (call,) = [span for span in ended if span.name.endswith("/Solve")]
    assert solve.parent.span_id == call.context.span_id
    assert solve.attributes["relaxon.iterations"] == solution.iterations
    assert solve.attributes["relaxon.result"] == "converged"
    assert (solve.end_time - solve.start_time) / 1e9 == pytest.approx(
        solution.setup_seconds + solution.solve_seconds, abs=1e-4
    )
    followed = [span for span in ended if f"{span.context.trace_id:032x}" == trace]
    assert [span.attributes["rpc.grpc.status_code"] for span in followed] == [grpc.StatusCode.NOT_FOUND.value[0]]


def test_status_counts_what_there_is(serving, endless):
    server = serving(max_grids=7)
    with relaxon.connect(server.target) as client:
        grid = client.poisson.grid(np.zeros((4, 4), np.uint8), boundary="dirichlet")
        thread = threading.Thread(
            target=lambda: grid.solve(
                np.ones((4, 4)), solver="damped", rtol=1e-300, callback=lambda _: endless.gate.is_set()
            )
        )
        thread.start()
        assert endless.started.wait(20)
        status = client.status()
        endless.gate.set()
        thread.join(20)
    assert (status.sessions.used, status.sessions.limit) == (1, 7)
    assert status.cells.used == 16
    assert status.solves.used == 1
    assert status.calls.used == 3  # the solve, this one, and the one that says that the client is there
    assert status.version == relaxon.__version__
    assert status.memory.used > 2**20
    assert status.uptime_seconds > 0


@pytest.mark.in_clear
def test_the_status_command_tells_it_and_needs_a_server(server, capsys):
    assert main(["status", "--target", server.target, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sessions"] == {"used": 0, "limit": 64}
    assert main(["status", "--target", server.target]) == 0
    assert "0 of 64" in capsys.readouterr().out
    assert main(["status", "--target", server.target, "--health"]) == 0
    assert main(["status", "--target", "127.0.0.1:1", "--timeout", "0.5"]) == 1


def test_channelz_tells_admins_of_the_server(serving):
    channelz = pytest.importorskip("grpc_channelz.v1.channelz_pb2")
    from grpc_channelz.v1 import channelz_pb2_grpc

    server = serving(channelz=True)
    with grpc.insecure_channel(server.target) as channel:
        stub = channelz_pb2_grpc.ChannelzStub(channel)
        assert stub.GetServers(channelz.GetServersRequest(), timeout=60).server


def test_reflection_can_be_left_out(serving):
    server = serving(reflection=False)
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError) as caught:
        method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        next(channel.stream_stream(method)(iter([b""]), timeout=60))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("setting", ["traces", "metrics_port", "channelz"])
def test_a_missing_package_is_named_at_the_start(monkeypatch, setting):
    for module in ("prometheus_client", "opentelemetry", "opentelemetry.sdk.trace", "grpc_channelz"):
        monkeypatch.setitem(sys.modules, module, None)
    for module in [name for name in sys.modules if name.startswith(("opentelemetry.exporter", "grpc_channelz."))]:
        monkeypatch.setitem(sys.modules, module, None)
    settings = ServerSettings(port=0, **{setting: 1 if setting == "metrics_port" else True})
    with pytest.raises(ValueError, match="package that is missing"), EmbeddedServer(settings):
        pass


def test_an_operation_that_nobody_has_written_is_unimplemented(server):
    with grpc.insecure_channel(server.target) as channel, pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/grpc.health.v1.Health/List")(b"", timeout=60)
    assert caught.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.OK)


@pytest.mark.parametrize("messages", [[], [b"\xff\xff\xff"]])
def test_a_request_that_never_comes_or_cannot_be_read_is_refused(server, messages):
    with grpc.insecure_channel(server.target) as channel:
        for method in (
            LIST,
            DELETE,
            "/relaxon.v1.PoissonService/CreateGrid",
            "/google.longrunning.Operations/GetOperation",
        ):
            with pytest.raises(grpc.RpcError) as caught:
                next(channel.stream_stream(method)(iter(messages), timeout=60))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, method


def test_too_many_calls_at_a_time_are_refused(serving):
    server = serving(max_calls=1)
    with grpc.insecure_channel(server.target) as channel:
        watch = channel.stream_stream("/grpc.health.v1.Health/Watch")(iter([b""]), timeout=60)
        next(watch)
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(LIST)(b"", timeout=60)
        watch.cancel()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_on_sigterm_a_solve_and_a_job_end_in_order_and_new_calls_are_refused(tmp_path):
    """The process as it is run: a solve is finished within the grace time, a job is left to the next server."""
    command = [sys.executable, "-m", "relaxon", "serve", "--port", "0", "--grace-seconds", "60"]
    command += ["--model-folder", str(tmp_path / "models"), "--log-format", "json", "--log-calls"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if found := re.search(r"serves on (\S+)", line):
                break
        threading.Thread(target=process.stderr.read, daemon=True).start()
        client = relaxon.connect(found.group(1))
        cells = np.zeros((24, 24, 24), np.uint8)
        grid = client.poisson.grid(cells, boundary="dirichlet")
        rng = np.random.default_rng(0)
        x = rng.standard_normal((300, 4))
        job = client.boosting.train(
            x, x[:, 0], settings=BoostingSettings(n_units=5000, learning_rate=1e-3, tol=0.0), model="cut"
        )
        next(iter(job.progress()))
        outcome, began = [], threading.Event()

        def solve():
            def told(progress):
                began.set()
                time.sleep(0.01)

            outcome.append(grid.solve(rng.standard_normal(cells.shape), solver="cg", rtol=1e-12, callback=told))

        thread = threading.Thread(target=solve)
        thread.start()
        assert began.wait(60)
        process.send_signal(signal.SIGHUP)  # asks it to read its tokens again, and does not end it
        assert client.health() == "SERVING"
        process.send_signal(signal.SIGTERM)
        thread.join(60)
        assert outcome[0].converged
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    settings = ServerSettings(port=0, model_folder=str(tmp_path / "models"))
    with EmbeddedServer(settings) as server, relaxon.connect(server.target) as again:
        taken_up = again.boosting.job(job.name)
        assert taken_up.info().steps >= 1
        taken_up.cancel()
        assert taken_up.result(timeout=60).units > 0


def test_the_services_that_are_served_are_those_that_health_and_reflection_know(server):
    with relaxon.connect(server.target) as client:
        assert client.health() == "SERVING"
    assert len(set(app.SERVED)) == len(app.SERVED)
