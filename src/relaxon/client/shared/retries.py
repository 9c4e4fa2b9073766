"""Which failed calls are made again, when, and how often: decided here, carried out by the clients' loops."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from relaxon.core import validation
from relaxon.core.errors import RelaxonError, ResourceExhausted, Unavailable

ASKED_SPREAD = 0.25
"""A server that is full tells all its callers the same time; they come back spread over this part more."""

MOST_DOUBLINGS = 60
"""No wait is so long, and no power of two so large, that one more would matter."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How failed calls are made again.

    A call is made again in two cases. The server was full (`ResourceExhausted` with a time to come back): it has then
    done nothing, and any call is safe to repeat; the wait is what the server asked for. Or it could not be reached
    (`Unavailable`): then only calls are repeated that do no harm when made twice. Where the server itself says so, with
    a time to come back (it compiles the solver), the wait is that time; otherwise waits double from
    `first_seconds` to `longest_seconds`, each shortened by chance by up to a half. No call with all its repeats takes
    longer than its timeout: where a wait would, the error is raised at once. Calls on jobs, which outlive their server,
    are repeated for as long as the client's `timeout` while it is away, however many attempts that takes.

    Parameters
    ----------
    attempts : of a call in all, at least 1; 1 repeats nothing, on jobs neither.
    first_seconds, longest_seconds : of the waits after the server could not be reached.

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
        """`seconds` is what all attempts together may take, None for as long as they need.

        `patience` is for how many seconds a server that is away is waited for, in the place of a number of attempts.
        """
        self._retries = retries
        self._clock = clock
        self._uniform = uniform
        self._end = None if seconds is None else clock() + seconds
        self._patience = patience
        self._away_since: float | None = None
        self.failed = 0

    def left(self) -> float | None:
        """Seconds that the next attempt may take."""
        return None if self._end is None else max(0.0, self._end - self._clock())

    def wait_after(self, error: RelaxonError, idempotent: bool) -> float | None:
        """Seconds to wait before the next attempt; None where there is to be none."""
        self.failed += 1
        if self._retries.attempts == 1:
            return None
        if isinstance(error, ResourceExhausted) and error.retry_seconds is not None:
            wait = error.retry_seconds * self._uniform(1.0, 1.0 + ASKED_SPREAD)
        elif isinstance(error, Unavailable) and idempotent and error.retry_seconds is not None:
            # The server is there, and knows when it can: it compiles the solver.
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
        """Something came: what fails from here on is counted anew."""
        self.failed = 0
        self._away_since = None

    def _within_patience(self, wait: float) -> float | None:
        now = self._clock()
        since = self._away_since = now if self._away_since is None else self._away_since
        assert self._patience is not None
        return wait if now + wait - since < self._patience and (self._end is None or now + wait < self._end) else None
