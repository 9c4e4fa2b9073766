"""The process of one job: `python -m relaxon.server.jobs.worker FOLDER SERVER STEPS CHECKPOINT_SECONDS`.

It reads the folder's request and data, continues from the checkpoint there, and writes the model into the folder. It
reports to the server, whose process id is `SERVER`, on its standard output in lines of JSON: `{"step": …, "progress":
…}` after each step beyond the first `STEPS`, then `{"done": {}}`, `{"suspended": {}}` or `{"failed": …}`. A line
`cancel` on its standard input ends it after the current step, with the model so far; `suspend` ends it with a
checkpoint. It ends at once when the server has gone, and does not work on a job whose lease another process holds.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from relaxon.core.extras import explain
from relaxon.neuromorphic.checkpoints import DamagedCheckpoint
from relaxon.server.config.threads import wait_asleep
from relaxon.server.jobs import folder as job_folder
from relaxon.server.jobs.folder import CHECKPOINT, REQUEST

MODEL = job_folder.PARTIAL
"""The folder into which an engine writes its model; this module moves it to its place once it is complete."""
ENGINES_PACKAGE = "relaxon.server.training.engines"
"""The package with a module for each engine of relaxon itself."""
NICENESS = 10
"""Solves and the server's own answers have priority over training."""
FIRST_TO_GO = "500"
"""When memory runs out, the kernel kills this process before its server."""
ARGUMENT = re.compile(r"(X|[a-z_][a-z0-9_]*)(\[\d+\])?(?= )")
"""The refusals of an engine start with the name of the argument."""
LONGEST_MESSAGE = 2000
GONE, BUSY = 3, 4
"""Exit statuses: the server has gone; another process still holds the job's lease."""
PR_SET_PDEATHSIG = 1

Tell = Callable[[Mapping[str, Any] | None], bool]
"""Passes on a report, or None for nothing new, and returns whether the job is to end here."""


def main() -> int:
    """Return 0 if the last message was sent, whatever it said."""
    folder, server, known, checkpoint_seconds = sys.argv[1:]
    return work(folder, int(server), int(known), float(checkpoint_seconds))


def work(path: str, parent: int, known: int, checkpoint_seconds: float) -> int:
    """Work on the job of a folder and end with the process `parent`; return 0 if the last message was sent."""
    folder, server = Path(path), Link(parent)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    wait_asleep()
    lease = job_folder.take_lease(folder)
    if lease is None:
        return BUSY
    steps = catch_up(folder, known, server)
    if steps is None:
        return 0
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))

    def tell(progress: Mapping[str, Any] | None) -> bool:
        if progress is not None:
            step = progress[find_engine(request).step]
            if steps.add(step, progress):
                server.say({"step": step, "progress": progress})
        return server.cancelled.is_set() or server.suspended.is_set()

    failed = run_training(folder, {**request, "checkpoint_seconds": checkpoint_seconds}, tell)
    if failed is not None:
        server.say({"failed": failed})
    elif server.suspended.is_set() and not server.cancelled.is_set():
        server.say({"suspended": {}})
    else:
        job_folder.publish(folder)
        server.say({"done": {}})
    return 0


def find_engine(request: Mapping[str, Any]) -> Any:
    """Return the `TrainingEngine` that a job's request is for.

    It is described by the module of its kind in `ENGINES_PACKAGE`, or by the module that the request names as `engine`.
    ImportError where that module is not installed.
    """
    return import_module(request.get("engine") or f"{ENGINES_PACKAGE}.{request['kind']}").ENGINE


class Link:
    """The connection to the server that this process works for. This process ends with the server."""

    def __init__(self, server: int) -> None:
        end_with(server)
        self.cancelled, self.suspended = threading.Event(), threading.Event()
        self._out = _take_output()
        threading.Thread(target=_obey, args=(self.cancelled, self.suspended), daemon=True).start()

    def say(self, message: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()


def catch_up(folder: Path, known: int, server: Link) -> job_folder.StepLog | None:
    """Report what the server does not know of earlier processes of the job; return None if they finished it."""
    steps = job_folder.StepLog(folder)
    for step, progress in job_folder.read_steps(folder):
        if step > known:
            server.say({"step": step, "progress": progress})
    if (folder / job_folder.COMPLETE).exists():  # left by a process whose last message was lost
        server.say({"done": {}})
        return None
    return steps


def run_training(folder: Path, request: Mapping[str, Any], tell: Tell) -> dict[str, str] | None:
    """Train, from the checkpoint if there is one, and return what failed: its code, message and field.

    An error that is neither a mistake in the request nor a shortage of this machine is raised.
    """

    def train() -> None:
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        find_engine(request).train(folder, request, tell)

    try:
        try:
            train()
        except DamagedCheckpoint as error:
            print(f"started again: {error}", file=sys.stderr)
            shutil.rmtree(folder / CHECKPOINT)
            train()
    except (ValueError, TypeError) as error:
        import traceback

        traceback.print_exc()
        message = str(error)[:LONGEST_MESSAGE]
        named = ARGUMENT.match(message)
        return {"code": "INVALID_ARGUMENT", "message": message, "field": named.group() if named else ""}
    except MemoryError:
        return {"code": "RESOURCE_EXHAUSTED", "message": "the job needs more memory than this machine has"}
    except ImportError as error:
        explained = explain(error) if isinstance(error, ModuleNotFoundError) else error
        return {"code": "FAILED_PRECONDITION", "message": f"this server cannot train that: {explained}"}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return {"code": "RESOURCE_EXHAUSTED", "message": "the server's disk is full"}
    return None


def end_with(server: int) -> None:
    """Have the kernel kill this process as soon as its server has ended, in any state."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # the server ended before that call
        os._exit(GONE)


def _take_output() -> TextIO:
    """Take the standard output for this module alone; what others print goes to the log."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8")


def _obey(cancelled: threading.Event, suspended: threading.Event) -> None:
    # Not through sys.stdin, whose lock would be held at the interpreter's exit.
    words = {b"cancel": cancelled, b"suspend": suspended}
    with os.fdopen(os.dup(0), "rb", buffering=0) as given:
        word = b""
        while octet := given.read(1):
            if octet != b"\n":
                word += octet
                continue
            words[word].set()
            word = b""
    os._exit(GONE)


if __name__ == "__main__":
    sys.exit(main())
