"""The server's log, as text or as one JSON object a line; each line carries the id of its call."""

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
"""The attribute of a record whose entries are separate in JSON and part of the message in text."""


def set_up(settings: ServerSettings) -> None:
    """Send this process's log to its standard error, in the format and from the level that the settings give."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if settings.log_format == "json" else logging.Formatter(TEXT))
    # At the handler, which runs in the task or thread that made the record.
    handler.addFilter(_add_call)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)


class JsonLines(logging.Formatter):
    """Formats each record as one line with a JSON object.

    It has the time, level, logger and message, the id and the caller of the call, and the traceback of an error.
    """

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
    """Observe a call and log a line when it has ended."""
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


def _add_call(record: logging.LogRecord) -> bool:
    request_id = request_ids.current()
    record.__dict__.update(
        request_id=request_id, caller=identity.current().name, about=f" [{request_id}]" if request_id else ""
    )
    return True
