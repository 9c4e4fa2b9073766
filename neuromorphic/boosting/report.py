"""The report of `relaxon train boosting`: scores, a JSON file and three pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from relaxon.neuromorphic.table_training import TableFit, draw_axes

SHOWN = 10
"""Number of columns whose importance is printed; the JSON report lists all."""
PICTURED = 20
"""Number of columns in the picture of the importances."""
CURVE_POINTS = 200
"""Maximum number of points of the truncation curve, so that drawing it takes less time than training."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Errors as a function of the number of units kept, `(points,)` each."""

    measure: str
    units: NDArray[np.int64]
    train: NDArray[np.float64]
    test: NDArray[np.float64]

    def least_units(self, within: float = 0.02) -> int:
        """Return the fewest units whose test error exceeds that of the whole network by at most the share `within`."""
        return int(self.units[np.argmax(self.test <= self.test[-1] * (1.0 + within))])


def measure_errors(fit: TableFit, X: Any, y: Any, test_X: Any, test_y: Any) -> Scores:
    """Return the training and test errors at each number of units; the last are those of the whole network."""
    ends = fit.estimator.network_.ends[1:]
    kept = set(np.unique(np.linspace(0, max(len(ends) - 1, 0), CURVE_POINTS).astype(int)).tolist())
    units, curves = [0], []
    for inputs, target in ((X, y), (test_X, test_y)):
        curve = [fit.error(fit.estimator.truncate(0).predict(inputs), target)]
        for stage, predicted in enumerate(fit.estimator.staged_predict(inputs)):
            if stage in kept:
                curve.append(fit.error(predicted, target))
        curves.append(np.array(curve))
    units += [int(ends[stage]) for stage in sorted(kept) if stage < len(ends)]
    return Scores(fit.measure, np.array(units), curves[0], curves[1])


def print_report(console: Console, fit: TableFit, scores: Scores) -> None:
    """Print the outcome in a few lines."""
    estimator = fit.estimator
    console.print(fit.headline, style="bold", markup=False, highlight=False)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    for heading in ("training", "held out"):
        table.add_column(heading, justify="right")
    table.add_row(scores.measure, f"{scores.train[-1]:.4g}", f"{scores.test[-1]:.4g}")
    table.add_row("  of a constant", f"{scores.train[0]:.4g}", f"{scores.test[0]:.4g}")
    console.print(table)
    console.print(
        f"{estimator.n_units_} units in {estimator.n_stages_} stages, {fit.seconds:.2f} s, {estimator.outcome_.value}: "
        f"the first {scores.least_units()} are within 2 % of the whole network's held-out {scores.measure}",
        markup=False,
        highlight=False,
    )
    order = np.argsort(-estimator.feature_importances_, kind="stable")[:SHOWN]
    shares = ", ".join(f"{fit.features[i]} {estimator.feature_importances_[i]:.0%}" for i in order)
    console.print(f"Most important columns: {shares}", markup=False, highlight=False)


def describe_scores(fit: TableFit, scores: Scores) -> dict[str, Any]:
    """Return all figures as JSON values."""
    estimator = fit.estimator
    curves = {"units": scores.units.tolist(), "train": scores.train.tolist(), "test": scores.test.tolist()}
    return {
        "stages": estimator.n_stages_,
        "train_error": float(scores.train[-1]),
        "test_error": float(scores.test[-1]),
        "units_within_2_percent": scores.least_units(),
        "truncation": curves,
        "train_loss": estimator.train_loss_.tolist(),
        "validation_loss": estimator.validation_loss_.tolist(),
        "importances": dict(zip(fit.features, estimator.feature_importances_.tolist(), strict=True)),
    }


def write_pictures(folder: Path, fit: TableFit, scores: Scores) -> None:
    """Write `loss.png`, `truncation.png` and `importances.png`."""
    estimator, data = fit.estimator, fit.data
    with draw_axes(folder / "loss.png") as axes:
        axes.plot(estimator.network_.ends, estimator.train_loss_, label="training")
        if len(estimator.validation_loss_):
            axes.plot(estimator.network_.ends, estimator.validation_loss_, label="validation")
        axes.set(xlabel="units", ylabel="loss", title=f"{data}: loss by units")
        if (estimator.train_loss_ > 0.0).all():
            axes.set_yscale("log")
        axes.legend()
    with draw_axes(folder / "truncation.png") as axes:
        axes.plot(scores.units, scores.train, label="training rows")
        axes.plot(scores.units, scores.test, label="held-out rows")
        axes.axvline(scores.least_units(), color="0.6", linestyle=":", label="within 2 % of the whole network")
        axes.set(xlabel="units kept", ylabel=scores.measure, title=f"{data}: truncation of the network", ylim=(0, None))
        axes.legend()
    order = np.argsort(-estimator.feature_importances_, kind="stable")[:PICTURED][::-1]
    with draw_axes(folder / "importances.png", 0.8 + 0.25 * len(order)) as axes:
        axes.barh([fit.features[i] for i in order], estimator.feature_importances_[order])
        axes.set(xlabel="share of the mean absolute gradient", title=f"{data}: feature importances")
