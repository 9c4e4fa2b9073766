"""The server's side of `relaxon.server.job_template`: jobs' processes that are copies of one which has loaded all.

There is one such process for all servers of a program that give their jobs the same environment. It is started for the
first job and comes back for the next one where it has ended meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

MODULE = "relaxon.server.job_template"
WORKER = "relaxon.server.worker"
"""What copies do."""
LARGEST = 2**16
"""Bytes of an answer."""
AT_LOADING = (
    *("BLIS_", "CUDA_", "GOMP_", "GOTO_", "HOME", "KMP_", "LD_", "LLVM_", "MALLOC_", "MKL_", "NPY_", "NUMBA_"),
    *("NVIDIA_", "OMP_", "OPENBLAS_", "PATH", "PYTHON", "PYTORCH", "RELAXON_", "SCIPY_", "SKLEARN_", "TORCH"),
)
"""How the names of variables begin that libraries may read when they are loaded, not when they are called."""


class NoCopy(Exception):
    """No copy could be had; a process of the usual kind is to be started."""


class Copy:
    """A job's process, with what is used here of `asyncio.subprocess.Process`; for one event loop."""

    def __init__(self) -> None:
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.returncode: int | None = None
        self._loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = self._loop.create_future()
        self._ended = asyncio.Event()
        self._process = -1

    async def connect(self, given: BinaryIO, told: BinaryIO) -> None:
        """Take the ends of its standard input and output."""
        reader = asyncio.StreamReader()
        await self._loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), told)
        transport, protocol = await self._loop.connect_write_pipe(asyncio.streams.FlowControlMixin, given)
        self.stdin, self.stdout = asyncio.StreamWriter(transport, protocol, None, self._loop), reader

    def hear(self, answer: Mapping[str, Any], files: Sequence[int] = ()) -> None:
        """Take what was said of it; in any thread."""
        try:
            self._loop.call_soon_threadsafe(self._hear, answer, files)
        except RuntimeError:  # its server has gone
            for file in files:
                os.close(file)

    def kill(self) -> None:
        """End it at once; nothing where it has ended."""
        if self._process >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)

    async def wait(self) -> int:
        """Its exit status, negative for a signal, once it has ended."""
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def _hear(self, answer: Mapping[str, Any], files: Sequence[int]) -> None:
        if "begun" in answer:
            (self._process,) = files
            if not self.begun.done():
                self.begun.set_result(None)
        elif not self.begun.done():
            self.begun.set_exception(NoCopy(answer.get("refused", "the template has ended")))
        if "status" in answer:
            self.returncode = answer["status"]
            if self._process >= 0:
                os.close(self._process)
                self._process = -1
            if self.stdin is not None:
                self.stdin.close()
            self._ended.set()


class Template:
    """A process that copies are made of, as long as it lives."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._numbers = itertools.count()
        self._copies: dict[int, Copy] = {}
        self._lock = threading.Lock()
        self.gone = False
        # It ends with the thread that has started it, so that is one which lasts.
        attending = threading.Thread(target=self._attend, args=(theirs, dict(environment)), daemon=True)
        attending.start()

    def ask(self, copy: Copy, request: Mapping[str, Any], files: Sequence[int]) -> None:
        """Have a copy made, which hears of its beginning and its end. NoCopy where that cannot be."""
        number = next(self._numbers)
        with self._lock:
            if self.gone:
                raise NoCopy("the template has ended")
            self._copies[number] = copy
        packet = json.dumps({"number": number, **request}).encode()
        try:
            socket.send_fds(self._socket, [packet], files)
        except OSError as error:
            with self._lock:
                self._copies.pop(number, None)
            raise NoCopy(str(error)) from error

    def _attend(self, theirs: socket.socket, environment: Mapping[str, str]) -> None:
        process = None
        try:
            with theirs:
                end = theirs.fileno()
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", MODULE, str(end), str(os.getpid())],
                    pass_fds=(end,),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                    env=environment,
                )
            while True:
                packet, files, _, _ = socket.recv_fds(self._socket, LARGEST, 1)
                if not packet:
                    return
                self._hear(json.loads(packet), files)
        except OSError:
            pass
        finally:
            with self._lock:
                self.gone, left = True, list(self._copies.values())
                self._copies.clear()
            if process is not None:
                process.kill()
                process.wait()
            for copy in left:  # they have ended with it
                copy.hear({"status": -signal.SIGKILL})
            self._socket.close()

    def _hear(self, answer: Mapping[str, Any], files: Sequence[int]) -> None:
        with self._lock:
            last = "begun" not in answer
            copy = self._copies.pop(answer["number"]) if last else self._copies[answer["number"]]
        copy.hear(answer, files)


_templates: dict[frozenset[tuple[str, str]], Template] = {}
_starting = threading.Lock()


def template_for(environment: Mapping[str, str]) -> Template:
    """The process that copies with this environment are made of, started where there is none."""
    key = frozenset(one for one in environment.items() if one[0].startswith(AT_LOADING))
    with _starting:
        for gone in [one for one, template in _templates.items() if template.gone]:
            del _templates[gone]
        if key not in _templates:
            try:
                _templates[key] = Template(environment)
            except (OSError, RuntimeError) as error:  # no sockets, no threads
                raise NoCopy(str(error)) from error
        return _templates[key]


@functools.cache
def can_copy() -> bool:
    """Whether this system has what copies need; the calls may be forbidden in a container."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


async def start_copy(arguments: Sequence[str], environment: Mapping[str, str], log: int) -> Copy:
    """A job's process, given the arguments of `relaxon.server.worker` but the server's id. NoCopy where there is none.

    `log` is the file that takes what it prints beside its progress.
    """
    if not can_copy():
        raise NoCopy("this system does not offer it")
    try:
        folder = os.getcwd()
    except OSError as error:  # it has been removed
        raise NoCopy(str(error)) from error
    request = {"arguments": list(arguments), "environment": dict(environment), "folder": folder}
    its_input, written = os.pipe()
    read, its_output = os.pipe()
    ours = os.fdopen(written, "wb", 0), os.fdopen(read, "rb", 0)
    try:
        copy = await _asked_for(request, environment, (its_input, its_output, log))
        await copy.connect(*ours)
    except BaseException:
        for end in ours:
            end.close()
        raise
    finally:
        os.close(its_input)
        os.close(its_output)
    return copy


async def _asked_for(request: Mapping[str, Any], environment: Mapping[str, str], files: Sequence[int]) -> Copy:
    for _ in range(2):  # a template that has just ended, having had nothing to do, is followed by another
        copy = Copy()
        with suppress(NoCopy):
            template_for(environment).ask(copy, request, files)
            await copy.begun
            return copy
    raise NoCopy


def _forked() -> None:
    """In a copy of the server's process: the templates are not its own."""
    global _starting
    _starting = threading.Lock()
    _templates.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
