"""A trial of a solver on a random grid system: its result, and residuals recomputed on an independent matrix."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.core.solution import Result
from relaxon.solvers.driver.solve import solve
from relaxon.solvers.grid.faces import conductances
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.elimination import DECIDED
from relaxon.solvers.interface.engine import Solver
from relaxon.solvers.stress.cases import Case
from relaxon.solvers.stress.matrix_trial import AT_LIMIT, NO_ANSWER, REFERENCE, TrialOutcome, try_solver


def assembled(grid: PoissonGrid) -> Any:
    """Return the CSR matrix on the unknowns in `pack` order, float64."""
    from scipy.sparse import coo_array, diags_array

    number = np.full(grid.shape, -1, np.int64)
    number[grid.fluid] = np.arange(grid.unknowns)
    ends, weights = [], []
    for axis, weight in enumerate(conductances(grid)):
        below, above = _cells_beside(number, axis, grid.periodic[axis])
        open_face = (weight > 0) & ((below >= 0) | (above >= 0)) & (below != above)
        ends.append(np.stack([below[open_face], above[open_face]]))
        weights.append(weight[open_face])
    sides, w = np.concatenate(ends, axis=1), np.concatenate(weights)
    faces = np.arange(sides.shape[1])
    entries = [(1.0, 0), (-1.0, 1)]
    rows = np.concatenate([faces[sides[side] >= 0] for _, side in entries])
    columns = np.concatenate([sides[side][sides[side] >= 0] for _, side in entries])
    values = np.concatenate([np.full(int((sides[side] >= 0).sum()), sign) for sign, side in entries])
    incidence = coo_array((values, (rows, columns)), shape=(len(faces), grid.unknowns)).tocsr()
    matrix = (incidence.T @ diags_array(w) @ incidence).tocsr()
    return matrix if grid.reaction is None else (matrix + diags_array(_reaction(grid))).tocsr()


def _reaction(grid: PoissonGrid) -> NDArray[np.float64]:
    """Return σ times each unknown's volume that is not cut away, over that of the mean cell, `(unknowns,)`."""
    reaction = np.broadcast_to(np.asarray(grid.reaction, np.float64), grid.shape)
    return weigh_by_volume(grid, reaction)[grid.fluid]


def weigh_by_volume(grid: PoissonGrid, density: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a density of cells times each cell's volume that is not cut away, over that of the mean cell."""
    found = density.copy()
    if grid.volume is not None:
        found *= grid.volume
    for axis, widths in enumerate(grid.spacing):
        along = np.broadcast_to(widths, grid.shape[axis])
        found *= (along / along.mean()).reshape([-1 if other == axis else 1 for other in range(grid.ndim)])
    return found


def _cells_beside(number: NDArray[np.int64], axis: int, periodic: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the unknowns below and above each face of an axis, −1 where there is none."""
    outside = np.full_like(number.take([0], axis), -1)
    first = number.take([-1], axis) if periodic else outside
    return np.concatenate([first, number], axis), np.concatenate([number, outside], axis)


ROUNDINGS = 16.0
"""Half an ulp for each of a row's seven products and sums and the right-hand side, in the matrix and in its product."""


@dataclass(frozen=True, slots=True)
class TrialSettings:
    """The request to a solver, which should need at most `few` iterations, and gets `limit` to converge at all."""

    solver: str | Solver = "dcdm"
    rtol: float = 1e-6
    few: int = 30
    limit: int = 1000

    def __post_init__(self) -> None:
        validation.positive_float("rtol", self.rtol)
        if validation.positive_int("limit", self.limit) < validation.positive_int("few", self.few):
            raise ValueError(f"limit must be at least few = {self.few}, got {self.limit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial(TrialOutcome):
    """The outcome of a case. `relative_residual` is ‖b − A x‖/‖b‖ with `A` from `assembled`, `rounding` its rounding
    error. `scaled_residual` is ‖D^−½ r‖/‖D^−½ b‖ of what elimination of decided cells leaves, 0 where κ is 1."""

    components: int
    """The number of singular components."""
    fallbacks: int = 0
    scaled_residual: float = 0.0

    def converged_within(self, few: int) -> bool:
        """Return whether it converged to a correct solution within `few` iterations."""
        return self.result == Result.CONVERGED.value and not self.wrong and self.iterations <= few


def run_trial(case: Case, settings: TrialSettings) -> Trial:
    """Solve and judge one case; errors of the solver are not raised."""
    outcome, solution = try_solver(case, case.grid, settings.solver, settings.rtol, settings.limit)
    outcome |= {"unknowns": case.grid.unknowns, "components": case.grid.nullspace.dimension}
    if solution is None:
        return Trial(**outcome)
    relative, rounding = judge(case, solution.x)
    scaled, scaled_rounding = judge_scaled(case, solution.x)
    within = relative <= settings.rtol + rounding and scaled <= settings.rtol + scaled_rounding
    return Trial(
        **outcome,
        fallbacks=solution.fallbacks,
        relative_residual=relative,
        rounding=rounding,
        wrong=solution.converged and not within,
        scaled_residual=scaled,
        explanation="" if solution.converged else explain(case, settings.rtol),
    )


def explain(case: Case, rtol: float) -> str:
    """Explain why a solver has not converged: whether float64 holds a solution, by a factorisation with refinement."""
    try:
        answer = solve(case.grid, case.b, solver=REFERENCE, rtol=rtol)
    except RuntimeError as error:
        return f"{NO_ANSWER}: {REFERENCE} says {error}"
    relative, rounding = judge(case, answer.x)
    scaled, _ = judge_scaled(case, answer.x)
    ends = f"{REFERENCE} ends at {max(relative, scaled):.1e}, rounding {rounding:.1e}"
    if not answer.converged:
        return f"{NO_ANSWER if rounding > rtol else 'not explained'}: {ends}"
    return f"{AT_LIMIT if rounding > rtol else 'within float64'}: {ends}"


def judge(case: Case, x: Any) -> tuple[float, float]:
    """Return the relative residual of `x` on the assembled matrix, and a bound on its rounding.

    An `x` that is not finite, or not zero outside the fluid, has an infinite residual.
    """
    if not _is_zero_outside(case, x):
        return math.inf, 0.0
    matrix, b, unknowns = _assemble_system(case, x)
    norm, size = float(np.linalg.norm(b)), float(np.linalg.norm(b - matrix @ unknowns))
    if norm == 0.0:
        return (0.0 if size == 0.0 else math.inf), 0.0
    magnitude = abs(matrix) @ np.abs(unknowns) + np.abs(b)
    return size / norm, ROUNDINGS * float(np.finfo(np.float64).eps) * float(np.linalg.norm(magnitude)) / norm


def judge_scaled(case: Case, x: Any) -> tuple[float, float]:
    """Return the residual of `x` scaled by the diagonal, without decided cells, and a bound on its rounding.

    Both are 0 where κ is 1; the residual is infinite where that of `judge` is.
    """
    if case.grid.constant:
        return 0.0, 0.0
    if not _is_zero_outside(case, x):
        return math.inf, 0.0
    matrix, b, unknowns = _assemble_system(case, x)
    diagonal = matrix.diagonal()
    decided = (diagonal > 0) & (diagonal >= DECIDED * (abs(matrix).sum(axis=1) - diagonal))
    left = (diagonal > 0) & ~decided
    weight = np.divide(1.0, np.sqrt(diagonal), out=np.zeros_like(diagonal), where=left)
    norm = float(np.linalg.norm(weight * (b - matrix @ np.where(decided, unknowns, 0.0))))
    size = float(np.linalg.norm(weight * (b - matrix @ unknowns)))
    rounding = float(np.linalg.norm(weight * (abs(matrix) @ np.abs(unknowns) + np.abs(b))))
    rounding *= ROUNDINGS * float(np.finfo(np.float64).eps)
    if norm == 0.0:
        return (0.0 if size <= rounding else math.inf), 0.0
    return size / norm, rounding / norm


def _is_zero_outside(case: Case, x: Any) -> bool:
    """Return whether `x` is finite, and zero outside the fluid."""
    return bool(np.isfinite(x).all() and not np.any(x[~case.grid.fluid]))


def _assemble_system(case: Case, x: Any) -> tuple[Any, Any, Any]:
    """Return the assembled matrix, `b` and `x` on the unknowns."""
    grid = case.grid
    return assembled(grid), grid.pack(weigh_by_volume(grid, case.b)), grid.pack(x)
