"""Symmetric matrices that look positive definite by their entries and turn out indefinite during a solve."""

from __future__ import annotations

from dataclasses import replace

from relaxon.core.solution import Result
from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.choice.other_kinds import prepare_kind
from relaxon.solvers.sparse.engine import DelegatingEngine, MatrixEngine
from relaxon.solvers.sparse.system.matrix_system import Array, MatrixSystem

NOT_DEFINITE = "operator must be positive definite"
"""Beginning of the refusal by a factor with pivots that are not positive."""
FOUND_OUT = "the matrix is not positive definite"
"""Beginning of the failure of conjugate gradients on a direction of negative curvature."""


def prepare_indefinite(system: MatrixSystem, why: str) -> MatrixEngine:
    """Set up a method for a matrix as symmetric indefinite; ValueError with `why` where it is singular as well."""
    try:
        return prepare_kind(replace(system, kind="symmetric-indefinite", why=why))
    except ValueError:
        raise ValueError(why) from None


class OrIndefinite(DelegatingEngine):
    """A method for positive definite matrices; where it meets negative curvature, one for indefinite ones takes
    over."""

    def __init__(self, system: MatrixSystem, first: MatrixEngine) -> None:
        self.system, self.engine = system, first
        self.info, self.reason, self.failure = first.info, first.reason, first.failure
        self.default_max_iterations = first.default_max_iterations

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        engine = self.engine.update(system)
        if engine is None:
            return None
        engine.reason = engine.reason or self.engine.reason
        updated = OrIndefinite(system, engine)
        updated.reuses, updated.reason = engine.reuses, self.reason
        return updated

    @property
    def running(self) -> MatrixEngine:
        return self.engine

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        before = monitor.iterations
        result = self.engine.run(b, x, monitor, max_iterations)
        left = max_iterations - (monitor.iterations - before)
        if result is Result.STAGNATED and self.engine.failure.startswith(FOUND_OUT) and left > 0:
            why = self.engine.failure
            self.engine = prepare_indefinite(self.system, why)
            self.default_max_iterations = max(self.default_max_iterations, self.engine.default_max_iterations)
            self.reason = f"{self.reason}; {self.engine.reason.replace('auto chose', 'then')}"
            monitor.history.pop()  # the next run records the residual where it begins
            result = self.engine.run(b, x, monitor, left)
        else:
            self.reason = self.engine.reason if not self.reason.endswith(self.engine.reason) else self.reason
        self.info, self.failure = self.engine.info, self.engine.failure
        return result
