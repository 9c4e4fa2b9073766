"""The server as a whole: standard services, where it listens, and how it stops."""

import argparse
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

import relaxon
from relaxon import client as errors
from relaxon.cli import serve as command
from relaxon.proto import poisson_pb2
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import DEFAULT_PORT, ServerSettings
from relaxon.solvers import Result

ROOT = Path(relaxon.__file__).resolve().parents[2]
SERVICE = "relaxon.v1.PoissonService"
SERVICES = {f"relaxon.v1.{name}Service" for name in ("Poisson", "LinearSystem", "Session")}
SERVICES |= {
    f"relaxon.v1.{name}Service"
    for name in ("Boosting", "Convex", "Energy", "Equilibrium", "Model", "Proximal", "Status")
}
SERVICES.add("google.longrunning.Operations")


def test_reflection_lists_the_services_and_describes_ours(server):
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE),
    ]
    with grpc.insecure_channel(server.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        listed, described = stub.ServerReflectionInfo(iter(requests), timeout=60)
    names = {service.name for service in listed.list_services_response.service}
    assert names == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert poisson_pb2.DESCRIPTOR.serialized_pb in described.file_descriptor_response.file_descriptor_proto


@pytest.mark.parametrize("name", ["", *sorted(SERVICES)])
def test_health_is_told_for_the_server_and_the_service(server, name):
    with grpc.insecure_channel(server.target) as channel:
        check = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name), timeout=60)
    assert check.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.7", "::", "example.org"])
def test_only_loopback_is_listened_on_unless_told_otherwise(host):
    with pytest.raises(ValueError, match=r"^host must be a loopback address.*--insecure"):
        ServerSettings(host=host)
    assert ServerSettings(host=host, insecure=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost"])
def test_loopback_is_listened_on(host):
    assert ServerSettings(host=host).host == host


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", "1"),
        ("port", True),
        ("workers", 0),
        ("max_cells", 1.5),
        ("training_workers", 0),
        ("max_jobs", "many"),
        ("max_table_bytes", -1),
        ("model_folder", None),
        ("grid_ttl_seconds", 0),
        ("grid_ttl_seconds", float("inf")),
        ("grace_seconds", -1),
    ],
)
def test_a_bad_setting_is_refused_by_name(name, value):
    with pytest.raises((ValueError, TypeError), match=f"^{name} must"):
        ServerSettings(**{name: value})


def test_a_port_that_is_taken_is_an_error(server):
    port = int(server.target.rpartition(":")[2])
    with pytest.raises(OSError, match=f"port {port} on 127.0.0.1"), EmbeddedServer(ServerSettings(port=port)):
        pass


def test_stopping_waits_for_a_solve_within_the_grace_time(damped):
    outcome = []
    damped.gate = threading.Event()
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=60)) as server:
        client = relaxon.connect(server.target)
        grid = client.poisson.grid(np.zeros((4, 4), np.uint8), boundary="dirichlet")
        thread = threading.Thread(target=lambda: outcome.append(grid.solve(np.ones((4, 4)), solver="damped")))
        thread.start()
        assert damped.started.wait(20)
        assert not outcome
    thread.join(20)
    assert outcome[0].converged


def test_stopping_cuts_a_solve_off_after_the_grace_time(endless):
    outcome = []

    def solve():
        try:
            grid.solve(np.ones((4, 4)), solver="damped", rtol=1e-300)
        except errors.RelaxonError as error:
            outcome.append(type(error))

    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.1)) as server:
        client = relaxon.connect(server.target)
        grid = client.poisson.grid(np.zeros((4, 4), np.uint8), boundary="dirichlet")
        thread = threading.Thread(target=solve)
        thread.start()
        assert endless.started.wait(20)
    assert endless.finished.is_set()  # its thread is gone before the server is
    thread.join(20)
    assert outcome == [errors.Unavailable]


def test_the_command_s_options_are_the_settings():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(["--port", "0", "--max-cells", "1000", "--grid-ttl-seconds", "5", "--no-shared-memory"])
    assert command.collect_settings(args) == {
        "port": 0,
        "max_cells": 1000,
        "grid_ttl_seconds": 5.0,
        "shared_memory": False,
    }
    assert command.collect_settings(parser.parse_args([])) == {}
    assert ServerSettings().port == DEFAULT_PORT
    assert command.run(parser.parse_args(["--host", "0.0.0.0"])) == 2


def test_the_command_serves_and_drains_on_sigterm():
    program = (
        "import argparse, sys; from relaxon.cli import serve as command\n"
        "parser = argparse.ArgumentParser(); command.add_arguments(parser)\n"
        "sys.exit(command.run(parser.parse_args(['--port', '0', '--grace-seconds', '5'])))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "COLUMNS": "200"}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stderr=subprocess.PIPE, text=True
    ) as process:
        address = None
        for line in process.stderr:
            address = re.search(r"serves on (\S+)", line)
            if address:
                break
        with relaxon.connect(address.group(1)) as client:
            with client.poisson.grid(np.zeros((3, 3), np.uint8)) as grid:
                assert grid.unknowns == 9
            process.send_signal(signal.SIGTERM)
        process.stderr.read()
        assert process.wait(30) == 0


def test_every_result_and_boundary_has_its_place_on_the_wire():
    assert {f"RESULT_{one.name}" for one in Result} | {"RESULT_UNSPECIFIED"} == set(poisson_pb2.Result.keys())


def test_the_committed_stubs_are_what_the_proto_files_generate():
    pytest.importorskip("grpc_tools")
    script = [sys.executable, str(ROOT / "tools" / "generate_stubs.py"), "--check"]
    done = subprocess.run(script, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
