"""The report of `relaxon train convex`: scores, the certificate, a JSON report, and two figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from relaxon.neuromorphic.convex.solving.admm import ConvexHistory
from relaxon.neuromorphic.table_training import TableFit, draw_axes


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
    lines: tuple[str, ...] = (
        fit.headline,
        f"{fit.measure}: {scores.train:.4g} in training, {scores.test:.4g} held out; a constant: {scores.constant:.4g}",
        f"{estimator.n_units_} units of {certificate.sampled} {certificate.program}, {estimator.n_iter_} iterations, "
        f"{fit.seconds:.2f} s, {estimator.outcome_.value}",
        f"The optimum of the program with these {certificate.program} is between {certificate.dual:.6g} and "
        f"{certificate.primal:.6g}: relative gap {certificate.relative_gap:.1e}",
    )
    if certificate.drawn:
        lines += (
            f"Of {certificate.drawn} newly drawn ones {certificate.drawn_violating:.0%} violate the dual, by up to "
            f"{certificate.drawn_violation:.2f} β: with them the optimum is at least {certificate.drawn_dual:.6g}",
        )
    for line in lines:
        console.print(line, markup=False, highlight=False)


def describe_scores(fit: TableFit, scores: ConvexScores) -> dict[str, Any]:
    """Return all results as JSON values."""
    history = asdict(fit.estimator.history_)
    del history["rho"]
    return {
        "iterations": fit.estimator.n_iter_,
        "certificate": asdict(fit.estimator.certificate_),
        "train_error": scores.train,
        "test_error": scores.test,
        "constant_error": scores.constant,
        "history": {name: values.tolist() for name, values in history.items()},
        "features": fit.features,
    }


def write_pictures(folder: Path, fit: TableFit, _: ConvexScores) -> None:
    """Write `gap.png`, the bounds' gap and the residuals, and `bounds.png`, the bounds themselves."""
    history = fit.estimator.history_
    with draw_axes(folder / "gap.png") as axes:
        draw_gap(axes, history)
        axes.set_title(f"{fit.data}: gap and residuals")
    with draw_axes(folder / "bounds.png") as axes:
        axes.plot(history.iteration, history.primal, label="primal: the network's objective")
        axes.plot(history.iteration, history.dual, label="dual: no network with these patterns is below")
        axes.set(xlabel="iteration", ylabel="mean loss + β · penalty", title=f"{fit.data}: bounds of the optimum")
        axes.set_ylim(bottom=0.0)
        axes.legend()


def draw_gap(axes: Any, history: ConvexHistory) -> None:
    """Draw the relative gap and both residuals over the iterations, on a logarithmic axis; zeros are left out."""
    curves = {"relative gap": history.relative_gap, "primal residual": history.primal_residual}
    for name, values in (curves | {"dual residual": history.dual_residual}).items():
        shown = np.where(values > 0.0, values, np.nan)
        axes.semilogy(history.iteration, shown, label=name, lw=1.5 if name == "relative gap" else 0.8)
    axes.set(xlabel="iteration", ylabel="relative")
    axes.legend()
