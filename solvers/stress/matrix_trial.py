"""A trial of a solver on a random sparse system: its result, an independent residual, and why it failed."""

# Imported on first use, for its weight: `solvers.sparse`.

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from relaxon.core import validation
from relaxon.core.solution import Result, Solution
from relaxon.solvers.driver.solve import solve
from relaxon.solvers.stress.matrix_cases import MatrixCase
from relaxon.solvers.stress.matrix_residual import matrix_residual

NO_ANSWER, AT_LIMIT = "float64 holds no answer", "at the limit of float64"
"""Beginnings of explanations by which the system is at fault, not the solver."""
REFERENCE, LARGE_REFERENCE, MANY = "scipy-direct", "direct", 10_000
"""The solvers that tell whether float64 holds a solution at all, where another one has not found it: the second from
that many unknowns on, as SuperLU's factor of a large random graph takes minutes and gigabytes."""
OURS = ("amg", "ic-cg", "jacobi-cg", "cg", "scipy-direct", "direct", "dcdm")
"""The project's own solvers, with which the automatic choice is compared, as far as they are registered."""
FACTOR, SLACK = 1.5, 0.05
"""The automatic choice may take this many times the seconds of the best of them, and this many seconds more."""


@dataclass(frozen=True, slots=True)
class MatrixTrialSettings:
    """The request to a solver; `limit` bounds its iterations, None for its default."""

    rtol: float = 1e-6
    limit: int | None = None

    def __post_init__(self) -> None:
        validation.positive_float("rtol", self.rtol)
        if self.limit is not None:
            validation.positive_int("limit", self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """What became of a case with a solver."""

    seed: int
    number: int
    summary: str
    unknowns: int
    result: str
    iterations: int = 0
    relative_residual: float = 1.0
    scaled_residual: float = 1.0
    rounding: float = 0.0
    seconds: float = 0.0
    wrong: bool = False
    """Whether it reported CONVERGED although one of the recomputed residuals does not meet the tolerance."""
    raised: str = ""
    """The error that the solver raised, if any, although all these systems are valid."""
    explanation: str = ""
    """Where it did not converge, the findings of a direct solver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixTrial(TrialOutcome):
    """The outcome of a case and a solver; residuals are those of `matrix_residual` on `MatrixCase.judged`."""

    solver: str
    singular_parts: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Regret:
    """The seconds of the automatic choice and of the best of the project's own solvers, which both converged."""

    number: int
    summary: str
    automatic: float
    best: float
    solver: str

    @property
    def ratio(self) -> float:
        """The ratio of the automatic choice's seconds to the best solver's."""
        return self.automatic / self.best if self.best > 0 else 1.0

    @property
    def excessive(self) -> bool:
        """Whether it took more than `FACTOR` times as long and `SLACK` seconds more."""
        return self.automatic > FACTOR * self.best + SLACK


def run_matrix_trial(case: MatrixCase, solver: str, settings: MatrixTrialSettings) -> MatrixTrial:
    """Run a solver on a case and return the outcome; errors of the solver are not raised."""
    outcome, solution = try_solver(case, case.matrix, solver, settings.rtol, settings.limit)
    outcome |= {"solver": solver, "unknowns": case.judged.shape[0], "singular_parts": case.singular_parts}
    if solution is None:
        return MatrixTrial(**outcome)
    found = matrix_residual(case.judged, case.b, solution.x)
    return MatrixTrial(
        **outcome,
        relative_residual=found.relative,
        scaled_residual=0.0 if found.scaled is None else found.scaled,
        rounding=found.rounding,
        wrong=solution.converged and not found.meets(settings.rtol),
        message=solution.message,
        explanation="" if solution.converged else explain_failure(case, solution, settings),
    )


def try_solver(
    case: Any, operator: Any, solver: Any, rtol: float, limit: int | None
) -> tuple[dict[str, Any], Solution | None]:
    """Solve a case; return what of its outcome is known without a check, and the solution, None for a crash."""
    start = time.perf_counter()
    known = {"seed": case.seed, "number": case.number, "summary": case.summary}
    try:
        solution = solve(operator, case.b, solver=solver, rtol=rtol, max_iterations=limit)
    except Exception as error:  # a crash is a finding, and must not hide later cases
        known |= {"result": "raised", "raised": f"{type(error).__name__}: {error}"}
        return known | {"seconds": time.perf_counter() - start}, None
    known |= {"result": solution.result.value, "iterations": solution.iterations}
    return known | {"seconds": time.perf_counter() - start}, solution


def explain_failure(case: MatrixCase, solution: Solution, settings: MatrixTrialSettings) -> str:
    """Explain why a solver has not converged: whether float64 holds a solution, by what a direct solver finds."""
    reference = REFERENCE if case.b.size < MANY else LARGE_REFERENCE
    try:
        answer = solve(case.matrix, case.b, solver=reference, rtol=settings.rtol)
    except (ValueError, RuntimeError) as error:
        return f"{reference} refuses it: {error}"
    found = matrix_residual(case.judged, case.b, answer.x)
    scaled = 0.0 if found.scaled is None else found.scaled
    if answer.converged and found.rounding > settings.rtol:
        return f"{AT_LIMIT}: {reference} finds an answer to {found.relative:.1e}, rounding {found.rounding:.1e}"
    if answer.converged and solution.result is Result.MAX_ITERATIONS:
        return f"slow: {solution.iterations} iterations, at {solution.relative_residual:.1e}"
    if answer.converged:
        return f"{reference} finds an answer to {max(found.relative, scaled):.1e}"
    if found.meets(settings.rtol):
        return f"{AT_LIMIT}: {reference} ends at {found.relative:.1e}, rounding {found.rounding:.1e}"
    return f"{NO_ANSWER}: {reference} with refinement ends at {found.relative:.1e}, scaled {scaled:.1e}"


def measure_regret(case: MatrixCase, settings: MatrixTrialSettings, repeats: int = 2) -> Regret | None:
    """Measure the seconds of the automatic choice and of the best of the project's own solvers, least of the repeats.

    None where the automatic choice, or every other one, does not converge. Repeats are interleaved.
    """
    from relaxon.solvers.sparse import MATRIX_SOLVERS

    others = [name for name in OURS if name in MATRIX_SOLVERS]
    seconds: dict[str, float] = {}
    left = ["auto", *others]
    for _ in range(repeats):
        for name in tuple(left):
            bound = FACTOR * seconds.get("auto", np.inf) + SLACK
            took = _measure_seconds(case, name, settings, bound)
            if took is None:
                left.remove(name)
                seconds.pop(name, None)
            else:
                seconds[name] = min(took, seconds.get(name, np.inf))
    automatic = seconds.pop("auto", None)
    if automatic is None or not seconds:
        return None
    best = min(seconds, key=lambda name: seconds[name])
    return Regret(case.number, case.summary, automatic, seconds[best], best)


def _measure_seconds(case: MatrixCase, solver: str, settings: MatrixTrialSettings, bound: float) -> float | None:
    """Return the seconds of a solve; None where it does not converge, or takes longer than `bound`."""
    start = time.perf_counter()
    try:
        solution = solve(
            case.matrix,
            case.b,
            solver=solver,
            rtol=settings.rtol,
            max_iterations=settings.limit,
            callback=lambda _: time.perf_counter() - start > bound,
        )
    except (ValueError, RuntimeError, MemoryError):
        return None
    return time.perf_counter() - start if solution.converged else None
