"""The outer iteration: conjugate directions in float64 around a cycle in float32.

Source of the outer iteration: Kaneda et al., "A Deep Conjugate Direction Method for Iteratively Solving Linear
Systems", ICML 2023, algorithm 1.
"""

# Imported on first use, for their weight: `multi_column`, `updating`.

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.kernels.threads import Kernel, divide
from relaxon.solvers.sparse.amg import cycle_kernels as kernels
from relaxon.solvers.sparse.amg.cycle import LENGTHS, Cycle
from relaxon.solvers.sparse.amg.hierarchy import Floats, Hierarchy
from relaxon.solvers.sparse.amg.level_release import release_levels, restore_levels
from relaxon.solvers.sparse.amg.units import scale_unknowns
from relaxon.solvers.sparse.engine import ConjugateDirection, MatrixEngine, Precondition
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem
from relaxon.solvers.sparse.system.row_runs import count_runs, count_threads, split_rows

STAGNATION_STEPS = 100
"""Steps without a new least residual and without a gain in energy that mean stagnation."""
GAIN = float(np.finfo(np.float64).eps)
"""A step is a gain when it reduces the energy of the error by more than this fraction of the reduction so far: where
units differ, residuals may grow for long while the energy falls."""
NEGATIVE = 1e-10
"""A negative curvature of a direction beyond this fraction of `‖d‖² max a_ii` is not rounding."""
SLIGHT = 1e-8
"""Fraction of the squared residual along the constants of a singular system above which they are projected out."""
PROJECTED = 8
"""Steps from one projection to the next where a singular system has several components."""
OUTER_BLOCKS = 16
"""Number of partial sums of the outer iteration, whatever the number of threads."""


class MultigridDirections(MatrixEngine):
    """Conjugate directions around a cycle `M`: `d = M r`, made A-orthogonal to the last two directions; `α = dᵀr /
    dᵀAd`; `x ← x + αd`; `r ← r − αAd`."""

    default_max_iterations = 1000

    def __init__(self, system: MatrixSystem, hierarchy: Hierarchy, release: bool = True) -> None:
        self.system, self.hierarchy, self.cycle = system, hierarchy, self._cycle_through(hierarchy)
        self._weights = hierarchy.weights
        self.info = {
            "nonzeros": float(system.matrix.nnz),
            "levels": float(len(hierarchy.levels)),
            "operator_complexity": hierarchy.operator_complexity,
        }
        n = system.unknowns
        self._bounds = split_rows(n, count_runs(n, OUTER_BLOCKS))
        self._parts = np.zeros((len(self._bounds) - 1, 2))
        self._ahead: list[tuple[Array, Array, list[float]]] = []
        """Right-hand sides with their solutions and residual histories, as computed by `look_ahead`."""
        if release and isinstance(hierarchy, Hierarchy):  # and not a `BlockHierarchy`
            release_levels(hierarchy, len(self.cycle.top))
        a = system.matrix
        self._rows = a.indptr.view(np.uint32), a.indices.view(np.uint32), a.data

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        from relaxon.solvers.sparse.amg.updating import update_hierarchy

        restore_levels(self.hierarchy, scale_unknowns(self.system, self.hierarchy.weights))
        updated = type(self)(system, update_hierarchy(self.hierarchy, self.system, system), release=False)
        updated.reuses = True
        return updated

    @property
    def level_sizes(self) -> tuple[tuple[int, int], ...]:
        return tuple((level.rows, level.entries) for level in self.hierarchy.levels)

    @property
    def row_order(self) -> NDArray[Any] | None:
        return self.hierarchy.order

    def _cycle_through(self, hierarchy: Hierarchy) -> Cycle:
        return Cycle(hierarchy)

    def preconditioner(self) -> Precondition:
        """Return the linear cycle, with steps of fixed lengths on coarse levels instead of conjugate gradients."""
        cycle, order, scale = self.cycle.with_lengths(LENGTHS), self.hierarchy.order, self.hierarchy.scale
        weights = self.hierarchy.weights

        def precondition(r: Array, z: Array) -> None:
            right = r if weights is None else weights * r
            if order is None:
                cycle.right[...] = right
                z[...] = cycle.apply()
            else:
                cycle.right[...] = right[order]
                z[order] = cycle.apply()
            z *= scale
            if weights is not None:
                z *= weights

        return precondition

    def _over(self, kernel: object, *args: object) -> None:
        chunks = count_threads(self.system.unknowns)
        divide(kernel, len(self._bounds) - 1, self._bounds, *args, chunks=chunks)  # type: ignore[arg-type]

    def _sums(self, kernel: object, *args: object) -> tuple[float, float]:
        self._over(kernel, *args, self._parts)
        first, second = self._parts.sum(axis=0)
        return float(first), float(second)

    def look_ahead(self, sides: Sequence[tuple[Array, Array]], tolerances: Sequence[float] | None) -> None:
        """Solve for eight right-hand sides at a time, where no caller monitors them: see `multi_column`."""
        self._ahead = []
        if tolerances is None or type(self.cycle) is not Cycle or self._weights is not None:
            return
        from relaxon.solvers.sparse.amg.multi_column import Together

        together, width = Together(self), Together.width
        for begin in range(0, len(sides), width):
            group = [(b, x.copy()) for b, x in sides[begin : begin + width]]
            if len(group) > 1:
                histories = together.solve(group, tolerances[begin : begin + width])
                self._ahead += [(b, x, history) for (b, x), history in zip(group, histories, strict=True)]

    def _replay(self, b: Array, x: Array, monitor: Monitor) -> Result | None:
        """Take over the solution of `look_ahead` for `b`, where there is one; return the reason to stop, None to go
        on."""
        place = next((place for place, one in enumerate(self._ahead) if one[0] is b), None)
        if place is None:
            return None
        _, x[...], history = self._ahead.pop(place)
        watch = monitor.watch
        if history[-1] <= monitor.tolerance:
            monitor.watch = None  # a finished run need not be checked
        for residual in history:
            reason = monitor.record(residual)
            if reason is not None:
                return reason
        monitor.watch = watch
        monitor.history.pop()  # the run records the residual where it begins
        return None

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        self.failure = ""
        begun = len(monitor.history)
        replayed = self._replay(b, x, monitor)
        if replayed is not None:
            return replayed
        max_iterations -= len(monitor.history) - begun
        n = len(b)
        r, short = np.empty(n), np.empty(n, np.float32)
        norm = math.sqrt(self._sums(kernels.compute_residual, *self._rows, b, x, r)[0])
        reason = monitor.record(norm)
        if reason is not None:
            return reason
        np.multiply(r, 1.0 / norm, out=short, casting="same_kind")
        past = [ConjugateDirection(np.zeros(n, np.float32), np.zeros(n), 0.0, 0.0) for _ in range(2)]
        largest = float(self.system.diagonal.max())
        least, since, taken = norm, 0, 0.0
        singular = self.system.null.labels is not None
        connected = self.system.null.sizes.tolist() == [0, n] and not self.system.null_vectors
        for step in range(max_iterations):
            z = self._preconditioned(short) if self._weights is None else self._in_units(r, norm, self._weights)
            found = self._direction(z, r, past)
            if not (found.curvature > 0.0 and math.isfinite(found.projection)):
                if found.curvature < -NEGATIVE * largest * float(np.dot(found.d, found.d)):
                    self.failure = (
                        f"the matrix is not positive definite: a direction has the curvature {found.curvature:.3g}"
                    )
                    return Result.STAGNATED
                monitor.fallbacks += 1
                found = self._direction(self._descent(r, norm), r, past)
                if not (found.curvature > 0.0 and math.isfinite(found.projection)):
                    return Result.STAGNATED if math.isfinite(found.curvature) else Result.NON_FINITE
            scale, alpha = 1.0 / norm, found.projection / found.curvature
            square, total = self._sums(kernels.take_step, alpha, found.d, found.image, x, r, scale, short)
            # Where all unknowns are one component, the sum is that of its null vector, and usually mere rounding.
            projected = singular and (total * total > SLIGHT * n * square if connected else step % PROJECTED == 0)
            norm = self._projected(r, scale, short) if projected else math.sqrt(square)
            reason = monitor.record(norm)
            if reason is not None:
                return reason
            past = [found, past[0]]
            gain = found.projection * alpha
            taken += gain
            since = 0 if norm < least or gain > GAIN * taken else since + 1
            least = min(least, norm)
            if since >= STAGNATION_STEPS:
                return Result.STAGNATED
        return Result.MAX_ITERATIONS

    def _projected(self, r: Array, scale: float, short: Floats) -> float:
        """Project null vectors out of the residual, in place, and return its norm: no direction reduces the rounding
        along them, which would soon dominate all directions."""
        self.system.project(r)
        np.multiply(r, scale, out=short, casting="same_kind")
        return math.sqrt(float(np.square(r).sum()))

    def _preconditioned(self, short: Floats) -> Floats:
        order = self.hierarchy.order
        if order is None:
            self.cycle.right[...] = short
            return self.cycle.apply()
        permute(kernels.gather, short, order, self.cycle.right)
        permute(kernels.scatter, self.cycle.apply(), order, z := np.empty_like(short))
        return z

    def _in_units(self, r: Array, norm: float, weights: Array) -> Floats:
        """Return the result of the cycle of a hierarchy whose unknowns have other units."""
        z = self._preconditioned(np.asarray(r * (1.0 / norm) * weights, np.float32))
        return np.asarray(z * weights, np.float32)

    def _descent(self, r: Array, norm: float) -> Floats:
        return np.asarray(self.system.inverse_diagonal * (r / norm), np.float32)

    def _direction(self, z: Floats, r: Array, past: list[ConjugateDirection]) -> ConjugateDirection:
        """Return `z` made conjugate to the last two directions, in the memory of the older one."""
        last, older = past
        along, before = self._sums(kernels.sum_conjugations, z, last.image, older.image)
        one = along / last.curvature if last.curvature > 0 else 0.0
        two = before / older.curvature if older.curvature > 0 else 0.0
        d, image = older.d, older.image
        self._over(kernels.make_conjugate, z, one, last.d, two, d, d)
        curvature, projection = self._sums(kernels.apply_direction, *self._rows, d, image, r)
        return ConjugateDirection(d, image, curvature, projection)


def permute(kernel: Kernel, source: Floats, order: NDArray[np.uint32], target: Floats) -> None:
    """Write `target` by `gather` or `scatter`, the entries divided among threads."""
    divide(kernel, len(order), source, order, target, chunks=count_threads(len(order)))
