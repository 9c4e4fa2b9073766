"""Comparison of estimators on one batch: angle to the exact gradient, relative error, and cost."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from relaxon.core.pictures import new_figure
from relaxon.neuromorphic.equilibrium.estimators.exact import Implicit
from relaxon.neuromorphic.equilibrium.estimators.gradients import gradient
from relaxon.neuromorphic.equilibrium.estimators.nudged import Estimator
from relaxon.neuromorphic.equilibrium.estimators.result import Gradient, Verdict
from relaxon.neuromorphic.equilibrium.networks.network import Network
from relaxon.neuromorphic.equilibrium.networks.readout_network import angle_of
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """An estimator compared with the reference; NaN where a gradient is not finite."""

    estimator: str
    cosine: float
    angle: float
    """Degrees."""
    relative_error: float
    """‖g − g_exact‖ / ‖g_exact‖ over all parameters."""
    truncation: float | None
    verdict: Verdict
    message: str
    evaluations: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result of `compare_gradients`; `reference` is the row of the exact gradient itself."""

    reference: ComparisonRow
    rows: tuple[ComparisonRow, ...]

    def table(self) -> str:
        """Return a plain-text table with a line for each estimator."""
        width = max(len(row.estimator) for row in (self.reference, *self.rows))
        lines = [f"{'estimator':<{width}}  {'cosine':>9}  {'error':>8}  {'evaluations':>11}  {'ms':>7}  verdict"]
        for row in (self.reference, *self.rows):
            lines.append(
                f"{row.estimator:<{width}}  {row.cosine:9.6f}  {row.relative_error:8.1e}  {row.evaluations:11d}  "
                f"{1e3 * row.seconds:7.1f}  {row.verdict.value}"
            )
        return "\n".join(lines)

    def plot(self, path: Path | str) -> None:
        """Write a figure of each estimator's relative error and cost (requires matplotlib)."""
        figure = new_figure(8.0, 0.45 * len(self.rows) + 1.6)
        error, cost = figure.subplots(1, 2, sharey=True)
        labels = [row.estimator for row in self.rows]
        places = range(len(labels))
        colours = ["tab:blue" if row.verdict in (Verdict.OK, Verdict.NOISY) else "tab:red" for row in self.rows]
        finite = [row.relative_error if math.isfinite(row.relative_error) else math.nan for row in self.rows]
        error.barh(places, [max(value, 1e-17) for value in finite], color=colours, left=1e-17)
        error.set(xscale="log", xlabel="relative error to the exact gradient", xlim=(1e-16, 10))
        cost.barh(places, [row.evaluations for row in self.rows], color=colours)
        cost.set(xlabel="evaluations of the field (samples)")
        error.set_yticks(list(places), labels)
        error.invert_yaxis()
        if "tab:red" in colours:
            figure.suptitle("red: the verdict is not OK", fontsize=9)
        for panel in (error, cost):
            panel.grid(axis="x", alpha=0.3)
        figure.savefig(path, dpi=110)


def compare_gradients(
    network: Network,
    batch: tuple[Tensor, Tensor],
    estimators: Sequence[Estimator],
    *,
    phases: Phases | None = None,
    reference: Estimator | None = None,
    reference_phases: Phases | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare every estimator's gradient of one batch with the exact one (`Implicit` where `reference` is None).

    The reference is computed without noise, with `reference_phases` (by default `phases` without noise). The noise of
    each estimator is drawn from the same `seed`.

    >>> import torch
    >>> from relaxon.neuromorphic.equilibrium import Cauchy, LayeredNetwork, OneSided, compare_gradients
    >>> network = LayeredNetwork((4, 8, 3), dtype=torch.float64)
    >>> x = torch.rand(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    >>> found = compare_gradients(network, (x, torch.tensor([0, 1, 2, 0, 1])), [OneSided(0.5), Cauchy(8, 0.5)])
    >>> [row.relative_error < 1e-3 for row in found.rows]
    [False, True]
    """
    if not estimators:
        raise ValueError("estimators must have at least one entry, got none")
    phases = phases or Phases()
    x, target = batch
    chosen = reference or Implicit()
    quiet = reference_phases or Phases(phases.free, phases.nudged)
    exact, seconds = _time_gradient(network, x, target, chosen, quiet, seed)
    rows = []
    for estimator in estimators:
        found, spent = _time_gradient(network, x, target, estimator, phases, seed)
        rows.append(_row(estimator, found, exact, spent))
    return Comparison(_row(chosen, exact, exact, seconds), tuple(rows))


def _time_gradient(
    network: Network, x: Tensor, target: Tensor, estimator: Estimator, phases: Phases, seed: int
) -> tuple[Gradient, float]:
    generator = torch.Generator().manual_seed(seed)
    began = time.perf_counter()
    found = gradient(network, x, target, estimator, phases, generator)
    return found, time.perf_counter() - began


def _row(estimator: Estimator, found: Gradient, exact: Gradient, seconds: float) -> ComparisonRow:
    cosine, error = compare_pair(found, exact)
    return ComparisonRow(
        estimator.label,
        cosine,
        angle_of(cosine),
        error,
        found.truncation,
        found.verdict,
        found.message,
        found.evaluations,
        seconds,
    )


def compare_pair(found: Gradient, exact: Gradient) -> tuple[float, float]:
    """Return cosine and relative error of a gradient over all parameters, in double precision."""
    a = torch.cat([g.double().flatten() for g in found.gradients.values()])
    b = torch.cat([g.double().flatten() for g in exact.gradients.values()])
    length = float(b.norm())
    if length == 0:
        return math.nan, math.nan
    return float(a @ b / (a.norm() * length)), float((a - b).norm()) / length
