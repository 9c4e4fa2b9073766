"""What a call can fail with: one class for each thing that a program may want to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

ARGUMENT = re.compile(r"(X|M|[a-z_][a-z0-9_]*)(\[\d+\])?(\.[a-z_][a-z0-9_]*)?(?= )")
"""The argument that a refusal's message starts with."""


class RelaxonError(Exception):
    """Any failed call."""

    retry_seconds: float | None = None
    """After how long the server thinks that the call may work; None where it did not say."""


class InvalidArgument(RelaxonError, ValueError, TypeError):
    """An argument was refused, here or by the server; in process it would be a ValueError or a TypeError."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        """The argument; empty where it is not known."""


class NotFound(RelaxonError):
    """The server does not keep this grid, model or job (any more)."""

    def __init__(self, message: str, resource_type: str = "", resource_name: str = "") -> None:
        super().__init__(message)
        self.resource_type = resource_type
        """What is not there: `relaxon.v1.Grid`, say; empty where the server did not say."""
        self.resource_name = resource_name


class GridLost(NotFound):
    """A grid was made and not deleted here, and the server does not know it: it restarted, or has forgotten it."""


class AlreadyExists(RelaxonError):
    """The name is taken."""

    def __init__(self, message: str, resource_type: str = "", resource_name: str = "") -> None:
        super().__init__(message)
        self.resource_type = resource_type
        self.resource_name = resource_name


class FailedPrecondition(RelaxonError):
    """The server lacks what the call needs (a solver's packages, say), or things are not in the state for it."""


class ResourceExhausted(RelaxonError):
    """A limit of the server was met."""

    def __init__(self, message: str, retry_seconds: float | None = None, limit: str = "") -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds
        """After how long the server thinks that it may work; None where waiting does not help."""
        self.limit = limit
        """Which limit: "cells", "solves", "jobs" and so on; empty where the server did not say."""


class DeadlineExceeded(RelaxonError, TimeoutError):
    """The call's time was up, or the server gave an upload up that had fallen silent."""


class Unavailable(RelaxonError, ConnectionError):
    """The server cannot be reached or went away."""


class Cancelled(RelaxonError):
    """The call was cut off: the client was closed. Of a job: it was cancelled, or its server stopped, before it had
    trained anything."""


class Unauthenticated(RelaxonError, PermissionError):
    """The server asks for a token (or another one)."""


class PermissionDenied(RelaxonError, PermissionError):
    """The token's role does not allow the call."""


class InternalError(RelaxonError):
    """The server failed in a way that it did not foresee; its log says more."""


_CLASSES: dict[grpc.StatusCode, type[RelaxonError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.UNIMPLEMENTED: FailedPrecondition,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
}


CANCELLED_HERE = frozenset({"Locally cancelled by application!", "Channel closed!"})
"""What gRPC says of a call that was cancelled on this side."""


@contextmanager
def translated(arguments: Mapping[str, str] | None = None) -> Iterator[None]:
    """Raises the block's gRPC errors as this module's; `arguments` are what fields of the messages are called here."""
    try:
        yield
    except grpc.RpcError as error:
        found = of_call(error)
        if isinstance(found, InvalidArgument) and arguments and found.field in arguments:
            name = arguments[found.field]
            raise InvalidArgument(name + str(found).removeprefix(found.field), name) from error
        raise found from error


@contextmanager
def refusals() -> Iterator[None]:
    """Raises as `InvalidArgument` what the engines' checks, run on this side, refuse in the block."""
    try:
        yield
    except InvalidArgument:
        raise
    except (ValueError, TypeError) as error:
        message = str(error)
        raise InvalidArgument(message, find_argument(message)) from None


def find_argument(message: str) -> str:
    """Return the argument that a refusal's message starts with; empty if it does not start with one."""
    named = ARGUMENT.match(message)
    return named.group() if named else ""


def of_call(error: grpc.RpcError) -> RelaxonError:
    """A failed call's error, with its `google.rpc` details read."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return InternalError(str(error))
    code, message = error.code(), error.details() or ""
    if code is grpc.StatusCode.CANCELLED and not any(one in message for one in CANCELLED_HERE):
        # gRPC's word for a call that a server, or a proxy, has dropped at its end.
        return Unavailable(f"the server ended the call before it was done: {message}")
    return _made(code, message, _details(error))


def of_status(status: Any) -> RelaxonError:
    """The error for a `google.rpc.Status` in a message: how a job ended."""
    code = next((one for one in grpc.StatusCode if one.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    return _made(code, status.message, status.details)


def _made(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> RelaxonError:
    from google.rpc import error_details_pb2 as pb

    details = list(details)
    retry = _found(details, pb.RetryInfo())
    seconds = float(retry.retry_delay.ToMilliseconds()) / 1000 if retry is not None else None
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        request = _found(details, pb.BadRequest())
        return InvalidArgument(
            message, request.field_violations[0].field if request and request.field_violations else ""
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        quota = _found(details, pb.QuotaFailure())
        return ResourceExhausted(message, seconds, quota.violations[0].subject if quota and quota.violations else "")
    kind = _CLASSES.get(code, InternalError)
    if issubclass(kind, NotFound | AlreadyExists):
        resource = _found(details, pb.ResourceInfo())
        return kind(message, resource.resource_type, resource.resource_name) if resource else kind(message)
    made = kind(message)
    made.retry_seconds = seconds
    return made


def _found(details: Iterable[Any], kind: Any) -> Any:
    """The detail of that kind, None where there is none."""
    return kind if any(detail.Unpack(kind) for detail in details) else None


def _details(error: Any) -> Iterable[Any]:
    """What the call's status has beside code and message."""
    from google.protobuf.message import DecodeError
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # a proxy's or a broken status; the plain code and message still hold
        return ()
    return () if status is None else status.details
