"""The processes that work on a server's jobs."""

from __future__ import annotations

from contextlib import suppress

import psutil

NAME = "relaxon-job"


def job_processes(server: int | None = None) -> list[psutil.Process]:
    """Those of the server in the process of that id, or in this one, that have not ended."""
    found = []
    for child in psutil.Process(server).children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has just ended
            if child.name() == NAME and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found
