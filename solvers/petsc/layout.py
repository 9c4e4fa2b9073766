"""Where a DMDA keeps its cells, and how a vector of it becomes each process's part of a `Decomposition`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.decomposition import Decomposition

AXES = "zyx"
"""PETSc's last axis comes first in C order: an array here is `[z, y, x]`, or `[y, x]`."""


class Layout:
    """Arrays of a DMDA's vectors, in C order with the axes turned round, and their way into a `Decomposition`.

    Where the DMDA is cut across its first axis (x), or so thinly that a `Decomposition` cannot be, each vector is
    scattered into one that is cut otherwise; else arrays are taken where they lie.

    Parameters
    ----------
    da : a `petsc4py.PETSc.DMDA` of two or three dimensions with one unknown a node.
    """

    def __init__(self, da: Any) -> None:
        self.da = da
        dims = int(da.getDim())
        if dims not in (2, 3):
            raise ValueError(f"the DMDA must have 2 or 3 dimensions, got {dims}")
        if int(da.getDof()) != 1:
            raise ValueError(f"the DMDA must have one unknown a node, got {da.getDof()}")
        self.comm = da.getComm()
        self.shape = tuple(int(n) for n in reversed(da.getSizes()))
        counts = [np.asarray(lengths, np.int64) for lengths in reversed(da.getOwnershipRanges())]
        self._bounds = [np.concatenate([[0], np.cumsum(lengths)]) for lengths in counts]
        (starts, sizes) = da.getCorners()
        self.starts = tuple(int(n) for n in reversed(starts))
        self.sizes = tuple(int(n) for n in reversed(sizes))
        (ghost_starts, ghost_sizes) = da.getGhostCorners()
        self.ghost_starts = tuple(int(n) for n in reversed(ghost_starts))
        self.ghost_sizes = tuple(int(n) for n in reversed(ghost_sizes))
        periodic = [str(kind).lower() in ("periodic", "3") or kind == 3 for kind in da.getBoundaryType()]
        self.periodic = tuple(reversed(periodic))
        self.decomposition, self.direct = self._decomposed()
        self._scatter: Any = None
        self._mine: Any = None

    def _decomposed(self) -> tuple[Decomposition, bool]:
        if len(self._bounds[-1]) == 2:
            cuts = tuple(tuple(int(place) for place in bounds) for bounds in self._bounds[:-1])
            try:
                return Decomposition(self.shape, cuts), True
            except ValueError:
                pass  # too thin a part, or an empty one: cut anew
        return Decomposition.of(self.shape, int(self.comm.getSize())), False

    @property
    def part(self) -> tuple[int, ...]:
        """The shape of this process's part of the `Decomposition`."""
        return tuple(cut.stop - cut.start for cut in self.decomposition.owned(int(self.comm.getRank())))

    def values(self, vector: Any) -> NDArray[np.float64]:
        """This process's part of a global vector; read-only, or good until the next call."""
        if self.direct:
            array: NDArray[np.float64] = vector.getArray(readonly=True)
        else:
            scatter, mine = self._scattered(vector)
            scatter.scatter(vector, mine, addv=False, mode=False)
            array = mine.getArray(readonly=True)
        return array.reshape(self.part)

    def store(self, values: NDArray[np.float64], vector: Any) -> None:
        """Put this process's part into a global vector."""
        if self.direct:
            vector.getArray()[...] = values.reshape(-1)
            return
        scatter, mine = self._scattered(vector)
        mine.getArray()[...] = values.reshape(-1)
        scatter.scatter(mine, vector, addv=False, mode=True)

    def _scattered(self, vector: Any) -> tuple[Any, Any]:
        if self._scatter is None:
            from petsc4py import PETSc

            cells = self.decomposition.owned(int(self.comm.getRank()))
            indices = self.places(cells).astype(PETSc.IntType)
            self._mine = PETSc.Vec().createMPI((indices.size, PETSc.DECIDE), comm=self.comm)
            source = PETSc.IS().createGeneral(indices.reshape(-1), comm=self.comm)
            self._scatter = PETSc.Scatter().create(vector, source, self._mine, None)
            source.destroy()
        return self._scatter, self._mine

    def places(self, cells: tuple[slice, ...]) -> NDArray[np.int64]:
        """Where in a global vector the cells of a box are."""
        lengths = [np.diff(bounds) for bounds in self._bounds]
        volumes = lengths[0]
        for length in lengths[1:]:
            volumes = np.multiply.outer(volumes, length)
        first = np.concatenate([[0], np.cumsum(volumes.reshape(-1))[:-1]]).reshape(volumes.shape)
        blocks, inside = [], []
        for cut, bounds in zip(cells, self._bounds, strict=True):
            index = np.arange(cut.start, cut.stop)
            block = np.searchsorted(bounds, index, side="right") - 1
            blocks.append(block)
            inside.append(index - bounds[block])
        grid = np.ix_(*blocks)
        found = np.zeros(tuple(len(b) for b in blocks), np.int64)
        for axis, place in enumerate(np.ix_(*inside)):
            found *= lengths[axis][grid[axis]]
            found += place
        return first[grid] + found

    def around(self, owned: NDArray[np.float64], outside: float) -> NDArray[np.float64]:
        """An array of the DMDA's own cells, wider by one cell on each side, with the neighbours' values there."""
        da = self.da
        whole, near = da.getGlobalVec(), da.getLocalVec()
        whole.getArray()[...] = owned.reshape(-1)
        da.globalToLocal(whole, near)
        wide = np.full(tuple(n + 2 for n in self.sizes), outside)
        target, source = [], []
        for start, size, first, count, n, around in zip(
            self.starts, self.sizes, self.ghost_starts, self.ghost_sizes, self.shape, self.periodic, strict=True
        ):
            low, high = max(start - 1, first), min(start + size + 1, first + count)
            if not around:
                low, high = max(low, 0), min(high, n)
            target.append(slice(low - start + 1, high - start + 1))
            source.append(slice(low - first, high - first))
        held = near.getArray(readonly=True).reshape(self.ghost_sizes)
        wide[tuple(target)] = held[tuple(source)]
        # A DMDA with a star stencil has no corners, and none are looked at.
        da.restoreGlobalVec(whole)
        da.restoreLocalVec(near)
        return wide

    def thinnest(self) -> int:
        """Cells of the thinnest part of any cut axis."""
        return min(int(b - a) for bounds in self._bounds for a, b in pairwise(bounds))
