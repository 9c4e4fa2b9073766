"""How a session's arrays reach a server on the same machine: through a shared file, lent to one call at a time.

The file is cut into places. A call takes one for each array that it hands over, and the answer comes back in the place
of its right-hand side. Where enough places are left the caller gets that very memory as the solution, and the place is
free again when the last array on it is gone; otherwise a copy, and the place is free at once.

A caller may also ask for a place to write a right-hand side into (`Handover.empty`). Such an array is not copied when
it is handed over; its answer comes back elsewhere.
"""

from __future__ import annotations

import math
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.errors import InvalidArgument, ResourceExhausted
from relaxon.core.turns import Turn, Turns
from relaxon.proto import tensor_pb2 as pb
from relaxon.wire.shared_memory import SharedFile

SMALLEST_BYTES = 1 << 20
"""An array that fits into one message is not worth a file."""
ENTRY_BYTES = 8
"""Of a place, for each cell or unknown; an array of complex128 takes two places."""
LEAST, USUAL, MOST = 2, 4, 6
"""Places: one for `b` and, when that is read, `x`, and one for `x0` or the next step; then two for solutions, the
caller's last one and the next, made with the first call; then two for right-hand sides that the caller writes there,
made when it first asks for one. Those that there is no memory for are not made."""
SPARED = 2
"""Arrays that there must be places for beside those that the caller holds."""

REFUSALS = (InvalidArgument, ResourceExhausted)
"""After these the server does not touch the file."""


class Places:
    """The places of a file. One call at a time takes and gives back; the caller asks for arrays, and ends them, in any
    thread.

    Where an array ends nothing waits for a lock: that may be in a garbage collection, in the midst of anything. A place
    is taken by the one whose `remove` from the set of free ones does not fail.
    """

    def __init__(self, file: SharedFile) -> None:
        self.file = file
        self.room = file.size // MOST
        """Bytes of one place."""
        self._count = LEAST
        self._free = set(range(LEAST))
        self._taken: set[int] = set()
        self._growing = threading.Lock()
        self.forks = 0
        """How often this process has forked since the file was made."""
        _ALL.add(self)

    def grow(self, count: int) -> None:
        """Have so many places, where there is memory for them."""
        if self._count >= count:
            return
        with self._growing, suppress(OSError):
            for more in (USUAL, MOST):
                if self._count < more <= count:
                    self.file.reserve(self._count * self.room, (more - self._count) * self.room)
                    self._free.update(range(self._count, more))
                    self._count = more

    def take(self, size: int) -> Place | None:
        """Room for so many bytes, the call's own until it gives it back or ends; None where there is none."""
        numbers = self._found(size)
        if numbers is None:
            return None
        self._taken.update(numbers)
        return Place(self, numbers)

    def empty(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
        """An array for the caller to write a right-hand side into; None where too few places would be left."""
        size = math.prod(shape) * dtype.itemsize
        if not self._spares(-(-size // self.room)):
            return None
        numbers = self._found(size)
        if numbers is None:
            return None
        return np.asarray(Sheet(self, numbers, self.file.view(numbers[0] * self.room, dtype, shape)))

    def offset_of(self, array: NDArray[Any], kind: type[Loan]) -> int | None:
        """Where in the file an array lies that is all or a part, in one piece, of a loan of that kind; None for any
        other."""
        loan = array.base
        # A view of a lent array rests on that array.
        loan = loan.base if isinstance(loan, np.ndarray) else loan
        if not isinstance(loan, kind) or not loan.of(self):
            return None
        if not array.flags.c_contiguous or array.dtype != array.dtype.newbyteorder("<"):
            return None
        return self.file.offset_of(array)

    def give_back(self, numbers: range) -> None:
        """A call needs these no more."""
        self._taken.difference_update(numbers)
        self._free.update(numbers)

    def end_call(self) -> None:
        """A call is over: what it has not given back is free."""
        self._free.update(self._taken)
        self._taken.clear()

    def lend(self, numbers: range, array: NDArray[Any]) -> NDArray[Any] | None:
        """The array, which lies there, for the caller to keep; None where too few places would be left."""
        if not self._spares(len(numbers)):
            return None
        self._taken.difference_update(numbers)
        return np.asarray(Loan(self, numbers, array))

    def ended(self, numbers: range, forks: int) -> None:
        """The last array on these is gone."""
        if forks == self.forks:
            self._free.update(numbers)

    def forked(self) -> None:
        """A child of this process has the caller's arrays as well from now on, on the same memory: what is held now is
        not to be written to any more."""
        self.forks += 1

    def _found(self, size: int) -> range | None:
        """Places for so many bytes, free no more."""
        needed = -(-size // self.room)
        for first in range(self._count - needed + 1):
            numbers = range(first, first + needed)
            if self._free.issuperset(numbers) and self._removed(numbers):
                return numbers
        return None

    def _removed(self, numbers: range) -> bool:
        """Whether all were free; they are not any more then."""
        for number in numbers:
            try:
                self._free.remove(number)
            except KeyError:  # another thread has it
                self._free.update(range(numbers[0], number))
                return False
        return True

    def _spares(self, needed: int) -> bool:
        """Whether the caller can have so many more and leave enough for calls."""
        # Those that are neither free nor a call's are the caller's.
        held = self._count - len(self._free) - len(self._taken)
        return held + needed <= self._count - SPARED * needed


class Loan:
    """What the caller's arrays on a place rest on, as their `base`."""

    def __init__(self, places: Places, numbers: range, array: NDArray[Any]) -> None:
        self._places, self._numbers, self._forks = places, numbers, places.forks
        self._array = array
        self.__array_interface__ = array.__array_interface__

    def of(self, places: Places) -> bool:
        """Whether it is of those."""
        return self._places is places

    def __del__(self) -> None:
        self._places.ended(self._numbers, self._forks)


class Sheet(Loan):
    """Of an array that the caller writes a right-hand side into, and knows not to change while a call has it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Room that a call has taken."""

    places: Places
    numbers: range

    @property
    def file(self) -> SharedFile:
        """That it is in."""
        return self.places.file

    @property
    def offset(self) -> int:
        """In the file, in bytes."""
        return self.numbers[0] * self.places.room

    def write(self, array: NDArray[Any]) -> None:
        """Put an array there, for which it was taken."""
        self.file.write(self.offset, array)

    def give_back(self) -> None:
        """It is needed no more."""
        self.places.give_back(self.numbers)

    def kept(self, array: NDArray[Any]) -> NDArray[Any]:
        """The array, which lies there, as one of the caller's: this very memory or a copy. Called once, at the end."""
        lent = self.places.lend(self.numbers, array)
        if lent is not None:
            return lent
        copy = array.copy()
        self.give_back()
        return copy


class Handover:
    """A session's shared file, or none where the server is elsewhere, takes none, or the arrays are small."""

    def __init__(self, file: SharedFile | None = None) -> None:
        self._places = None if file is None else Places(file)
        self._turns = Turns()

    @property
    def file(self) -> SharedFile | None:
        """Which is offered to the next call, if any."""
        return None if self._places is None else self._places.file

    @contextmanager
    def lent(self, harmless: tuple[type[BaseException], ...] = REFUSALS) -> Iterator[Places | None]:
        """The file's places for one call; None where there is no file, or another thread's call has it. It is used no
        more after a call that ended early, but for the `harmless` errors."""
        turn, mine = Turn(), False
        try:
            mine = self._turns.take(turn)
            if not mine:
                yield None
                return
            places = self._places
            try:
                if places is not None:
                    places.grow(USUAL)
                yield places
            except harmless:
                raise
            except BaseException:
                self._places = None  # the server may still be writing to it
                raise
            finally:
                if places is not None:
                    places.end_call()
        finally:
            turn.over = True

    def empty(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """An array for a right-hand side, not initialised: in the file where it has room, else anywhere. In any
        thread."""
        places, found = self._places, None
        if places is not None:
            places.grow(MOST)
            found = places.empty(dtype, shape)
        return np.empty(shape, dtype) if found is None else found

    def close(self) -> None:
        """Offer the file no more; it is closed when the call that has it, if any, and the arrays on it have ended."""
        self._places = None


@contextmanager
def offered(entries: int, wanted: bool) -> Iterator[tuple[SharedFile | None, pb.SharedFile | None]]:
    """A file for arrays of so many entries and how the server finds it, which it can do until the block's end."""
    if not wanted or ENTRY_BYTES * entries <= SMALLEST_BYTES:
        yield None, None
        return
    room = ENTRY_BYTES * entries
    try:
        file, offer = SharedFile.create(MOST * room, reserved=LEAST * room)
    except OSError:  # no such thing on this system, or no memory for it
        yield None, None
        return
    try:
        yield file, offer.message()
    finally:
        offer.close()


_ALL: weakref.WeakSet[Places] = weakref.WeakSet()


def _forked() -> None:
    for places in list(_ALL):
        places.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forked)
