"""The gap table and the rate of `bench/convex.py`."""

from __future__ import annotations

from typing import Any

import numpy as np

from measuring.boosting import data
from measuring.convex.race import problem, timed
from relaxon.neuromorphic.convex import ConvexNetworkClassifier, ConvexNetworkRegressor
from relaxon.neuromorphic.convex.reference import run_published_admm
from relaxon.neuromorphic.convex.solving.admm import AdmmSettings, solve_admm

Record = dict[str, Any]
GAP_SETS = ("friedman1", "diabetes", "pima", "breast_cancer", "phoneme")
RATE_SETS = ("diabetes",)


def gap(name: str) -> Record:
    """Return the certificate of a network with 150 patterns on all rows of a set, and the seconds it took."""
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
    published = run_published_admm(made.x, made.patterns.astype(float), made.y, made.beta, 0.01, 600)
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
