"""Conjugate gradients on the matrix-free operator: plain, with the diagonal, with a modified incomplete Cholesky factor
without fill, MIC(0), or with any preconditioner.

Sources: M. R. Hestenes, E. Stiefel, "Methods of Conjugate Gradients for Solving Linear Systems", 1952; the flexible
variant after Y. Notay, "Flexible Conjugate Gradients", SIAM J. Sci. Comput. 22 (2000). For MIC(0) I. Gustafsson, "A
Class of First Order Factorization Methods", BIT 18 (1978), with the parameters of R. Bridson, "Fluid Simulation for
Computer Graphics", 2nd ed. (2015), section 5.
"""

# Imported on first use, for their weight: `solvers.grid.stencil_kernels`, `kernels`, `incomplete_cholesky_kernels`.

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.solution import Result
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.interface.engine import Monitor, Prepared, Solver
from relaxon.solvers.interface.verdict import subtract
from relaxon.solvers.kernels.threads import Kernel, divide
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


SWEPT_SERIALLY = 20_000
"""On grids with fewer cells one thread sweeps all slabs."""
MIN_SLAB_PLANES = 8
"""Planes of a slab, at least: thinner slabs lose more by the couplings they drop than their threads gain."""
MOST_SLABS = 2
"""The default number of slabs, at most. At 128³ two cost 18 % more iterations than one, for which two threads more than
make up. Four cost 37 %, for which only machines with more threads do, and the iterates must not depend on these."""


@dataclass(frozen=True, slots=True)
class IncompleteCholeskyCG(Solver):
    """CG with MIC(0): iterations grow like the square root of CG's.

    Parameters
    ----------
    modified : part of the dropped fill that is added to the diagonal, 0 (plain IC(0)) to 1.
    safety : a pivot below this part of the diagonal is replaced by the diagonal, 0 to 1.
    slabs : blocks of planes with a factor each, swept side by side by as many threads; more of them cost iterations.
        None for two, one on small grids, whatever the number of threads: the iterates depend on it.
    """

    modified: float = 0.97
    safety: float = 0.25
    slabs: int | None = None
    name: ClassVar[str] = "ic-cg"
    summary: ClassVar[str] = "CG with a modified incomplete Cholesky preconditioner"

    def __post_init__(self) -> None:
        for name in ("modified", "safety"):
            if not 0 <= validation.finite_float(name, getattr(self, name)) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1, got {getattr(self, name)!r}")
        if self.slabs is not None:
            validation.positive_int("slabs", self.slabs)

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return _IncompleteCholesky(operator, self)


class _IncompleteCholesky(Prepared):
    default_max_iterations = 5000
    by_planes = False

    def __init__(self, operator: PoissonOperator, options: IncompleteCholeskyCG) -> None:
        from relaxon.solvers.krylov import incomplete_cholesky_kernels as kernels

        self.operator = operator
        # The first axis of a 2-D grid has one plane: there the sweeps run along the second axis as slabs instead.
        self._turn = (1, 0, 2) if operator.grid.shape3[0] == 1 else (0, 1, 2)
        planes = operator.grid.shape3[self._turn[0]]
        slabs = options.slabs or max(1, min(MOST_SLABS, planes // MIN_SLAB_PLANES))
        self._starts = np.linspace(0, planes, min(slabs, planes) + 1).astype(np.int64)
        diagonal, lower = self._turn_axes(operator.diagonal), [self._turn_axes(c) for c in operator.couplings]
        self._lower = tuple(lower[axis] for axis in self._turn)
        self._inverse = np.empty_like(diagonal)
        dropped, safety = float(options.modified), float(options.safety)
        self._divide(kernels.pivots, diagonal, *self._lower, self._starts, dropped, safety, self._inverse)
        self.info = {"slabs": float(len(self._starts) - 1)}

    def _divide(self, kernel: Kernel, *args: Any) -> None:
        """Call a kernel on all slabs; a small grid's in this thread."""
        divide(kernel, len(self._starts) - 1, *args, chunks=None if self._inverse.size >= SWEPT_SERIALLY else 1)

    def _turn_axes(self, array: Array) -> Array:
        return np.ascontiguousarray(array.transpose(self._turn))

    def run(self, b: Array, x: Array, monitor: Monitor, max_iterations: int) -> Result:
        from relaxon.solvers.krylov import incomplete_cholesky_kernels as kernels

        def precondition(r: Array, z: Array) -> None:
            # Turning a (1, n1, n2) array is a view with the same memory order.
            shape = self._inverse.shape
            r, z = r.reshape(shape), z.reshape(shape)
            self._divide(kernels.sweeps, self._inverse, *self._lower, self._starts, r, z)

        return conjugate_gradients(self.operator, b, x, monitor, max_iterations, precondition)
