"""Hostile calls against a server of its own: does it ever crash, hang, leak, or answer without a proper status?

    python bench/fuzz.py [--count 10000] [--seed 1] [--service NAME …] [--in-clear] [--json FILE]

At least `--count` messages are sent to each served service, random bytes to the bare port beside them. The server runs
in another process, with TLS and a token (needs trustme and psutil), or `--in-clear`. Exit status 1 for a finding:
UNKNOWN or INTERNAL, a call without the token that is let in, a call that is not answered in time, a server that dies,
that does not answer sound calls afterwards, or that keeps threads, files or memory.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import grpc
import psutil
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2
from measuring.service.hostile import Attacker, HostileCall

import relaxon
from relaxon.client import (
    BoostingSettings,
    ConvexSettings,
    EnergySettings,
    EquilibriumSettings,
    ProximalNetwork,
    ProximalSettings,
)
from relaxon.client.shared import transport
from relaxon.client.shared.transport import Security

SECONDS, WAITING_SECONDS = 5.0, 0.3
"""A call's deadline, and of one that waits for news by its nature or whose sender falls silent."""
CONCURRENT = 12
ENOUGH = 20
"""Findings, after which the attack ends."""
FRAMES_EVERY = 20
SETTLED_SECONDS = 30.0
GROWTH_BYTES = 200 * 2**20
"""What the server may keep more than before: caches of models and set-ups, compiled kernels, the allocator's own."""
SLACK = 12
"""Threads and files that may come and go: pools that fill up."""
BAD = ("UNKNOWN", "INTERNAL", "DATA_LOSS")
WAITS = re.compile(r"/(Watch|WaitOperation|ServerReflectionInfo|Attend)$")
COMPUTES = re.compile(r"/(Solve\w*)$")
"""For as long as the deadline lets them."""


@dataclass
class Tally:
    """What became of one service's calls."""

    calls: int = 0
    messages: int = 0
    codes: dict[str, int] = field(default_factory=dict)


@dataclass
class Outcome:
    """A run."""

    services: dict[str, Tally] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    connections: int = 0
    before: dict[str, int] = field(default_factory=dict)
    after: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True)
class Served:
    """A running server."""

    target: str
    security: Security
    process: psutil.Process
    log: Path


@contextmanager
def server(secured: bool) -> Iterator[Served]:
    """A server in a process of its own, with small limits so that they are met."""
    with tempfile.TemporaryDirectory(prefix="relaxon-fuzz-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "relaxon", "serve", "--port", "0", "--grace-seconds", "0", "--max-jobs", "3"]
        command += ["--max-table-bytes", str(2**20), "--max-total-cells", str(2**20), "--max-grids", "16"]
        command += ["--idle-seconds", "2", "--max-units", "50", "--log-level", "error"]
        if find_spec("grpc_channelz"):
            command.append("--channelz")
        security = Security()
        if secured:
            made, security = _authority(folder)
            command += made
        environment = {**os.environ, "COLUMNS": "200", "OMP_WAIT_POLICY": "passive"}
        environment["PYTHONPATH"] = str(Path(relaxon.__file__).parents[1])
        log = folder / "log"
        with log.open("w") as stream:
            process = subprocess.Popen(command, stderr=stream, env=environment)
        try:
            deadline = time.monotonic() + 60
            while not (found := re.search(r"serves on (\S+)", log.read_text(errors="replace"))):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')}")
                time.sleep(0.05)
            yield Served(found.group(1), security, psutil.Process(process.pid), log)
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run(count: int, seed: int, secured: bool, only: tuple[str, ...] = (), progress: Any = None) -> Outcome:
    """Attack a server; see the module."""
    outcome, start = Outcome(), time.monotonic()
    with server(secured) as served:
        names = _services(served)
        known = _known(served)
        outcome.before = _held(served.process)
        for name in names:
            if only and name not in only:
                continue
            outcome.services[name] = Tally()
            # Each service has a sequence of its own, whatever else is attacked.
            attacker = Attacker(f"{seed} {name}", known)
            try:
                _attack(served, name, attacker, count, outcome)
            except Exception as error:
                outcome.findings.append(f"{name}: the attack itself failed: {error!r}")
            if not served.process.is_running() or served.process.status() == psutil.STATUS_ZOMBIE:
                outcome.findings.append(f"{name}: the server died: {served.log.read_text(errors='replace')[-2000:]}")
                break
            if progress:
                progress(name, outcome)
        else:
            _judge(served, outcome)
    outcome.seconds = time.monotonic() - start
    return outcome


def _services(served: Served) -> list[str]:
    """All that the server says that it serves."""
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    with _channel(served) as channel:
        reply = next(
            channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
                response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
            )(iter([request]), metadata=_metadata(served, True), timeout=30)
        )
    return sorted(service.name for service in reply.list_services_response.service)


def _attack(served: Served, name: str, attacker: Attacker, count: int, outcome: Outcome) -> None:
    # The modules that make the descriptors known are those that the server itself imports.
    import relaxon.server.app  # noqa: F401

    if find_spec("grpc_channelz"):
        import grpc_channelz.v1.channelz_pb2  # noqa: F401
    methods = descriptor_pool.Default().FindServiceByName(name).methods
    tally, guard = outcome.services[name], threading.Lock()

    def work() -> None:
        with _channel(served) as channel:
            while True:
                with guard:
                    if tally.messages >= count or len(outcome.findings) >= ENOUGH:
                        return
                    call = attacker.call(methods[tally.calls % len(methods)])
                    tally.calls += 1
                    tally.messages += max(1, len(call.messages))
                    frames = attacker.frames() if tally.calls % FRAMES_EVERY == 0 else b""
                code, details, seconds = _make(channel, served, call)
                if frames:
                    _throw(served, frames)
                with guard:
                    outcome.connections += bool(frames)
                    tally.codes[code] = tally.codes.get(code, 0) + 1
                    _examine(served, call, code, details, seconds, outcome)

    with ThreadPoolExecutor(CONCURRENT) as threads:
        for done in [threads.submit(work) for _ in range(CONCURRENT)]:
            done.result()


def _make(channel: grpc.Channel, served: Served, made: HostileCall) -> tuple[str, str, float]:
    """The status of a call, what is said of it, and how long it took."""
    start, over, sent = time.monotonic(), threading.Event(), threading.Event()

    def messages() -> Iterator[bytes]:
        yield from made.messages
        sent.set()
        if made.ending != "close":
            over.wait(2 * SECONDS)

    metadata = (*_metadata(served, made.token), *made.metadata)
    refused = served.security.token is not None and not made.token  # which a busy server may take its time to say
    waits = WAITS.search(made.method) or made.ending == "leave"
    seconds = WAITING_SECONDS if waits and not refused else SECONDS
    call = channel.stream_stream(made.method)(messages(), metadata=metadata, timeout=seconds)
    if made.ending == "cancel":
        sent.wait(0.5)
        call.cancel()
    try:
        for _ in call:
            pass
    except grpc.RpcError:
        pass
    finally:
        over.set()
    return call.code().name, (call.details() or "")[:200], time.monotonic() - start


def _examine(served: Served, call: HostileCall, code: str, details: str, seconds: float, outcome: Outcome) -> None:
    """Note what should not have been."""
    what = f"{call.method} ({len(call.messages)} messages, {call.ending}): {code} {details!r} after {seconds:.1f} s"
    guarded = served.security.token is not None
    if code in BAD or code == "UNAVAILABLE" or "metadata size exceeds" in details:
        outcome.findings.append(what)
    elif guarded and not call.token and code not in ("UNAUTHENTICATED", "CANCELLED"):
        outcome.findings.append(f"let in without the token: {what}")
    elif (
        code == "DEADLINE_EXCEEDED"
        and call.ending == "close"
        and not (WAITS.search(call.method) or COMPUTES.search(call.method))
    ):
        outcome.findings.append(f"not answered: {what}")


def _throw(served: Served, content: bytes) -> None:
    """Bytes to the bare port; what comes back does not matter."""
    host, _, port = served.target.rpartition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=2) as connection:
        connection.sendall(content)
        connection.settimeout(0.05)
        connection.recv(1000)


def _judge(served: Served, outcome: Outcome) -> None:
    """After the attack: do sound calls work, and is what was taken given back?"""
    import numpy as np

    with _client(served) as client:
        if client.health() != "SERVING":
            outcome.findings.append(f"health says {client.health()}")
        with client.poisson.grid(np.zeros((8, 8), np.uint8), boundary="dirichlet") as grid:
            if not grid.solve(np.ones((8, 8)), solver="cg", timeout=60).converged:
                outcome.findings.append("a sound solve does not converge")
        deadline = time.monotonic() + SETTLED_SECONDS
        while True:
            outcome.after = _held(served.process)
            kept = {
                name: outcome.after[name] - outcome.before[name]
                for name, most in (("threads", SLACK), ("files", SLACK), ("bytes", GROWTH_BYTES))
                if outcome.after[name] - outcome.before[name] > most
            }
            if not kept or time.monotonic() > deadline:
                break
            time.sleep(0.5)
        outcome.findings += [f"the server keeps {more} {name} more than before" for name, more in kept.items()]
    said = served.log.read_text(errors="replace")
    if "Traceback" in said:
        outcome.findings.append("the server's log has a traceback: " + said[said.index("Traceback") :][:6000])


def _held(process: psutil.Process) -> dict[str, int]:
    return {"threads": process.num_threads(), "files": process.num_fds(), "bytes": process.memory_info().rss}


def _known(served: Served) -> dict[str, list[Any]]:
    """Right values, by the names of fields; the server is warm when they have been made."""
    import numpy as np

    with _client(served) as client:
        with client.poisson.grid(np.zeros((4, 5), np.uint8), boundary="dirichlet") as grid:
            for solver in ("cg", "mg-cg"):
                grid.solve(np.ones((4, 5)), solver=solver)
        grids, matrix = _lasting(client)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((20, 5))
        job = client.boosting.train(x, x[:, 0], settings=BoostingSettings(n_units=2), model="known")
        model = job.result(timeout=120)
        client.boosting.predict(model, x)
        few = ConvexSettings(n_patterns=3, refinements=0, max_iter=20)
        convex = client.convex.train(x, x[:, 0], settings=few, model="known")
        convex.result(timeout=120)
        client.convex.predict("known", x)
        settings = EquilibriumSettings(hidden_sizes=(3,), epochs=1)
        equilibrium = client.equilibrium.train(x, (x[:, 0] > 0).astype(int), settings=settings, model="known")
        equilibrium.result(timeout=120)
        client.equilibrium.predict("known", x)
        energy = client.energy.train(x, settings=EnergySettings(hidden_sizes=(3,), steps=1), model="known")
        energy.result(timeout=120)
        client.energy.log_density("known", x)
        tiny = ProximalSettings(noise=1.0, start_steps=1, gammas=(1.0,), stage_steps=1)
        proximal = client.proximal.train(x, ProximalNetwork((5,), hidden=(3,)), tiny, model="known")
        proximal.result(timeout=120)
        client.proximal.denoise("known", x)
    return {
        "grid_id": [grids[0], grids[1], matrix],
        "id": ["none", *grids],
        "model": ["known", "new", ""],
        "name": [
            "known",
            job.name,
            equilibrium.name,
            "operations",
            "none",
            "known-2",
            "model.json",
            "network.safetensors",
        ],
        "operation": [job.name, convex.name, equilibrium.name, energy.name, proximal.name],
        "solver": ["cg", "mg-cg", "ic-cg", "none"],
        "rtol": [1e-6, 0.1],
        "max_iterations": [1, 10],
        "kind": ["boosting", "convex", "energy", "equilibrium", "proximal", "dense", "convolutional"],
        "method": ["pgd", "admm", "mirror", ""],
        "start_steps": [1],
        "stage_steps": [1],
        "program": ["patterns", "units"],
        "n_patterns": [1, 3],
        "refinements": [0, 1],
        "max_iter": [1, 20],
        "count": [1, 10],
        "steps": [1],
        "paths": [1, 10],
        "service": ["", "relaxon.v1.PoissonService"],
        "attendance": [""],
        "file_containing_symbol": ["relaxon.v1.PoissonService", "relaxon.v1.Grid"],
        "n_units": [1, 2, 3],
        "epochs": [1],
    }


def _lasting(client: Any) -> tuple[list[str], str]:
    """Grids and a matrix that stay when their client has gone."""
    import numpy as np
    from scipy.sparse import eye_array

    from relaxon.wire.arrays import Wire
    from relaxon.wire.conversions.grid import checked_grid, grid_requests
    from relaxon.wire.conversions.matrix import SentMatrix

    wire = Wire(shared_memory=False, checksums=True)
    grid = checked_grid(np.zeros((4, 5), np.uint8), 1.0, "dirichlet", None, None, None)
    create = client.poisson._stub.CreateGrid
    grids = [create(grid_requests(grid, wire, None, ""), timeout=60).id for _ in range(6)]
    sent = SentMatrix.of(eye_array(20).tocsr())
    return grids, client.linear._stub.CreateMatrix(sent.requests(wire, None, ""), timeout=60).id


def _client(served: Served) -> Any:
    security = served.security
    return relaxon.connect(
        served.target, timeout=60, token=security.token, root_certificates=security.root_certificates
    )


def _channel(served: Served) -> grpc.Channel:
    """A connection of its own."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
    if served.security.encrypted:
        return grpc.secure_channel(served.target, served.security.channel_credentials(), options)
    return grpc.insecure_channel(served.target, options)


def _metadata(served: Served, right: bool) -> tuple[tuple[str, str], ...]:
    token = served.security.token
    return ((transport.TOKEN_KEY, f"Bearer {token}"),) if token and right else ()


def _authority(folder: Path) -> tuple[list[str], Security]:
    """A certificate and an admin's token: the options of the server, and how to speak to it."""
    import trustme

    from relaxon.server.gate import tokens
    from relaxon.server.gate.identity import Role

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", "localhost")
    certificate, key, roots = folder / "server.pem", folder / "server.key", folder / "roots.pem"
    issued.cert_chain_pems[0].write_to_path(str(certificate))
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(roots))
    token = tokens.add(folder / "tokens", "fuzz", Role.ADMIN)
    options = ["--tls-certificate", str(certificate), "--tls-key", str(key), "--token-file", str(folder / "tokens")]
    return options, Security(token=token, root_certificates=roots)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="messages to each service (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--service", nargs="+", default=(), help="these services alone, by their full names")
    parser.add_argument("--in-clear", action="store_true", help="without TLS and token")
    parser.add_argument("--json", type=Path, metavar="FILE", help="the whole outcome")
    args = parser.parse_args()

    def tell(name: str, outcome: Outcome) -> None:
        tally = outcome.services[name]
        codes = ", ".join(f"{code} {number}" for code, number in sorted(tally.codes.items(), key=lambda item: -item[1]))
        print(f"{name}: {tally.messages} messages in {tally.calls} calls: {codes}", flush=True)

    outcome = run(args.count, args.seed, not args.in_clear, tuple(args.service), tell)
    print(f"{outcome.connections} bare connections; {outcome.seconds:.0f} s")
    print(f"before {outcome.before}, after {outcome.after}")
    for finding in outcome.findings:
        print("FOUND", finding)
    if args.json:
        args.json.write_text(json.dumps(asdict(outcome), indent=1) + "\n", encoding="utf-8")
    print("FAILED" if outcome.findings else "nothing was found")
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
