"""The process that works on a job, as the server sees it: how it is started, told to stop, and listened to."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import relaxon
from relaxon.server.config.settings import ServerSettings
from relaxon.server.config.threads import COUNTS, build_environment
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


class Backend(NamedTuple):
    """Where jobs run. In any case, a process on the server's own machine answers for the job.

    That process holds the job's lease, writes steps, checkpoints and the model into the job's folder, and talks to the
    server as `relaxon.server.jobs.worker` describes.
    """

    module: str
    """The module that the process runs."""
    arguments: tuple[str, ...] = ()
    """The arguments of the process beside those of the job."""
    environment: Mapping[str, str] = {}
    """The environment variables of the process beside those of this one."""


def choose_backend(settings: ServerSettings) -> Backend:
    """Return a process that trains by itself, or one that has an actor of a Ray cluster train where that has room."""
    if settings.training_backend == "ray":
        return Backend(RAY_WORKER, (settings.ray_address, str(settings.ray_cpus)))
    if settings.training_workers == 1:
        return Backend(WORKER)  # the libraries choose their threads, or the environment of the server
    return Backend(WORKER, environment=thread_limits(max(1, (os.cpu_count() or 1) // settings.training_workers)))


def thread_limits(threads: int) -> dict[str, str]:
    """Return the environment variables with which the libraries use so many threads."""
    return {name: str(threads) for name in (*COUNTS, "OPENBLAS_NUM_THREADS")}


async def start(folder: Path, kind: str, steps: int, settings: ServerSettings) -> Process:
    """Start a process for the job of that kind in `folder`, of which the server knows so many steps."""
    backend = choose_backend(settings)
    source = str(Path(relaxon.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    environment = {**build_environment(), "PYTHONPATH": path, **backend.environment}
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
            *backend.arguments,
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
