"""A figure of a training run: loss, accuracy, angle to the exact gradient and ‖A‖ over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relaxon.core.pictures import new_figure
from relaxon.neuromorphic.equilibrium.training.report import TrainingReport


def draw_training(report: TrainingReport, path: Path) -> None:
    """Write a figure with up to four panels, omitting those without values (requires matplotlib)."""
    curves: Sequence[tuple[str, list[float | None]]] = (
        ("loss", [epoch.loss for epoch in report.epochs]),
        ("test accuracy", [epoch.test_accuracy for epoch in report.epochs]),
        ("angle to exact, degrees", [epoch.angle for epoch in report.epochs]),
        ("‖A‖_F", [epoch.antisymmetry for epoch in report.epochs]),
    )
    shown = [(name, values) for name, values in curves if any(value is not None for value in values)]
    figure = new_figure(3.2 * len(shown), 2.8)
    for panel, (name, values) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        panel.plot(range(1, len(values) + 1), [float("nan") if v is None else v for v in values], marker=".")
        panel.set(xlabel="epoch", title=name)
        panel.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
