"""Who may use a client: the process that connected it, until the client is closed.

gRPC's threads do not exist in a forked child. A call there waits for an answer that nobody reads, and whatever the
child frees or cancels may crash it or end the parent's calls. Every call of a client is therefore checked here first.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar, cast

import grpc.aio

from relaxon.core import errors

Channel = TypeVar("Channel")
STREAMS = ("unary_stream", "stream_stream")
"""The methods of a channel whose calls return an iterator of replies."""
BELONGS = (
    "a client, with its grids, matrices and jobs, belongs to the process that connected it and cannot be used after a "
    "fork, pickled or copied: connect in each process, and start processes with multiprocessing's 'spawn' or "
    "'forkserver' method, or before the first connect"
)
FORK_SUPPORT = "GRPC_ENABLE_FORK_SUPPORT"
"""An environment variable of gRPC's, which `relaxon/__init__.py` sets to "false" if it is not set."""
CLOSED = "the client was closed: connect again"


class Owner:
    """The process that connected a client, and whether it has closed it."""

    def __init__(self) -> None:
        """Raise FailedPrecondition in a child of a process that had clients when it forked: gRPC hangs there."""
        if _inherited and os.environ.get(FORK_SUPPORT) == "false":
            raise errors.FailedPrecondition(BELONGS)
        self._process = os.getpid()
        self._natives: weakref.WeakSet[Any] = weakref.WeakSet()
        self.closed = False
        _ALL.add(self)

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that connected."""
        return os.getpid() != self._process

    @property
    def ended(self) -> bool:
        """Whether this process has nothing left to close: the client is closed, or belongs to the parent."""
        return self.closed or self.forked

    def check(self) -> None:
        """Raise FailedPrecondition in any other process, Cancelled after `close`."""
        if self.forked:
            raise errors.FailedPrecondition(BELONGS)
        if self.closed:
            raise errors.Cancelled(CLOSED)

    def close(self) -> None:
        """Refuse all calls from now on."""
        self.closed = True

    def hold(self, native: Any) -> None:
        """Note a gRPC channel or call that a forked child must not free."""
        self._natives.add(native)

    def leak(self) -> bool:
        """Keep gRPC's objects forever, in a forked child, and return whether there were any.

        Freeing them would run code that needs threads of the parent.
        """
        natives = list(self._natives)
        for native in natives:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))
        return bool(natives)


class NotPickled:
    """Base of objects that belong to the process that connected them."""

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(BELONGS)


def guard_channel(channel: Channel, owner: Owner) -> Channel:
    """Wrap a channel, blocking or asyncio, for stubs whose calls `owner` checks first."""
    return cast(Channel, _GuardedChannel(channel, owner))


class _GuardedChannel:
    def __init__(self, channel: Any, owner: Owner) -> None:
        self._channel = channel
        self._owner = owner
        owner.hold(channel)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        create = getattr(self._channel, name)
        held = isinstance(self._channel, grpc.aio.Channel)
        iterated = not held and name in STREAMS

        def multicallable(*arguments: Any, **options: Any) -> _GuardedMethod:
            self._owner.check()  # gRPC crashes if a method of a closed channel is looked up
            return _GuardedMethod(create(*arguments, **options), self._owner, iterated, held)

        return multicallable


class _GuardedMethod:
    """One of a stub's methods."""

    __slots__ = ("_held", "_iterated", "_method", "_owner")

    def __init__(self, method: Callable[..., Any], owner: Owner, iterated: bool, held: bool) -> None:
        """`iterated` for a blocking call whose replies are iterated over, `held` for a call that is awaited."""
        self._method = method
        self._owner = owner
        self._iterated = iterated
        self._held = held

    def __call__(self, request: Any, **options: Any) -> Any:
        self._owner.check()
        try:
            call = self._method(request, **options)
        except (ValueError, grpc.aio.UsageError):
            self._owner.check()  # closed by another thread or task meanwhile
            raise
        if self._iterated:
            return _GuardedCall(call, self._owner)
        if self._held:
            self._owner.hold(call)
        return call


class _GuardedCall:
    """A call whose replies are iterated over; in a forked child it refuses to continue, and ends nothing."""

    __slots__ = ("_call", "_owner")

    def __init__(self, call: Any, owner: Owner) -> None:
        self._call = call
        self._owner = owner
        owner.hold(call)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._owner.forked:
            raise errors.FailedPrecondition(BELONGS)
        return next(self._call)

    def cancel(self) -> None:
        """Cancel the call, if it belongs to this process."""
        if not self._owner.forked:
            self._call.cancel()

    def is_active(self) -> bool:
        """Return whether the call is still running."""
        return not self._owner.forked and bool(self._call.is_active())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with this object once the call has ended."""
        self._call.add_done_callback(lambda _: callback(self))

    def code(self) -> Any:
        """Return how the call ended."""
        return self._call.code()


_ALL: weakref.WeakSet[Owner] = weakref.WeakSet()


_inherited = False
"""Whether a parent of this process had clients when it forked."""


def _leak_all() -> None:
    global _inherited
    leaked = [owner.leak() for owner in list(_ALL)]
    _inherited = _inherited or any(leaked)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leak_all)
