"""The null vectors of a distributed grid: fluid components that cross from one process to the next."""

# Imported on first use, for their weight: SciPy, `solvers.grid.label_kernels`.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator
from relaxon.solvers.distributed.halo import Halo, HaloBox
from relaxon.solvers.grid.neighbours import dirichlet_cells
from relaxon.solvers.grid.nullspace import NullSpace
from relaxon.solvers.grid.operator import Planes


@dataclass(frozen=True, slots=True)
class DistributedNullSpace(NullSpace):
    """`labels` are 0 beside the owned cells, numbers and `sizes` those of the whole grid."""

    communicator: Communicator
    cells: int
    """Of the whole grid."""

    def _sums(self, v: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        sums, magnitudes = NullSpace._sums(self, v)
        both = self.communicator.totals(np.concatenate([sums, magnitudes]))
        return both[: len(sums)], both[len(sums) :]

    def _mean_magnitude(self, b: NDArray[Any]) -> float:
        """`b` is 0 beside the owned cells."""
        return float(self.communicator.totals(np.array([np.abs(b).sum(dtype=np.float64)]))[0]) / self.cells


def null_space(
    communicator: Communicator, cells: NDArray[np.uint8], planes: Planes, box: HaloBox, halo: Halo, total: int
) -> DistributedNullSpace:
    """Return that of a grid with κ = 1 of `total` cells, whose `cells` in `box` are given in the shape of `planes`."""
    held = np.empty(cells.shape, bool)
    dirichlet_cells(cells, planes.sides, planes.wrap, held)
    return join_components(communicator, cells == 0, held, planes.wrap, box, halo, total)


def join_components(
    communicator: Communicator,
    fluid: NDArray[np.bool_],
    held: NDArray[np.bool_],
    wrap: NDArray[np.bool_],
    box: HaloBox,
    halo: Halo,
    total: int,
    faces: Sequence[NDArray[np.float64]] | None = None,
) -> DistributedNullSpace:
    """Return the components of `fluid` that hold no cell of `held`, joined from one process to the next.

    Arrays are in the shape of `box`. `faces` are the couplings below the cells, an array an axis, where some may be 0;
    None joins all neighbours.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    own = box.own
    painted, sizes = _paint(fluid, wrap, box, faces)
    # Each process's components are numbered on after those of the processes before it.
    counts = np.concatenate(communicator.gathered(np.array([len(sizes) - 1])))
    first, everything = int(counts[: communicator.rank].sum()), int(counts.sum())
    numbers = np.zeros(fluid.shape, np.int32)
    numbers[own] = np.where(painted > 0, painted + first, 0)
    halo.exchange(numbers)
    pairs = np.concatenate([_touching(numbers, box, axis, faces) for axis in range(2)]) - 1
    flat = np.concatenate(communicator.gathered(pairs.astype(np.int64)))
    one, two = flat.reshape(-1, 2).T
    links = coo_array((np.ones(len(one), np.int8), (one, two)), shape=(everything, everything))
    joined, group = connected_components(links, directed=False) if everything else (0, np.zeros(0, np.int32))
    holds = np.bincount(painted[held[own]], minlength=len(sizes))[1:] > 0
    is_held = np.zeros(joined, bool)
    np.logical_or.at(is_held, group, np.concatenate(communicator.gathered(holds.astype(np.uint8))) > 0)
    total_sizes = np.zeros(joined, np.int64)
    np.add.at(total_sizes, group, np.concatenate(communicator.gathered(np.asarray(sizes[1:], np.int64))))
    singular = np.flatnonzero(~is_held)
    number = np.zeros(joined + 1, np.int32)
    number[1 + singular] = np.arange(1, len(singular) + 1)
    all_sizes = np.concatenate([[0], total_sizes[singular]])
    if not len(singular):
        return DistributedNullSpace(None, all_sizes, communicator, total)
    of_mine = np.concatenate([[0], 1 + group[first : first + len(sizes) - 1]])
    labels = np.zeros(fluid.shape, np.int32)
    labels[own] = number[of_mine][painted]
    return DistributedNullSpace(labels, all_sizes, communicator, total)


def _paint(
    fluid: NDArray[np.bool_], wrap: NDArray[np.bool_], box: HaloBox, faces: Sequence[NDArray[np.float64]] | None
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the components of this process's own cells, numbered from 1, and their sizes `(count + 1,)`."""
    from relaxon.solvers.grid import label_kernels as kernels

    mine = np.ascontiguousarray(fluid[box.own])
    nobody = np.zeros(mine.shape, bool)
    whole = [box.kept[axis] == box.owned[axis] for axis in range(2)]
    if faces is not None:
        inner = [np.ascontiguousarray(face[box.own]) for face in faces]
        for axis in range(2):
            if not whole[axis]:  # that below the first cell leads to another process
                np.moveaxis(inner[axis], axis, 0)[0] = 0
        return kernels.label_by_faces(mine, nobody, inner)
    uncut = np.array([*(wrap[axis] and whole[axis] for axis in range(2)), wrap[2]])
    *runs, component, sizes = kernels.components(mine, nobody, uncut)
    painted = np.zeros(mine.shape, np.int32)
    kernels.paint(*runs, component, painted)
    return painted, sizes


def _touching(
    numbers: NDArray[np.int32], box: HaloBox, axis: int, faces: Sequence[NDArray[np.float64]] | None
) -> NDArray[np.int32]:
    """Return pairs `(k, 2)` of components that touch across the upper cut of an axis; none where there is no cut."""
    end = box.own[axis].stop
    if end >= box.shape[axis]:
        return np.zeros((0, 2), np.int32)
    other = box.own[1 - axis]
    here, there = numbers.take(end - 1, axis)[other], numbers.take(end, axis)[other]
    both = (here > 0) & (there > 0)
    if faces is not None:
        both &= faces[axis].take(end, axis)[other] > 0
    found: NDArray[np.int32] = np.unique(np.stack([here[both], there[both]], -1).reshape(-1, 2), axis=0)
    return found
