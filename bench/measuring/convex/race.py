"""The race of `bench/convex.py` against CVXPY: one program for both sides, each of its solvers bounded in CPU time."""

from __future__ import annotations

import math
import multiprocessing
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measuring.boosting import data
from relaxon.neuromorphic.convex.network import augment
from relaxon.neuromorphic.convex.program.cones import PatternCones, draw_patterns
from relaxon.neuromorphic.convex.program.formulation import ConvexObjective, PatternProgram, primal_value
from relaxon.neuromorphic.convex.program.losses import SquaredError
from relaxon.neuromorphic.convex.solving.admm import AdmmSettings, AdmmSolution, solve_admm
from relaxon.neuromorphic.tabular.preparation import find_standardisation

Array = NDArray[np.float64]
Record = dict[str, Any]
SOLVERS: dict[str, tuple[dict[str, Any], ...]] = {
    "ECOS": ({"reltol": 1e-3, "abstol": 1e-5, "feastol": 1e-5}, {}),
    "CLARABEL": ({"tol_gap_rel": 1e-3, "tol_gap_abs": 1e-5, "tol_feas": 1e-5}, {}),
    "SCS": ({"eps_abs": 1e-3, "eps_rel": 1e-3}, {}),
}
"""CVXPY's open solvers for programs with norms, each at loose tolerances and at its own."""
WITHIN = 1e-3
"""Of the optimum: what both sides are timed to."""
CERTAIN = 1e-6
"""The relative gap of what counts as the optimum."""
LIMIT, QUICK_LIMIT = 120.0, 8.0
"""CPU seconds that a solver may take, its program's translation by CVXPY included."""


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
            ConvexObjective(SquaredError(self.y[:, None]), shares, self.beta, 1), self.x, self.patterns, cones
        )


def problem(name: str, patterns: int, beta: float) -> RaceProblem:
    """Return the program of a set of regression, all its rows."""
    fold = next(data.data_set(name, {}).folds())
    X, y = np.vstack([fold.X, fold.test_X]), np.concatenate([fold.y, fold.test_y]).astype(np.float64)
    x = augment(X, *find_standardisation(X, np.ones(len(X))))
    target = (y - y.mean()) / y.std()
    return RaceProblem(
        f"{name}, {patterns} patterns, β = {beta:g}",
        x,
        target,
        draw_patterns(x, patterns, np.random.default_rng(0)),
        beta,
    )


def race_problems() -> Iterator[RaceProblem]:
    yield problem("diabetes", 50, 0.01)
    yield problem("friedman1", 50, 0.01)
    yield problem("diabetes", 100, 0.001)


def race(made: RaceProblem, limit: float) -> Record:
    """Return the CPU seconds of both sides to within `WITHIN` of the optimum, and what each found.

    A solver of CVXPY that has not ended after `limit` CPU seconds is cut.
    """
    solve_admm(made.program(), AdmmSettings(WITHIN, 10))  # compiled, or loaded from disk
    runs = [timed(lambda: solve_admm(made.program(), AdmmSettings(WITHIN, 20_000))) for _ in range(3)]
    seconds, ours = sorted(runs, key=lambda run: run[0])[1]
    best_seconds, best = timed(lambda: solve_admm(made.program(), AdmmSettings(CERTAIN, 100_000)))
    row: Record = {
        "name": made.name,
        "rows": len(made.y),
        "columns": made.x.shape[1],
        "limit": limit,
        "optimum": [best.dual, best.primal],
        "ours": {"seconds": seconds, "objective": ours.primal, "iterations": ours.iterations},
        "ours, to the certain gap": {"seconds": best_seconds, "iterations": best.iterations},
        "cvxpy": [],
    }
    if find_spec("cvxpy") is None:
        row["missing"] = "cvxpy"
        return row
    import cvxpy

    for solver, settings in SOLVERS.items():
        for options in settings:
            found: Record = {"solver": solver, "options": options}
            if solver not in cvxpy.installed_solvers():
                row["cvxpy"].append(found | {"missing": True})
                continue
            ended = bounded(lambda solver=solver, options=options: _cvxpy(made, solver, options, best), limit)
            row["cvxpy"].append(found | (ended or {"cut": f"> {limit:g} s"}))
    return row


def _cvxpy(made: RaceProblem, solver: str, options: Record, best: AdmmSolution) -> Record:
    """Return how a solver of CVXPY did on the program, written with as few of its expressions as there can be."""
    import cvxpy

    (n, d), count = made.x.shape, made.patterns.shape[1]
    active = made.patterns.astype(np.float64)
    pair = cvxpy.Variable((d, count)), cvxpy.Variable((d, count))
    z = cvxpy.sum(cvxpy.multiply(active, made.x @ (pair[0] - pair[1])), axis=1)
    limits = [cvxpy.multiply(2.0 * active - 1.0, made.x @ groups) >= 0 for groups in pair]
    penalty = sum(cvxpy.sum(cvxpy.norm(groups, axis=0)) for groups in pair)
    task = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(z - made.y) / (2 * n) + made.beta * penalty), limits)
    try:
        seconds, _ = timed(lambda: task.solve(solver=solver, **options))
    except (cvxpy.error.SolverError, ValueError) as error:
        return {"failed": str(error)[:200]}
    if pair[0].value is None:
        return {"failed": task.status}
    groups = np.ascontiguousarray(np.stack([half.value.T for half in pair])[None])
    program = made.program()
    value = primal_value(program, program.shrink(groups, 0.0))
    return {
        "status": task.status,
        "seconds": seconds,
        "claimed": float(task.value),
        "objective": value,
        "within": value <= (1.0 + WITHIN) * best.primal,
    }


def bounded(call: Callable[[], Record], limit: float) -> Record | None:
    """Return what a call in a process of its own returns, or None where `limit` CPU seconds have ended it.

    The system ends the process: no solver is asked to look at a clock. The limit counts in whole seconds, up.
    """
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_send, args=(call, there, math.ceil(limit)))
    process.start()
    there.close()
    try:
        found: Record = here.recv()
    except EOFError:
        process.join()
        if process.exitcode != -signal.SIGXCPU:
            raise RuntimeError(f"a solver's process ended with exit code {process.exitcode}") from None
        return None
    process.join()
    return found


def _send(call: Callable[[], Record], there: Any, limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    there.send(call())


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds of a call, and what it returns."""
    since = time.process_time()
    found = call()
    return time.process_time() - since, found
