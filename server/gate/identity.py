"""Who a call comes from, and what that caller may see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import grpc


class Role(IntEnum):
    """What a caller may do; each may do what those before it may."""

    READ = 1
    """Look at what it owns, and at what the server says of itself."""
    SOLVE = 2
    """Keep grids, solve, predict."""
    TRAIN = 3
    """Train, store, change and delete models; cancel and delete jobs."""
    ADMIN = 4
    """All of that with what others own, and the server's insides."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls. What it makes (sessions, jobs, models) is kept under its `name`."""

    name: str
    role: Role

    def sees(self, owner: str) -> bool:
        """Whether it is to know of what `owner` made. Where not, the thing is NOT_FOUND, as if it were not there."""
        return self.role is Role.ADMIN or self.name == owner

    def may(self, role: Role) -> bool:
        return self.role >= role


ANYONE = Caller("", Role.ADMIN)
"""Every caller of a server that asks nobody who they are; also the server itself, outside any call."""
_current: ContextVar[Caller] = ContextVar("caller", default=ANYONE)


def caller_of(context: grpc.aio.ServicerContext[Any, Any]) -> Caller:
    """The caller of the call that is handled here.

    Call it in the call's own task, or in a thread that has a copy of that task's context variables
    (`asyncio.to_thread`); a task that is started from there and outlives the call must be told the name instead.
    """
    return _current.get()


def current() -> Caller:
    """As `caller_of`, for code that has no context at hand."""
    return _current.get()


@contextmanager
def acting(caller: Caller) -> Iterator[None]:
    """The block is done for `caller`."""
    token = _current.set(caller)
    try:
        yield
    finally:
        _current.reset(token)
