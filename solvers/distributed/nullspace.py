"""The null vectors of a distributed grid: fluid components that cross from one process to the next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator
from relaxon.solvers.distributed.halo import Box, Halo
from relaxon.solvers.neighbours import dirichlet_cells
from relaxon.solvers.nullspace import NullSpace
from relaxon.solvers.operator import Planes


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
    communicator: Communicator, cells: NDArray[np.uint8], planes: Planes, box: Box, halo: Halo, total: int
) -> DistributedNullSpace:
    """Of the grid whose `cells` in `box` are given, in the shape of `planes`; `total` cells in all."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from relaxon.solvers import label_kernels as kernels

    own = box.own
    held = np.empty(cells.shape, bool)
    dirichlet_cells(cells, planes.sides, planes.wrap, held)
    fluid = np.ascontiguousarray(cells[own] == 0)
    nobody = np.zeros(fluid.shape, bool)
    uncut = np.array([*(planes.wrap[axis] and box.kept[axis] == box.owned[axis] for axis in range(2)), planes.wrap[2]])
    *runs, component, sizes = kernels.components(fluid, nobody, uncut)
    # Each process's components are numbered on after those of the processes before it.
    counts = np.concatenate(communicator.gathered(np.array([len(sizes) - 1])))
    first, everything = int(counts[: communicator.rank].sum()), int(counts.sum())
    numbers = np.zeros(cells.shape, np.int32)
    painted = np.zeros(fluid.shape, np.int32)
    kernels.paint(*runs, component, painted)
    numbers[own] = np.where(painted > 0, painted + first, 0)
    halo.exchange(numbers)
    pairs = np.concatenate([_touching(numbers, box, axis) for axis in range(2)]) - 1
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
    labels = np.zeros(cells.shape, np.int32)
    labels[own] = number[of_mine][painted]
    return DistributedNullSpace(labels, all_sizes, communicator, total)


def _touching(numbers: NDArray[np.int32], box: Box, axis: int) -> NDArray[np.int32]:
    """Pairs `(k, 2)` of components that touch across the upper cut of an axis; none where there is no cut."""
    end = box.own[axis].stop
    if end >= box.shape[axis]:
        return np.zeros((0, 2), np.int32)
    other = box.own[1 - axis]
    here, there = numbers.take(end - 1, axis)[other], numbers.take(end, axis)[other]
    both = (here > 0) & (there > 0)
    found: NDArray[np.int32] = np.unique(np.stack([here[both], there[both]], -1).reshape(-1, 2), axis=0)
    return found
