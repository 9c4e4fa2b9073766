"""Errors as gRPC reports them: a status code with `google.rpc` details."""

from __future__ import annotations

import logging
import secrets
import traceback
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from relaxon.core.errors import find_argument
from relaxon.core.extras import explain
from relaxon.server.gate import request_ids
from relaxon.wire.tensors import TensorError

logger = logging.getLogger("relaxon.server")
Answer = TypeVar("Answer")
DETAILS_KEY = "grpc-status-details-bin"
MISSING_PACKAGE = "MISSING_PACKAGE"
"""The type of a violation in `PreconditionFailure` whose `subject` is a Python module that this server lacks."""
LONGEST_NAME = 80
"""Characters of an unknown name that the error message repeats."""
LONGEST_TEXT = 1000
"""Bytes of a message, and of each name in its details. Beyond about 8 KiB in all, gRPC drops a call's status."""


class ServiceError(Exception):
    """An error that is reported to the caller as it is."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        super().__init__(message)
        self.code = code
        self.message = shorten(message)
        self.details = details


def shorten(text: str) -> str:
    """Return a text that may repeat what a caller has sent, cut to `LONGEST_TEXT`."""
    octets = text.encode("utf-8", errors="replace")
    if len(octets) <= LONGEST_TEXT:
        return octets.decode("utf-8")
    return octets[: LONGEST_TEXT - 3].decode("utf-8", errors="ignore") + "…"


def invalid(field: str, message: str) -> ServiceError:
    """Return INVALID_ARGUMENT with a violation for `field`."""
    field, message = shorten(field), shorten(message)
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
    return ServiceError(
        grpc.StatusCode.INVALID_ARGUMENT, message, error_details_pb2.BadRequest(field_violations=[violation])
    )


def build_refusal(error: ValueError | TypeError) -> ServiceError:
    """Return a refusal of an argument as INVALID_ARGUMENT; its message starts with the argument's name."""
    message = str(error)
    return invalid(error.field if isinstance(error, TensorError) else find_argument(message), message)


@contextmanager
def refusing() -> Iterator[None]:
    """Raise what conversions and engines refuse in the block as INVALID_ARGUMENT, naming the argument."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise build_refusal(error) from error


def not_found(kind: str, name: str, why: str, field: str = "") -> ServiceError:
    """Return NOT_FOUND for a thing of `kind`, the full name of its message; `why` continues "it was"."""
    message = shorten(f"{field or kind.rpartition('.')[2].lower()} {name[:LONGEST_NAME]!r} is not known: it was {why}")
    name = shorten(name)
    resource = error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name, description=message)
    return ServiceError(grpc.StatusCode.NOT_FOUND, message, resource)


def already_exists(kind: str, name: str, message: str) -> ServiceError:
    """Return ALREADY_EXISTS for a name of a thing of `kind` that is taken."""
    name, message = shorten(name), shorten(message)
    resource = error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name, description=message)
    return ServiceError(grpc.StatusCode.ALREADY_EXISTS, message, resource)


def failed_precondition(message: str) -> ServiceError:
    """Return FAILED_PRECONDITION: the call is valid, but not in the present state."""
    return ServiceError(grpc.StatusCode.FAILED_PRECONDITION, message)


def unimplemented() -> ServiceError:
    """Return UNIMPLEMENTED for a method that is not served."""
    return ServiceError(grpc.StatusCode.UNIMPLEMENTED, "the server has no such method")


def stopping() -> ServiceError:
    """Return UNAVAILABLE for a call that arrives while the server stops."""
    return ServiceError(grpc.StatusCode.UNAVAILABLE, "the server is about to stop")


def not_compiled(seconds: float) -> ServiceError:
    """Return UNAVAILABLE with a `RetryInfo` for a call whose deadline would pass before its solver is compiled."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(round(1000 * seconds))
    message = (
        f"the solver is being compiled for this machine's processor, which goes on for about {seconds:.0f} s: "
        "the call's deadline would pass before"
    )
    return ServiceError(grpc.StatusCode.UNAVAILABLE, message, retry)


def exhausted(subject: str, message: str, retry_seconds: float | None = None) -> ServiceError:
    """Return RESOURCE_EXHAUSTED for a limit of this server, with a `RetryInfo` if waiting helps."""
    subject, message = shorten(subject), shorten(message)
    violation = error_details_pb2.QuotaFailure.Violation(subject=subject, description=message)
    details: list[Message] = [error_details_pb2.QuotaFailure(violations=[violation])]
    if retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(1000 * retry_seconds))
        details.append(retry)
    return ServiceError(grpc.StatusCode.RESOURCE_EXHAUSTED, message, *details)


def unavailable_solver(name: str, error: Exception) -> ServiceError:
    """Return FAILED_PRECONDITION for a solver whose packages or device this server lacks."""
    said = f"solver {name!r} cannot be used on this server"
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(said, explain(error))
    return ServiceError(grpc.StatusCode.FAILED_PRECONDITION, f"{said}: {error}")


def missing_package(error: ImportError) -> ServiceError:
    """Return FAILED_PRECONDITION for a call that needs a package which this server lacks.

    The message names the extra to install, the `PreconditionFailure` the package.
    """
    explained = explain(error) if isinstance(error, ModuleNotFoundError) else error
    return _missing_package("this server cannot do that", explained)


def _missing_package(said: str, error: ImportError) -> ServiceError:
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=MISSING_PACKAGE, subject=shorten(error.name or ""), description=shorten(str(error))
    )
    failure = error_details_pb2.PreconditionFailure(violations=[violation])
    return ServiceError(grpc.StatusCode.FAILED_PRECONDITION, f"{said}: {error}", failure)


async def report_errors(context: grpc.aio.ServicerContext[Any, Any], work: Awaitable[Answer]) -> Answer:
    """Return the result of `work`; if it raises, end the call with the error's status.

    An unexpected error is logged with its traceback under an id, and the caller learns only the id.
    """
    try:
        return await work
    except grpc.aio.BaseError:
        raise  # the call has its status already, or its caller is gone
    except (ServiceError, TensorError) as error:
        let_go(error)
        await _abort(context, error if isinstance(error, ServiceError) else build_refusal(error))
    except MemoryError:
        logger.exception("out of memory")
        await _abort(context, exhausted("memory", "the server has not enough memory for this request"))
    except Exception as error:
        incident = secrets.token_hex(4)
        logger.exception("unexpected error %s", incident)
        message = f"internal error; the server's log has it under {incident}"
        let_go(error)
        await _abort(context, ServiceError(grpc.StatusCode.INTERNAL, message))


def let_go(error: BaseException | None) -> None:
    """Release everything that a handled error still references.

    The frames of its traceback, and of the errors that led to it, hold what a call worked with (arrays, shared memory),
    which may hold the error in turn: all of it would stay until a garbage collection. The variables of a closure are
    not released: pass them as `partial` arguments instead.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: ServiceError) -> NoReturn:
    status = status_pb2.Status(code=error.code.value[0], message=error.message)
    for detail in error.details:
        status.details.add().Pack(detail)
    trailing: tuple[tuple[str, str | bytes], ...] = ()
    if request_id := request_ids.current():
        status.details.add().Pack(error_details_pb2.RequestInfo(request_id=request_id))
        trailing = ((request_ids.KEY, request_id),)
    await context.abort(error.code, error.message, ((DETAILS_KEY, status.SerializeToString()), *trailing))
