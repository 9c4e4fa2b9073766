"""The id of a call in logs, traces and error reports: the caller's `x-request-id`, or a generated one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

KEY = "x-request-id"
ACCEPTED = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""The ids that are accepted from callers; others are replaced, since ids are written to logs."""
_current: ContextVar[str] = ContextVar("request_id", default="")


def current() -> str:
    """Return the id of the call that is being handled; empty outside any call."""
    return _current.get()


def choose(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the id for a call with this metadata."""
    for key, value in metadata:
        if key == KEY and isinstance(value, str) and ACCEPTED.fullmatch(value):
            return value
    return secrets.token_hex(8)


@contextmanager
def handling(request_id: str) -> Iterator[None]:
    """Handle the call of an id in the block."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
