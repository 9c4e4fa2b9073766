"""What went wrong, as gRPC tells it: a status code with `google.rpc` details."""

from __future__ import annotations

import logging
import re
import secrets
import traceback
from collections.abc import Awaitable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from relaxon.core.extras import explain
from relaxon.server.gate import request_ids

logger = logging.getLogger("relaxon.server")
Answer = TypeVar("Answer")
DETAILS_KEY = "grpc-status-details-bin"
ARGUMENT = re.compile(r"[a-z_][a-z0-9_]*(\[\d+\])?(?= )")
"""The engines' refusals start with the argument that they refuse."""


MISSING_PACKAGE = "MISSING_PACKAGE"
"""The type of the violation in a `PreconditionFailure`: `subject` is a Python module that this server lacks."""
LONGEST_NAME = 80
"""Characters of an unknown name that its error's message repeats."""
LONGEST_TEXT = 1000
"""Bytes of a message, and of each name in its details: beyond about 8 KiB in all, gRPC drops a call's status."""


class ServiceError(Exception):
    """An error that the caller is told as it is."""

    def __init__(self, code: grpc.StatusCode, message: str, *details: Message) -> None:
        super().__init__(message)
        self.code = code
        self.message = shortened(message)
        self.details = details


def shortened(text: str) -> str:
    """A text that may hold what a caller has sent, cut where it is too long to be told."""
    octets = text.encode("utf-8", errors="replace")
    if len(octets) <= LONGEST_TEXT:
        return octets.decode("utf-8")
    return octets[: LONGEST_TEXT - 3].decode("utf-8", errors="ignore") + "…"


def invalid(field: str, message: str) -> ServiceError:
    """INVALID_ARGUMENT with a violation for `field`."""
    field, message = shortened(field), shortened(message)
    violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=message)
    return ServiceError(
        grpc.StatusCode.INVALID_ARGUMENT, message, error_details_pb2.BadRequest(field_violations=[violation])
    )


def refused(error: ValueError | TypeError) -> ServiceError:
    """An engine's refusal of an argument as INVALID_ARGUMENT; its message starts with the argument's name."""
    message = str(error)
    named = ARGUMENT.match(message)
    return invalid(named.group() if named else "", message)


def not_found(kind: str, name: str, why: str, field: str = "") -> ServiceError:
    """NOT_FOUND for a thing of `kind`, the full name of its message; `why` goes on after "it was"."""
    message = shortened(
        f"{field or kind.rpartition('.')[2].lower()} {name[:LONGEST_NAME]!r} is not known: it was {why}"
    )
    name = shortened(name)
    resource = error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name, description=message)
    return ServiceError(grpc.StatusCode.NOT_FOUND, message, resource)


def already_exists(kind: str, name: str, message: str) -> ServiceError:
    """ALREADY_EXISTS for a name of a thing of `kind` that is taken."""
    name, message = shortened(name), shortened(message)
    resource = error_details_pb2.ResourceInfo(resource_type=kind, resource_name=name, description=message)
    return ServiceError(grpc.StatusCode.ALREADY_EXISTS, message, resource)


def failed_precondition(message: str) -> ServiceError:
    """FAILED_PRECONDITION: the call is sound, but not in the state that things are in."""
    return ServiceError(grpc.StatusCode.FAILED_PRECONDITION, message)


def unauthenticated() -> ServiceError:
    """UNAUTHENTICATED; always in the same words, which tell nothing."""
    return ServiceError(grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed for this call")


def denied(message: str) -> ServiceError:
    """PERMISSION_DENIED: the caller is known, and may not do that."""
    return ServiceError(grpc.StatusCode.PERMISSION_DENIED, message)


def unimplemented() -> ServiceError:
    """UNIMPLEMENTED for a method that is not served."""
    return ServiceError(grpc.StatusCode.UNIMPLEMENTED, "the server has no such method")


def stopping() -> ServiceError:
    """UNAVAILABLE while the server stops."""
    return ServiceError(grpc.StatusCode.UNAVAILABLE, "the server is about to stop")


def stopped() -> ServiceError:
    """UNAVAILABLE for a call that was still running when the server's grace time was over."""
    return ServiceError(grpc.StatusCode.UNAVAILABLE, "the server has stopped before the call was done")


def not_compiled(seconds: float) -> ServiceError:
    """UNAVAILABLE with a `RetryInfo` for a call whose deadline would pass before its solver is compiled."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(round(1000 * seconds))
    message = (
        f"the solver is being compiled for this machine's processor, which goes on for about {seconds:.0f} s: "
        "the call's deadline would pass before"
    )
    return ServiceError(grpc.StatusCode.UNAVAILABLE, message, retry)


def exhausted(subject: str, message: str, retry_seconds: float | None = None) -> ServiceError:
    """RESOURCE_EXHAUSTED for a limit of this server; with a `RetryInfo` where waiting helps."""
    subject, message = shortened(subject), shortened(message)
    violation = error_details_pb2.QuotaFailure.Violation(subject=subject, description=message)
    details: list[Message] = [error_details_pb2.QuotaFailure(violations=[violation])]
    if retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(1000 * retry_seconds))
        details.append(retry)
    return ServiceError(grpc.StatusCode.RESOURCE_EXHAUSTED, message, *details)


def unavailable_solver(name: str, error: Exception) -> ServiceError:
    """FAILED_PRECONDITION for a solver whose modules or device this server lacks."""
    said = f"solver {name!r} cannot be used on this server"
    if isinstance(error, ModuleNotFoundError):
        return _missing_package(said, explain(error))
    return ServiceError(grpc.StatusCode.FAILED_PRECONDITION, f"{said}: {error}")


def missing_package(error: ImportError) -> ServiceError:
    """Return FAILED_PRECONDITION for what needs a package that this server lacks; its message names the extra to
    install, and its `PreconditionFailure` the package."""
    explained = explain(error) if isinstance(error, ModuleNotFoundError) else error
    return _missing_package("this server cannot do that", explained)


def _missing_package(said: str, error: ImportError) -> ServiceError:
    violation = error_details_pb2.PreconditionFailure.Violation(
        type=MISSING_PACKAGE, subject=shortened(error.name or ""), description=shortened(str(error))
    )
    failure = error_details_pb2.PreconditionFailure(violations=[violation])
    return ServiceError(grpc.StatusCode.FAILED_PRECONDITION, f"{said}: {error}", failure)


async def reported(context: grpc.aio.ServicerContext[Any, Any], work: Awaitable[Answer]) -> Answer:
    """What `work` gives; where it raises, the call ends with the error's status.

    What nobody foresaw is logged with its traceback under an id, and the caller is told the id only.
    """
    try:
        return await work
    except grpc.aio.BaseError:
        raise  # the call has its status already, or nobody is there to be told of it
    except ServiceError as error:
        let_go(error)
        await _abort(context, error)
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
    """Have an error that has been dealt with hold nothing any more. The frames of its traceback, and of those that led
    to it, hold what a call worked with (arrays, shared memory), and that may hold the error: all would stay until a
    garbage collection. What a function has from around it is not let go of: give it as `partial` arguments."""
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
