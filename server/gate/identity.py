"""Who a call comes from, and what that caller may see and do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    """What a caller may do; each role includes those before it."""

    READ = 1
    """Look at what it owns, and at the server's status."""
    SOLVE = 2
    """Keep grids and matrices, solve, predict."""
    TRAIN = 3
    """Train, store, change and delete models; cancel and delete jobs."""
    ADMIN = 4
    """All of that with what others own, and the server's internals."""


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller. What it makes (sessions, jobs, models) is kept under its `name`."""

    name: str
    role: Role

    def sees(self, owner: str) -> bool:
        """Return whether the caller may see what `owner` made; otherwise that is NOT_FOUND, as if it did not exist."""
        return self.role is Role.ADMIN or self.name == owner

    def may(self, role: Role) -> bool:
        """Return whether the caller has a role."""
        return self.role >= role


ANYONE = Caller("", Role.ADMIN)
"""Every caller of a server without authentication; also the server itself, outside any call."""
_current: ContextVar[Caller] = ContextVar("caller", default=ANYONE)


def current() -> Caller:
    """Return the caller of the call that is being handled.

    Call this in the call's own task, or in a thread with a copy of its context variables (`asyncio.to_thread`). A task
    that is started there and outlives the call must be given the name instead.
    """
    return _current.get()


@contextmanager
def acting(caller: Caller) -> Iterator[None]:
    """Run the block on behalf of `caller`."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
