"""Which failed calls are repeated, when and how often: decided here, carried out by the clients' callers."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from relaxon.core import validation
from relaxon.core.errors import RelaxonError, ResourceExhausted, Unavailable

ASKED_SPREAD = 0.25
"""A full server asks all its callers to wait for the same time; each waits longer by a random part of up to this."""

MOST_DOUBLINGS = 60
"""Bounds the exponent of the waits, which reach `longest_seconds` long before."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How failed calls are repeated.

    A call is repeated in two cases:

    - The server was full (`ResourceExhausted` with a time to come back). It has then done nothing, so any call is safe
      to repeat. The wait is the time that the server asked for.
    - The server could not be reached (`Unavailable`). Then only idempotent calls are repeated. Where the server gives a
      time to come back, because it is compiling the solver, the wait is that time. Otherwise the waits double from
      `first_seconds` to `longest_seconds`, and each is shortened at random by up to a half.

    A call and its repeats never take longer than its timeout: where a wait would exceed it, the error is raised at
    once. Jobs outlive their server, so calls on jobs are repeated while the server is away for up to the client's
    `timeout`, however many attempts that takes.

    Parameters
    ----------
    attempts : the most attempts at one call, at least 1; with 1 nothing is repeated, not even calls on jobs.
    first_seconds, longest_seconds : the first and the longest wait after the server could not be reached.

    Examples
    --------
    >>> from relaxon.client import Retries
    >>> Retries(attempts=0)
    Traceback (most recent call last):
        ...
    ValueError: attempts must be at least 1, got 0
    """

    attempts: int = 5
    first_seconds: float = 0.2
    longest_seconds: float = 5.0

    def __post_init__(self) -> None:
        validation.positive_int("attempts", self.attempts)
        validation.positive_float("first_seconds", self.first_seconds)
        if validation.positive_float("longest_seconds", self.longest_seconds) < self.first_seconds:
            raise ValueError(
                f"longest_seconds must be at least first_seconds, {self.first_seconds:g}, got {self.longest_seconds:g}"
            )


DEFAULT_RETRIES = Retries()
NO_RETRIES = Retries(attempts=1)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long the calls of a client may take, in seconds, and how they are repeated."""

    timeout: float
    """For a call that moves no arrays."""
    transfer: float
    """For a call that moves arrays and is given no timeout of its own."""
    retries: Retries


class Attempts:
    """The attempts at one call: how long the next may take, and how long to wait before it."""

    def __init__(
        self,
        retries: Retries,
        seconds: float | None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
        patience: float | None = None,
    ) -> None:
        """`seconds` limits all attempts together; None sets no limit.

        `patience` is how many seconds to wait for a server that is away, instead of counting attempts.
        """
        self._retries = retries
        self._clock = clock
        self._uniform = uniform
        self._end = None if seconds is None else clock() + seconds
        self._patience = patience
        self._away_since: float | None = None
        self.failed = 0

    def left(self) -> float | None:
        """Return the seconds that the next attempt may take; None for any."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    def wait_after(self, error: RelaxonError, idempotent: bool) -> float | None:
        """Return the seconds to wait before the next attempt; None where there is to be none."""
        self.failed += 1
        if self._retries.attempts == 1:
            return None
        safe = isinstance(error, ResourceExhausted) or (isinstance(error, Unavailable) and idempotent)
        if safe and error.retry_seconds is not None:
            # The server is full, or is compiling the solver, and knows when to come back.
            wait = error.retry_seconds * self._uniform(1.0, 1.0 + ASKED_SPREAD)
        elif isinstance(error, Unavailable) and idempotent:
            doublings = min(self.failed - 1, MOST_DOUBLINGS)
            wait = min(self._retries.longest_seconds, self._retries.first_seconds * 2.0**doublings)
            wait *= self._uniform(0.5, 1.0)
            if self._patience is not None:
                return self._within_patience(wait)
        else:
            return None
        if self.failed >= self._retries.attempts:
            return None
        left = self.left()
        return wait if left is None or wait < left else None

    def succeeded(self) -> None:
        """Note that a reply has come, and count failures anew."""
        self.failed = 0
        self._away_since = None

    def _within_patience(self, wait: float) -> float | None:
        now = self._clock()
        since = self._away_since = now if self._away_since is None else self._away_since
        assert self._patience is not None
        return wait if now + wait - since < self._patience and (self._end is None or now + wait < self._end) else None
