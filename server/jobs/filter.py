"""The filter of `ListOperations` and its page tokens, which stay valid while jobs come and go."""

from __future__ import annotations

import base64
import hashlib
import math
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from relaxon.server.gate import errors
from relaxon.server.jobs.records import JobRecord
from relaxon.wire.conversions.jobs import JobState

Wanted = Callable[[JobRecord], bool]
LONGEST = 500
TERM = re.compile(r'\s*([a-z_]+)\s*(<=|>=|!=|=|<|>)\s*(?:"([^"]*)"|([^\s"]+))\s*')
AND = re.compile(r"AND\s")
GRAMMAR = (
    "terms like state = running joined by AND; fields are done, state, kind, model and request_id, with = and !=, and "
    'create_time, with <, <=, > and >= and a time like "2026-01-31T12:00:00Z"'
)
FIELDS: dict[str, Callable[[JobRecord], str]] = {
    "done": lambda job: str(job.state.ended).lower(),
    "state": lambda job: job.state.value,
    "kind": lambda job: job.kind,
    "model": lambda job: job.model,
    "request_id": lambda job: job.request_id,
}
VALUES = {"done": {"true", "false"}, "state": {state.value for state in JobState}}
ORDERS: dict[str, Callable[[float, float], bool]] = {
    "<": lambda found, bound: found < bound,
    "<=": lambda found, bound: found <= bound,
    ">": lambda found, bound: found > bound,
    ">=": lambda found, bound: found >= bound,
}
FIRST = (-math.inf, "")
"""The position before all jobs."""


def parse_filter(text: str) -> Wanted:
    """Return the predicate of a filter, all jobs if it is empty; INVALID_ARGUMENT if it is malformed."""
    if len(text) > LONGEST:
        raise _refuse_filter(text)
    terms: list[Wanted] = []
    rest = text.strip()
    while rest:
        found = TERM.match(rest)
        if found is None:
            raise _refuse_filter(text)
        terms.append(_term(text, *found.groups()))
        rest = rest[found.end() :]
        if rest:
            joined = AND.match(rest)
            if joined is None or joined.end() == len(rest):
                raise _refuse_filter(text)
            rest = rest[joined.end() :]
    return lambda job: all(term(job) for term in terms)


def _term(text: str, field: str, operator: str, quoted: str | None, plain: str | None) -> Wanted:
    value = quoted if quoted is not None else plain or ""
    if field == "create_time" and operator in ORDERS:
        order, bound = ORDERS[operator], _seconds(text, value)
        return lambda job: order(job.created, bound)
    if field not in FIELDS or operator not in ("=", "!="):
        raise _refuse_filter(text)
    if field in VALUES:
        value = value.lower().removeprefix("job_state_")
        if value not in VALUES[field]:
            raise _refuse_filter(text)
    read, wanted = FIELDS[field], operator == "="
    return lambda job: (read(job) == value) is wanted


def page_token(job: JobRecord, text: str) -> str:
    """Return the token of the page that starts after that job."""
    return base64.urlsafe_b64encode(f"{job.created.hex()} {job.id} {_digest(text)}".encode()).decode()


def read_page_token(token: str, text: str) -> tuple[float, str]:
    """Return the time and the id of the job after which a page starts; INVALID_ARGUMENT for a token of another list."""
    if not token:
        return FIRST
    try:
        created, job_id, digest = base64.urlsafe_b64decode(token.encode()).decode().split(" ")
        place = float.fromhex(created), job_id
    except (ValueError, OverflowError):
        raise errors.invalid("page_token", "page_token must be one that this server gave") from None
    if digest != _digest(text):
        raise errors.invalid("page_token", "page_token must come with the filter that it was given for")
    return place


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _seconds(text: str, value: str) -> float:
    try:
        time: Any = datetime.fromisoformat(value)
    except ValueError:
        raise _refuse_filter(text) from None
    return float((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())


def _refuse_filter(text: str) -> errors.ServiceError:
    return errors.invalid("filter", f"filter must be {GRAMMAR}; got {text[:80]!r}")
