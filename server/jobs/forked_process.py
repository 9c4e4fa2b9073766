"""Processes of jobs, forked from a template process that has imported the engine, as the server sees them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

IDLE_SECONDS = 60.0
"""How long the template process (some 200 MB with torch) is kept once no job runs."""


class ForkedProcess:
    """A job's process, with the part of `asyncio.subprocess.Process` that the server uses."""

    def __init__(
        self, template: _Template, stdin: _InputPipe, stdout: asyncio.StreamReader, statuses: asyncio.StreamReader
    ):
        self.stdin, self.stdout = stdin, stdout
        self.pid: int | None = None
        self.returncode: int | None = None
        self._template, self._statuses = template, statuses
        self._killed = False
        self._watched = asyncio.create_task(self._watch())

    def kill(self) -> None:
        """Kill the process; ProcessLookupError where it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        self._killed = True
        self.stdin.close()  # which ends it as well if it has not started yet
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Return its exit status, or minus the signal that ended it, once it has ended."""
        return await asyncio.shield(self._watched)

    async def _watch(self) -> int:
        status = -signal.SIGKILL  # the template was killed, and this process with it
        try:
            if line := await self._statuses.readline():
                self.pid = int(line)
                if self._killed:
                    with suppress(ProcessLookupError):
                        os.kill(self.pid, signal.SIGKILL)
                if line := await self._statuses.readline():
                    status = int(line)
        finally:
            self.returncode = status
            self.stdin.close()
            self._template.note_end()
        return status


class _InputPipe:
    """The writing end of a job's standard input, for words that fit into the pipe's buffer."""

    def __init__(self, descriptor: int) -> None:
        self._file: IO[bytes] | None = os.fdopen(descriptor, "wb", buffering=0)

    def is_closing(self) -> bool:
        return self._file is None

    def write(self, word: bytes) -> None:
        if self._file is not None:
            with suppress(BrokenPipeError):
                self._file.write(word)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


async def fork(
    command: Sequence[str], environment: Mapping[str, str], kind: str, arguments: Sequence[str], log: int
) -> ForkedProcess:
    """Return a process for a job of that kind, forked from the template that `command` starts in that environment."""
    given, stdin = os.pipe()
    stdout, output = os.pipe()
    statuses, status = os.pipe()
    words = _InputPipe(stdin)
    template: _Template | None = None
    try:
        readers = [await _open_reader(descriptor) for descriptor in (stdout, statuses)]
        message = json.dumps({"kind": kind, "arguments": list(arguments)}).encode()
        template = _ask_template(command, environment, message, [given, output, log, status])
    finally:
        for descriptor in (given, output, status):
            os.close(descriptor)
        if template is None:
            words.close()
    return ForkedProcess(template, words, *readers)


async def _open_reader(descriptor: int) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader


class _Template:
    """A template process, started by the first message and ended some time after the last of its jobs."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._changed = threading.Condition()
        self._jobs = 0
        self._usable = True
        begun: list[subprocess.Popen[bytes] | BaseException] = []
        # The kernel ends the process with the *thread* that started it, so this thread must stay.
        threading.Thread(
            target=self._run,
            args=(list(command), dict(environment), theirs, begun),
            name="relaxon-template",
            daemon=True,
        ).start()
        with self._changed:
            self._changed.wait_for(lambda: begun)
        if isinstance(begun[0], BaseException):
            self._ours.close()
            raise begun[0]

    def ask(self, message: bytes, descriptors: list[int]) -> bool:
        """Send a message; return False where the process has ended or is about to."""
        with self._changed:
            if not self._usable:
                return False
            try:
                socket.send_fds(self._ours, [message], descriptors)
            except (BrokenPipeError, ConnectionError):
                self._usable = False
                self._changed.notify_all()
                return False
            self._jobs += 1
            return True

    def note_end(self) -> None:
        """Note that one of its jobs has ended."""
        with self._changed:
            self._jobs -= 1
            self._changed.notify_all()

    def _run(
        self,
        command: list[str],
        environment: dict[str, str],
        theirs: socket.socket,
        begun: list[subprocess.Popen[bytes] | BaseException],
    ) -> None:
        started: subprocess.Popen[bytes] | BaseException
        try:
            with theirs:
                started = subprocess.Popen(
                    [*command, str(os.getpid()), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    env=environment,
                )
        except BaseException as error:
            started = error
        with self._changed:
            begun.append(started)
            self._changed.notify_all()
            if isinstance(started, BaseException):
                return
            while self._usable:
                self._changed.wait_for(lambda: self._jobs or not self._usable, IDLE_SECONDS)
                if not self._jobs:
                    self._usable = False
                self._changed.wait_for(lambda: not self._jobs or not self._usable)
        self._ours.close()
        started.wait()


_templates: dict[tuple[object, ...], _Template] = {}
_lock = threading.Lock()


def _ask_template(
    command: Sequence[str], environment: Mapping[str, str], message: bytes, descriptors: list[int]
) -> _Template:
    """Send a message to the template of that command and environment, started if none is alive, and return it."""
    key = (*command, frozenset(environment.items()))
    with _lock:
        if key in _templates and _templates[key].ask(message, descriptors):
            return _templates[key]
        template = _templates[key] = _Template(command, environment)
        if not template.ask(message, descriptors):
            raise OSError("the template process of jobs ended at once")
        return template


def _forget() -> None:
    """Forget all templates, in a fork of this process: their jobs belong to the parent."""
    global _lock
    _lock = threading.Lock()
    _templates.clear()


os.register_at_fork(after_in_child=_forget)
