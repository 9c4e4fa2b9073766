"""The alternating direction method of multipliers for both programs.

The copies are `u = v` and, except for the squared loss, `z = F u` (Boyd et al. 2011, sections 3 and 6.4; Bai et al.
2023, section 3, who additionally copy `G u = s`, where the cones' constraints are `s ≥ 0`):

    (1) u ← argmin ℓ(Fu) + ½ ρ ‖u − v + λ‖²                    one Cholesky factor, reused
    (2) v ← group soft threshold, at β/ρ, of the projection of u + λ onto the cones
    (3) λ ← λ + u − v

The threshold of the projection is the proximal map of `β‖v‖` on a cone. So `v` is in its cone at each iteration, and
the objective at `v` bounds the optimum from above. The multipliers of the loss at `u`, scaled until they satisfy the
dual constraints, bound it from below.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.program.formulation import Program, primal_value
from relaxon.neuromorphic.convex.program.losses import SquaredError
from relaxon.neuromorphic.convex.solving.normal_equations import build_normal_solver

Array = NDArray[np.float64]

RELAXATION = 1.6
"""Over-relaxation (Boyd et al. 2011, section 3.4.3)."""
UNBALANCED, LARGEST_CHANGE = 3.0, 5.0
"""ρ changes where one relative residual exceeds the other by the first factor, at most by the second factor (ibid.,
section 3.4.1)."""
PATIENCE = 1.15
"""Factor by which the number of iterations must grow before the penalties change again: changes become rare, which
convergence requires."""
CHECK_EVERY = 10
DUAL_WORTH = 3.0
"""Factor by which the larger residual must decrease before the dual bound is computed again, since that costs as much
as several iterations."""


class ConvexOutcome(enum.Enum):
    """How a fit ended."""

    CONVERGED = "converged"
    ITERATION_LIMIT = "iteration limit"
    INTERRUPTED = "interrupted by the callback"
    NOT_FINITE = "not finite"


@dataclass(frozen=True, slots=True)
class ConvexProgress:
    """The state of the iteration; both bounds hold for the program's optimum."""

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
    """Measurements at each check, `(checks,)`: the best bounds so far, and relative residuals."""

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
    """Stopping criteria, the initial penalty, and the largest number of rows of a Cholesky factor."""

    tolerance: float
    iterations: int
    rho: float | None = None
    largest_factor: int = 8192


@dataclass(slots=True)
class AdmmSolution:
    """The best variables and the best dual point found, and the course of the iteration."""

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

    def after(self, before: AdmmSolution) -> AdmmSolution:
        """Return this solution with the iterations and the history of the round before it prepended."""
        names = [field.name for field in fields(ConvexHistory)]
        joined = {name: np.concatenate([getattr(before.history, name), getattr(self.history, name)]) for name in names}
        joined["iteration"][len(before.history.iteration) :] += before.iterations
        return replace(self, iterations=self.iterations + before.iterations, history=ConvexHistory(**joined))


@dataclass(slots=True)
class _Track:
    """The best points so far, and the measurements of each check."""

    variables: Array
    theta: Array
    primal: float
    dual: float
    rows: list[tuple[float, ...]] = field(default_factory=list)
    last_worst: float = np.inf

    def history(self) -> ConvexHistory:
        table = np.array(self.rows, np.float64).reshape(-1, 6)
        return ConvexHistory(table[:, 0].astype(np.int64), *(table[:, j].copy() for j in range(1, 6)))

    def finish(self, outcome: ConvexOutcome, iterations: int) -> AdmmSolution:
        return AdmmSolution(self.variables, self.theta, self.primal, self.dual, outcome, iterations, self.history())


@dataclass(frozen=True, slots=True)
class _Residuals:
    """Relative residuals of the copy `u = v` and its multipliers, and of `F u = z` and its multipliers."""

    primal: float
    dual: float
    split: float
    slack: float

    @property
    def worst(self) -> float:
        return max(self.primal, self.dual, self.split, self.slack)


class _AdmmState:
    """The copies with their scaled multipliers and penalties: `v`, `λ` and ρ; `z`, its multiplier and σ."""

    def __init__(self, program: Program, settings: AdmmSettings, start: Array | None) -> None:
        self.program, self.loss, self.c = program, program.objective.loss, program.objective.shares
        self.normal = build_normal_solver(program.map, self.c, settings.largest_factor)
        self.v = program.zeros() if start is None else start.copy()
        self.scaled = np.zeros_like(self.v)
        self.z = program.map.forward(program.difference(self.v))
        self.multiplier = np.zeros_like(self.z)
        self.theta = self.loss.gradient(self.z, self.c)
        self.sigma = self.loss.curvature
        # A ρ for which the threshold β/ρ has the size of the expected variables.
        self.rho = settings.rho or max(program.objective.beta, 0.1 * program.dual_norm(self.theta))
        # A change of the difference v − w is split equally between v and w.
        self.pairs = 1.0 if program.difference(self.v).shape == self.v.shape else 2.0
        self.change_at = CHECK_EVERY

    def factorise(self) -> None:
        """Prepare the linear system for the current penalties."""
        self.normal.set_weight(self.pairs * self.sigma / self.rho)

    def step(self) -> None:
        """Perform one iteration, steps (1) to (3)."""
        program, loss = self.program, self.loss
        target = loss.y if isinstance(loss, SquaredError) else self.z - self.multiplier
        # (1) Minimise over u: its sums are those of v − λ, its differences solve the normal equations.
        start = self.v - self.scaled
        behind = program.difference(start)
        pulled = program.map.adjoint(self.c[:, None] * target)
        self.q = self.normal.solve(behind + self.pairs * self.sigma / self.rho * pulled)
        self.u = program.lift(start, self.q - behind)
        # (2) and (3), over-relaxed.
        relaxed = RELAXATION * self.u + (1.0 - RELAXATION) * self.v + self.scaled
        self.v_before, self.v = self.v, program.shrink(relaxed, program.objective.beta / self.rho)
        self.scaled = relaxed - self.v
        if not isinstance(loss, SquaredError):
            self.outputs = program.map.forward(self.q)
            moved = RELAXATION * self.outputs + (1.0 - RELAXATION) * self.z + self.multiplier
            self.z_before, self.z = self.z, loss.prox(moved, self.sigma)
            self.multiplier = moved - self.z

    def residuals(self) -> _Residuals:
        """Return the residuals of the last step, and set `theta` to the loss's multipliers at `u`."""
        primal = _share(_norm(self.u - self.v), max(_norm(self.u), _norm(self.v)))
        dual = _share(_norm(self.v - self.v_before), _norm(self.scaled))
        if isinstance(self.loss, SquaredError):
            self.theta = self.loss.gradient(self.program.map.forward(self.q), self.c)
            return _Residuals(primal, dual, 0.0, 0.0)
        self.theta = self.sigma * self.c[:, None] * self.multiplier
        split = _share(_norm(self.outputs - self.z), max(_norm(self.outputs), _norm(self.z)))
        return _Residuals(primal, dual, split, _share(_norm(self.z - self.z_before), _norm(self.multiplier)))

    def balance(self, found: _Residuals, iteration: int) -> None:
        """Change the penalties where one residual is far above the other, if enough iterations have passed."""
        change, bend = _balance(found.primal, found.dual), _balance(found.split, found.slack)
        if iteration < self.change_at or (change == 1.0 and bend == 1.0):
            return
        self.change_at = int(PATIENCE * iteration) + CHECK_EVERY
        self.rho, self.scaled = self.rho * change, self.scaled / change
        self.sigma, self.multiplier = self.sigma * bend, self.multiplier / bend
        if change != bend:
            self.factorise()


def solve_admm(
    program: Program, settings: AdmmSettings, callback: Callback | None = None, start: Array | None = None
) -> AdmmSolution:
    """Solve the program to a relative gap, or for a maximum number of iterations.

    The iteration starts at `start`, which must be in the constraint set, or at 0. It ends where the callback returns
    `True`.
    """
    at = _AdmmState(program, settings, start)
    track = _Track(at.v.copy(), 0.0 * at.theta, primal_value(program, at.v, at.z), 0.0)
    _improve_dual(program, track, at.theta)
    # At β no smaller than the dual norm of the gradient at 0, the optimum is 0.
    if relative_gap(track.primal, track.dual) <= settings.tolerance:
        return track.finish(ConvexOutcome.CONVERGED, 0)
    at.factorise()
    for iteration in range(1, settings.iterations + 1):
        at.step()
        last = iteration == settings.iterations
        if iteration % CHECK_EVERY and not last:
            continue
        if not np.isfinite(at.v).all():
            return track.finish(ConvexOutcome.NOT_FINITE, iteration)
        found = at.residuals()
        value = primal_value(program, at.v)
        if value < track.primal:
            track.primal, track.variables = value, at.v.copy()
        if found.worst * DUAL_WORTH <= track.last_worst or last:
            track.last_worst = found.worst
            _improve_dual(program, track, at.theta)
        track.rows.append((iteration, track.primal, track.dual, found.primal, found.dual, at.rho))
        if relative_gap(track.primal, track.dual) <= settings.tolerance:
            return track.finish(ConvexOutcome.CONVERGED, iteration)
        if callback and callback(ConvexProgress(iteration, track.primal, track.dual, found.primal, found.dual)):
            return track.finish(ConvexOutcome.INTERRUPTED, iteration)
        at.balance(found, iteration)
    return track.finish(ConvexOutcome.ITERATION_LIMIT, settings.iterations)


def _improve_dual(program: Program, track: _Track, theta: Array) -> None:
    """Scale `θ` so that it satisfies the dual's constraints, and keep it where its value is the best so far."""
    objective = program.objective
    norm = program.dual_norm(theta)
    longest = 1.0 if norm <= objective.beta else objective.beta / norm
    value, t = objective.loss.dual_value(theta, objective.shares, longest)
    if value > track.dual:
        track.dual, track.theta = value, t * theta


def _balance(first: float, second: float) -> float:
    """Return the factor by which a penalty changes, so that both residuals decrease together."""
    if first <= 0.0 or second <= 0.0 or 1.0 / UNBALANCED < first / second < UNBALANCED:
        return 1.0
    return float(np.clip(np.sqrt(first / second), 1.0 / LARGEST_CHANGE, LARGEST_CHANGE))


def _norm(a: Array) -> float:
    return float(np.linalg.norm(a))


def _share(part: float, whole: float) -> float:
    return part / whole if whole > 0.0 else (0.0 if part == 0.0 else np.inf)
