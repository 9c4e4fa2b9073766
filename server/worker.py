"""The process of one job: `python -m relaxon.server.worker FOLDER`.

It reads the folder's request and data, writes the model into it, and tells the server on its standard output, a line
of JSON each: `{"progress": …}` after each step, then `{"done": {}}` or `{"failed": …}`. A line `cancel` on its
standard input has it end after the step that it is at; the input's end means that the server is gone, and it goes too.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

from relaxon.server.threads import wait_asleep

TASKS = {"boosting": "relaxon.server.boosting_task", "equilibrium": "relaxon.server.equilibrium_task"}
"""The module for each kind of job; it has `run(folder, request, tell)`."""
REQUEST, MODEL = "request.json", "model"
NICENESS = 10
"""Solves and the server's own answers come before training."""
ARGUMENT = re.compile(r"(X|[a-z_][a-z0-9_]*)(\[\d+\])?(?= )")
"""The engines' refusals start with the argument that they refuse."""
LONGEST_MESSAGE = 2000
GONE = 3
"""Exit status where the server has gone."""

Tell = Callable[[Mapping[str, Any] | None], bool]
"""Passes progress on, None for nothing new; whether the job is to end here."""


def main() -> int:
    """0 where the last word was said, whatever it was."""
    folder = Path(sys.argv[1])
    out = _own_output()
    cancelled = threading.Event()
    threading.Thread(target=_obey, args=(cancelled,), daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    wait_asleep()

    def say(message: Mapping[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    def tell(progress: Mapping[str, Any] | None) -> bool:
        if progress is not None:
            say({"progress": progress})
        return cancelled.is_set()

    request = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    try:
        import_module(TASKS[request["kind"]]).run(folder, request, tell)
    except (ValueError, TypeError) as error:
        import traceback

        traceback.print_exc()
        message = str(error)[:LONGEST_MESSAGE]
        named = ARGUMENT.match(message)
        say({"failed": {"code": "INVALID_ARGUMENT", "message": message, "field": named.group() if named else ""}})
        return 0
    except MemoryError:
        say({"failed": {"code": "RESOURCE_EXHAUSTED", "message": "the job needs more memory than there is"}})
        return 0
    except ImportError as error:
        say({"failed": {"code": "FAILED_PRECONDITION", "message": f"this server cannot train that: {error}"}})
        return 0
    say({"done": {}})
    return 0


def _own_output() -> TextIO:
    """The standard output for this module alone; what others print goes to the log."""
    own = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(own, "w", encoding="utf-8")


def _obey(cancelled: threading.Event) -> None:
    # Not through sys.stdin, whose lock would be held at the interpreter's end.
    with os.fdopen(os.dup(0), "rb", buffering=0) as words:
        while word := words.read(1):
            if word == b"\n":
                cancelled.set()
    os._exit(GONE)


if __name__ == "__main__":
    sys.exit(main())
