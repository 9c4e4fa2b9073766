"""The process of one job: `python -m relaxon.server.jobs.worker FOLDER SERVER STEPS CHECKPOINT_SECONDS`.

It reads the folder's request and data, goes on from the checkpoint that it finds there, and writes the model into the
folder. It tells the server, whose process id is `SERVER`, on its standard output, a line of JSON each: `{"step": …,
"progress": …}` after each step that is not among the first `STEPS`, then `{"done": {}}`, `{"suspended": {}}` or
`{"failed": …}`. A line `cancel` on its standard input has it end after the step that it is at, with the model so far;
`suspend`, with a checkpoint. It ends at once where the server has gone, and works on no job that another process has.
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
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from relaxon.core.extras import explain
from relaxon.neuromorphic.checkpoints import DamagedCheckpoint
from relaxon.server.config.threads import wait_asleep
from relaxon.server.jobs import folder as job_folder
from relaxon.server.jobs.folder import CHECKPOINT, REQUEST

__all__ = ["CHECKPOINT", "MODEL", "REQUEST", "TASKS", "Tell"]

MODEL = job_folder.PARTIAL
"""The folder into which a task writes its model; this module has it take its place when it is whole."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is done for a kind of job."""

    module: str
    """Has `run(folder, request, tell)`, which trains on the folder's data and writes the model to `folder / MODEL`.

    It keeps its checkpoint in `folder / CHECKPOINT`, every `request["checkpoint_seconds"]`, after it has told of the
    step, and ends with the same bits as if it never was cut off: what is random comes from a seed in the request.
    """
    step: str
    """The entry of what it tells that numbers its steps, from 1."""
    imports: tuple[str, ...]
    """What `run` imports that takes long, beside what all kinds do."""


# torch's optimisers import their compiler at their first step.
TASKS = {
    "boosting": Task(
        "relaxon.server.training.boosting_task",
        "stage",
        ("relaxon.neuromorphic.boosting.estimators.classifier", "relaxon.neuromorphic.boosting.estimators.regressor"),
    ),
    "convex": Task(
        "relaxon.server.training.convex_task",
        "report",
        ("relaxon.neuromorphic.convex.classifier", "relaxon.neuromorphic.convex.regressor"),
    ),
    "energy": Task(
        "relaxon.server.training.energy_task",
        "report",
        ("relaxon.neuromorphic.energy.estimators.density", "torch._dynamo"),
    ),
    "equilibrium": Task(
        "relaxon.server.training.equilibrium_task",
        "epoch",
        ("relaxon.neuromorphic.equilibrium.classifier.storage", "torch._dynamo"),
    ),
    "proximal": Task(
        "relaxon.server.training.proximal_task",
        "report",
        ("relaxon.neuromorphic.proximal.training.matching", "torch._dynamo"),
    ),
}
NICENESS = 10
"""Solves and the server's own answers come before training."""
FIRST_TO_GO = "500"
"""Where memory runs out, this process goes before its server."""
ARGUMENT = re.compile(r"(X|[a-z_][a-z0-9_]*)(\[\d+\])?(?= )")
"""The engines' refusals start with the argument that they refuse."""
LONGEST_MESSAGE = 2000
GONE, BUSY = 3, 4
"""Exit statuses: the server has gone; another process still has the job."""
PR_SET_PDEATHSIG = 1

Tell = Callable[[Mapping[str, Any] | None], bool]
"""Passes progress on, None for nothing new; whether the job is to end here."""


def main() -> int:
    """0 where the last word was said, whatever it was."""
    folder, server, known, checkpoint_seconds = sys.argv[1:]
    return work(folder, int(server), int(known), float(checkpoint_seconds))


def work(path: str, parent: int, known: int, checkpoint_seconds: float) -> int:
    """Work on the job of a folder and end with the process `parent`; 0 where the last word was said."""
    folder, server = Path(path), Link(parent)
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    wait_asleep()
    lease = job_folder.leased(folder)
    if lease is None:
        return BUSY
    steps = caught_up(folder, known, server)
    if steps is None:
        return 0
    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    task = TASKS[request["kind"]]

    def tell(progress: Mapping[str, Any] | None) -> bool:
        if progress is not None and steps.add(progress[task.step], progress):
            server.say({"step": progress[task.step], "progress": progress})
        return server.cancelled.is_set() or server.suspended.is_set()

    failed = trained(folder, {**request, "checkpoint_seconds": checkpoint_seconds}, tell)
    if failed is not None:
        server.say({"failed": failed})
    elif server.suspended.is_set() and not server.cancelled.is_set():
        server.say({"suspended": {}})
    else:
        job_folder.publish(folder)
        server.say({"done": {}})
    return 0


class Link:
    """The server that this process works for: what it is told, and what it has said. This process ends with it."""

    def __init__(self, server: int) -> None:
        end_with(server)
        self.cancelled, self.suspended = threading.Event(), threading.Event()
        self._out = _own_output()
        threading.Thread(target=_obey, args=(self.cancelled, self.suspended), daemon=True).start()

    def say(self, message: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(message) + "\n")
        self._out.flush()


def caught_up(folder: Path, known: int, server: Link) -> job_folder.StepLog | None:
    """Tell the server what earlier processes of the job did that it has not heard of; None where that was all."""
    steps = job_folder.StepLog(folder)
    for step, progress in job_folder.told_steps(folder):
        if step > known:
            server.say({"step": step, "progress": progress})
    if (folder / job_folder.COMPLETE).exists():  # left by a process whose last word was not heard
        server.say({"done": {}})
        return None
    return steps


def trained(folder: Path, request: Mapping[str, Any], tell: Tell) -> dict[str, str] | None:
    """Train, from the checkpoint where there is one; what failed: its code, message and field.

    What is no mistake of the request and no lack of the machine's is raised.
    """

    def train() -> None:
        shutil.rmtree(folder / MODEL, ignore_errors=True)
        import_module(TASKS[request["kind"]].module).run(folder, request, tell)

    try:
        try:
            train()
        except DamagedCheckpoint as error:
            print(f"begun anew: {error}", file=sys.stderr)
            shutil.rmtree(folder / CHECKPOINT)
            train()
    except (ValueError, TypeError) as error:
        import traceback

        traceback.print_exc()
        message = str(error)[:LONGEST_MESSAGE]
        named = ARGUMENT.match(message)
        return {"code": "INVALID_ARGUMENT", "message": message, "field": named.group() if named else ""}
    except MemoryError:
        return {"code": "RESOURCE_EXHAUSTED", "message": "the job needs more memory than there is"}
    except ImportError as error:
        explained = explain(error) if isinstance(error, ModuleNotFoundError) else error
        return {"code": "FAILED_PRECONDITION", "message": f"this server cannot train that: {explained}"}
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        return {"code": "RESOURCE_EXHAUSTED", "message": "the server's disk is full"}
    return None


def end_with(server: int) -> None:
    """Have the kernel end this process when its server has ended, at once and in any state."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(FIRST_TO_GO)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:  # it ended before that call
        os._exit(GONE)


def _own_output() -> TextIO:
    """The standard output for this module alone; what others print goes to the log."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8")


def _obey(cancelled: threading.Event, suspended: threading.Event) -> None:
    # Not through sys.stdin, whose lock would be held at the interpreter's end.
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
