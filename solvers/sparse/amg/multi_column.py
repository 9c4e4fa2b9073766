"""Several right-hand sides at once: eight columns share the memory traffic of a cycle and of a product with the matrix.

The cycle is the linear one of `Cycle`, with steps of fixed lengths on coarse levels, as steps that depend on sums would
differ between columns. The outer iteration is that of `MultigridDirections`, for each column by itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.large_arrays import empty, zeros
from relaxon.solvers.kernels.threads import divide
from relaxon.solvers.sparse.amg import multi_column_kernels as kernels
from relaxon.solvers.sparse.amg.cycle import LENGTHS, Cycle
from relaxon.solvers.sparse.amg.lane_kernels import WIDTH
from relaxon.solvers.sparse.amg.lower import Lower
from relaxon.solvers.sparse.amg.smoothed_aggregation import Sparse
from relaxon.solvers.sparse.engine import LOOK, ConjugateDirection, expected_left
from relaxon.solvers.sparse.system.matrix_system import Array
from relaxon.solvers.sparse.system.row_runs import count_threads

if TYPE_CHECKING:
    from relaxon.solvers.sparse.amg.engine import MultigridDirections
    from relaxon.solvers.sparse.amg.hierarchy import Level

Floats = NDArray[np.float32]
MOST_ITERATIONS = 60
"""Iterations of the columns together: one that is expected to take more continues alone, where it can be monitored."""


@dataclass(slots=True)
class _Layer:
    """A level: its entries as in `Cycle`, the transfer to the next level, and its work vectors, `(n, 8)`."""

    bounds: NDArray[np.uint32]
    whole: NDArray[np.uint32]
    """The blocks of the set-up, which no aggregate leaves."""
    chunks: int
    rows: tuple[NDArray[Any], ...]
    """Begin and end of each row's entries before the diagonal, columns, values."""
    between: tuple[NDArray[Any], ...] | None
    """Entries between blocks, with the bounds of their rows."""
    sums: Floats
    inverse: Floats
    excess: Floats
    group: NDArray[np.int32]
    offsets: NDArray[np.uint32]
    interpolation: tuple[NDArray[Any], ...] | None
    restriction: tuple[NDArray[Any], ...] | None
    vectors: list[Floats] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.vectors = [zeros((len(self.inverse), WIDTH), np.float32) for _ in range(6)]

    def over(self, kernel: Any, *args: Any) -> None:
        """Run a kernel over the level's blocks."""
        if self.chunks == 1:
            kernel(0, len(self.bounds) - 1, self.bounds, *args)
            return
        divide(kernel, len(self.bounds) - 1, self.bounds, *args, chunks=self.chunks)

    def across(self, factor: float, level: float, x: Floats, y: Floats) -> None:
        """Add the entries between blocks."""
        if self.between is not None:
            bounds, *entries = self.between
            args = (np.float32(factor), np.float32(level), x, y)
            divide(kernels.add_across, len(bounds) - 1, bounds, *entries, *args, chunks=self.chunks)


class CycleTogether:
    """A linear cycle that approximates `A⁻¹` on eight columns at once."""

    def __init__(self, cycle: Cycle) -> None:
        self.steps, self.correction, self.solution = cycle.steps, cycle.correction, cycle.solution
        self.layers = [_make_layer(level, lower) for level, lower in zip(cycle.levels, cycle.lower, strict=True)]
        self.inverted = len(self.solution) == len(self.layers[-1].inverse) > 0
        self.right = self.layers[0].vectors[0]

    def apply(self) -> Floats:
        """Return an approximation of `A⁻¹ right` for each column, in memory that the next call overwrites."""
        self._cycle(0, self.right)
        return self.layers[0].vectors[1]

    def _cycle(self, index: int, right: Floats) -> None:
        own = self.layers[index]
        _, x, left, *_ = own.vectors
        if self.inverted and index + 1 == len(self.layers):
            kernels.multiply_dense(self.solution, right, x)
            return
        own.over(kernels.sweep_forward, *own.rows, own.inverse, own.excess, right, x, left)
        own.across(-1.0, 0.0, x, left)
        if index + 1 < len(self.layers):
            below = self.layers[index + 1]
            self._restrict(own, left, below.vectors[0])
            self._accelerate(index + 1)
            self._interpolate(own, below.vectors[1], x, left)
        else:
            left[...] = 0.0
        own.across(1.0, 0.0, x, left)
        own.over(kernels.sweep_backward, *own.rows, own.inverse, own.excess, right, x, left)

    def _restrict(self, own: _Layer, left: Floats, coarse: Floats) -> None:
        if own.restriction is None:
            divide(
                kernels.restrict, len(own.whole) - 1, own.whole, own.offsets, left, own.group, coarse, chunks=own.chunks
            )
            return
        coarse[...] = 0.0
        count = len(own.offsets) - 1
        divide(
            kernels.add_product, count, own.offsets, *own.restriction, np.float32(1), left, coarse, chunks=own.chunks
        )

    def _interpolate(self, own: _Layer, correction: Floats, x: Floats, beside: Floats) -> None:
        if own.interpolation is None:
            own.over(kernels.prolong, own.group, self.correction, correction, x, beside)
            return
        own.over(kernels.add_product, *own.interpolation, self.correction, correction, x)
        beside[...] = 0.0

    def _accelerate(self, index: int) -> None:
        """Take one step, or two of fixed lengths."""
        own = self.layers[index]
        self._cycle(index, own.vectors[0])
        if self.steps[index] == 1:
            return
        right, x, left, z, q, r = own.vectors
        own.vectors = [right, z, left, x, q, r]
        x, z = z, x
        one, two = LENGTHS
        own.over(kernels.apply_matrix, *own.rows, own.sums, z, q)
        own.across(1.0, 1.0, z, q)
        own.over(kernels.combine, np.float32(1), right, np.float32(-one), q, r)
        self._cycle(index, r)
        own.over(kernels.combine, np.float32(one), z, np.float32(two), x, x)


def _make_layer(level: Level, lower: Lower) -> _Layer:
    interpolation = restriction = None
    if level.smoothed is not None:
        interpolation, restriction = _row_arrays(level.smoothed.interpolation), _row_arrays(level.smoothed.restriction)
    over = lower.across
    between = (over.bounds, over.rows, over.starts[:-1], over.starts[1:], over.columns, over.values)
    rows = (lower.starts[:-1], lower.starts[1:], lower.columns, lower.values)
    return _Layer(
        lower.bounds, level.bounds, level.chunks, rows, between if len(over.rows) else None, level.sums, lower.inverse,
        lower.excess, level.group, level.offsets, interpolation, restriction,
    )  # fmt: skip


def _row_arrays(matrix: Sparse) -> tuple[NDArray[Any], ...]:
    return matrix.begin, matrix.end, matrix.columns, matrix.values


class Together:
    """Conjugate directions of eight columns around one `CycleTogether`."""

    width = WIDTH

    def __init__(self, engine: MultigridDirections) -> None:
        self.engine, self.cycle = engine, CycleTogether(engine.cycle)
        self.order = engine.hierarchy.order
        self.bounds, n = engine._bounds, engine.system.unknowns
        self.parts = zeros((2, len(self.bounds) - 1, WIDTH))
        self.r, self.x = zeros((n, WIDTH)), zeros((n, WIDTH))
        self.short = zeros((n, WIDTH), np.float32)

    def _over(self, kernel: Any, *args: Any) -> Array:
        chunks = count_threads(self.engine.system.unknowns)
        divide(kernel, len(self.bounds) - 1, self.bounds, *args, chunks=chunks)
        return np.asarray(self.parts.sum(axis=1))

    def solve(self, sides: Sequence[tuple[Array, Array]], tolerances: Sequence[float]) -> list[list[float]]:
        """Improve each `x` of at most eight pairs of `b` and `x` until its residual meets its tolerance or the
        iteration is too slow; return the residual histories."""
        system, count = self.engine.system, len(sides)
        self.x[...], self.r[...] = 0.0, 0.0
        norms = np.zeros(WIDTH)
        r = empty(system.unknowns)
        for column, (b, x) in enumerate(sides):
            norms[column] = system.residual(b, x, r)
            self.r[:, column], self.x[:, column] = r, x
        histories = [[float(norm)] for norm in norms[:count]]
        aims = np.concatenate([np.asarray(tolerances, np.float64), np.full(WIDTH - count, math.inf)])
        going = (norms > aims) & np.isfinite(norms)
        self.short[...] = self.r * _reciprocal(norms, going)
        zeros = np.zeros(WIDTH)
        past = [ConjugateDirection(np.zeros_like(self.short), np.zeros_like(self.r), zeros, zeros) for _ in range(2)]
        for _ in range(MOST_ITERATIONS):
            if not going.any():
                break
            found = self._direction(past)
            going &= (found.curvature > 0.0) & np.isfinite(found.projection)
            alpha = np.divide(found.projection, found.curvature, out=np.zeros(WIDTH), where=going)
            factors = np.array([alpha, -alpha, _reciprocal(norms, going)])
            vectors = found.d, found.image, self.x, self.r, self.short
            squares = self._over(kernels.take_step, factors, *vectors, *self.parts)[0]
            norms = np.where(going, np.sqrt(squares), norms)
            for column, history in enumerate(histories):
                if going[column]:
                    history.append(float(norms[column]))
                    going[column] = not is_slow(history, aims[column])
            going &= (norms > aims) & np.isfinite(norms)
            past = [found._replace(curvature=np.where(going, found.curvature, 0.0)), past[0]]
        for column, (_, x) in enumerate(sides):
            x[...] = self.x[:, column]
        return histories

    def _direction(self, past: list[ConjugateDirection]) -> ConjugateDirection:
        """Return a direction for each column, as `MultigridDirections` does for one."""
        cycle = self.cycle
        if self.order is None:
            cycle.right[...] = self.short
            z = cycle.apply()
        else:
            np.take(self.short, self.order, axis=0, out=cycle.right)
            z = np.empty_like(self.short)
            z[self.order] = cycle.apply()
        last, older = past
        found = self._over(kernels.sum_conjugations, z, last.image, older.image, *self.parts)
        factors = zeros((2, WIDTH), np.float32)
        for factor, total, earlier in zip(factors, found, past, strict=True):
            np.divide(-total, earlier.curvature, out=factor, where=earlier.curvature > 0, casting="same_kind")
        d, image = older.d, older.image
        self._over(kernels.make_conjugate, z, factors, last.d, d)
        curvature, projection = self._over(kernels.apply_direction, *self.engine._rows, d, image, self.r, *self.parts)
        return ConjugateDirection(d, image, curvature, projection)


def is_slow(history: Sequence[float], tolerance: float) -> bool:
    """Return whether a run is expected to take more iterations than are done together, at its mean rate so far."""
    done = len(history) - 1
    if done % LOOK or history[-1] <= tolerance:
        return False
    return done + expected_left(history, tolerance) > MOST_ITERATIONS


def _reciprocal(norms: Array, going: NDArray[np.bool_]) -> Array:
    """Return the reciprocals of the norms of the columns that are still running, 0 for the others."""
    return np.divide(1.0, norms, out=np.zeros(WIDTH), where=going & (norms > 0))
