"""How a session's arrays reach a server on the same machine: through a shared file, lent to one call at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from relaxon.client.errors import InvalidArgument, ResourceExhausted
from relaxon.proto import tensor_pb2 as pb
from relaxon.proto.shared import SharedFile

SMALLEST_BYTES = 1 << 20
"""An array that fits into one message is not worth a file."""
ENTRY_BYTES = 8
PLACES = 2
"""One for `b` and, when that is read, `x`; and one for `x0`, or for the next step's `b` and `x`."""

REFUSALS = (InvalidArgument, ResourceExhausted)
"""After these the server does not touch the file."""


class Handover:
    """A session's shared file, or none where the server is elsewhere, takes none, or the arrays are small."""

    def __init__(self, file: SharedFile | None = None) -> None:
        self._file = file
        self._turn = threading.Lock()

    @contextmanager
    def lent(self, harmless: tuple[type[BaseException], ...] = REFUSALS) -> Iterator[SharedFile | None]:
        """The file for one call; None where there is none, or another thread's call has it. It is used no more after a
        call that ended early, but for the `harmless` errors."""
        if not self._turn.acquire(blocking=False):
            yield None
            return
        try:
            yield self._file
        except harmless:
            raise
        except BaseException:
            self._file = None  # the server may still be writing to it
            raise
        finally:
            self._turn.release()

    def close(self) -> None:
        """Offer the file no more; it is closed when the call that has it, if any, has ended."""
        self._file = None


@contextmanager
def offered(entries: int, wanted: bool) -> Iterator[tuple[SharedFile | None, pb.SharedFile | None]]:
    """A file for arrays of so many entries and how the server finds it, which it can do until the block's end."""
    if not wanted or ENTRY_BYTES * entries <= SMALLEST_BYTES:
        yield None, None
        return
    try:
        file, offer = SharedFile.create(PLACES * ENTRY_BYTES * entries)
    except OSError:  # no such thing on this system, or no memory for it
        yield None, None
        return
    try:
        yield file, offer.message()
    finally:
        offer.close()
