"""What the blocking client does in its own way: channels, single calls, streams, deadlines, locks and ownership.

It offers the names of `relaxon.client.shared.asyncio_runtime`, in whose place the generated client uses it; `open_now`
stands for `Opening`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Self, TypeVar

import grpc

from relaxon.client.shared.transport import Metadata, Security, channel_options
from relaxon.core import errors
from relaxon.wire.ownership import Owner

Opened = TypeVar("Opened")
Channel = grpc.Channel
Lock = threading.Lock
sleep = time.sleep
iterate = iter
new_owner = Owner


def open_now(open_it: Callable[[], Opened]) -> Opened:
    """Open something at once."""
    return open_it()


def open_channel(target: str, security: Security) -> Channel:
    """Open a channel to `target`, over TLS where `security` asks for it; OSError where a file cannot be read."""
    security.check(target)
    if security.encrypted:
        return grpc.secure_channel(target, security.channel_credentials(), channel_options(target))
    return grpc.insecure_channel(target, channel_options(target))


def wait_until_ready(channel: Channel, seconds: float) -> None:
    """Return once the server answers; raise TimeoutError after so many seconds."""
    try:
        grpc.channel_ready_future(channel).result(seconds)
    except grpc.FutureTimeoutError:
        raise TimeoutError from None


class ReplyStream:
    """The replies to a call in progress. Its errors are raised as the client's; leaving the block cancels the call."""

    def __init__(self, call: Any, arguments: Mapping[str, str] | None = None) -> None:
        """`arguments` maps fields of the messages to the names of the caller's arguments."""
        self._call = call
        self._arguments = arguments

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.cancel()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        with errors.translate_errors(self._arguments):
            return next(self._call)

    def cancel(self) -> None:
        """End the call; do nothing where it has ended."""
        with suppress(grpc.RpcError):
            self._call.cancel()


def call_once(
    method: Callable[..., Any],
    request: Any,
    seconds: float | None,
    metadata: Metadata,
    arguments: Mapping[str, str] | None = None,
) -> Any:
    """Make a call that has one reply, and return the reply."""
    with errors.translate_errors(arguments):
        return method(request, timeout=seconds, metadata=metadata)


def read_first(call: Any, seconds: float) -> Any:
    """Return the first reply of a raw call, None where it ended without one; TimeoutError after so many seconds."""
    late = threading.Event()

    def give_up() -> None:
        late.set()
        call.cancel()

    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), give_up)
    timer.daemon = True
    timer.start()
    try:
        return next(call, None)
    except grpc.RpcError:
        if late.is_set():
            raise TimeoutError from None
        raise
    finally:
        timer.cancel()


def is_open(call: Any) -> bool:
    """Return whether a raw call goes on."""
    return bool(call.is_active())


def status_code(call: Any) -> grpc.StatusCode | None:
    """Return how a raw call that has ended did so."""
    code: grpc.StatusCode | None = call.code()
    return code


class Outbox:
    """The messages of one call: those known at its start, then those put in while it goes on."""

    def __init__(self, first: Iterable[Any]) -> None:
        self._first = first
        self._later: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def put(self, message: Any) -> None:
        """Send a message once all before it have been sent."""
        self._later.put(message)

    def end(self) -> None:
        """End the sending side after the messages put in so far."""
        self._later.put(None)

    def messages(self) -> Iterator[Any]:
        """Yield the messages, for gRPC to send."""
        yield from self._first
        yield from iter(self._later.get, None)


class StepDeadline:
    """The seconds that the server has for each step of one call; where they are over, the call is cancelled.

    One thread watches all steps and sleeps through most of them: a step that begins while it sleeps is not due before
    it wakes.
    """

    def __init__(self, call: ReplyStream, seconds: float) -> None:
        self._call = call
        self._seconds = min(seconds, threading.TIMEOUT_MAX)
        self._due: float | None = None
        self._over = threading.Event()
        self._late = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="relaxon-steps", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()

    @contextmanager
    def step(self, late: str) -> Iterator[None]:
        """Raise DeadlineExceeded, with the message `late`, where the block does not end in time."""
        self._due = time.monotonic() + self._seconds
        try:
            yield
        except errors.Cancelled:
            if self._late:
                raise errors.DeadlineExceeded(late) from None
            raise
        finally:
            self._due = None

    def _watch(self) -> None:
        left = self._seconds
        while not self._over.wait(left):
            due = self._due
            left = self._seconds if due is None else due - time.monotonic()
            if left <= 0:
                self._late = True
                self._call.cancel()
                return


def wants_to_stop(callback: Callable[[Any], object], progress: Any) -> bool:
    """Show progress to a callback; return whether it asks the solve to stop."""
    return callback(progress) is True
