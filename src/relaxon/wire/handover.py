"""How a session's arrays reach a server on the same machine: through a shared file, lent to one call at a time.

The file is divided into slots. A call takes one for each array that it hands over, and the answer comes back in the
slot of its right-hand side. If enough slots are left, the caller gets that very memory as the solution, and the slot is
free again once the last array on it is gone. Otherwise the caller gets a copy, and the slot is free at once.

A caller may also ask for a slot to write a right-hand side into (`Handover.empty`). Such an array is not copied when it
is handed over; its answer comes back elsewhere.
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
"""Bytes below which an array is not worth a file: it fits into one message."""
ENTRY_BYTES = 8
"""Bytes of a slot per cell or unknown; an array of complex128 takes two slots."""
LEAST, USUAL, MOST = 2, 4, 6
"""Numbers of slots. The least: one for `b` and, once that is read, `x`, and one for `x0` or the next step. Two more for
solutions, the caller's last one and the next, made with the first call. Two more for right-hand sides that the caller
writes in place, made when it first asks for one. Slots for which there is no memory are not made."""
SPARED = 2
"""Arrays for which slots must remain, besides those that the caller holds."""

REFUSALS = (InvalidArgument, ResourceExhausted)
"""Errors after which the server does not touch the file any more."""


class Slots:
    """The slots of a file. One call at a time takes and returns slots; the caller may ask for arrays, and drop them, in
    any thread.

    No lock is taken when an array ends: that may happen in a garbage collection, in the middle of anything. A slot
    belongs to whoever removes it from the set of free ones without an error.
    """

    def __init__(self, file: SharedFile) -> None:
        self.file = file
        self.room = file.size // MOST
        """Bytes of one slot."""
        self._count = LEAST
        self._free = set(range(LEAST))
        self._taken: set[int] = set()
        self._growing = threading.Lock()
        self.forks = 0
        """How often this process has forked since the file was made."""
        _ALL.add(self)

    def grow(self, count: int) -> None:
        """Make so many slots, as far as there is memory for them."""
        if self._count >= count:
            return
        with self._growing, suppress(OSError):
            for more in (USUAL, MOST):
                if self._count < more <= count:
                    self.file.reserve(self._count * self.room, (more - self._count) * self.room)
                    self._free.update(range(self._count, more))
                    self._count = more

    def take(self, size: int) -> Slot | None:
        """Take room for so many bytes, until the call returns it or ends; None if there is none."""
        numbers = self._claim(size)
        if numbers is None:
            return None
        self._taken.update(numbers)
        return Slot(self, numbers)

    def empty(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any] | None:
        """Return an array for the caller to write a right-hand side into; None if too few slots would be left."""
        size = math.prod(shape) * dtype.itemsize
        if not self._spares(-(-size // self.room)):
            return None
        numbers = self._claim(size)
        if numbers is None:
            return None
        return np.asarray(Sheet(self, numbers, self.file.view(numbers[0] * self.room, dtype, shape)))

    def offset_of(self, array: NDArray[Any], kind: type[Loan]) -> int | None:
        """Return the offset of an array that is a contiguous part of a loan of that kind; None for any other array."""
        loan = array.base
        # The base of a view is the lent array.
        loan = loan.base if isinstance(loan, np.ndarray) else loan
        if not isinstance(loan, kind) or not loan.of(self):
            return None
        if not array.flags.c_contiguous or array.dtype != array.dtype.newbyteorder("<"):
            return None
        return self.file.offset_of(array)

    def give_back(self, numbers: range) -> None:
        """Free slots that a call no longer needs."""
        self._taken.difference_update(numbers)
        self._free.update(numbers)

    def end_call(self) -> None:
        """Free the slots that a call, which is over, has not returned."""
        self._free.update(self._taken)
        self._taken.clear()

    def lend(self, numbers: range, array: NDArray[Any]) -> NDArray[Any] | None:
        """Return an array in these slots for the caller to keep; None if too few slots would be left."""
        if not self._spares(len(numbers)):
            return None
        self._taken.difference_update(numbers)
        return np.asarray(Loan(self, numbers, array))

    def ended(self, numbers: range, forks: int) -> None:
        """Free the slots of a loan whose last array is gone."""
        if forks == self.forks:
            self._free.update(numbers)

    def forked(self) -> None:
        """Never reuse the slots that are held now: a child process shares the caller's arrays on them from now on."""
        self.forks += 1

    def _claim(self, size: int) -> range | None:
        """Claim adjacent free slots for so many bytes; None if there are none."""
        needed = -(-size // self.room)
        for first in range(self._count - needed + 1):
            numbers = range(first, first + needed)
            if self._free.issuperset(numbers) and self._remove(numbers):
                return numbers
        return None

    def _remove(self, numbers: range) -> bool:
        """Remove slots from the free ones, and return whether all of them were free."""
        for number in numbers:
            try:
                self._free.remove(number)
            except KeyError:  # another thread has taken it
                self._free.update(range(numbers[0], number))
                return False
        return True

    def _spares(self, needed: int) -> bool:
        """Return whether the caller can have so many more slots and leave enough for calls."""
        # Slots that are neither free nor taken by a call are held by the caller.
        held = self._count - len(self._free) - len(self._taken)
        return held + needed <= self._count - SPARED * needed


class Loan:
    """The `base` of the caller's arrays in a slot."""

    def __init__(self, places: Slots, numbers: range, array: NDArray[Any]) -> None:
        self._places, self._numbers, self._forks = places, numbers, places.forks
        self._array = array
        self.__array_interface__ = array.__array_interface__

    def of(self, places: Slots) -> bool:
        """Return whether the loan is one of these slots."""
        return self._places is places

    def __del__(self) -> None:
        self._places.ended(self._numbers, self._forks)


class Sheet(Loan):
    """The loan of an array for a right-hand side, which the caller knows not to change while a call has it."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Slots that a call has taken."""

    places: Slots
    numbers: range

    @property
    def file(self) -> SharedFile:
        """The file that they are in."""
        return self.places.file

    @property
    def offset(self) -> int:
        """The offset of the first one in the file, in bytes."""
        return self.numbers[0] * self.places.room

    def write(self, array: NDArray[Any]) -> None:
        """Write the array for which they were taken."""
        self.file.write(self.offset, array)

    def give_back(self) -> None:
        """Return the slots, which are no longer needed."""
        self.places.give_back(self.numbers)

    def kept(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array that lies there for the caller to keep: this memory, or a copy. Call it once, at the end."""
        lent = self.places.lend(self.numbers, array)
        if lent is not None:
            return lent
        copy = array.copy()
        self.give_back()
        return copy


class Handover:
    """A session's shared file; there is none if the server is elsewhere, takes none, or the arrays are small."""

    def __init__(self, file: SharedFile | None = None) -> None:
        self._places = None if file is None else Slots(file)
        self._turns = Turns()

    @property
    def file(self) -> SharedFile | None:
        """The file that is offered to the next call, if any."""
        return None if self._places is None else self._places.file

    @contextmanager
    def lent(self, harmless: tuple[type[BaseException], ...] = REFUSALS) -> Iterator[Slots | None]:
        """Lend the file's slots to one call; None if there is no file, or the call of another thread has it.

        After a call that ended early, other than by a `harmless` error, the file is not used any more.
        """
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
                self._places = None  # the server may still write to it
                raise
            finally:
                if places is not None:
                    places.end_call()
        finally:
            turn.over = True

    def empty(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Return an uninitialised array for a right-hand side, in the file if there is room. Call it in any thread."""
        places, found = self._places, None
        if places is not None:
            places.grow(MOST)
            found = places.empty(dtype, shape)
        return np.empty(shape, dtype) if found is None else found

    def close(self) -> None:
        """Stop using the file; it is closed once the call that has it, if any, and the arrays on it are gone."""
        self._places = None


@contextmanager
def offer_file(entries: int, wanted: bool) -> Iterator[tuple[SharedFile | None, pb.SharedFile | None]]:
    """Make a file for arrays of so many entries, and the message by which the server finds it while the block runs."""
    if not wanted or ENTRY_BYTES * entries <= SMALLEST_BYTES:
        yield None, None
        return
    room = ENTRY_BYTES * entries
    try:
        file, offer = SharedFile.create(MOST * room, reserved=LEAST * room)
    except OSError:  # not supported on this system, or no memory for it
        yield None, None
        return
    try:
        yield file, offer.message()
    finally:
        offer.close()


_ALL: weakref.WeakSet[Slots] = weakref.WeakSet()


def _note_fork() -> None:
    for places in list(_ALL):
        places.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_note_fork)
