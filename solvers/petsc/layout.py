"""Where a DMDA keeps its cells, and how a vector of it becomes each process's part of a `Decomposition`."""

# Imported on first use, for its weight: petsc4py.

from __future__ import annotations

import atexit
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
        self.decomposition, self.direct = self._decompose()
        self._scatter: Any = None
        self._mine: Any = None

    def _decompose(self) -> tuple[Decomposition, bool]:
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
        """Return this process's part of a global vector; read-only, or valid until the next call."""
        if self.direct:
            array: NDArray[np.float64] = vector.getArray(readonly=True)
        else:
            scatter, mine = self._make_scatter(vector)
            scatter.scatter(vector, mine, addv=False, mode=False)
            array = mine.getArray(readonly=True)
        return array.reshape(self.part)

    def store(self, values: NDArray[np.float64], vector: Any) -> None:
        """Put this process's part into a global vector."""
        if self.direct:
            vector.getArray()[...] = values.reshape(-1)
            return
        scatter, mine = self._make_scatter(vector)
        mine.getArray()[...] = values.reshape(-1)
        scatter.scatter(mine, vector, addv=False, mode=True)

    def _make_scatter(self, vector: Any) -> tuple[Any, Any]:
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
        """Return where in a global vector the cells of a box are."""
        lengths = [np.diff(bounds) for bounds in self._bounds]
        first = self._first_rows()
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

    def around(self, owned: NDArray[Any], outside: Any) -> NDArray[Any]:
        """Return an array of the DMDA's own cells, `(count,)`, with one layer of the neighbours' around it."""
        wide = np.full(tuple(n + 2 for n in self.sizes3), outside, owned.dtype)
        wide[1:-1, 1:-1, 1:-1] = owned.reshape(self.sizes3)
        if int(self.comm.getSize()) == 1 and not any(self.periodic):
            return wide
        da = self.da
        whole, near = da.getGlobalVec(), da.getLocalVec()
        whole.getArray()[...] = owned
        da.globalToLocal(whole, near)
        held = near.getArray(readonly=True).reshape(self._three(self.ghost_sizes, 1))
        first = self._three(self.ghost_starts, 0)
        # A DMDA with a star stencil has no corners, and none are looked at: each face's layer is taken alone.
        for axis in range(3):
            for side, place in enumerate((self.own3[axis, 0] - 1, self.own3[axis, 1])):
                inside = 0 <= place < self.shape3[axis] or self.periodic3[axis]
                if not inside or not first[axis] <= place < first[axis] + held.shape[axis]:
                    continue
                target: list[Any] = [slice(1, -1)] * 3
                source: list[Any] = [slice(a - f, b - f) for (a, b), f in zip(self.own3, first, strict=True)]
                target[axis], source[axis] = -side, int(place - first[axis])
                wide[tuple(target)] = held[tuple(source)]
        da.restoreGlobalVec(whole)
        da.restoreLocalVec(near)
        return wide

    def _three(self, values: tuple[int, ...], lead: int) -> tuple[int, ...]:
        """Return three axes: one plane where there are two dimensions."""
        return (lead,) * (3 - len(values)) + values

    @property
    def sizes3(self) -> tuple[int, ...]:
        return self._three(self.sizes, 1)

    @property
    def shape3(self) -> NDArray[np.int64]:
        """Of the whole DMDA; 0 along the axis that two dimensions lack."""
        return np.array(self._three(self.shape, 0), np.int64)

    @property
    def periodic3(self) -> NDArray[np.bool_]:
        return np.array((False,) * (3 - len(self.periodic)) + self.periodic)

    @property
    def own3(self) -> NDArray[np.int64]:
        """Where this process's cells begin and end, `(3, 2)`."""
        starts = np.array(self._three(self.starts, 0), np.int64)
        return np.stack([starts, starts + np.array(self.sizes3)], 1)

    @property
    def blocks(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Where each axis's parts begin `(3, most + 1)`, how many there are `(3,)`, and each part's first row."""
        cuts = [np.array([0, 1])] * (3 - len(self._bounds)) + self._bounds
        counts = np.array([len(c) - 1 for c in cuts], np.int64)
        bounds = np.zeros((3, int(counts.max()) + 1), np.int64)
        for axis, cut in enumerate(cuts):
            bounds[axis, : len(cut)] = cut
        return bounds, counts, self._first_rows().reshape(-1)

    def _first_rows(self) -> NDArray[np.int64]:
        """Return the first row of each part, in the shape of the parts."""
        volumes = np.diff(self._bounds[0])
        for bounds in self._bounds[1:]:
            volumes = np.multiply.outer(volumes, np.diff(bounds))
        return np.concatenate([[0], np.cumsum(volumes.reshape(-1))[:-1]]).reshape(volumes.shape)


_registered: list[bool] = []


def end_before_python() -> None:
    """Have PETSc finalised among Python's exit handlers.

    By default petsc4py finalises PETSc after the interpreter is gone, and destroys what is left then. An object of type
    python among it would call the interpreter (a segmentation fault with 3.18).
    """
    if not _registered:
        from petsc4py import PETSc

        _registered.append(True)
        atexit.register(PETSc._finalize)
