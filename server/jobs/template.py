"""The template process, which imports what jobs need and is forked into theirs: `python -m … SERVER SOCKET`.

Importing an engine takes one to four seconds, a fork some milliseconds. Each message on the socket asks for a job, as
JSON with its kind and arguments, and carries four descriptors: the job's standard input, standard output and log, and
one that gets two lines, the id of the new process and, when that has ended, its exit status.

This process has one thread and runs no kernel, so a fork of it is as good as a fresh process; the random numbers of a
job come from a seed in its request. It ends with the server, and the jobs end with it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import selectors
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from relaxon.server.config.threads import wait_asleep
from relaxon.server.jobs import worker
from relaxon.server.jobs.folder import REQUEST

LONGEST_REQUEST = 1 << 16
NAME = b"relaxon-job"
"""The name of a job's process in `ps` and `top`."""
PR_SET_NAME = 15


class Template:
    """The jobs that were forked from this process."""

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._ended, wake = socket.socketpair()
        for end in (self._ended, wake):
            end.setblocking(False)
        self._wake = wake
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        self._children: dict[int, int] = {}
        """The descriptors that get the exit statuses, by process id."""

    def serve(self) -> None:
        """Fork jobs until the server closes the socket."""
        with selectors.DefaultSelector() as ready:
            ready.register(self._requests, selectors.EVENT_READ)
            ready.register(self._ended, selectors.EVENT_READ)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is self._ended:
                        with suppress(BlockingIOError):
                            self._ended.recv(4096)
                    elif not self._fork():
                        return
                self._report_ended()

    def _fork(self) -> bool:
        """Fork for the next message; return False where the socket is closed."""
        message, descriptors, _, _ = socket.recv_fds(self._requests, LONGEST_REQUEST, 4)
        if not message:
            return False
        request = json.loads(message)
        given, output, log, status = descriptors
        _import_for(request["arguments"][0])
        template = os.getpid()
        try:
            child = os.fork()
        except OSError as error:
            print(f"no process for a job: {error}", file=sys.stderr)
            for descriptor in descriptors:
                os.close(descriptor)
            return True
        if child:
            for descriptor in (given, output, log):
                os.close(descriptor)
            self._children[child] = status
            _tell(status, child)
        else:
            self._close_in_child(status)
            _become_a_job(request["arguments"], template, given, output, log)
        return True

    def _close_in_child(self, status: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in (self._requests, self._ended, self._wake):
            end.close()
        for descriptor in (status, *self._children.values()):
            os.close(descriptor)

    def _report_ended(self) -> None:
        while self._children:
            child, status = os.waitpid(-1, os.WNOHANG)
            if not child:
                return
            descriptor = self._children.pop(child)
            _tell(descriptor, os.waitstatus_to_exitcode(status))
            os.close(descriptor)


def main() -> int:
    worker.end_with(int(sys.argv[1]))
    wait_asleep()
    Template(socket.socket(fileno=int(sys.argv[2]))).serve()
    return 0


def _import_for(folder: str) -> None:
    """Import what the job of a folder uses. What is missing here is missing in the job as well, which then says so."""
    new = _import_new("safetensors.numpy")
    with suppress(Exception):
        before = len(sys.modules)
        engine = worker.find_engine(json.loads((Path(folder) / REQUEST).read_text(encoding="utf-8")))
        new = new or len(sys.modules) > before
        for module in engine.imports:
            new = _import_new(module) or new
    if new:
        gc.collect()
        gc.freeze()  # a collection in a job does not write to, and so copy, what it shares with this process


def _import_new(module: str) -> bool:
    """Import a module; return whether it is here and was not before."""
    if module in sys.modules:
        return False
    with suppress(Exception):
        import_module(module)
        return True
    return False


def _tell(status: int, number: int) -> None:
    with suppress(BrokenPipeError):  # the server has given up the job
        os.write(status, b"%d\n" % number)


def _become_a_job(arguments: list[str], template: int, given: int, output: int, log: int) -> None:
    """Run the job in the forked process, until that ends."""
    status = 1
    try:
        os.setsid()  # a Ctrl-C in the server's terminal is for the server alone
        ctypes.CDLL(None).prctl(PR_SET_NAME, NAME)
        for descriptor, own in ((given, 0), (output, 1), (log, 2)):
            os.dup2(descriptor, own)
            os.close(descriptor)
        folder, steps, checkpoint_seconds = arguments
        status = worker.work(folder, template, int(steps), float(checkpoint_seconds))
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
