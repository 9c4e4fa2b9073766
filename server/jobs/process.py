"""The process that works on a job, as the server sees it: started, told, listened to."""

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
from relaxon.server.config.threads import COUNTS, inherited
from relaxon.server.jobs.folder import LOG
from relaxon.server.jobs.forked_process import ForkedProcess, fork
from relaxon.server.jobs.records import Json

WORKER = FORKED = "relaxon.server.jobs.worker"
"""What is run, and what is rather forked from the process of `TEMPLATE` where that is possible."""
TEMPLATE = "relaxon.server.jobs.template"
RAY_WORKER = "relaxon.server.jobs.ray_worker"
CANCEL, SUSPEND = b"cancel\n", b"suspend\n"
LOG_TAIL = 4000
"""Bytes of a failed worker's own messages that go into the server's log."""

Process = asyncio.subprocess.Process | ForkedProcess


class Backend(Protocol):
    """Where jobs are worked on. Whatever it is, the server has a process on its own machine that answers for the job.

    That process has the job's lease, writes steps, checkpoints and the model into the job's folder, and talks to the
    server as `relaxon.server.jobs.worker` says.
    """

    def __init__(self, settings: ServerSettings) -> None: ...

    @property
    def module(self) -> str:
        """What that process runs."""

    def arguments(self) -> Sequence[str]:
        """What it is given beside the job."""

    def environment(self) -> Mapping[str, str]:
        """What it finds in its environment beside what this process has there."""


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
            return {}  # the libraries' own choice, or the one that the server was started with
        return thread_limits(max(1, (os.cpu_count() or 1) // self._together))


class RayCluster:
    """The process has an actor of a Ray cluster train, on whichever machine has processors free."""

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
    """The environment in which the libraries take so many threads."""
    return {name: str(threads) for name in (*COUNTS, "OPENBLAS_NUM_THREADS")}


async def start(folder: Path, kind: str, steps: int, settings: ServerSettings) -> Process:
    """A process for the job of that kind in `folder`, of which the server knows so many steps."""
    backend = BACKENDS[settings.training_backend](settings)
    source = str(Path(relaxon.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    environment = {**inherited(), "PYTHONPATH": path, **backend.environment()}
    # Modules come from where this server's do, not from the folder in which it was started.
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
            # A Ctrl-C in the server's terminal is for the server alone, which lets the jobs end in order.
            start_new_session=True,
            env=environment,
        )


async def listen(process: Process, told: Callable[[int, Json], None]) -> Json:
    """Pass the steps on that the process tells of; its last word, empty where it did not come to that."""
    assert process.stdout is not None
    async for line in process.stdout:
        try:
            said = json.loads(line)
        except ValueError:
            # Cut off in the middle of a line, as the process was.
            return {}
        if "progress" not in said:
            last: Json = said
            return last
        told(said["step"], said["progress"])
    return {}


def tell(process: Process | None, word: bytes) -> None:
    """Write to a process; nothing where there is none, or it has ended."""
    if process is not None and process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(word)


def log_tail(folder: Path) -> str:
    """The last that a job's processes have printed."""
    try:
        said = (folder / LOG).read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
    except OSError:
        said = ""
    return said or "nothing"
