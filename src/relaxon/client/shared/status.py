"""What a server says of itself: how much of what there is it uses, and what it is busy with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relaxon.proto import status_pb2 as pb


@dataclass(frozen=True, slots=True)
class Amount:
    """Something that there is only so much of; `limit` is 0 where it is not known."""

    used: int
    limit: int

    def __str__(self) -> str:
        return f"{self.used:,} of {self.limit:,}" if self.limit else f"{self.used:,}"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """A part of the service, and whether the server has the packages that it needs."""

    name: str
    """"poisson", "linear", "pyamg", "boosting", "convex", "energy", "equilibrium", "proximal",
    "dcdm-cnn", "dcdm@device" or "onnx"."""
    missing: tuple[str, ...]
    """Python modules that it needs and the server lacks."""
    extra: str
    """What to install on the server to have it: `pip install "relaxon[EXTRA]"`."""

    @property
    def available(self) -> bool:
        return not self.missing


@dataclass(frozen=True, slots=True)
class CompileStatus:
    """Solvers that a server compiles in the background, for the first solves not to wait for it."""

    waiting: tuple[str, ...] = ()
    """What is not compiled yet, in its order; empty when all is."""
    kernels: Amount = Amount(0, 0)
    """Of the first of them: those that are compiled, of how many."""
    seconds_left: float = 0.0
    """An estimate for the first of them."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """From `Client.status`."""

    version: str
    started: datetime
    uptime_seconds: float
    sessions: Amount
    """Grids that are kept."""
    cells: Amount
    """Of all grids."""
    calls: Amount
    """That are handled now, the question for this included."""
    solves: Amount
    """That wait, run or send their answer."""
    jobs: Mapping[str, int]
    """By state: "queued", "running", "done", "failed"."""
    job_places: Amount
    models: Mapping[str, int]
    """Stored ones, by kind."""
    memory: Amount
    """Bytes of the server's process, and of its machine."""
    threads: int
    caller: str
    """Who the server takes this client for; empty where it asks nobody."""
    role: str
    encrypted: bool
    authenticated: bool
    engines: tuple[EngineInfo, ...] = ()
    """What the server can and cannot be asked for; empty where it is too old to say."""
    compiling: CompileStatus = CompileStatus()


def told(reply: pb.ServerStatus) -> ServerStatus:
    """From the server's answer."""
    return ServerStatus(
        version=reply.version,
        started=reply.start_time.ToDatetime(UTC),
        uptime_seconds=reply.uptime.ToMilliseconds() / 1000,
        sessions=_amount(reply.sessions),
        cells=_amount(reply.cells),
        calls=_amount(reply.calls),
        solves=_amount(reply.solves),
        jobs=dict(sorted(reply.jobs.items())),
        job_places=_amount(reply.job_places),
        models=dict(sorted(reply.models.items())),
        memory=_amount(reply.memory),
        threads=reply.threads,
        caller=reply.caller,
        role=reply.role,
        encrypted=reply.encrypted,
        authenticated=reply.authenticated,
        engines=tuple(EngineInfo(one.name, tuple(one.missing), one.extra) for one in reply.engines),
        compiling=CompileStatus(
            tuple(reply.compiling.waiting),
            _amount(reply.compiling.kernels),
            reply.compiling.time_left.ToMilliseconds() / 1000,
        ),
    )


def _amount(message: Any) -> Amount:
    return Amount(message.used, message.limit)
