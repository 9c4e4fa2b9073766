"""The server's log: for people, or as an object of JSON a line; each line has the id of the call that it is about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import identity, request_ids
from relaxon.server.gate.interceptor import Call

calls = logging.getLogger("relaxon.server.calls")
TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s%(about)s"
FIELDS = "fields"
"""The attribute of a record that holds what JSON has apart and text in its message."""


def set_up(settings: ServerSettings) -> None:
    """Send this process's log to its standard error, as the settings have it."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else logging.Formatter(TEXT))
    # At the handler, where records come in the task or thread that they were made in.
    handler.addFilter(_about_the_call)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


class JsonLines(logging.Formatter):
    """Each record as one line that is an object: time, level, logger, message; the call's id and caller; an error's
    traceback."""

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name in ("request_id", "caller"):
            if value := getattr(record, name, ""):
                content[name] = value
        content |= getattr(record, FIELDS, {})
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False, default=str)


@contextmanager
def log_call(call: Call) -> Iterator[None]:
    """An observer that writes a line for each call when it has ended."""
    try:
        yield
    finally:
        fields = {
            "method": call.method,
            "code": call.code.name,
            "seconds": round(call.seconds, 6),
            "received_bytes": call.received,
            "sent_bytes": call.sent,
            "peer": call.peer,
            "caller": call.caller.name,
        }
        calls.info("%s %s in %.3f s", call.method, call.code.name, call.seconds, extra={FIELDS: fields})


def _about_the_call(record: logging.LogRecord) -> bool:
    request_id = request_ids.current()
    record.__dict__.update(
        request_id=request_id, caller=identity.current().name, about=f" [{request_id}]" if request_id else ""
    )
    return True
