"""The report of `relaxon train convex`: scores, the certificate, a JSON report, and two figures."""

# Imported on first use, for its weight: matplotlib.

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from relaxon._version import __version__
from relaxon.neuromorphic.convex.solving.admm import ConvexHistory
from relaxon.neuromorphic.table_training import TableFit


@dataclass(frozen=True, slots=True)
class ConvexScores:
    """Errors on the training rows and on the held-out rows, and that of a constant on the latter."""

    train: float
    test: float
    constant: float


def measure_errors(fit: TableFit, X: Any, y: Any, test_X: Any, test_y: Any) -> ConvexScores:
    """Return the errors on both sets of rows, and that of a constant on the second."""
    predicted = fit.estimator.predict(X), fit.estimator.predict(test_X)
    if fit.task == "classification":
        labels, counts = np.unique(y, return_counts=True)
        constant: Any = labels[np.argmax(counts)]
    else:
        constant = np.mean(y)
    guess = np.full(len(test_y), constant)
    return ConvexScores(fit.error(predicted[0], y), fit.error(predicted[1], test_y), fit.error(guess, test_y))


def print_report(console: Console, fit: TableFit, scores: ConvexScores) -> None:
    """Print the outcome in a few lines."""
    estimator, certificate = fit.estimator, fit.estimator.certificate_
    lines = (
        f"{fit.data}: {fit.task}, {fit.train_rows:,} rows to train on, {fit.test_rows:,} held out, "
        f"{len(fit.features)} columns",
        f"{fit.measure}: {scores.train:.4g} in training, {scores.test:.4g} held out; a constant: {scores.constant:.4g}",
        f"{estimator.n_units_} units of {certificate.sampled} {certificate.program}, {estimator.n_iter_} iterations, "
        f"{fit.seconds:.2f} s, {estimator.outcome_.value}",
        f"The optimum of the program with these {certificate.program} is between {certificate.dual:.6g} and "
        f"{certificate.primal:.6g}: relative gap {certificate.relative_gap:.1e}",
    )
    for line in lines:
        console.print(line, markup=False, highlight=False)
    if certificate.drawn:
        console.print(
            f"Of {certificate.drawn} newly drawn ones {certificate.drawn_violating:.0%} violate the dual, by up to "
            f"{certificate.drawn_violation:.2f} β: with them the optimum is at least {certificate.drawn_dual:.6g}",
            markup=False,
            highlight=False,
        )


def write_report(path: Path, fit: TableFit, scores: ConvexScores, encoding: dict[str, Any] | None) -> None:
    """Write all results as JSON, and the encoding of the table's cells as features."""
    estimator, history = fit.estimator, fit.estimator.history_
    content = {
        "relaxon": __version__,
        "data": fit.data,
        "task": fit.task,
        "rows": {"train": fit.train_rows, "test": fit.test_rows},
        "parameters": estimator.get_params(),
        "units": estimator.n_units_,
        "iterations": estimator.n_iter_,
        "outcome": estimator.outcome_.value,
        "seconds": fit.seconds,
        "certificate": asdict(estimator.certificate_),
        "measure": fit.measure,
        "train_error": scores.train,
        "test_error": scores.test,
        "constant_error": scores.constant,
        "history": {
            "iteration": history.iteration.tolist(),
            "primal": history.primal.tolist(),
            "dual": history.dual.tolist(),
            "primal_residual": history.primal_residual.tolist(),
            "dual_residual": history.dual_residual.tolist(),
        },
        "features": fit.features,
        "encoding": encoding,
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_pictures(folder: Path, fit: TableFit, _: ConvexScores) -> None:
    """Write `gap.png`, the bounds' gap and the residuals, and `bounds.png`, the bounds themselves."""
    from matplotlib.figure import Figure

    history = fit.estimator.history_
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    draw_gap(axes, history)
    axes.set_title(f"{fit.data}: gap and residuals")
    figure.savefig(folder / "gap.png", dpi=120)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(history.iteration, history.primal, label="primal: the network's objective")
    axes.plot(history.iteration, history.dual, label="dual: no network with these patterns is below")
    axes.set(xlabel="iteration", ylabel="mean loss + β · penalty", title=f"{fit.data}: bounds of the optimum")
    axes.set_ylim(bottom=0.0)
    axes.legend()
    figure.savefig(folder / "bounds.png", dpi=120)


def draw_gap(axes: Any, history: ConvexHistory) -> None:
    """Draw the relative gap and both residuals over the iterations, on a logarithmic axis; zeros are left out."""
    curves = {"relative gap": history.relative_gap, "primal residual": history.primal_residual}
    for name, values in (curves | {"dual residual": history.dual_residual}).items():
        shown = np.where(values > 0.0, values, np.nan)
        axes.semilogy(history.iteration, shown, label=name, lw=1.5 if name == "relative gap" else 0.8)
    axes.set(xlabel="iteration", ylabel="relative")
    axes.legend()
