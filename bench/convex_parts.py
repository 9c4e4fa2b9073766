"""The race against CVXPY, the gap table and the rate of `bench/convex.py`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import boosting_data as data
import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.preparation import standardisation
from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor
from relaxon.neuromorphic.convex.admm import AdmmSettings, Solved, solve_admm
from relaxon.neuromorphic.convex.cones import PatternCones
from relaxon.neuromorphic.convex.losses import SquaredError
from relaxon.neuromorphic.convex.network import augment
from relaxon.neuromorphic.convex.patterns import draw_patterns
from relaxon.neuromorphic.convex.program import Objective, PatternProgram, primal_value
from relaxon.neuromorphic.convex.reference import published_admm

Array = NDArray[np.float64]
Record = dict[str, Any]
SOLVERS: dict[str, tuple[dict[str, Any], ...]] = {
    "CLARABEL": ({"tol_gap_rel": 1e-3, "tol_gap_abs": 1e-5, "tol_feas": 1e-5}, {}),
    "ECOS": ({"reltol": 1e-3, "abstol": 1e-5, "feastol": 1e-5}, {}),
    "SCS": ({"eps_abs": 1e-3, "eps_rel": 1e-3}, {}),
}
"""CVXPY's open solvers for programs with norms, each at loose tolerances and at its own."""
WITHIN = 1e-3
"""Of the optimum: what both sides are timed to."""
CERTAIN = 1e-6
"""The relative gap of what counts as the optimum."""
LONGEST = 300.0
"""Seconds a solver may take."""
GAP_SETS = ("friedman1", "diabetes", "pima", "breast_cancer", "phoneme")
RATE_SETS = ("diabetes",)


@dataclass(frozen=True, slots=True)
class RaceProblem:
    """A regression of rows `(n, d)`, their last column 1, on targets of variance 1, with sampled patterns."""

    name: str
    x: Array
    y: Array
    patterns: NDArray[np.bool_]
    beta: float

    def program(self) -> PatternProgram:
        shares = np.full(len(self.y), 1.0 / len(self.y))
        cones = PatternCones.of(self.x, self.patterns, np.zeros(self.x.shape[1]))
        return PatternProgram(
            Objective(SquaredError(self.y[:, None]), shares, self.beta, 1), self.x, self.patterns, cones
        )


def problem(name: str, patterns: int, beta: float) -> RaceProblem:
    """Return the program of a set of regression, all its rows."""
    fold = next(data.data_set(name, {}).folds())
    X, y = np.vstack([fold.X, fold.test_X]), np.concatenate([fold.y, fold.test_y]).astype(np.float64)
    x = augment(X, *standardisation(X, np.ones(len(X))))
    target = (y - y.mean()) / y.std()
    return RaceProblem(
        f"{name}, {patterns} patterns, β = {beta:g}",
        x,
        target,
        draw_patterns(x, patterns, np.random.default_rng(0)),
        beta,
    )


def race_problems(quick: bool) -> Iterator[RaceProblem]:
    yield problem("diabetes", 50, 0.01)
    if not quick:
        yield problem("friedman1", 50, 0.01)
        yield problem("diabetes", 100, 0.001)


def race(made: RaceProblem) -> Record:
    """Return the CPU seconds of both sides to within `WITHIN` of the optimum, and what each found."""
    solve_admm(made.program(), AdmmSettings(WITHIN, 10))  # compiled, or loaded from disk
    runs = [timed(lambda: solve_admm(made.program(), AdmmSettings(WITHIN, 20_000))) for _ in range(3)]
    seconds, ours = sorted(runs, key=lambda run: run[0])[1]
    best_seconds, best = timed(lambda: solve_admm(made.program(), AdmmSettings(CERTAIN, 100_000)))
    row: Record = {
        "name": made.name,
        "rows": len(made.y),
        "columns": made.x.shape[1],
        "optimum": [best.dual, best.primal],
        "ours": {"seconds": seconds, "objective": ours.primal, "iterations": ours.iterations},
        "ours, to the certain gap": {"seconds": best_seconds, "iterations": best.iterations},
        "cvxpy": [],
    }
    if find_spec("cvxpy") is None:
        row["missing"] = "cvxpy"
        return row
    for solver, settings in SOLVERS.items():
        for options in settings:
            row["cvxpy"].append(_cvxpy(made, solver, options, best))
    return row


def _cvxpy(made: RaceProblem, solver: str, options: Record, best: Solved) -> Record:
    import cvxpy

    found: Record = {"solver": solver, "options": options}
    if solver not in cvxpy.installed_solvers():
        return found | {"missing": True}
    (n, d), count = made.x.shape, made.patterns.shape[1]
    pairs = [(cvxpy.Variable(d), cvxpy.Variable(d)) for _ in range(count)]
    active = made.patterns.astype(np.float64)
    z = sum((active[:, [i]] * made.x) @ (v - w) for i, (v, w) in enumerate(pairs))
    limits = [((2 * active[:, [i]] - 1) * made.x) @ u >= 0 for i, pair in enumerate(pairs) for u in pair]
    penalty = sum(cvxpy.norm(u) for pair in pairs for u in pair)
    task = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(z - made.y) / (2 * n) + made.beta * penalty), limits)
    try:
        seconds, _ = timed(lambda: task.solve(solver=solver, **options))
    except (cvxpy.error.SolverError, ValueError) as error:
        return found | {"failed": str(error)[:200]}
    groups = np.array([[v.value for v, _ in pairs], [w.value for _, w in pairs]])[None]
    program = made.program()
    feasible = program.shrink(groups, 0.0)
    value = primal_value(program, feasible)
    return found | {
        "status": task.status,
        "seconds": seconds,
        "own_seconds": task.solver_stats.solve_time,
        "claimed": float(task.value),
        "objective": value,
        "within": value <= (1.0 + WITHIN) * best.primal,
    }


def gap(name: str) -> Record:
    """Return the certificate of a network with 100 patterns on all rows of a set, and the seconds it took."""
    chosen = data.data_set(name, {})
    fold = next(chosen.folds())
    X, y = np.vstack([fold.X, fold.test_X]), np.concatenate([fold.y, fold.test_y])
    kind = ConvexNetworkRegressor if chosen.task == "regression" else ConvexNetworkClassifier
    rows: Record = {"name": name, "rows": len(X), "columns": X.shape[1], "task": chosen.task}
    for rounds in (0, 3):
        model = kind(150, refinements=rounds, random_state=0, max_iter=20_000)
        seconds, _ = timed(lambda model=model: model.fit(X, y))
        certificate = model.certificate_
        rows[f"refinements {rounds}"] = {
            "seconds": seconds,
            "patterns": certificate.sampled,
            "primal": certificate.primal,
            "dual": certificate.dual,
            "relative_gap": certificate.relative_gap,
            "violation": certificate.drawn_violation,
            "violating": certificate.drawn_violating,
            "iterations": model.n_iter_,
            "units": model.n_units_,
        }
    return rows


def rate(name: str) -> Record:
    """Return the ADMM's gap at each check, and the published one's objective and infeasibility, on one program."""
    made = problem(name, 50, 0.01)
    solved = solve_admm(made.program(), AdmmSettings(1e-12, 600))
    history = solved.history
    published = published_admm(made.x, made.patterns.astype(float), made.y, made.beta, 0.01, 600)
    worst = np.maximum(history.primal_residual, history.dual_residual)
    half = len(worst) // 3
    slope = float(np.polyfit(history.iteration[half:], np.log(worst[half:]), 1)[0])
    return {
        "name": made.name,
        "factor": float(np.exp(slope)),
        "iteration": history.iteration.tolist(),
        "gap": history.relative_gap.tolist(),
        "primal_residual": history.primal_residual.tolist(),
        "dual_residual": history.dual_residual.tolist(),
        "published_error": np.abs(published.objective / solved.primal - 1.0).tolist(),
        "published_infeasibility": published.infeasibility.tolist(),
    }


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a call, and what it returns."""
    since = time.process_time()
    found = call()
    return time.process_time() - since, found
