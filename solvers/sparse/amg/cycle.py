"""A symmetric cycle through a hierarchy: large levels are divided among threads, all smaller ones are in one kernel."""

from __future__ import annotations

import math
from copy import copy
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.sparse.amg import cycle_kernels as kernels
from relaxon.solvers.sparse.amg.constants import DEFAULTS, Constants
from relaxon.solvers.sparse.amg.hierarchy import Floats, Hierarchy, Level
from relaxon.solvers.sparse.amg.lower import Lower

STEEP = 0.3
"""Least eigenvalue of a preconditioned coarse level for which the fixed lengths are optimal. Measured over the gallery
at 20,000 and 200,000 unknowns, CG takes as many iterations as with the K-cycle, except on chains; below 0.25 stretched
cells make the map indefinite, as rounding of float32 leaves eigenvalues above 1."""


def chebyshev_lengths(least: float) -> tuple[float, float]:
    """Return the reciprocal roots of the Chebyshev polynomial of degree two on `[least, 1]`.

    With them, `x = one·M b + two·M (b − one·A M b)` is again a symmetric definite map of `b` where `M` is one and the
    spectrum of `MA` lies in (0, 1], as the residual polynomial is below 1 there.
    Source: O. Axelsson, P. S. Vassilevski, "Algebraic multilevel preconditioning methods I", Numer. Math. 56 (1989).
    """
    middle, half = (1 + least) / 2, (1 - least) / 2 * math.sqrt(0.5)
    return 1 / (middle - half), 1 / (middle + half)


LENGTHS = chebyshev_lengths(STEEP)


class _Divided:
    """A level that is divided into blocks, with its work vectors; those of a second step only where it takes one."""

    def __init__(self, level: Level, lower: Lower, steps: int) -> None:
        n = level.rows
        self.level, self.lower = level, lower
        self.right, self.x, self.left = (np.zeros(n, np.float32) for _ in range(3))
        self.z, self.q, self.r = (np.zeros(n if steps > 1 else 0, np.float32) for _ in range(3))
        self.parts = np.zeros((len(level.bounds) - 1, 3))
        self.visits = 0

    def over(self, kernel: Any, *args: Any) -> None:
        """Run a kernel on the entries before the diagonal, within blocks."""
        own = self.lower
        self.level.over(kernel, own.starts[:-1], own.starts[1:], own.columns, own.values, *args)

    def across(self, kernel: Any, *args: Any) -> None:
        """Run a kernel on the entries between blocks."""
        own = self.lower.across
        divide(
            kernel, len(own.bounds) - 1, own.bounds, own.rows, own.starts[:-1], own.starts[1:], own.columns, own.values,
            *args, chunks=self.level.chunks,
        )  # fmt: skip

    def image(self, x: Floats, y: Floats, other: Floats, another: Floats) -> NDArray[np.float64]:
        """Write `y ← A x`; return `⟨x, y⟩`, `⟨x, other⟩` and `⟨x, another⟩`."""
        self.over(kernels.apply_matrix, self.level.sums, x, y)
        self.across(kernels.apply_across, x, y)
        self.level.over(kernels.sum_products, x, y, other, another, self.parts)
        return np.asarray(self.parts.sum(axis=0))


class Cycle:
    """A cycle that approximates `A⁻¹` in float32, in the order of the first level's rows.

    With `lengths`, the steps on coarse levels have these fixed lengths instead of those of conjugate gradients, and the
    map is linear.
    """

    def __init__(self, hierarchy: Hierarchy, lengths: tuple[float, float] | None = None) -> None:
        levels = hierarchy.levels
        constants = hierarchy.constants
        self.lengths = lengths or (0.0, 0.0)
        self.steps = count_steps(levels, constants)
        self.correction, self.enough = np.float32(constants.correction), constants.enough
        divided = [level for level in levels if len(level.bounds) > 2]
        self.top = [_Divided(level, level.lower, steps) for level, steps in zip(divided, self.steps, strict=False)]
        self.solution = hierarchy.solution
        tail = levels[len(self.top) :]
        counts = [level.rows for level in tail]
        if not tail or len(self.solution) != tail[-1].rows:
            counts.append(0)  # an empty level below the last one, which is only smoothed
        lower = [level.lower for level in tail]
        rows, entries = np.cumsum([0, *counts]), np.cumsum([0, *(len(own.columns) for own in lower), 0])
        self.table = np.ones((len(counts), 7), np.int64)
        self.table[:, [kernels.SMOOTHED, kernels.VISITS]] = 0
        for index, count in enumerate(counts):
            self.table[index, :3] = rows[index], entries[index], count
            if index < len(tail):
                self.table[index, kernels.STEPS] = self.steps[len(self.top) + index]
        parts: tuple[list[NDArray[Any]], ...] = (
            [own.starts[:-1] for own in lower], [own.starts[1:] for own in lower],
            [own.columns for own in lower], [own.values for own in lower],
            *([getattr(level, name) for level in tail] for name in ("sums", "inverse", "excess")),
        )  # fmt: skip
        dtypes = (np.uint32,) * 3 + (np.float32,) * 4
        self.arrays: tuple[NDArray[Any], ...] = tuple(
            np.concatenate([np.empty(0, dtype), *part]) for part, dtype in zip(parts, dtypes, strict=True)
        )
        self.group = np.full(int(rows[-1]), -1, np.int32)
        for index, level in enumerate(tail):
            if len(level.group):
                self.group[rows[index] : rows[index] + level.rows] = level.group
        self.transfers = self._transfers(tail, rows)
        self.vectors = tuple(np.zeros(int(rows[-1]), np.float32) for _ in range(6))
        self.parts = np.zeros((1, 3))

    def _transfers(self, tail: tuple[Level, ...], rows: NDArray[np.int64]) -> tuple[NDArray[Any], ...]:
        """Return the interpolations of the levels that have one and their transposes, concatenated."""
        ends = [np.zeros(int(rows[-1]), np.uint32) for _ in range(4)]
        parts: list[list[NDArray[Any]]] = [[np.empty(0, dtype)] for dtype in (np.uint32, np.float32) * 2]
        weight = 0
        for index, level in enumerate(tail):
            if level.smoothed is None:
                continue
            p, r = level.smoothed.interpolation, level.smoothed.restriction
            self.table[index, kernels.SMOOTHED], self.table[index, kernels.WEIGHT] = 1, weight
            weight += len(p.columns)
            for place, matrix, first in ((0, p, rows[index]), (2, r, rows[index + 1])):
                ends[place][first : first + matrix.rows] = matrix.begin
                ends[place + 1][first : first + matrix.rows] = matrix.end
                parts[place].append(matrix.columns)
                parts[place + 1].append(matrix.values)
        arrays = [np.concatenate(part) for part in parts]
        return ends[0], ends[1], arrays[0], arrays[1], ends[2], ends[3], arrays[2], arrays[3]

    def with_lengths(self, lengths: tuple[float, float]) -> Cycle:
        """Return the same cycle with steps of these lengths, and with its own work vectors."""
        other = copy(self)
        other.lengths = lengths
        other.table, other.parts = self.table.copy(), np.zeros_like(self.parts)
        other.table[:, kernels.VISITS] = 0
        other.vectors = tuple(np.zeros_like(v) for v in self.vectors)
        other.top = [_Divided(own.level, own.lower, steps) for own, steps in zip(self.top, self.steps, strict=False)]
        return other

    @property
    def right(self) -> Floats:
        """The argument of `apply`, at the first level's rows."""
        return self.top[0].right if self.top else self.vectors[0][: self.table[0, kernels.COUNT]]

    def apply(self) -> Floats:
        """Return an approximation of `A⁻¹ right`, in memory that the next call overwrites."""
        if self.top:
            self._cycle(0, self.top[0].right)
            return self.top[0].x
        self._recursive(False)
        return self.vectors[1][: self.table[0, kernels.COUNT]]

    @property
    def visits(self) -> list[int]:
        """The number of visits of each level, by all calls of `apply` so far."""
        counts = [own.visits for own in self.top] + [int(count) for count in self.table[:, kernels.VISITS]]
        return counts[: len(self.steps)]

    def _recursive(self, accelerated: bool) -> None:
        memory: tuple[Any, ...] = (*self.arrays, self.group, *self.transfers, self.solution, *self.vectors, self.parts)
        kernels.cycle_levels(self.table, accelerated, self.correction, self.enough, *self.lengths, *memory)

    def _cycle(self, index: int, right: Floats) -> None:
        """Write `x ← M right` on a divided level."""
        own = self.top[index]
        own.visits += 1
        a = own.level
        own.over(kernels.sweep_forward, a.inverse, a.excess, right, own.x, own.left)
        own.across(kernels.add_across, np.float32(-1), own.x, own.left)
        last = index + 1 == len(self.top)
        below = self.top[index + 1].right if not last else self.vectors[0]
        if a.smoothed is None:
            a.over(kernels.restrict, a.offsets, own.left, a.group, below)
        else:
            r = a.smoothed.restriction
            count, chunks = len(a.offsets) - 1, a.chunks
            divide(
                kernels.restrict_smoothed, count, a.offsets, r.begin, r.end, r.columns, r.values, own.left, below,
                chunks=chunks,
            )  # fmt: skip
        if last:
            self._recursive(True)
            correction = self.vectors[1]
        else:
            self._accelerate(index + 1)
            correction = self.top[index + 1].x
        if a.smoothed is None:
            a.over(kernels.prolong, a.group, self.correction, correction, own.x, own.left)
        else:
            p = a.smoothed.interpolation
            a.over(
                kernels.prolong_smoothed, p.begin, p.end, p.columns, p.values, self.correction, correction, own.x,
                own.left,
            )  # fmt: skip
        own.across(kernels.add_across, np.float32(1), own.x, own.left)
        own.over(kernels.sweep_backward, a.inverse, a.excess, right, own.x, own.left)

    def _accelerate(self, index: int) -> None:
        """Take up to two steps of flexible conjugate gradients on a divided level, each preconditioned with a cycle."""
        own = self.top[index]
        a = own.level
        self._cycle(index, own.right)
        if self.steps[index] == 1:
            return
        own.x, own.z = own.z, own.x
        one, two = self.lengths
        rho, along = (float(value) for value in own.image(own.z, own.q, own.right, own.right)[:2])
        if one > 0.0:
            a.over(kernels.combine, 1.0, own.right, -one, own.q, own.r)
            self._cycle(index, own.r)
            a.over(kernels.combine, one, own.z, two, own.x, own.x)
            return
        if not rho > 0.0:
            own.x, own.z = own.z, own.x
            return
        first = along / rho
        a.over(kernels.reduce_residual, first, own.q, own.right, own.r, own.parts)
        after, before = (float(value) for value in own.parts.sum(axis=0)[:2])
        if after <= self.enough * before:
            a.over(kernels.combine, first, own.z, 0.0, own.z, own.x)
            return
        self._cycle(index, own.r)
        sums = own.image(own.x, own.right, own.r, own.q)
        one, two = kernels.weigh_directions(sums, rho, float(sums[2]), along)
        a.over(kernels.combine, one, own.z, two, own.x, own.x)


def count_steps(levels: tuple[Level, ...], constants: Constants = DEFAULTS) -> list[int]:
    """Return the number of steps of a visit on each level, so that the work of a cycle is bounded."""
    taken, visits = [1], 1.0
    entries = [max(1, level.entries) for level in levels]
    spent = 1.0
    for (above, own), level in zip(pairwise(entries), levels, strict=False):
        within = spent + 2 * visits * own / entries[0] <= constants.budget
        twice = level.smoothed is None and own <= constants.twice * above and within
        taken.append(2 if twice else 1)
        visits *= taken[-1]
        spent += visits * own / entries[0]
    return taken
