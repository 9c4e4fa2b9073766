"""The deep conjugate direction method with its V-cycle in plain NumPy: slow, and written to be read.

The compiled solver computes the same, to rounding, and is tested against it. `conjugate_directions` is the outer
iteration, `run_cycle` the direction that the learned constants make of a residual. Level by level the cycle takes
what the solver's set-up made (`relaxon.solvers.multigrid.levels`): a byte a cell on a coded level, arrays on a level
of face couplings, which look the same from here.

Source: A. Kaneda, O. Akar, J. Chen, V. Kala, D. Hyde, J. Teran, "A Deep Conjugate Direction Method for Iteratively
Solving Linear Systems", ICML 2023, algorithm 1.

Examples
--------
>>> import numpy as np
>>> from relaxon.solvers import PoissonGrid
>>> from relaxon.solvers.dcdm import reference
>>> grid = PoissonGrid(np.zeros((12, 10), np.uint8), boundary="dirichlet")
>>> x, history = reference.solve(grid.operator(), np.ones((12, 10)))
>>> history[-1] <= 1e-6 * history[0]
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.dcdm.cycle import constants_for
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.multigrid.fused import FusedCycle
from relaxon.solvers.multigrid.levels import FusedLevel

Array = NDArray[Any]
Map = Callable[[Array], Array]


def conjugate_directions(
    apply: Map, direction: Map, b: Array, *, window: int = 2, rtol: float = 1e-6, max_iterations: int = 500
) -> tuple[Array, list[float]]:
    """Solve `A x = b` from `x = 0` by directions that are each made A-orthogonal to the last ones.

    Parameters
    ----------
    apply : `A`, symmetric and positive definite on the range that `b` lies in.
    direction : `f`, from a residual of norm 1 to a search direction; any map.
    window : how many directions are kept; the paper found that more than two do not pay.

    Returns
    -------
    `x`, and the norm of the residual before the first step and after each.
    """
    x = np.zeros_like(b)
    r = b
    kept: list[tuple[Array, Array, float]] = []  # directions p, their images q = A p, and pᵀAp
    history = [_norm(r)]
    while history[-1] > rtol * history[0] and len(history) <= max_iterations:
        # The network's direction for the residual, scaled to norm 1.
        d = direction(r / history[-1])
        # Make it A-orthogonal to the directions that are kept.
        d = d - sum((p * (_dot(d, q) / curvature) for p, q, curvature in kept), np.zeros_like(d))
        # Search along it for the least error in the norm of A.
        q = apply(d)
        curvature = _dot(d, q)
        alpha = _dot(d, r) / curvature
        x = x + alpha * d
        r = b - apply(x)
        kept = [*kept, (d, q, curvature)][-window:] if window else []
        history.append(_norm(r))
    return x, history


def run_cycle(levels: Sequence[FusedLevel], r: Array, depth: int = 0) -> Array:
    """Approximate the solution of a level's `A z = r`: return `z = M r`, of the level's shape, float32.

    `M` is linear and symmetric: the second smoothing is the adjoint of the first, restriction that of interpolation.
    """
    level = levels[depth]
    if depth + 1 == len(levels):
        return solve_exactly(level, r)
    below = levels[depth + 1]
    # (1) Smooth from zero.
    x = level.multiplier * apply_stencil(level, r)
    # (2) Take the residual, and (3) restrict it.
    coarse = _gain(below) * restrict(level, r - apply_operator(level, x))
    # (4) Recurse, on further visits with the residual that the visits before have left.
    z = run_cycle(levels, coarse, depth + 1)
    for _ in range(below.visits - 1):
        z = z + run_cycle(levels, coarse - apply_operator(below, z), depth + 1)
    # (5) Prolong and correct.
    x = x + interpolate(level, _gain(below) * z)
    # (6) Smooth.
    return x + level.unknown * apply_stencil(level, level.multiplier * (r - apply_operator(level, x)))


def apply_operator(level: FusedLevel, x: Array) -> Array:
    """Return `A x` on a level: the diagonal, less the couplings to the cells below and above along each axis."""
    y = level.diagonal * x
    for axis, lower in enumerate(level.couplings):
        if x.shape[axis] > 1:  # `lower` is 0 across a side that is not periodic
            y = y - lower * np.roll(x, 1, axis) - np.roll(lower * x, -1, axis)
    return y


def apply_stencil(level: FusedLevel, x: Array) -> Array:
    """Return `K x`: the 27 points of the learned stencil, nine in two dimensions."""
    constants = level.smoother.stencil.reshape(2, 2, 2)  # by steps along the last, the first and the second axis
    total = np.zeros_like(x)
    for last in (0, 1):
        for first in (0, 1):
            for second in (0, 1):
                points = x
                for axis, steps in enumerate((first, second, last)):
                    points = _neighbours(points, axis, bool(level.operator.wrap[axis])) if steps else points
                total = total + constants[last, first, second] * points
    return total


def interpolate(level: FusedLevel, coarse: Array) -> Array:
    """Return `share ⊙ P e` of an array of the level below: linear interpolation along each axis."""
    assert level.tables is not None
    for axis, table in enumerate(level.tables):
        coarse = np.moveaxis(np.tensordot(table.matrix(), coarse, (1, axis)), 0, axis)
    return level.share * coarse


def restrict(level: FusedLevel, fine: Array) -> Array:
    """Return `Pᵀ (share ⊙ t)`, an array of the level below."""
    assert level.tables is not None
    fine = level.share * fine
    for axis, table in enumerate(level.tables):
        fine = np.moveaxis(np.tensordot(table.matrix(), fine, (0, axis)), 0, axis)
    return fine


def solve_exactly(level: FusedLevel, r: Array) -> Array:
    """Return the solution on the last level, by its matrix's pseudo-inverse."""
    assert level.inverse is not None
    z = np.zeros_like(r)
    z.reshape(-1)[level.index] = level.inverse @ r.reshape(-1)[level.index]
    return z


def solve(operator: PoissonOperator, b: Array, rtol: float = 1e-6, window: int = 1) -> tuple[Array, list[float]]:
    """Solve `A x = b` on a grid with κ = 1 by the shipped constants; `b` of the grid's shape, in the operator's range.

    Returns `x` and the residual norms, as `conjugate_directions`.
    """
    cycle = FusedCycle(operator, constants_for(operator.grid.ndim))

    def direction(r: Array) -> Array:
        z = run_cycle(cycle.levels, r.reshape(cycle.shape).astype(np.float32))
        return z.reshape(r.shape).astype(np.float64)

    def apply(x: Array) -> Array:
        return operator.matvec(x).reshape(x.shape)

    return conjugate_directions(apply, direction, b, window=window, rtol=rtol)


def _gain(level: FusedLevel) -> Array:
    assert level.gain is not None
    return level.gain.reshape(level.shape)


def _neighbours(x: Array, axis: int, periodic: bool) -> Array:
    """Return the sum of both neighbours along an axis, 0 beyond a side that is not periodic."""
    if periodic:
        return np.roll(x, 1, axis) + np.roll(x, -1, axis)
    padded = np.pad(x, [(1, 1) if a == axis else (0, 0) for a in range(x.ndim)])
    total: Array = np.delete(padded, (-2, -1), axis) + np.delete(padded, (0, 1), axis)
    return total


def _dot(x: Array, y: Array) -> float:
    return float(np.vdot(x, y))


def _norm(x: Array) -> float:
    return float(np.linalg.norm(x))
