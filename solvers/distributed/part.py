"""A process's part of a level in the shape that kernels for any coefficients take, with cells of its neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator
from relaxon.solvers.distributed.decomposition import Decomposition
from relaxon.solvers.distributed.halo import Halo, box_of

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
