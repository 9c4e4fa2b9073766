"""The loop in which a blocking client makes its calls: timeouts, repeats, errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar

import grpc

from relaxon.client.shared.retries import NO_RETRIES, Attempts, Retries
from relaxon.core import errors, validation
from relaxon.wire.ownership import Owner

Reply = TypeVar("Reply")
Gathered_co = TypeVar("Gathered_co", covariant=True)
Gathered = TypeVar("Gathered")


class Collector(Protocol[Gathered_co]):
    """Puts an answer of several messages together."""

    def take(self, reply: Any) -> None: ...

    def finished(self) -> Gathered_co: ...


class Timeouts:
    """What a call may take where it is not told."""

    def __init__(self, timeout: float, transfer_timeout: float, retries: Retries, owner: Owner | None = None) -> None:
        """`owner` says whether calls may be made at all."""
        self.owner = Owner() if owner is None else owner
        self.timeout = timeout
        self.transfer_timeout = transfer_timeout
        self.retries = retries

    def transfer_seconds(self, timeout: float | None) -> float:
        """For a call that moves arrays; InvalidArgument for a `timeout` that is none. As `Owner.check` before any."""
        self.owner.check()
        with errors.refusals():
            return self.transfer_timeout if timeout is None else validation.positive_float("timeout", timeout)

    def attempts(self, seconds: float | None, repeated: bool = True, patient: bool = False) -> Attempts:
        """For one call; `seconds` None for a call that moves no arrays, `patient` for one on a job. As `check`."""
        self.owner.check()
        return Attempts(
            self.retries if repeated else NO_RETRIES,
            self.timeout if seconds is None else seconds,
            patience=self.timeout if patient else None,
        )

    def following(self) -> Attempts:
        """For a job's progress, which takes as long as it takes. As `Owner.check`."""
        self.owner.check()
        return Attempts(self.retries, None, patience=self.timeout)


class Caller(Timeouts):
    """Makes calls and waits for them; used by several threads."""

    def make(
        self,
        method: Callable[..., Reply],
        request: Any,
        *,
        idempotent: bool,
        seconds: float | None = None,
        arguments: Mapping[str, str] | None = None,
        repeated: bool = True,
        patient: bool = False,
    ) -> Reply:
        """A call with one reply.

        `request` is a message, or gives the messages anew for each attempt. `arguments` are what the messages' fields
        are called here. `repeated` False makes the call once; `patient` waits for a server that is away.
        """
        attempts = self.attempts(seconds, repeated, patient)
        while True:
            try:
                with errors.translated(arguments):
                    return method(request() if callable(request) else request, timeout=attempts.left())
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent)
                if wait is None:
                    raise
            time.sleep(wait)

    def delete(self, method: Callable[..., object], request: Any, *, repeated: bool = True) -> None:
        """A call that deletes. What is not there after an attempt whose answer was lost was deleted by it."""
        attempts = self.attempts(None, repeated)
        while True:
            try:
                with errors.translated():
                    method(request, timeout=attempts.left())
                return
            except errors.RelaxonError as error:
                if attempts.failed and isinstance(error, errors.NotFound):
                    return
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            time.sleep(wait)

    def gather(
        self,
        method: Callable[..., Iterable[Any]],
        requests: Callable[[], Any],
        collector: Callable[[], Collector[Gathered]],
        *,
        seconds: float,
        arguments: Mapping[str, str] | None = None,
    ) -> Gathered:
        """A call that does no harm when made twice, with an answer of several messages."""
        attempts = self.attempts(seconds)
        while True:
            gathered = collector()
            try:
                with errors.translated(arguments):
                    for reply in stream(method(requests(), timeout=attempts.left())):
                        gathered.take(reply)
                return gathered.finished()
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            time.sleep(wait)

    def follow(self, method: Callable[..., Iterable[Any]], request: Callable[[int], Any]) -> Iterator[Any]:
        """Replies for as long as they come; `request` is told how many it can leave out."""
        attempts = self.following()
        came = 0
        while True:
            try:
                with errors.translated():
                    for reply in stream(method(request(came))):
                        came += 1
                        attempts.succeeded()
                        yield reply
                return
            except errors.RelaxonError as error:
                wait = attempts.wait_after(error, idempotent=True)
                if wait is None:
                    raise
            time.sleep(wait)


def stream(call: Any) -> Iterator[Any]:
    """A stream of replies, which is cut off where its reader leaves."""
    try:
        yield from call
    finally:
        with suppress(grpc.RpcError):
            call.cancel()
