"""Aggregates of each process's own rows, and the interpolation from them, smoothed across processes where pairs do not
fit.

All processes take the same way: what each one's rows say of it is added up.
"""

# Imported on first use, for its weight: petsc4py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.distributed.communicator import Communicator
from relaxon.solvers.sparse.amg.constants import DEFAULTS
from relaxon.solvers.sparse.amg.hierarchy import FILLED, Level, coarsen
from relaxon.solvers.sparse.amg.quality import SmoothError, deviation, smooth_errors
from relaxon.solvers.sparse.amg.smoothed_aggregation import OMEGA, STRENGTH, aggregate, build_interpolation

if TYPE_CHECKING:
    from relaxon.solvers.petsc.levels import Block

Groups = NDArray[np.int32]
BETTER_FIT = 1.4
"""So many times less must the deviation be with a smoothed interpolation. In one process it is 1.6, of errors that
reach farther: the rotated family has 1.55 to 1.9 in the parts of two processes."""


def choose_aggregates(block: Block, communicator: Communicator, allowed: float | None) -> tuple[Groups, int, bool]:
    """Return each row's aggregate (−1 for those that smoothing alone serves), how many there are in this process, and
    whether the interpolation is to be smoothed.

    Pairs of pairs are taken, or where these deviate by more than is `allowed`, in the mean over the rows of all
    processes, neighbourhoods where these fit better and stay sparse; None does not look.
    """
    level = block.level(summed=True)
    group, count = np.empty(0, np.int32), 0
    if level is not None:
        group, _, left = coarsen(level, DEFAULTS, DEFAULTS.strength, False)
        count = len(left.first)
    if allowed is None:
        return (*block.complete(group, count), False)
    rows, level = len(group), block.level(summed=False)
    errors = () if level is None else smooth_errors(level)
    misfit = 0.0 if level is None else rows * deviation(level, errors, group)
    total, size = communicator.totals(np.array([misfit, rows]))
    if total <= allowed * size:
        return (*block.complete(group, count), False)
    other, found, figures = _neighbourhoods(level, errors)
    fitting, entries, aggregates = communicator.totals(figures)
    if aggregates > 0 and entries <= FILLED * size and BETTER_FIT * fitting <= total:
        return (*block.complete(other, found), True)
    return (*block.complete(group, count), False)


def _neighbourhoods(level: Level | None, errors: tuple[SmoothError, ...]) -> tuple[Groups, int, NDArray[np.float64]]:
    """Return aggregates of whole neighbourhoods, their number, and figures of a smoothed interpolation from them.

    The figures are the deviation times the rows, the entries, and the aggregates."""
    if level is None:
        return np.empty(0, np.int32), 0, np.zeros(3)
    group, offsets = aggregate(level, DEFAULTS.dominated)
    count = int(offsets[-1])
    p, _ = build_interpolation(level, group, count)
    misfit = level.rows * deviation(level, errors, group, p)
    return group, count, np.array([misfit, len(p.columns), count], np.float64)


def prolongation_of(matrix: Any, group: Groups, offset: int, count: int, total: int) -> Any:
    """Return the interpolation that is constant on aggregates, as a PETSc matrix; `offset` is this process's first
    column."""
    from petsc4py import PETSc

    kept = group >= 0
    indptr = np.zeros(len(group) + 1, PETSc.IntType)
    np.cumsum(kept, out=indptr[1:])
    columns = (group[kept] + offset).astype(PETSc.IntType)
    sizes = ((len(group), matrix.getSize()[0]), (count, total))
    return PETSc.Mat().createAIJ(sizes, csr=(indptr, columns, np.ones(len(columns))), comm=matrix.getComm())


def smooth_prolongation(matrix: Any, block: Block, group: Groups, tentative: Any) -> Any:
    """Return `(I − ω D_F⁻¹ A_F) T` of a PETSc matrix, strong couplings to other processes included; `T` is destroyed.

    As in one process: weak couplings are added to the diagonal, and rows in no aggregate interpolate from nothing.
    """
    from petsc4py import PETSc

    low, _ = matrix.getOwnershipRange()
    starts, columns, values = matrix.getValuesCSR()
    n = len(group)
    rows = np.repeat(np.arange(n), np.diff(starts))
    off = columns != low + rows
    most = block.strongest.copy()
    np.maximum.at(most, rows[off], -values[off])
    strong = off & (values < 0) & (values**2 >= STRENGTH**2 * most[rows] * _others(matrix, most, columns))
    weak = off & ~strong
    d = block.diagonal + np.bincount(rows[weak], values[weak], minlength=n)
    held = np.maximum(d, np.bincount(rows[strong], -values[strong], minlength=n))
    factor = np.divide(OMEGA, held, out=np.zeros(n), where=held > 0)
    kept = (group[rows] >= 0) & (strong | ~off)
    entry = np.where(off, -factor[rows] * values, 1.0 - (factor * d)[rows])[kept]
    indptr = np.zeros(n + 1, PETSc.IntType)
    np.cumsum(np.bincount(rows[kept], minlength=n), out=indptr[1:])
    smoother = PETSc.Mat().createAIJ(
        matrix.getSizes(), csr=(indptr, columns[kept].astype(PETSc.IntType), entry), comm=matrix.getComm()
    )
    smoothed = smoother.matMult(tentative)
    smoother.destroy()
    tentative.destroy()
    return smoothed


def _others(matrix: Any, mine: NDArray[np.float64], columns: NDArray[Any]) -> NDArray[np.float64]:
    """Return the values of a vector, of which this process holds `mine`, at these columns of a matrix."""
    from petsc4py import PETSc

    needed, place = np.unique(columns, return_inverse=True)
    vector, local = matrix.createVecRight(), PETSc.Vec().createSeq(len(needed), comm=PETSc.COMM_SELF)
    vector.getArray()[...] = mine
    index = PETSc.IS().createGeneral(needed.astype(PETSc.IntType), comm=PETSc.COMM_SELF)
    scatter = PETSc.Scatter().create(vector, index, local, None)
    scatter.scatter(vector, local)
    found = local.getArray(readonly=True).copy()
    for one in (scatter, index, local, vector):
        one.destroy()
    return np.asarray(found[place], np.float64)
