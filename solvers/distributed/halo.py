"""The cells of a process on one level, with copies of its neighbours' beside them, and their exchange."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator, Parcel
from relaxon.solvers.distributed.decomposition import Decomposition, Range

KEPT = 3
"""Planes of the neighbours that the cycle reads: a smoothing, a residual and a transfer reach one each."""


@dataclass(frozen=True, slots=True)
class HaloBox:
    """A process's part of a level and what is kept around it, along the two cut axes; around a periodic axis indices go
    on below 0 and beyond the end.
    """

    kept: tuple[Range, Range]
    """What arrays hold, in the level's indices."""
    owned: tuple[Range, Range]

    @property
    def shape(self) -> tuple[int, int]:
        (a, b), (c, d) = self.kept
        return b - a, d - c

    @property
    def own(self) -> tuple[slice, slice]:
        """The owned cells, in arrays of this box."""
        first, second = (slice(o[0] - k[0], o[1] - k[0]) for o, k in zip(self.owned, self.kept, strict=True))
        return first, second

    def within(self, other: HaloBox) -> tuple[slice, slice]:
        """Return the index of this box's cells in arrays of a wider one."""
        first, second = (slice(k[0] - o[0], k[1] - o[0]) for k, o in zip(self.kept, other.kept, strict=True))
        return first, second


def box_of(
    decomposition: Decomposition,
    rank: int,
    periodic: tuple[bool, bool],
    width: tuple[int, int],
    coarsening: tuple[int, int] = (1, 1),
) -> HaloBox:
    """Return the box of a process with `width` cells of each neighbour, on the level with cells `coarsening` wide."""
    kept, owned = [], []
    place = decomposition.place(rank)
    for axis in range(2):
        cuts = decomposition.bounds[axis] if axis < len(decomposition.bounds) else (0, 1)
        low, high = (-(-cuts[place[axis] + end] // coarsening[axis]) for end in (0, 1))
        before, after = (decomposition.beside(rank, axis, step, periodic[axis]) is not None for step in (-1, 1))
        owned.append((low, high))
        kept.append((low - width[axis] * before, high + width[axis] * after))
    return HaloBox((kept[0], kept[1]), (owned[0], owned[1]))


class Halo:
    """Brings the cells kept around a box up to date."""

    def __init__(
        self, communicator: Communicator, decomposition: Decomposition, periodic: tuple[bool, bool], box: HaloBox
    ) -> None:
        self._communicator = communicator
        self._box = box
        self._beside = [
            [decomposition.beside(communicator.rank, axis, step, periodic[axis]) for step in (-1, 1)]
            for axis in range(2)
        ]

    def exchange(self, array: NDArray[Any]) -> None:
        """`array`: `(*box.shape, …)`; its owned cells are sent, the others overwritten."""
        for axis in range(2):
            # The second axis's strips take along what the first has brought: so corners come too.
            parcels, places = [], []
            (start, stop), (first, last) = self._box.kept[axis], self._box.owned[axis]
            for side, peer in enumerate(self._beside[axis]):
                if peer is None:
                    continue
                width = first - start if side == 0 else stop - last
                sent = (first, first + width) if side == 0 else (last - width, last)
                got = (start, first) if side == 0 else (last, stop)
                outgoing = np.ascontiguousarray(_strip(array, axis, sent, start))
                place = _strip(array, axis, got, start)
                incoming = place if place.flags.c_contiguous else np.empty_like(outgoing)
                # What travels down has an even tag, what travels up an odd one.
                parcels.append(Parcel(peer, 2 * axis + side, outgoing, 2 * axis + 1 - side, incoming))
                places.append((place, incoming))
            if parcels:
                self._communicator.swap(parcels)
            for place, incoming in places:
                if place is not incoming:
                    place[...] = incoming


def _strip(array: NDArray[Any], axis: int, cells: Range, start: int) -> NDArray[Any]:
    part = slice(cells[0] - start, cells[1] - start)
    found: NDArray[Any] = array[part] if axis == 0 else array[:, part]
    return found


Shape = tuple[int, int, int]


class Part:
    """The owned cells of a level and `width` cells of each neighbour, as arrays of `shape3`.

    The axes of a `HaloBox` are the two that may be cut. So a grid of two dimensions is `(nx, 1, ny)` to it, and
    `(1, nx, ny)` here. Both are the same memory.

    Parameters
    ----------
    periodic : of the two axes that may be cut.
    coarsening : how many cells of the finest level one of this level is along these.
    length : of the level along the last axis.
    """

    def __init__(
        self,
        communicator: Communicator,
        decomposition: Decomposition,
        periodic: tuple[bool, bool],
        width: int,
        coarsening: tuple[int, int],
        length: int,
    ) -> None:
        self.box = box_of(decomposition, communicator.rank, periodic, (width, width), coarsening)
        self.halo = Halo(communicator, decomposition, periodic, self.box)
        first, second = self.box.shape
        self.planes: Shape = (first, second, length)
        flat = len(decomposition.shape) == 2
        self.shape3: Shape = (second, first, length) if flat else self.planes

    def view(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return an array of `shape3` in the order of the box's axes; shares memory."""
        return array.reshape(self.planes)

    def own(self, array: NDArray[Any]) -> NDArray[Any]:
        """Return the owned cells of an array of `shape3`, in the order of the box's axes; shares memory."""
        found: NDArray[Any] = self.view(array)[self.box.own]
        return found

    def exchange(self, array: NDArray[Any]) -> None:
        """Bring the neighbours' cells of an array of `shape3` up to date."""
        self.halo.exchange(self.view(array))

    def spread(self, owned: NDArray[Any]) -> NDArray[Any]:
        """Return a new array of `shape3` from the owned cells, with the neighbours'; every process calls it."""
        found = np.zeros(self.shape3, owned.dtype)
        place = self.own(found)
        place[...] = owned.reshape(place.shape)
        self.exchange(found)
        return found

    def keep_owned(self, array: NDArray[Any]) -> None:
        """Set an array of `shape3` to 0 but for the owned cells."""
        view = self.view(array)
        for axis, own in enumerate(self.box.own):
            other = (slice(None),) * axis
            view[(*other, slice(0, own.start))] = 0
            view[(*other, slice(own.stop, None))] = 0
