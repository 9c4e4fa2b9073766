"""The id by which a call is found in logs, traces and error reports: the caller's `x-request-id`, or one made up."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

KEY = "x-request-id"
TAKEN = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
"""What a caller's id may be; any other is replaced, for it goes into logs."""
_current: ContextVar[str] = ContextVar("request_id", default="")


def current() -> str:
    """The id of the call that is handled here; empty outside any."""
    return _current.get()


def chosen(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The id for a call with that metadata."""
    for key, value in metadata:
        if key == KEY and isinstance(value, str) and TAKEN.fullmatch(value):
            return value
    return secrets.token_hex(8)


@contextmanager
def handling(request_id: str) -> Iterator[None]:
    """The block handles the call of that id."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
