"""Levels of a grid: couplings, transfers and work arrays, from the finest down to one that is solved exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid import Boundary, CellType
from relaxon.solvers.operator import PoissonOperator

Single = NDArray[np.float32]
COARSEST_UNKNOWNS = 256
"""A level with at most so many unknowns is solved by its pseudo-inverse (a quarter of a megabyte)."""
STRONG = 0.3
"""Axes whose couplings reach this part of the strongest axis's are coarsened; the others wait."""
NEGLIGIBLE_BOUNDARY = 1e-9
"""A boundary term below this part of the diagonal is rounding: the row sum of a cell without Dirichlet face."""
NULL = 1e-11
"""Eigenvalues of the coarsest level below this part of the largest belong to the null space."""


@dataclass(frozen=True, slots=True)
class AxisTransfer:
    """How one axis interpolates: fine cell `i` takes `near` of coarse cell `own` and `far` of `other`.

    `index`, `weight` `(m, 4)` say the same from the coarse cell's side; `beyond` is the weight that falls beyond a
    Dirichlet side.
    """

    own: NDArray[np.int32]
    other: NDArray[np.int32]
    near: Single
    far: Single
    beyond: Single
    index: NDArray[np.int32]
    weight: Single

    @classmethod
    def of(cls, n: int, halved: bool, periodic: bool, dirichlet: tuple[bool, bool]) -> AxisTransfer:
        """For `n` fine cells; without `halved` the identity."""
        fine = np.arange(n)
        if not halved:
            zero = np.zeros(n, np.float32)
            index = np.repeat(fine[:, None], 4, 1).astype(np.int32)
            weight = np.zeros((n, 4), np.float32)
            weight[:, 0] = 1.0
            same = fine.astype(np.int32)
            return cls(same, same, zero + 1, zero, zero, index, weight)
        m = (n + 1) // 2
        own = fine // 2
        other: Any = np.where(fine % 2 == 0, own - 1, own + 1)
        far, beyond = np.full(n, 0.25), np.zeros(n)
        if periodic:
            other = other % m
        for outside, side in ((other < 0, 0), (other >= m, 1)):
            far[outside] = 0.0
            beyond[outside] = 0.25 if dirichlet[side] else 0.0
        other = np.clip(other, 0, m - 1)
        index, weight = np.zeros((m, 4), np.int32), np.zeros((m, 4), np.float32)
        filled = np.zeros(m, int)
        for cells, weights in ((own, np.full(n, 0.75)), (other, far)):
            for i in fine[weights > 0]:
                coarse = cells[i]
                index[coarse, filled[coarse]], weight[coarse, filled[coarse]] = i, weights[i]
                filled[coarse] += 1
        return cls(
            own.astype(np.int32),
            other.astype(np.int32),
            np.full(n, 0.75, np.float32),
            far.astype(np.float32),
            beyond.astype(np.float32),
            index,
            weight,
        )

    @property
    def arguments(self) -> tuple[NDArray[np.int32], NDArray[np.int32], Single, Single]:
        return self.own, self.other, self.near, self.far


@dataclass(slots=True)
class Level:
    """One level. `states` is uint8: 1 unknown, 2 known value (AIR), 0 nothing; the arrays have the level's shape.

    `nominal` is the coupling of an open face an axis where κ = 1.
    """

    couplings: tuple[Single, Single, Single]
    boundary: Single
    diagonal: Single
    states: NDArray[np.uint8]
    wrap: NDArray[np.bool_]
    nominal: tuple[float, float, float]
    x: Single
    r: Single
    work: Single
    transfers: tuple[AxisTransfer, AxisTransfer, AxisTransfer] | None = None
    share: Single | None = None

    @classmethod
    def of(
        cls,
        couplings: tuple[Single, Single, Single],
        boundary: Single,
        states: NDArray[np.uint8],
        wrap: NDArray[np.bool_],
        nominal: tuple[float, float, float],
    ) -> Level:
        from relaxon.solvers.multigrid import kernels

        diagonal = np.empty_like(boundary)
        kernels.diagonals(*couplings, boundary, wrap, diagonal)
        # A coarse cell whose couplings all vanished (a pocket in one cell) has nothing to solve for.
        states[diagonal == 0] = np.where(states[diagonal == 0] == 1, 0, states[diagonal == 0])
        x, r, work = np.zeros_like(boundary), np.zeros_like(boundary), np.zeros_like(boundary)
        return cls(couplings, boundary, diagonal, states, wrap, nominal, x, r, work)

    @property
    def unknowns(self) -> int:
        return int(np.count_nonzero(self.states == 1))

    def inverse_diagonal(self) -> Single:
        """`1/D`, zero where there is no unknown."""
        inverse = np.divide(np.float32(1), self.diagonal, out=np.zeros_like(self.diagonal), where=self.diagonal > 0)
        inverse[self.states != 1] = 0
        return inverse


def levels(operator: PoissonOperator) -> list[Level]:
    """The hierarchy of an operator; the last level has few unknowns or cannot be coarsened."""
    grid = operator.grid
    lead = 3 - grid.ndim
    dirichlet = [(False, False)] * lead + [
        (low is Boundary.DIRICHLET, high is Boundary.DIRICHLET) for low, high in grid.boundary
    ]
    found = [_finest(operator)]
    while found[-1].unknowns > COARSEST_UNKNOWNS and max(found[-1].boundary.shape) > 1:
        found.append(_coarser(found[-1], dirichlet))
    return found


def _finest(operator: PoissonOperator) -> Level:
    from relaxon.solvers.multigrid import kernels

    diagonal = operator.diagonal
    # Scaled so that float32 holds any physical unit; the cycle's result is scaled back.
    scale = 1.0 / scale_of(operator)
    single = [np.asarray(c * scale, np.float32) for c in operator.couplings]
    sums = np.empty_like(diagonal)
    kernels.diagonals(*operator.couplings, np.zeros_like(diagonal), operator.wrap, sums)
    boundary = diagonal - sums
    boundary[boundary < NEGLIGIBLE_BOUNDARY * diagonal] = 0.0
    cells = operator.grid.cells.reshape(operator.grid.shape3)
    states = np.select([cells == CellType.FLUID, cells == CellType.AIR], [1, 2], 0).astype(np.uint8)
    nominal = tuple(float(w) * scale for w in operator.weights)
    return Level.of(
        (single[0], single[1], single[2]),
        np.asarray(boundary * scale, np.float32),
        states,
        operator.wrap,
        (nominal[0], nominal[1], nominal[2]),
    )


def scale_of(operator: PoissonOperator) -> float:
    """The largest diagonal entry, 1 where all are zero."""
    return float(operator.diagonal.max()) or 1.0


def _coarser(fine: Level, dirichlet: list[tuple[bool, bool]]) -> Level:
    from relaxon.solvers.multigrid import kernels

    shape = fine.boundary.shape
    halved = _axes_to_halve(fine)
    steps = np.array([2 if h else 1 for h in halved])
    coarse_shape = tuple((n + s - 1) // s for n, s in zip(shape, steps, strict=True))
    half = np.array([0.5 if h else 1.0 for h in halved])
    arrays = [np.empty(coarse_shape, np.float32) for _ in range(4)]
    kernels.coarsen(*fine.couplings, fine.boundary, steps, fine.wrap, half, *arrays)
    states = np.empty(coarse_shape, np.uint8)
    kernels.coarsen_states(fine.states, steps, states)
    cells = math.prod(steps.tolist())
    nominal = tuple(w * h * cells / step for w, h, step in zip(fine.nominal, half, steps, strict=True))
    coarse = Level.of(
        (arrays[0], arrays[1], arrays[2]), arrays[3], states, fine.wrap, (nominal[0], nominal[1], nominal[2])
    )
    transfers = [
        AxisTransfer.of(n, h, bool(w), d) for n, h, w, d in zip(shape, halved, fine.wrap, dirichlet, strict=True)
    ]
    fine.transfers = (transfers[0], transfers[1], transfers[2])
    fine.share = np.empty(shape, np.float32)
    tables = [array for transfer in transfers for array in transfer.arguments]
    kernels.shares(fine.states, _opened(coarse, fine, steps), *tables, *(t.beyond for t in transfers), fine.share)
    return coarse


def _opened(coarse: Level, fine: Level, steps: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The coarse states, with cells that hold fine unknowns but no equation counted as open: their value is 0."""
    from relaxon.solvers.multigrid import kernels

    states = np.empty_like(coarse.states)
    kernels.coarsen_states(fine.states, steps, states)
    return states


def _axes_to_halve(level: Level) -> list[bool]:
    """Axes longer than one cell whose mean coupling is near the strongest; all of them where none couples."""
    strength = []
    for axis, coupling in enumerate(level.couplings):
        count = np.count_nonzero(coupling)
        long = level.boundary.shape[axis] > 1
        strength.append(float(coupling.sum(dtype=np.float64)) / count if long and count else 0.0)
    if max(strength) == 0.0:
        return [n > 1 for n in level.boundary.shape]
    return [s >= STRONG * max(strength) for s in strength]


def coarsest_inverse(level: Level) -> tuple[NDArray[np.int64], Single]:
    """Flat indices of the unknowns `(m,)` and the pseudo-inverse `(m, m)` of their matrix, made in float64."""
    index = np.flatnonzero(level.states == 1)
    flat = np.full(level.states.size, -1)
    flat[index] = np.arange(len(index))
    number = flat.reshape(level.states.shape)
    matrix = np.zeros((len(index), len(index)))
    for axis, coupling in enumerate(level.couplings):
        i, j, c = number[coupling != 0], np.roll(number, 1, axis)[coupling != 0], coupling[coupling != 0]
        c = c.astype(np.float64)
        np.add.at(matrix, (i, j), -c)
        np.add.at(matrix, (j, i), -c)
        np.add.at(matrix, (i, i), c)
        np.add.at(matrix, (j, j), c)
    matrix[np.arange(len(index)), np.arange(len(index))] += level.boundary.reshape(-1)[index].astype(np.float64)
    inverse = np.linalg.pinv(matrix, rcond=NULL, hermitian=True)
    return index, inverse.astype(np.float32)
