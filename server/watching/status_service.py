"""`StatusService`: how busy the server is, in figures that are read where they are kept."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc

from relaxon._version import __version__
from relaxon.proto import status_pb2 as pb
from relaxon.proto import status_pb2_grpc
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import identity
from relaxon.server.gate.drain import Drain
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.records import timestamp
from relaxon.server.jobs.runner import JobRunner
from relaxon.server.solving.background_compiler import BackgroundCompiler
from relaxon.server.training.registry import ENGINES
from relaxon.server.watching.capabilities import list_capabilities
from relaxon.wire.conversions.jobs import JobState

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True)
class Busy:
    """The sources of the figures; used on the event loop."""

    settings: ServerSettings
    calls: Drain
    runner: JobRunner
    models: ModelStore
    sessions: Callable[[], int]
    cells: Callable[[], int]
    solves: Callable[[], int]
    compiler: BackgroundCompiler
    started: float = field(default_factory=time.time)

    def jobs(self) -> dict[str, int]:
        """Return the number of jobs in each state."""
        counted = Counter(job.state for job in self.runner.store.jobs())
        return {state.value: counted[state] for state in JobState}

    def model_counts(self) -> dict[str, int]:
        return {kind: self.models.count(kind) for kind in ENGINES}


class StatusServicer(status_pb2_grpc.StatusServiceServicer):
    """The call of the service."""

    def __init__(self, busy: Busy) -> None:
        self._busy = busy

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.ServerStatus:
        busy, caller = self._busy, identity.current()
        settings, jobs = busy.settings, busy.jobs()
        used, total = read_memory()
        places = jobs[JobState.QUEUED.value] + jobs[JobState.RUNNING.value]
        status = pb.ServerStatus(
            version=__version__,
            start_time=timestamp(busy.started),
            sessions=pb.Amount(used=busy.sessions(), limit=settings.max_grids),
            cells=pb.Amount(used=busy.cells(), limit=settings.max_total_cells),
            calls=pb.Amount(used=busy.calls.running, limit=settings.max_calls),
            solves=pb.Amount(used=busy.solves(), limit=settings.max_pending),
            jobs=jobs,
            job_places=pb.Amount(used=places, limit=settings.max_jobs),
            models=busy.model_counts(),
            memory=pb.Amount(used=used, limit=total),
            threads=threading.active_count(),
            caller=caller.name,
            role=caller.role.name.lower(),
            encrypted=settings.encrypted,
            authenticated=settings.authenticated,
            engines=[
                pb.Engine(name=one.name, missing=one.find_missing(), extra=one.extra) for one in list_capabilities()
            ],
        )
        self._fill_compiling(status.compiling)
        status.uptime.FromMilliseconds(int(1000 * (time.time() - busy.started)))
        return status

    def _fill_compiling(self, status: pb.CompileStatus) -> None:
        compiler = self._busy.compiler
        status.waiting.extend(compiler.waiting)
        progress = compiler.progress
        if progress is not None and compiler.waiting:
            status.kernels.used, status.kernels.limit = progress.done, progress.total
            status.time_left.FromMilliseconds(round(1000 * progress.seconds_left))


def read_memory() -> tuple[int, int]:
    """Return the bytes of memory of this process and of the machine; 0 where the system does not say."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        with open("/proc/self/statm", encoding="ascii") as figures:
            return page * int(figures.read().split()[1]), page * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return 0, 0
