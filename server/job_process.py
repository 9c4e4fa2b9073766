"""The process that works on a job, as the server sees it: started, told, listened to."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import relaxon
from relaxon.server.job_folder import LOG
from relaxon.server.jobs import Json
from relaxon.server.settings import ServerSettings

WORKER = "relaxon.server.worker"
CANCEL, SUSPEND = b"cancel\n", b"suspend\n"
LOG_TAIL = 4000
"""Bytes of a failed worker's own messages that go into the server's log."""

Process = asyncio.subprocess.Process


async def start(folder: Path, steps: int, settings: ServerSettings) -> Process:
    """A process for the job in `folder`, of which the server knows so many steps."""
    source = str(Path(relaxon.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    threads = max(1, (os.cpu_count() or 1) // settings.training_workers)
    limits = {name: str(threads) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    if settings.training_workers == 1:
        limits = {}  # the libraries' own choice, or the one that the server was started with
    with (folder / LOG).open("ab") as log:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            # Modules come from where this server's do, not from the folder in which it was started.
            "-P",
            "-m",
            WORKER,
            str(folder),
            str(os.getpid()),
            str(steps),
            str(settings.checkpoint_seconds),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            # A Ctrl-C in the server's terminal is for the server alone, which lets the jobs end in order.
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, **limits},
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
