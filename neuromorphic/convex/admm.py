"""The alternating direction method of multipliers for both programs.

With `u = v` and, but for the squared loss, `z = F u` as the two copies (Boyd et al. 2011, sections 3 and 6.4; Bai et
al. 2023, section 3, who copy `G u = s` besides, where the cones' constraints are `s ≥ 0`):

    (1) u ← argmin ℓ(Fu) + ½ ρ ‖u − v + λ‖²                    one Cholesky factor, reused
    (2) v ← group soft threshold, at β/ρ, of the projection of u + λ onto the cones
    (3) λ ← λ + u − v

The threshold of the projection is the proximal map of `β‖v‖` on a cone, so that `v` is in its cone at each iteration
and the objective at `v` bounds the optimum from above. The multipliers of the loss at `u`, scaled until they satisfy
the dual constraints, bound it from below.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.losses import SquaredError
from relaxon.neuromorphic.convex.normal import normal_equations
from relaxon.neuromorphic.convex.program import Program, primal_value

Array = NDArray[np.float64]

RELAXATION = 1.6
"""Over-relaxation (Boyd et al. 2011, section 3.4.3)."""
UNBALANCED, LARGEST_CHANGE = 3.0, 5.0
"""ρ changes where one relative residual is so many times the other, by this factor at most (ibid., section 3.4.1)."""
PATIENCE = 1.15
"""The penalties rest from one change until the iterations have grown by this factor, so that changes get rare, as
convergence needs."""
CHECK_EVERY = 10
DUAL_WORTH = 3.0
"""The dual bound is computed where the larger residual fell by this factor since the last time, as it costs as much as
several iterations."""


class ConvexOutcome(enum.Enum):
    """How a fit ended."""

    CONVERGED = "converged"
    ITERATION_LIMIT = "iteration limit"
    INTERRUPTED = "interrupted by the callback"
    NOT_FINITE = "not finite"


@dataclass(frozen=True, slots=True)
class ConvexProgress:
    """Where the iteration stands; both bounds hold for the program's optimum."""

    iteration: int
    primal: float
    dual: float
    primal_residual: float
    dual_residual: float

    @property
    def relative_gap(self) -> float:
        """`(primal − dual) / primal`."""
        return relative_gap(self.primal, self.dual)


@dataclass(frozen=True, slots=True)
class ConvexHistory:
    """What was measured at each check, `(checks,)`: bounds are the best so far, residuals relative."""

    iteration: NDArray[np.int64]
    primal: Array
    dual: Array
    primal_residual: Array
    dual_residual: Array
    rho: Array

    @property
    def relative_gap(self) -> Array:
        """`(primal − dual) / primal` at each check."""
        return np.array([relative_gap(p, d) for p, d in zip(self.primal, self.dual, strict=True)])


def relative_gap(primal: float, dual: float) -> float:
    """Return `(primal − dual) / primal`, 0 where both are 0."""
    return max(primal - dual, 0.0) / max(primal, 1e-300) if primal > dual else 0.0


Callback = Callable[[ConvexProgress], bool | None]


@dataclass(frozen=True, slots=True)
class AdmmSettings:
    """When to stop, the first penalty, and above how many rows there is no Cholesky factor but conjugate gradients."""

    tolerance: float
    iterations: int
    rho: float | None = None
    largest_factor: int = 8192


@dataclass(slots=True)
class Solved:
    """The best variables found, the best dual point, and how it went."""

    variables: Array
    theta: Array
    primal: float
    dual: float
    outcome: ConvexOutcome
    iterations: int
    history: ConvexHistory

    @property
    def relative_gap(self) -> float:
        """`(primal − dual) / primal`."""
        return relative_gap(self.primal, self.dual)

    def after(self, before: Solved) -> Solved:
        """Return this solution with the iterations and the history of the round before it in front."""
        names = [field.name for field in fields(ConvexHistory)]
        joined = {name: np.concatenate([getattr(before.history, name), getattr(self.history, name)]) for name in names}
        joined["iteration"][len(before.history.iteration) :] += before.iterations
        return replace(self, iterations=self.iterations + before.iterations, history=ConvexHistory(**joined))


@dataclass(slots=True)
class _Track:
    """The best points so far and the figures of each check."""

    variables: Array
    theta: Array
    primal: float
    dual: float
    rows: list[tuple[float, ...]] = field(default_factory=list)
    last_worst: float = np.inf

    def history(self) -> ConvexHistory:
        table = np.array(self.rows, np.float64).reshape(-1, 6)
        return ConvexHistory(table[:, 0].astype(np.int64), *(table[:, j].copy() for j in range(1, 6)))


def solve_admm(
    program: Program, settings: AdmmSettings, callback: Callback | None = None, start: Array | None = None
) -> Solved:
    """Return the solution of the program, up to a relative gap or a number of iterations.

    It begins at `start`, which is in the constraint set, else at 0. The callback ends it by returning `True`.
    """
    loss, c, beta = program.objective.loss, program.objective.shares, program.objective.beta
    direct = isinstance(loss, SquaredError)
    normal = normal_equations(program.map, c, settings.largest_factor)
    sigma = loss.curvature
    v = program.zeros() if start is None else start.copy()
    scaled = np.zeros_like(v)
    z = program.map.forward(program.difference(v))
    multiplier = np.zeros_like(z)
    theta = loss.gradient(z, c)
    track = _Track(v.copy(), 0.0 * theta, primal_value(program, v, z), 0.0)
    _improve_dual(program, track, theta)
    rho = settings.rho or _first_penalty(program, theta)
    outcome, iteration = ConvexOutcome.ITERATION_LIMIT, 0
    # At β no smaller than the dual norm of the gradient at 0, the optimum is 0.
    if relative_gap(track.primal, track.dual) <= settings.tolerance:
        return Solved(
            track.variables, track.theta, track.primal, track.dual, ConvexOutcome.CONVERGED, 0, track.history()
        )
    pairs = 1.0 if program.difference(v).shape == v.shape else 2.0
    normal.set_weight(pairs * sigma / rho)
    change_at = CHECK_EVERY
    for iteration in range(1, settings.iterations + 1):
        target = loss.y if isinstance(loss, SquaredError) else z - multiplier
        # (1) The minimum over u: its sums stay those of v − λ, its differences solve the normal equations.
        start = v - scaled
        behind = program.difference(start)
        q = normal.solve(behind + pairs * sigma / rho * program.map.adjoint(c[:, None] * target))
        u = program.lift(start, q - behind)
        # (2) and (3), over-relaxed.
        before, relaxed = v, RELAXATION * u + (1.0 - RELAXATION) * v + scaled
        v = program.shrink(relaxed, beta / rho)
        scaled = relaxed - v
        outputs = program.map.forward(q) if not direct or iteration % CHECK_EVERY == 0 else z
        z_before = z
        if not direct:
            moved = RELAXATION * outputs + (1.0 - RELAXATION) * z + multiplier
            z = loss.prox(moved, sigma)
            multiplier = moved - z
        if iteration % CHECK_EVERY and iteration != settings.iterations:
            continue
        if not np.isfinite(v).all():
            outcome = ConvexOutcome.NOT_FINITE
            break
        primal_residual = _share(_norm(u - v), max(_norm(u), _norm(v)))
        dual_residual = _share(_norm(v - before), _norm(scaled))
        theta = loss.gradient(outputs, c) if direct else sigma * c[:, None] * multiplier
        split = slack = 0.0
        if not direct:
            split = _share(_norm(outputs - z), max(_norm(outputs), _norm(z)))
            slack = _share(_norm(z - z_before), _norm(multiplier))
        value = primal_value(program, v)
        if value < track.primal:
            track.primal, track.variables = value, v.copy()
        worst = max(primal_residual, dual_residual, split, slack)
        if worst * DUAL_WORTH <= track.last_worst or iteration == settings.iterations:
            track.last_worst = worst
            _improve_dual(program, track, theta)
        track.rows.append((iteration, track.primal, track.dual, primal_residual, dual_residual, rho))
        if relative_gap(track.primal, track.dual) <= settings.tolerance:
            outcome = ConvexOutcome.CONVERGED
            break
        if callback and callback(ConvexProgress(iteration, track.primal, track.dual, primal_residual, dual_residual)):
            outcome = ConvexOutcome.INTERRUPTED
            break
        if iteration < change_at:
            continue
        change = _balance(primal_residual, dual_residual)
        bend = _balance(split, slack)
        if change != 1.0 or bend != 1.0:
            change_at = int(PATIENCE * iteration) + CHECK_EVERY
            rho, scaled = rho * change, scaled / change
            sigma, multiplier = sigma * bend, multiplier / bend
            if change != bend:
                normal.set_weight(pairs * sigma / rho)
    return Solved(track.variables, track.theta, track.primal, track.dual, outcome, iteration, track.history())


def _improve_dual(program: Program, track: _Track, theta: Array) -> None:
    """Scale `θ` into the dual's constraints and keep it where its value is the best so far."""
    objective = program.objective
    norm = program.dual_norm(theta)
    longest = 1.0 if norm <= objective.beta else objective.beta / norm
    value, t = objective.loss.dual_value(theta, objective.shares, longest)
    if value > track.dual:
        track.dual, track.theta = value, t * theta


def _first_penalty(program: Program, theta: Array) -> float:
    """Return a ρ at which the threshold β/ρ is of the size that the variables will have."""
    norm = program.dual_norm(theta)
    return max(program.objective.beta, 0.1 * norm)


def _balance(first: float, second: float) -> float:
    """Return the factor by which a penalty changes, so that both residuals fall together."""
    if first <= 0.0 or second <= 0.0 or 1.0 / UNBALANCED < first / second < UNBALANCED:
        return 1.0
    return float(np.clip(np.sqrt(first / second), 1.0 / LARGEST_CHANGE, LARGEST_CHANGE))


def _norm(a: Array) -> float:
    return float(np.linalg.norm(a))


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else (0.0 if part == 0.0 else np.inf)
