"""The process that works on a job, as the server sees it: how it is started, told to stop, and listened to."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import relaxon
from relaxon.server.config.settings import ServerSettings
from relaxon.server.config.threads import COUNTS, inherited_environment
from relaxon.server.jobs.folder import LOG
from relaxon.server.jobs.forked_process import ForkedProcess, fork
from relaxon.server.jobs.records import Json

WORKER = FORKED = "relaxon.server.jobs.worker"
"""The module that is run; where possible, it is forked from the process of `TEMPLATE` instead."""
TEMPLATE = "relaxon.server.jobs.template"
RAY_WORKER = "relaxon.server.jobs.ray_worker"
CANCEL, SUSPEND = b"cancel\n", b"suspend\n"
LOG_TAIL = 4000
"""How many bytes of a failed worker's own messages go into the server's log."""

Process = asyncio.subprocess.Process | ForkedProcess


class Backend(Protocol):
    """Where jobs run. In any case, a process on the server's own machine answers for the job.

    That process holds the job's lease, writes steps, checkpoints and the model into the job's folder, and talks to the
    server as `relaxon.server.jobs.worker` describes.
    """

    def __init__(self, settings: ServerSettings) -> None: ...

    @property
    def module(self) -> str:
        """The module that the process runs."""

    def arguments(self) -> Sequence[str]:
        """Return the arguments of the process beside those of the job."""

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables of the process beside those of this one."""


class LocalProcesses:
    """The process trains by itself."""

    def __init__(self, settings: ServerSettings) -> None:
        self._together = settings.training_workers

    @property
    def module(self) -> str:
        return WORKER

    def arguments(self) -> Sequence[str]:
        return ()

    def environment(self) -> Mapping[str, str]:
        if self._together == 1:
            return {}  # the libraries choose, or the environment of the server
        return thread_limits(max(1, (os.cpu_count() or 1) // self._together))


class RayCluster:
    """The process has an actor of a Ray cluster train, on a machine that has processors free."""

    def __init__(self, settings: ServerSettings) -> None:
        self._address, self._cpus = settings.ray_address, settings.ray_cpus

    @property
    def module(self) -> str:
        return RAY_WORKER

    def arguments(self) -> Sequence[str]:
        return (self._address, str(self._cpus))

    def environment(self) -> Mapping[str, str]:
        return {}


BACKENDS: dict[str, type[Backend]] = {"local": LocalProcesses, "ray": RayCluster}


def thread_limits(threads: int) -> dict[str, str]:
    """Return the environment variables with which the libraries use so many threads."""
    return {name: str(threads) for name in (*COUNTS, "OPENBLAS_NUM_THREADS")}


async def start(folder: Path, kind: str, steps: int, settings: ServerSettings) -> Process:
    """Start a process for the job of that kind in `folder`, of which the server knows so many steps."""
    backend = BACKENDS[settings.training_backend](settings)
    source = str(Path(relaxon.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    environment = {**inherited_environment(), "PYTHONPATH": path, **backend.environment()}
    # The process imports the modules that this server uses, not those of the working directory.
    run = (sys.executable, "-P", "-m")
    job = (str(folder.absolute()), str(steps), str(settings.checkpoint_seconds))
    with (folder / LOG).open("ab") as log:
        if backend.module == FORKED and sys.platform == "linux":
            return await fork((*run, TEMPLATE), environment, kind, job, log.fileno())
        return await asyncio.create_subprocess_exec(
            *run,
            backend.module,
            job[0],
            str(os.getpid()),
            *job[1:],
            *backend.arguments(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            # A Ctrl-C in the server's terminal is for the server alone, which stops the jobs in order.
            start_new_session=True,
            env=environment,
        )


async def listen(process: Process, report: Callable[[int, Json], None]) -> Json:
    """Pass on the steps that the process reports and return its last message, empty where it sent none."""
    assert process.stdout is not None
    async for line in process.stdout:
        try:
            said = json.loads(line)
        except ValueError:
            # The process was cut off in the middle of a line.
            return {}
        if "progress" not in said:
            last: Json = said
            return last
        report(said["step"], said["progress"])
    return {}


def tell(process: Process | None, word: bytes) -> None:
    """Write a word to a process; do nothing where there is none or it has ended."""
    if process is not None and process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(word)


def log_tail(folder: Path) -> str:
    """Return the end of what a job's processes have printed."""
    try:
        said = (folder / LOG).read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
    except OSError:
        said = ""
    return said or "nothing"
