"""The outer iteration: conjugate directions in float64 around a cycle in float32.

Source of the outer iteration: Kaneda et al., "A Deep Conjugate Direction Method for Iteratively Solving Linear
Systems", ICML 2023, algorithm 1.
"""

# Imported on first use, for their weight: `multi_column`, `updating`.

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import DIVERGENCE_FACTOR, Monitor
from relaxon.solvers.kernels.threads import Kernel, divide
from relaxon.solvers.sparse.amg import direction_kernels as kernels
from relaxon.solvers.sparse.amg.cycle import LENGTHS, NO_CYCLE, Cycle, run_steps
from relaxon.solvers.sparse.amg.hierarchy import Floats, Hierarchy
from relaxon.solvers.sparse.amg.level_release import release_levels, restore_levels
from relaxon.solvers.sparse.amg.units import scale_unknowns
from relaxon.solvers.sparse.engine import LOOK, MatrixEngine, Precondition
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem
from relaxon.solvers.sparse.system.row_runs import count_threads, split_rows
from relaxon.solvers.sparse.system.vector_kernels import dot

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
MOST_STEPS = 8
"""Steps of one call of the kernel, where nobody watches each of them."""
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
        self._bounds = split_rows(n, min(n, OUTER_BLOCKS))
        self._ahead: list[tuple[Array, Array, list[float]]] = []
        """Right-hand sides with their solutions and residual histories, as computed by `look_ahead`."""
        if release and isinstance(hierarchy, Hierarchy):  # and not a `BlockHierarchy`
            release_levels(hierarchy)
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
        outer = _Outer(self, b, x)
        state, norm, step = outer.state, outer.begin(), 0
        reason = monitor.record(norm)
        if reason is not None:
            return reason
        if self.hierarchy.negative < 0.0:
            self.failure = (
                "the matrix is not positive definite: the vector of an aggregate has the curvature "
                f"{self.hierarchy.negative:.3g}"
            )
            return Result.STAGNATED
        state[kernels.TOLERANCE], state[kernels.CEILING] = monitor.tolerance, DIVERGENCE_FACTOR * monitor.history[0]
        least, since, taken = norm, 0, 0.0
        singular = self.system.null.labels is not None
        connected = self.system.null.sizes.tolist() == [0, len(b)] and not self.system.null_vectors
        # Where all unknowns are one component, the sum is that of its null vector, and usually mere rounding.
        state[kernels.LIMIT] = SLIGHT * len(b) if singular and connected else math.inf
        while step < max_iterations:
            most = min(MOST_STEPS, max_iterations - step, STAGNATION_STEPS - since)
            if monitor.watch is not None:
                most = min(most, LOOK - (len(monitor.history) - 1 - begun) % LOOK)
            if singular and not connected:
                most = min(most, -step % PROJECTED + 1)
            history = outer.advance(1 if monitor.observed else most)
            if state[kernels.STOP] == kernels.IMPROPER and len(history) == 0:
                if outer.is_negative(NEGATIVE * float(self.system.diagonal.max())):
                    self.failure = (
                        f"the matrix is not positive definite: a direction has the curvature {outer.curvature:.3g}"
                    )
                    return Result.STAGNATED
                monitor.fallbacks += 1
                history = outer.descend()
                if state[kernels.STOP] == kernels.IMPROPER:
                    return Result.STAGNATED if math.isfinite(outer.curvature) else Result.NON_FINITE
            step += len(history)
            if state[kernels.STOP] == kernels.UNBALANCED or (
                singular and not connected and (step - 1) % PROJECTED == 0
            ):
                history[-1, 0] = outer.project()
            for norm, gain in history:
                reason = monitor.record(norm)
                if reason is not None:
                    return reason
                taken += gain
                since = 0 if norm < least or gain > GAIN * taken else since + 1
                least = min(least, norm)
            if since >= STAGNATION_STEPS:
                return Result.STAGNATED
        return Result.MAX_ITERATIONS

    @property
    def is_plain(self) -> bool:
        """Whether steps are taken together with the cycle in one kernel."""
        return self._weights is None

    def _precondition(self, short: Floats) -> Floats:
        """Return the result of a cycle that is not part of the kernel: that of a hierarchy of other units."""
        weights, order = cast(Array, self._weights), self.hierarchy.order
        right, z = np.asarray(short * weights, np.float32), np.empty_like(short)
        if order is None:
            self.cycle.right[...] = right
            return np.asarray(self.cycle.apply() * weights, np.float32)
        permute(kernels.gather, right, order, self.cycle.right)
        permute(kernels.scatter, self.cycle.apply(), order, z)
        return np.asarray(z * weights, np.float32)


class _Outer:
    """The vectors of one run of the outer iteration, and its steps."""

    def __init__(self, engine: MultigridDirections, b: Array, x: Array) -> None:
        n = len(b)
        self.engine, self.b, self.x = engine, b, x
        self.state, self.history = np.zeros(9), np.zeros((MOST_STEPS, 2))
        self.r, self.d, self.images = np.empty(n), np.zeros((2, n), np.float32), np.zeros((2, n))
        order = engine.row_order if engine.is_plain else None
        if engine.is_plain and order is None:
            self.short, self.z = engine.cycle.right, engine.cycle.result
        else:
            self.short, self.z = np.empty(n, np.float32), np.empty(n, np.float32)
        self._arguments = (
            *engine._rows, engine._bounds, np.empty(0, np.uint32) if order is None else order, self.short, self.z,
            self.d, self.images, x, self.r, np.zeros((len(engine._bounds) - 1, 6)), self.state, self.history,
        )  # fmt: skip

    def _run(self, task: int, steps: int) -> Array:
        cycle = self.engine.cycle._arguments if task == kernels.STEP else NO_CYCLE
        run_steps(task, steps, len(self.r), cycle, self._arguments)
        return self.history[: int(self.state[kernels.DONE])]

    def begin(self) -> float:
        """Return the norm of the residual of `x`."""
        if self.x.any():
            norm = self.engine.system.residual(self.b, self.x, self.r)
        else:
            np.copyto(self.r, self.b)
            norm = math.sqrt(dot(self.r, self.r))
        self.state[kernels.NORM] = norm
        if norm > 0.0:
            np.multiply(self.r, 1.0 / norm, out=self.short, casting="same_kind")
        return norm

    def advance(self, steps: int) -> Array:
        """Take up to so many steps; return their residual norms and gains in energy, `(steps, 2)`."""
        if self.engine.is_plain:
            return self._run(kernels.STEP, steps)
        self.z[...] = self.engine._precondition(self.short)
        return self._run(kernels.GIVEN, 1)

    def descend(self) -> Array:
        """Take a step in the direction `D⁻¹ r`."""
        if not math.isfinite(self.curvature):  # all later directions would be made conjugate to this one
            self.d[...] = self.images[...] = self.state[kernels.LAST] = self.state[kernels.OLDER] = 0.0
        self.z[...] = self.engine.system.inverse_diagonal * (self.r / self.state[kernels.NORM])
        return self._run(kernels.GIVEN, 1)

    @property
    def curvature(self) -> float:
        return float(self.state[kernels.LAST])

    def is_negative(self, least: float) -> bool:
        """Return whether the last direction's curvature is negative beyond this fraction of its squared length."""
        d = self.d[int(self.state[kernels.TURN])]
        return self.curvature < -least * float(np.square(d).sum())

    def project(self) -> float:
        """Project null vectors out of the residual, in place, and return its norm: no direction reduces the rounding
        along them, which would soon dominate all directions."""
        self.engine.system.project(self.r)
        self.state[kernels.NORM] = norm = math.sqrt(float(np.square(self.r).sum()))
        np.multiply(self.r, 1.0 / norm if norm > 0.0 else 1.0, out=self.short, casting="same_kind")
        return norm


def permute(kernel: Kernel, source: Floats, order: NDArray[np.uint32], target: Floats) -> None:
    """Write `target` by `gather` or `scatter`, the entries divided among threads."""
    divide(kernel, len(order), source, order, target, chunks=count_threads(len(order)))
