"""The errors of calls to a server: one class for each way in which a program may want to react.

Imported on first use, for their weight: `google.rpc` and `grpc_status`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc

ARGUMENT = re.compile(r"(X|M|[a-z_][a-z0-9_]*)(\[\d+\])?(\.[a-z_][a-z0-9_]*)?(?= )")
"""The argument that a refusal's message starts with."""


class RelaxonError(Exception):
    """Base class of the errors of failed calls."""

    retry_seconds: float | None = None
    """Seconds after which, by the server's estimate, the call may succeed; None if it gave none."""


class InvalidArgument(RelaxonError, ValueError, TypeError):
    """An argument was refused, by the client or by the server; in process it would be a ValueError or a TypeError."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        """The argument; empty if it is not known."""


class ResourceError(RelaxonError):
    """Base class of errors about one thing that the server keeps, or should."""

    def __init__(self, message: str, resource_type: str = "", resource_name: str = "") -> None:
        super().__init__(message)
        self.resource_type = resource_type
        """What it is, such as `relaxon.v1.Grid`; empty if the server did not say."""
        self.resource_name = resource_name


class NotFound(ResourceError):
    """The server does not have this grid, model or job (any more)."""


class GridLost(NotFound):
    """A grid that was made and not deleted here is unknown to the server, which restarted or has forgotten it."""


class AlreadyExists(ResourceError):
    """The name is already in use."""


class FailedPrecondition(RelaxonError):
    """The server lacks what the call needs (a solver's packages, say), or the call does not fit the present state."""


class ResourceExhausted(RelaxonError):
    """A limit of the server was reached."""

    def __init__(self, message: str, retry_seconds: float | None = None, limit: str = "") -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds
        """Seconds after which, by the server's estimate, the call may succeed; None if waiting does not help."""
        self.limit = limit
        """The limit: "cells", "solves", "jobs" and so on; empty if the server did not say."""


class DeadlineExceeded(RelaxonError, TimeoutError):
    """The call's deadline passed, or the server gave up on an upload that had stalled."""


class Unavailable(RelaxonError, ConnectionError):
    """The server cannot be reached, or the connection to it was lost."""


class Cancelled(RelaxonError):
    """The call was cancelled because the client was closed; or a job was cancelled, or its server stopped, before
    anything was trained."""


class Unauthenticated(RelaxonError, PermissionError):
    """The server requires a token, or another one."""


class PermissionDenied(RelaxonError, PermissionError):
    """The token's role does not allow the call."""


class InternalError(RelaxonError):
    """The server failed unexpectedly; its log says more."""


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
"""gRPC's messages for calls that were cancelled on this side."""


@contextmanager
def translate_errors(arguments: Mapping[str, str] | None = None) -> Iterator[None]:
    """Raise gRPC errors of the block as errors of this module; `arguments` maps message fields to argument names."""
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
    """Raise the refusals of checks that run on the client's side in the block as `InvalidArgument`."""
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
    """Return the error of a failed call, with its `google.rpc` details."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return InternalError(str(error))
    code, message = error.code(), error.details() or ""
    if code is grpc.StatusCode.CANCELLED and not any(one in message for one in CANCELLED_HERE):
        # What gRPC says if a server or a proxy has dropped the call.
        return Unavailable(f"the server ended the call before it was done: {message}")
    return _make(code, message, _details(error))


def of_status(status: Any) -> RelaxonError:
    """Return the error for a `google.rpc.Status` in a message, which says how a job ended."""
    code = next((one for one in grpc.StatusCode if one.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    return _make(code, status.message, status.details)


def _make(code: grpc.StatusCode, message: str, details: Iterable[Any]) -> RelaxonError:
    from google.rpc import error_details_pb2 as pb

    details = list(details)
    retry = _find_detail(details, pb.RetryInfo())
    seconds = float(retry.retry_delay.ToMilliseconds()) / 1000 if retry is not None else None
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        request = _find_detail(details, pb.BadRequest())
        return InvalidArgument(
            message, request.field_violations[0].field if request and request.field_violations else ""
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        quota = _find_detail(details, pb.QuotaFailure())
        return ResourceExhausted(message, seconds, quota.violations[0].subject if quota and quota.violations else "")
    kind = _CLASSES.get(code, InternalError)
    if issubclass(kind, ResourceError):
        resource = _find_detail(details, pb.ResourceInfo())
        return kind(message, resource.resource_type, resource.resource_name) if resource else kind(message)
    error = kind(message)
    error.retry_seconds = seconds
    return error


def _find_detail(details: Iterable[Any], kind: Any) -> Any:
    """Return the detail of a kind; None if there is none."""
    return kind if any(detail.Unpack(kind) for detail in details) else None


def _details(error: Any) -> Iterable[Any]:
    """Return the details of a call's status, besides code and message."""
    from google.protobuf.message import DecodeError
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # the status of a proxy, or a broken one; code and message still hold
        return ()
    return () if status is None else status.details
