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
