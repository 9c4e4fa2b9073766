"""What a call can fail with: one class for each thing that a program may want to do about it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import grpc
from google.protobuf.message import Message

ARGUMENT = re.compile(r"(X|[a-z_][a-z0-9_]*)(\[\d+\])?(?= )")
"""The refusals of the engines' checks start with the argument that they refuse."""


class RelaxonError(Exception):
    """Any failed call."""


class InvalidArgument(RelaxonError, ValueError, TypeError):
    """An argument was refused, here or by the server; in process it would be a ValueError or a TypeError."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field
        """The argument; empty where it is not known."""


class NotFound(RelaxonError):
    """The server does not keep this grid, model or job (any more)."""


class AlreadyExists(RelaxonError):
    """The name is taken."""


class FailedPrecondition(RelaxonError):
    """The server lacks what the call needs (a solver's packages, say), or things are not in the state for it."""


class ResourceExhausted(RelaxonError):
    """A limit of the server was met."""

    def __init__(self, message: str, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds
        """After how long the server thinks that it may work; None where waiting does not help."""


class DeadlineExceeded(RelaxonError, TimeoutError):
    """The call's time was up, or the server gave an upload up that had fallen silent."""


class Unavailable(RelaxonError, ConnectionError):
    """The server cannot be reached or went away."""


class Cancelled(RelaxonError):
    """The call was cut off: the server stopped, or the client was closed."""


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
        named = ARGUMENT.match(message)
        raise InvalidArgument(message, named.group() if named else "") from None


def of_call(error: grpc.RpcError) -> RelaxonError:
    """A failed call's error, with its `google.rpc` details read."""
    if not isinstance(error, grpc.Call):
        return InternalError(str(error))
    code, message = error.code(), error.details() or ""
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidArgument(message, _field(error))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ResourceExhausted(message, _retry_seconds(error))
    return _CLASSES.get(code, InternalError)(message)


def of_status(status: Any) -> RelaxonError:
    """The error for a `google.rpc.Status` in a message: how a job ended."""
    from google.rpc import error_details_pb2

    code = next((one for one in grpc.StatusCode if one.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        request = error_details_pb2.BadRequest()
        named = any(detail.Unpack(request) for detail in status.details) and request.field_violations
        return InvalidArgument(status.message, request.field_violations[0].field if named else "")
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return ResourceExhausted(status.message)
    return _CLASSES.get(code, InternalError)(status.message)


def _field(error: grpc.Call) -> str:
    from google.rpc import error_details_pb2

    request = error_details_pb2.BadRequest()
    if _unpack(error, request) and request.field_violations:
        return str(request.field_violations[0].field)
    return ""


def _retry_seconds(error: grpc.Call) -> float | None:
    from google.rpc import error_details_pb2

    retry = error_details_pb2.RetryInfo()
    if not _unpack(error, retry):
        return None
    return float(retry.retry_delay.ToMilliseconds()) / 1000


def _unpack(error: grpc.Call, detail: Message) -> bool:
    """Fill `detail` from the call's status; whether it is there."""
    from google.protobuf.message import DecodeError
    from grpc_status import rpc_status

    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # a proxy's or a broken status; the plain code and message still hold
        return False
    return status is not None and any(packed.Unpack(detail) for packed in status.details)
