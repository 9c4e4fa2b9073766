"""Symmetric matrices that look positive definite by their entries and turn out indefinite during a solve, and those
whose negatives are positive definite."""

from __future__ import annotations

from collections.abc import Sequence
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


def negate(system: MatrixSystem) -> MatrixSystem | None:
    """Return the system of `−A` where all diagonal entries of a symmetric `A` are negative and `−A` looks definite."""
    if system.kind != "symmetric-indefinite" or not (system.diagonal < 0).all():
        return None
    negated = MatrixSystem.of(-system.matrix)
    return negated if negated.kind == "spd" else None


class Negated(DelegatingEngine):
    """A method for `−A x = −b`, where that is positive definite: Laplacians are often assembled with that sign."""

    def __init__(self, system: MatrixSystem, engine: MatrixEngine) -> None:
        self.system, self.engine = system, engine
        self.info, self.failure = engine.info, engine.failure
        self.reason = engine.reason.replace(": ", ": a negative definite matrix, with its sign changed; ", 1)
        self.default_max_iterations = engine.default_max_iterations

    def update(self, system: MatrixSystem) -> MatrixEngine | None:
        negated = negate(system)
        engine = None if negated is None else self.engine.update(negated)
        if engine is None:
            return None
        engine.reason = engine.reason or self.engine.reason
        updated = Negated(system, engine)
        updated.reuses = engine.reuses
        return updated

    @property
    def running(self) -> MatrixEngine:
        return self.engine

    def look_ahead(self, sides: Sequence[tuple[Array, Array]], tolerances: Sequence[float] | None) -> None:
        """Right-hand sides change their signs first, so that each is solved for on its own."""

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        result = self.engine.run(-b, x, monitor, max_iterations)
        self.info, self.failure = self.engine.info, self.engine.failure
        self.reason = self.engine.reason.replace(": ", ": a negative definite matrix, with its sign changed; ", 1)
        return result


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
