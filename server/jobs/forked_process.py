"""Processes for jobs that are forked from a process which has imported the engines, as the server sees them."""

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
"""For which the process to fork from, some 200 MB with torch, is kept once no job runs any more."""


class ForkedProcess:
    """A job's process: what `asyncio.subprocess.Process` has of it that the server uses."""

    def __init__(self, template: _Template, stdin: _Words, stdout: asyncio.StreamReader, told: asyncio.StreamReader):
        self.stdin, self.stdout = stdin, stdout
        self.pid: int | None = None
        self.returncode: int | None = None
        self._template, self._told = template, told
        self._killed = False
        self._watched = asyncio.create_task(self._watch())

    def kill(self) -> None:
        """End it at once; ProcessLookupError where it has ended."""
        if self.returncode is not None:
            raise ProcessLookupError
        self._killed = True
        self.stdin.close()  # which ends it too, where it has not begun yet
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Its exit status, or minus the signal that ended it, once it has ended."""
        return await asyncio.shield(self._watched)

    async def _watch(self) -> int:
        status = -signal.SIGKILL  # the process that it was forked from was ended, and with it this one
        try:
            if line := await self._told.readline():
                self.pid = int(line)
                if self._killed:
                    with suppress(ProcessLookupError):
                        os.kill(self.pid, signal.SIGKILL)
                if line := await self._told.readline():
                    status = int(line)
        finally:
            self.returncode = status
            self.stdin.close()
            self._template.ended()
        return status


class _Words:
    """The writing end of a job's standard input, for words that are shorter than a pipe is long."""

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
    """A process for a job of that kind, forked from the one that `command` starts in that environment."""
    given, stdin = os.pipe()
    stdout, output = os.pipe()
    told, status = os.pipe()
    words = _Words(stdin)
    template: _Template | None = None
    try:
        readers = [await _reader(descriptor) for descriptor in (stdout, told)]
        message = json.dumps({"kind": kind, "arguments": list(arguments)}).encode()
        template = _asked(command, environment, message, [given, output, log, status])
    finally:
        for descriptor in (given, output, status):
            os.close(descriptor)
        if template is None:
            words.close()
    return ForkedProcess(template, words, *readers)


async def _reader(descriptor: int) -> asyncio.StreamReader:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(loop=loop)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader


class _Template:
    """A process to fork from, started by the first message and ended some time after the last of its jobs."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._changed = threading.Condition()
        self._jobs = 0
        self._usable = True
        begun: list[subprocess.Popen[bytes] | BaseException] = []
        # The kernel ends a process that asked for it when the thread that started it ends: this thread stays.
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
        """Send a message; False where the process has ended or is about to."""
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

    def ended(self) -> None:
        """A job of it has ended."""
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


def _asked(command: Sequence[str], environment: Mapping[str, str], message: bytes, descriptors: list[int]) -> _Template:
    """The process of that command and environment, which has been asked; started where there is none that lives."""
    key = (*command, frozenset(environment.items()))
    with _lock:
        if key in _templates and _templates[key].ask(message, descriptors):
            return _templates[key]
        template = _templates[key] = _Template(command, environment)
        if not template.ask(message, descriptors):
            raise OSError("the process that jobs are forked from ended at once")
        return template


def _forget() -> None:
    """In a fork of this process: its jobs are not ours."""
    global _lock
    _lock = threading.Lock()
    _templates.clear()


os.register_at_fork(after_in_child=_forget)
