"""The process that jobs' processes are copies of: `python -m relaxon.server.job_template SOCKET SERVER`.

Loading what a kind of job needs (torch, Numba, scikit-learn) takes seconds of processor time, a copy of a process that
has loaded it milliseconds. The server asks for a copy over the socket `SOCKET`, a packet of JSON with the copy's
standard input, output and error: `{"number": …, "arguments": […], "environment": {…}, "folder": …}`. It is answered
`{"number": …, "begun": …}`, with a descriptor of the new process, or `{"number": …, "refused": …}`, and when that
process has ended, `{"number": …, "status": …}`. This process computes nothing and has no threads of its own; it ends
with its server, and its copies with it, or when it has had nothing to do for a while.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from relaxon.server import worker
from relaxon.server.job_folder import REQUEST

IDLE_SECONDS = 300.0
"""What it has loaded takes some hundred megabytes, which are given back after so long without a job."""
LARGEST = 2**20
"""Bytes of a packet."""
LOADS = {
    "boosting": ("relaxon.neuromorphic.boosting.classifier",),
    "convex": ("relaxon.neuromorphic.convex.classifier", "relaxon.neuromorphic.convex.regressor"),
    "energy": ("relaxon.neuromorphic.energy.density",),
    "equilibrium": (
        "relaxon.neuromorphic.equilibrium.classifier",
        "relaxon.neuromorphic.equilibrium.classifier_store",
    ),
    "proximal": ("relaxon.neuromorphic.proximal.training",),
}
"""What is loaded for a kind of job beside its task."""


def main() -> int:
    """0 where it was not needed any more."""
    worker.end_with(int(sys.argv[2]))
    worker.step_back()
    with socket.socket(fileno=int(sys.argv[1])) as server:
        Template(server).serve()
    return 0


class Template:
    """What this process does: it has loaded, and divides."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._numbers: dict[int, int] = {}
        """Of the jobs, by process id."""
        self._ended, told = os.pipe()
        for end in (self._ended, told):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(told)
        self._told = told
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> None:
        """Answer the server until it has gone or there is nothing to do."""
        while True:
            limit = None if self._numbers else IDLE_SECONDS
            watched: list[Any] = [self._server, self._ended]
            ready, _, _ = select.select(watched, [], [], limit)
            if self._ended in ready:
                os.read(self._ended, LARGEST)
                self._tell_of_the_ended()
            elif not ready:
                return
            else:
                packet, files, _, _ = socket.recv_fds(self._server, LARGEST, 3)
                if not packet:
                    return
                self._begin(json.loads(packet), files)
                for file in files:
                    os.close(file)

    def _begin(self, asked: dict[str, Any], files: list[int]) -> None:
        load(Path(asked["folder"], asked["arguments"][0]))
        gc.collect()
        gc.freeze()  # what is there is shared between the copies, and stays so
        try:
            own = os.fork()
        except OSError as error:
            self._say({"number": asked["number"], "refused": str(error)})
            return
        if own == 0:
            status = 1
            try:
                self._become(files)
                status = run(asked)
            except BaseException:
                traceback.print_exc()
            finally:
                leave(status)
        self._numbers[own] = asked["number"]
        process = os.pidfd_open(own)
        self._say({"number": asked["number"], "begun": own}, process)
        os.close(process)

    def _become(self, files: list[int]) -> None:
        """In the copy: let go of what is the template's."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (self._server.detach(), self._ended, self._told):
            os.close(one)
        os.setsid()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)

    def _tell_of_the_ended(self) -> None:
        while self._numbers:
            own, status = os.waitpid(-1, os.WNOHANG)
            if own == 0:
                return
            self._say({"number": self._numbers.pop(own), "status": os.waitstatus_to_exitcode(status)})

    def _say(self, answer: dict[str, Any], *files: int) -> None:
        socket.send_fds(self._server, [json.dumps(answer).encode()], files)


def load(folder: Path) -> None:
    """Load what the job in a folder needs. What cannot be loaded is for the job's own process to say."""
    with suppress(Exception):
        kind = json.loads((folder / REQUEST).read_text(encoding="utf-8"))["kind"]
        for name in ("safetensors.numpy", worker.TASKS[kind].module, *LOADS[kind]):
            import_module(name)


def run(asked: dict[str, Any]) -> int:
    """In the copy: work on the job."""
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    folder, *others = asked["arguments"]
    return worker.work([folder, str(os.getppid()), *others])


def leave(status: int) -> None:
    """End as an interpreter does that has nothing but the copy's own to put away."""
    import atexit

    with suppress(BaseException):
        atexit._run_exitfuncs()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
