"""The status of a server: what it is busy with, and how much of its limits is in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from relaxon.proto import status_pb2 as pb
from relaxon.wire.conversions.fields import read_fields


@dataclass(frozen=True, slots=True)
class Amount:
    """A limited resource: how much of it is used, and its limit, 0 where that is not known."""

    used: int
    limit: int

    def __str__(self) -> str:
        return f"{self.used:,} of {self.limit:,}" if self.limit else f"{self.used:,}"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """A part of the service, and whether the server has the packages that the part needs."""

    name: str
    """"poisson", "linear", "pyamg", "boosting", "convex", "energy", "equilibrium", "proximal",
    "dcdm-cnn", "dcdm@device" or "onnx"."""
    missing: tuple[str, ...]
    """The Python modules that it needs and the server lacks."""
    extra: str
    """The extra that brings them: `pip install "relaxon[EXTRA]"` on the server."""

    @property
    def available(self) -> bool:
        """Whether the server has all that it needs."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class CompileStatus:
    """The solvers that a server compiles in the background, so that the first solves need not wait for that."""

    waiting: tuple[str, ...] = ()
    """The solvers still to be compiled, in order; empty when all are compiled."""
    kernels: Amount = Amount(0, 0)
    """The kernels of the first of them that are compiled, and their number."""
    seconds_left: float = 0.0
    """An estimate of the time until the first of them is compiled."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """A server's status, from `Client.status`."""

    version: str
    started: datetime
    uptime_seconds: float
    sessions: Amount
    """Grids and matrices that the server keeps."""
    cells: Amount
    """The cells and unknowns of all of them."""
    calls: Amount
    """Calls in progress, including the one that asks for this status."""
    solves: Amount
    """Solves that wait, run or send their answer."""
    jobs: Mapping[str, int]
    """The number of jobs in each state: "queued", "running", "done", "failed"."""
    job_places: Amount
    models: Mapping[str, int]
    """The number of stored models of each kind."""
    memory: Amount
    """Bytes used by the server's process, of those of its machine."""
    threads: int
    caller: str
    """The name under which the server knows this client; empty where it asks for no token or certificate."""
    role: str
    encrypted: bool
    authenticated: bool
    engines: tuple[EngineInfo, ...] = ()
    """The parts of the service and whether they are available; empty where the server is too old to say."""
    compiling: CompileStatus = CompileStatus()


def parse_status(reply: pb.ServerStatus) -> ServerStatus:
    """Return the status in a server's reply."""
    return read_fields(ServerStatus, reply)
