"""How many shared files this process has mapped, and waiting for a figure to come to what it has to."""

import gc
import time

from relaxon.wire import shared_memory as shared_files


def mappings():
    """Shared files that this process, which is the server and its clients, has mapped."""
    gc.collect()
    with open("/proc/self/maps", encoding="utf-8") as lines:
        return sum(shared_files.LINK in line for line in lines)


def settled(figure, wanted=0, seconds=20.0):
    """Whether a figure comes to what is wanted: a call's own frames may live for a moment longer than its reply."""
    deadline = time.monotonic() + seconds
    while figure() != wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    return figure() == wanted
