"""Conjugate gradients on the matrix-free operator: plain, with the diagonal, or with any preconditioner.

Source: M. R. Hestenes, E. Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952; the flexible
variant after Y. Notay, "Flexible Conjugate Gradients", SIAM J. Sci. Comput. 22 (2000).
"""

# Imported on first use, for their weight: `solvers.grid.stencil_kernels`, `kernels`.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core.solution import Result
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver
from relaxon.solvers.interface.verdict import subtract
from relaxon.solvers.krylov.iteration import Steps, end_of, iterate

Array = NDArray[np.float64]
Preconditioner = Callable[[Array, Array], None]
"""`precondition(r, z)` writes `z ← M r`; both `shape3` float64, zero outside the fluid; `r` is not written to."""

STAGNATION_STEPS = 500
"""Steps without a new least residual after which rounding has won: the residual of conjugate gradients wanders."""


def conjugate_gradients(
    operator: PoissonOperator,
    b: Array,
    x: Array,
    monitor: Monitor,
    max_iterations: int,
    precondition: Preconditioner | None = None,
    *,
    flexible: bool = False,
    stagnation_steps: int = STAGNATION_STEPS,
) -> Result:
    """Improve `x` in place by preconditioned conjugate gradients, and return why they stopped.

    Parameters
    ----------
    b, x : `shape3` float64, zero outside the fluid; `b` in the operator's range.
    precondition : symmetric and positive definite on the operator's range; None for the identity.
    flexible : the Polak–Ribière formula for β, one array and one pass more, for a preconditioner that is symmetric
        only to rounding (a cycle in float32).
    """
    steps = _take_steps(operator, b, x, monitor, precondition, flexible)
    return iterate(steps, monitor, max_iterations, stagnation_steps)


def _take_steps(
    operator: PoissonOperator, b: Array, x: Array, monitor: Monitor, precondition: Preconditioner | None, flexible: bool
) -> Steps:
    from relaxon.solvers.grid.stencil_kernels import dot, residual_norm
    from relaxon.solvers.krylov import kernels

    project = operator.grid.nullspace.project
    r, z, ap = np.empty_like(b), np.empty_like(b), np.empty_like(b)
    rr = residual_norm(b, operator.apply(x, ap), r)
    yield math.sqrt(rr)
    before = r.copy() if flexible else r

    def take_direction() -> Array:
        if precondition is None:
            return r
        precondition(r, z)
        return project(z)

    p = take_direction().copy()
    rz = dot(r, p)
    while True:
        curvature = dot(p, operator.apply(p, ap))
        if not (curvature > 0 and rz > 0):
            return end_of(curvature, rz)
        alpha = rz / curvature
        rr = kernels.plain_step(alpha, p, ap, x, r)
        monitor.stepped(partial(subtract, x, alpha, p))
        yield math.sqrt(rr)
        monitor.stepped(None)
        step = take_direction()
        old = rz
        rz = dot(r, step) if precondition is not None else rr
        change = dot(before, step) if flexible else 0.0
        kernels.next_direction(step, (rz - change) / old, p)
        if flexible:
            before[...] = r


def _take_jacobi_steps(operator: PoissonOperator, inverse: Array, b: Array, x: Array, monitor: Monitor) -> Steps:
    """As `_take_steps` with `M = D⁻¹`, which costs no pass of its own."""
    from relaxon.solvers.grid.stencil_kernels import dot, residual_norm
    from relaxon.solvers.krylov import kernels

    r, ap = np.empty_like(b), np.empty_like(b)
    yield math.sqrt(residual_norm(b, operator.apply(x, ap), r))
    z = inverse * r
    p, rz = z.copy(), dot(r, z)
    while True:
        curvature = dot(p, operator.apply(p, ap))
        if not (curvature > 0 and rz > 0):
            return end_of(curvature, rz)
        old, alpha = rz, rz / curvature
        rr, rz = kernels.step(alpha, p, ap, inverse, x, r, z)
        monitor.stepped(partial(subtract, x, alpha, p))
        yield math.sqrt(rr)
        monitor.stepped(None)
        kernels.next_direction(z, rz / old, p)


@dataclass(frozen=True, slots=True)
class ConjugateGradient(Solver):
    """Conjugate gradients without a preconditioner: O(n) iterations for n cells a side."""

    name: ClassVar[str] = "cg"
    summary: ClassVar[str] = "conjugate gradients"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return _Plain(operator)


@dataclass(frozen=True, slots=True)
class JacobiCG(Solver):
    """Conjugate gradients preconditioned with the diagonal: pays where κ or the spacing varies."""

    name: ClassVar[str] = "jacobi-cg"
    summary: ClassVar[str] = "CG with a diagonal preconditioner"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return _Jacobi(operator)


class _Plain(Prepared):
    default_max_iterations = 20_000
    by_planes = False

    def __init__(self, operator: PoissonOperator) -> None:
        self.operator = operator
        self.info = {}

    def twin(self) -> Prepared:
        return self  # all arrays of a run are its own

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        return conjugate_gradients(self.operator, b, x, monitor, max_iterations)


class _Jacobi(_Plain):
    def __init__(self, operator: PoissonOperator) -> None:
        super().__init__(operator)
        self.inverse = inverse_diagonal(operator)

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        steps = _take_jacobi_steps(self.operator, self.inverse, b, x, monitor)
        return iterate(steps, monitor, max_iterations, STAGNATION_STEPS)


def inverse_diagonal(operator: PoissonOperator) -> Array:
    """`1/D` where the row is not zero, else 0: `shape3` float64."""
    diagonal = operator.diagonal
    inverse: Array = np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=diagonal > 0)
    return inverse
