"""The warning of categories that did not occur in training, given in process or carried from a server to its caller."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_COLLECTED: ContextVar[list[str] | None] = ContextVar("_COLLECTED", default=None)
"""Where the messages of the running thread or task go; None if they are to be warnings."""


class UnseenCategoryWarning(UserWarning):
    """Some rows have categories that did not occur in training; the message says how they are encoded."""


def warn_of_unseen(message: str, stacklevel: int) -> None:
    """Give an `UnseenCategoryWarning`, or hand its message to the block of `collect_unseen` that this call is in."""
    collected = _COLLECTED.get()
    if collected is None:
        warnings.warn(message, UnseenCategoryWarning, stacklevel=stacklevel + 1)
    else:
        collected.append(message)


@contextmanager
def collect_unseen() -> Iterator[list[str]]:
    """Collect the messages of the block, in this thread or task only, instead of giving warnings."""
    messages: list[str] = []
    token = _COLLECTED.set(messages)
    try:
        yield messages
    finally:
        _COLLECTED.reset(token)
