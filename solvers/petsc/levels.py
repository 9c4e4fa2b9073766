"""A linear multigrid cycle over the processes of a PETSc matrix: local aggregates, Galerkin products, a shared end.

On each level that is divided among processes a process sweeps its own diagonal block, forwards before and backwards
after the coarse correction. What other processes hold adds half its magnitude to the block's diagonal, so that the
cycle is symmetric and definite (as between the blocks of `relaxon.solvers.sparse.amg`). Aggregates do not leave a
process. The first level that is small enough is gathered, and every process applies the compiled hierarchy to all of
it; steps on coarse levels have fixed lengths.
"""

# Imported on first use, for their weight: SciPy, `solvers.driver.solve`, `aggregation`, `sweep_kernels`.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.scaling import mean_scale
from relaxon.solvers.distributed.communicator import Communicator, any_failure
from relaxon.solvers.sparse.amg.constants import DEFAULTS
from relaxon.solvers.sparse.amg.cycle import LENGTHS
from relaxon.solvers.sparse.amg.hierarchy import MISFIT, MISFIT_BELOW, Level, arrange

Array = NDArray[np.float64]
GATHERED = 10_000
"""Rows of a level up to which every process holds all of it: a cycle on them takes some tenths of a millisecond."""
STALLED = 0.8
"""A level that keeps more than this part of its rows is gathered, whatever its size."""
MAX_LEVELS = 20


@dataclass(slots=True)
class Block:
    """A process's rows and columns of a level: CSR, and the inverse of the diagonal that its sweeps divide by."""

    indptr: NDArray[np.int32]
    indices: NDArray[np.int32]
    data: Array
    diagonal: Array
    inverse: Array
    beyond: Array
    """The sum of each row's couplings to other processes."""
    excess: Array
    """Half the sum of their magnitudes."""
    strongest: Array
    """The largest `−a_ij` among them, at least 0."""

    @classmethod
    def of(cls, matrix: Any) -> Block:
        """Take a process's block from a PETSc matrix in AIJ format."""
        low, high = matrix.getOwnershipRange()
        starts, columns, values = matrix.getValuesCSR()
        values = np.asarray(values, np.float64)
        n = high - low
        rows = np.repeat(np.arange(n), np.diff(starts))
        own = (columns >= low) & (columns < high)
        indptr = np.zeros(n + 1, np.int32)
        np.cumsum(np.bincount(rows[own], minlength=n), out=indptr[1:])
        indices = (columns[own] - low).astype(np.int32)
        diagonal = np.zeros(n)
        np.add.at(diagonal, rows[own][indices == rows[own]], values[own][indices == rows[own]])
        excess: Array = 0.5 * np.asarray(np.bincount(rows[~own], np.abs(values[~own]), minlength=n), np.float64)
        total = diagonal + excess
        inverse = np.divide(1.0, total, out=np.zeros(n), where=diagonal > 0)
        beyond: Array = np.asarray(np.bincount(rows[~own], values[~own], minlength=n), np.float64)
        strongest = np.zeros(n)
        np.maximum.at(strongest, rows[~own], -values[~own])
        return cls(indptr, indices, np.ascontiguousarray(values[own]), diagonal, inverse, beyond, excess, strongest)

    def level(self, summed: bool) -> Level | None:
        """Return the block as a level of the compiled set-up; None where it has no rows.

        Rows are compared by the strongest of all their couplings: one that is held from another process is not joined
        to what it is coupled to weakly. With `summed` they are compared by their true sums as well, for which
        couplings to other processes are added to the diagonal; without it the level is the block itself, for errors
        that are zero in other processes.
        """
        n = len(self.diagonal)
        if n == 0:
            return None
        values = self.data.copy()
        rows = np.repeat(np.arange(n), np.diff(self.indptr))
        on = self.indices == rows
        if summed:
            values[on] = np.maximum(self.diagonal + self.beyond, self.magnitudes())[rows[on]]
        scale = mean_scale(self.diagonal)
        starts = self.indptr.view(np.uint32)
        bounds = np.array([0, n], np.uint32)
        columns = self.indices.view(np.uint32)
        begin, end, factor = starts[:-1], starts[1:], DEFAULTS.relaxation
        level = arrange(bounds, begin, end, columns, values, scale, None, None, factor)
        np.maximum(level.most, scale * self.strongest, out=level.most, casting="same_kind")
        return level

    def magnitudes(self) -> Array:
        """Return the sum of magnitudes of each row's couplings within the block."""
        n = len(self.diagonal)
        rows = np.repeat(np.arange(n), np.diff(self.indptr))
        on = self.indices == rows
        return np.asarray(np.bincount(rows[~on], np.abs(self.data[~on]), minlength=n), np.float64)

    def complete(self, group: NDArray[np.int32], count: int) -> tuple[NDArray[np.int32], int]:
        """Return aggregates in which rows have one of their own that hang on other processes alone, and how many there
        are: these are dominated by their diagonal here, and not there."""
        coupled = self.magnitudes() + 2 * self.excess
        alone = np.flatnonzero((group < 0) & (coupled > DEFAULTS.dominated * self.diagonal))
        group[alone] = count + np.arange(len(alone))
        return group, count + len(alone)


@dataclass(slots=True)
class DividedLevel:
    """A level in all processes: its matrix, this process's block, the way to the next level, and work vectors."""

    matrix: Any
    block: Block
    prolongation: Any
    steps: int
    right: Any
    x: Any
    first: Any
    residual: Any
    work: Array

    def smooth(self, kernel: Any, b: Any, add: bool) -> None:
        """`x ← S b`, or `x ← x + S b`."""
        block = self.block
        kernel(block.indptr, block.indices, block.data, block.inverse, b.getArray(readonly=True), self.work)
        mine = self.x.getArray()
        if add:
            mine += self.work
        else:
            mine[...] = self.work

    def destroy(self) -> None:
        """Give PETSc's objects back; the first level's matrix is the caller's."""
        for one in (self.prolongation, self.right, self.x, self.first, self.residual):
            one.destroy()


class DistributedAggregationCycle:
    """`apply(r, z)`: `z ← M r`, with `M` about `A⁻¹`, symmetric and definite, for a matrix in several processes."""

    def __init__(self, matrix: Any, communicator: Communicator, gathered: int = GATHERED) -> None:
        self.communicator = communicator
        self.levels: list[DividedLevel] = []
        self.own: list[Any] = []
        current, steps = matrix, 1
        allowed: float | None = MISFIT
        while len(self.levels) < MAX_LEVELS and current.getSize()[0] > gathered:
            found = self._divide(current, steps, allowed)
            if found is None:
                break
            following, smoothed = found
            allowed = MISFIT_BELOW if smoothed else None
            entries = [one.getInfo()["nz_used"] for one in (current, following)]
            steps = 2 if not smoothed and entries[1] <= DEFAULTS.twice * entries[0] else 1
            current = following
            self.own.append(following)
        self.steps = steps
        self._gather(current)

    def _divide(self, matrix: Any, steps: int, allowed: float | None) -> tuple[Any, bool] | None:
        """Add a level that stays divided, and return the next one's matrix and whether the interpolation from it is
        smoothed; None where aggregates hardly shrink it."""
        from relaxon.solvers.petsc.aggregation import choose_aggregates, prolongation_of, smooth_prolongation

        block = Block.of(matrix)
        group, count, smoothed = choose_aggregates(block, self.communicator, allowed)
        counts = [int(part[0]) for part in self.communicator.gathered(np.array([count]))]
        total, rows = sum(counts), matrix.getSize()[0]
        if not 0 < total <= STALLED * rows:
            return None
        offset = sum(counts[: matrix.getComm().getRank()])
        prolongation = prolongation_of(matrix, group, offset, count, total)
        if smoothed:
            prolongation = smooth_prolongation(matrix, block, group, prolongation)
        following = matrix.ptap(prolongation)
        right, x, first, residual = (matrix.createVecRight() for _ in range(4))
        work = np.empty(len(group))
        self.levels.append(DividedLevel(matrix, block, prolongation, steps, right, x, first, residual, work))
        return following, smoothed

    def _gather(self, matrix: Any) -> None:
        """Gather all of a level in this process, and set the compiled hierarchy up for it."""
        from scipy.sparse import csr_array

        from relaxon.solvers.driver.solve import prepare

        starts, columns, values = matrix.getValuesCSR()
        gathered = self.communicator.gathered
        lengths = np.concatenate(gathered(np.diff(starts).astype(np.int64)))
        indptr = np.concatenate([[0], np.cumsum(lengths)])
        data = np.concatenate(gathered(np.asarray(values, np.float64)))
        indices = np.concatenate(gathered(columns.astype(np.int64)))
        n = len(lengths)
        whole = csr_array((data, indices, indptr), shape=(n, n))
        if self.levels:
            whole = csr_array((whole + whole.T) / 2)  # sums in another order
        self.shared = whole
        problem: Exception | None = None
        try:
            self.hierarchy = prepare(whole, solver="amg").aspreconditioner()
        except (TypeError, ValueError) as error:
            problem = error
        any_failure(self.communicator, problem)
        low, high = matrix.getOwnershipRange()
        self.mine = slice(low, high)

    def apply(self, r: Any, z: Any) -> None:
        """`z ← M r`, PETSc vectors."""
        if not self.levels:
            self._shared(r, z, 1)
            return
        top = self.levels[0]
        r.copy(top.right)
        self._cycle(0, top.right)
        top.x.copy(z)

    def _cycle(self, index: int, right: Any) -> None:
        """`x ← M right` on a divided level."""
        from relaxon.solvers.petsc.sweep_kernels import sweep_backwards, sweep_forwards

        own = self.levels[index]
        own.smooth(sweep_forwards, right, add=False)
        self._residual(own, right)
        if index + 1 < len(self.levels):
            below = self.levels[index + 1]
            own.prolongation.multTranspose(own.residual, below.right)
            self._steps(index + 1)
            own.prolongation.multAdd(below.x, own.x, own.x)
        else:
            coarse, correction = own.prolongation.createVecRight(), own.prolongation.createVecRight()
            own.prolongation.multTranspose(own.residual, coarse)
            self._shared(coarse, correction, self.steps)
            own.prolongation.multAdd(correction, own.x, own.x)
            coarse.destroy()
            correction.destroy()
        self._residual(own, right)
        own.smooth(sweep_backwards, own.residual, add=True)

    @staticmethod
    def _residual(own: DividedLevel, right: Any) -> None:
        own.matrix.mult(own.x, own.residual)
        own.residual.aypx(-1.0, right)

    def _steps(self, index: int) -> None:
        """Run one cycle on a coarse level, or two steps of fixed lengths, from its `right` into its `x`."""
        own = self.levels[index]
        self._cycle(index, own.right)
        if own.steps == 1:
            return
        one, two = LENGTHS
        own.x.copy(own.first)
        own.matrix.mult(own.first, own.residual)
        own.right.axpy(-one, own.residual)
        self._cycle(index, own.right)
        own.x.scale(two)
        own.x.axpy(one, own.first)

    def _shared(self, right: Any, x: Any, steps: int) -> None:
        """Solve on the gathered level, in every process alike."""
        b = np.concatenate(self.communicator.gathered(right.getArray(readonly=True)))
        found = self.hierarchy.matvec(b)
        if steps == 2:
            one, two = LENGTHS
            found = one * found + two * self.hierarchy.matvec(b - one * (self.shared @ found))
        x.getArray()[...] = found[self.mine]

    def destroy(self) -> None:
        """Give PETSc's objects back."""
        for level in self.levels:
            level.destroy()
        for matrix in self.own:
            matrix.destroy()
        self.levels, self.own = [], []
