"""A factor with iterative refinement: each step solves for the residual, recomputed in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.direct.factoriser import DEFINITE, FactorError, Factoriser, NumericFactor
from relaxon.solvers.sparse.direct.refinement import refine
from relaxon.solvers.sparse.engine import MatrixEngine
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem
from relaxon.solvers.sparse.system.new_values import same_pattern


class DirectEngine(MatrixEngine):
    """The factor of a system's matrix, with the analysis of its pattern."""

    default_max_iterations = 10

    def __init__(self, system: MatrixSystem, factoriser: Factoriser, factor: NumericFactor) -> None:
        self.system, self.factoriser, self.factor = system, factoriser, factor
        self.info = {"nonzeros": float(system.matrix.nnz), "factor_nonzeros": factor.entries}
        if factoriser.size is not None:
            self.info |= {"factor_flops": factoriser.size.flops, "factor_bytes": factoriser.size.memory_bytes}
        self._ahead: list[tuple[Array, Array]] = []
        """Right-hand sides with their first steps, as computed by `look_ahead`."""

    @classmethod
    def of(cls, system: MatrixSystem, factoriser: Factoriser) -> DirectEngine:
        """Factor the system's matrix; ValueError where it is singular, or not definite though its kind is "spd"."""
        try:
            return cls(system, factoriser, factoriser.factor(system.regular()))
        except FactorError as error:
            if factoriser.kind == DEFINITE:
                message = f"operator must be positive definite, or singular by constants alone; {error}"
            else:
                message = f"operator must be regular, or singular by constants alone; {error}"
            raise ValueError(message) from error

    def refactor(self, system: MatrixSystem) -> DirectEngine:
        """Return an engine for a matrix with other values on the same pattern, without another analysis.

        ValueError where the pattern differs, or as for a set-up; this engine is not modified.
        """
        mine, other = self.system.matrix, system.matrix
        if mine.shape != other.shape or not same_pattern(mine, other):
            raise ValueError(
                f"operator must have the pattern of the one that was set up, {mine.nnz} entries in {mine.shape[0]} "
                f"rows, got {other.nnz} in {other.shape[0]}, not all in the same places"
            )
        made = type(self).of(system, self.factoriser)
        made.reason = self.reason
        return made

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        """Return the engine of `refactor`; None where the method has no factor of these values."""
        try:
            return self.refactor(system)
        except ValueError as error:
            if not isinstance(error.__cause__, FactorError):
                raise
            return None

    def preconditioner(self) -> Callable[[Array, Array], None]:
        """Return the solve with the factor, the inverse to rounding: it writes `z ← A⁻¹ r`."""

        def precondition(r: Array, z: Array) -> None:
            z[...] = self._solve(r)

        return precondition

    def _solve(self, r: Array) -> Array:
        """Solve for one vector, in which complex numbers are pairs of real ones."""
        if self.system.matrix.dtype.kind != "c":
            return self.factor.solve(r)
        found: Array = self.factor.solve(r.view(np.complex128)).view(np.float64)
        return found

    def look_ahead(self, sides: Sequence[tuple[Array, Array]], tolerances: Sequence[float] | None) -> None:
        """Compute the first step for each pair of `b` and `x` of the coming calls of `run`, all in one solve."""
        r = np.empty_like(sides[0][0])
        right = np.empty((self.system.unknowns, len(sides)), self.system.matrix.dtype)
        for column, (b, x) in enumerate(sides):
            self.system.residual(b, x, r)
            right[:, column] = r.view(right.dtype)
        steps = np.ascontiguousarray(self.factor.solve(right).T).view(np.float64)
        self._ahead = [(b, step) for (b, _), step in zip(sides, steps, strict=True)]

    def _step_ahead(self, b: Array) -> Array | None:
        """Remove and return the first step for `b`; None where it is not known."""
        for place, (known, step) in enumerate(self._ahead):
            if known is b:
                del self._ahead[place]
                return step
        return None

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        first = [self._step_ahead(b)]

        def correction(r: Array, norm: float) -> Array:
            known = first.pop() if first else None
            return self._solve(r) if known is None else known

        return refine(self.system, correction, b, x, monitor, max_iterations)
