"""The command `relaxon train equilibrium`: train a network by equilibrium propagation, and store it.

Imported on first use, for their weight: torch, rich, and the modules that need torch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from relaxon.core.training_bar import Record, nowhere, training_bar

ESTIMATORS = (
    "cauchy",
    "asymmetric-cauchy",
    "centred",
    "one-sided",
    "continuous",
    "implicit",
    "recurrent-backprop",
    "unrolled",
)
"""Names of the estimators, as in `estimators.registry`, which requires torch."""
ACTIVATIONS = ("sigmoid", "dsilu", "tanh", "identity", "hard-sigmoid", "relu6", "relu")
"""Names of the activations, as in `networks.activations`; the last three allow `--n 2` at most."""
OPTIMIZERS = ("sgd", "adam", "diffgrad", "normalized", "adadagrad", "adadagrad-norm")
"""Names of the optimisers, as in `training.settings`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options; those that are not given have defaults that suit the data."""
    parser.add_argument("--data", required=True, help="digits, fashion-mnist, a folder of IDX files, or an NPZ file")
    parser.add_argument("--out", type=Path, help="folder for model and checkpoint; an interrupted run resumes")
    network = parser.add_argument_group("network").add_argument
    network("--hidden", type=int, nargs="+", metavar="UNITS", help="numbers of units of the relaxing layers")
    network("--channels", type=int, nargs="+", help="channels of the layers of a convolutional network")
    network("--residual", action="store_true", help="blocks with skip connections, with the --channels given")
    network("--activation", choices=ACTIVATIONS, default="sigmoid")
    network("--feedback", choices=("tied", "independent"), default="tied")
    network("--angle", type=float, default=0.0, help="initial angle between independent weights, in degrees")
    network("--binary", action="store_true", help="weights of −1 and 1, with one scale for each matrix")
    network("--binarizer", choices=("reste", "biper"), default="reste", help="surrogate gradient of --binary")
    method = parser.add_argument_group("method").add_argument
    method("--estimator", choices=ESTIMATORS, default="cauchy")
    method("--n", type=int, help="number of points of the contour")
    method("--radius", type=float, help="radius |β| of the contour")
    method("--homeostasis", type=float, default=0.0, help="weight of the Jacobian homeostasis")
    method("--noise", type=float, default=0.0, help="standard deviation of noise on the states")
    method("--epochs", type=int)
    method("--batch", type=int)
    method("--rate", type=float, help="learning rate")
    method("--shift", type=int, default=0, help="largest random shift of training images, in pixels")
    method("--loss", choices=("cross-entropy", "comp-sum"), default="cross-entropy")
    method("--tau", type=float, default=1.0, help="τ of --loss comp-sum, above 0 and below 2")
    method("--optimizer", choices=OPTIMIZERS, default="sgd")
    method("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="torch device: cpu, cuda")
    parser.add_argument("--threads", type=int, help="number of torch threads; by default torch decides")
    parser.add_argument("--plot", type=Path, help="file for a figure of the training")


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train with a progress bar; return 0 when finished, 1 for a run that ended in NaN, 2 for invalid arguments."""
    from rich.console import Console

    console = Console(stderr=True)
    try:
        return _train(args, console, record)
    except (FileNotFoundError, TypeError, ValueError) as error:
        console.print(f"relaxon train equilibrium: {error}", markup=False)
        return 2


def _train(args: argparse.Namespace, console: Any, record: Record) -> int:
    import torch

    from relaxon.neuromorphic.equilibrium import datasets
    from relaxon.neuromorphic.equilibrium.networks.storage import save_network
    from relaxon.neuromorphic.equilibrium.training.loop import train
    from relaxon.neuromorphic.equilibrium.training.recipes import build_run
    from relaxon.neuromorphic.equilibrium.training.report import TrainingOutcome, TrainingProgress

    if args.threads is not None:
        torch.set_num_threads(args.threads)
    data = datasets.load(args.data)
    network, settings = build_run(data, args)
    network = network.to(args.device)
    shown = data if args.channels else data.flat()
    x, y, test_x, test_y = (torch.from_numpy(a).to(args.device) for a in (shown.x, shown.y, shown.test_x, shown.test_y))
    with training_bar(console, "loss {task.fields[loss]:.3f}") as bar:
        task = bar.add_task("training", total=None, loss=float("nan"))

        def show(step: TrainingProgress) -> None:
            bar.update(task, total=step.steps, completed=step.step, loss=step.loss)
            if step.metrics is not None:
                bar.console.print(_format_epoch(step.metrics), markup=False, highlight=False, soft_wrap=True)

        report = train(network, (x, y), settings, test=(test_x, test_y), watcher=show)
    if report.ended is TrainingOutcome.NON_FINITE:
        console.print(f"relaxon train equilibrium: {report.message}", markup=False)
        return 1
    last = report.epochs[-1]
    record({"data": data.name, "seconds": report.seconds, "epochs": [_to_json(epoch) for epoch in report.epochs]})
    print(
        f"{data.name}: test accuracy {last.test_accuracy:.4f} after {len(report.epochs)} epochs, {report.seconds:.0f} s"
    )
    if args.out is not None:
        card = {"data": data.name, "test_accuracy": last.test_accuracy, "settings": settings.describe()}
        save_network(network, args.out, card)
        console.print(f"network.safetensors and network.json in {args.out}", markup=False)
    if args.plot is not None:
        _draw_training(report, args.plot)
    return 0


def _format_epoch(metrics: Any) -> str:
    verdicts = ", ".join(f"{count} {name}" for name, count in metrics.verdicts.items())
    angle = "" if metrics.angle is None else f"  angle {metrics.angle:.2f}°"
    norm = "" if metrics.antisymmetry is None else f"  ‖A‖ {metrics.antisymmetry:.2f}"
    return (
        f"epoch {metrics.epoch + 1:3d}  loss {metrics.loss:.4f}  test {metrics.test_accuracy:.4f}{angle}{norm}  "
        f"steps {metrics.free_steps:.0f}+{metrics.nudged_steps:.0f}  {metrics.seconds:.1f} s  [{verdicts}]"
    )


def _to_json(metrics: Any) -> dict[str, Any]:
    """Return an epoch as JSON values, with None for NaN and infinity."""
    from dataclasses import asdict
    from math import isfinite

    return {
        name: None if isinstance(value, float) and not isfinite(value) else value
        for name, value in asdict(metrics).items()
    }


def _draw_training(report: Any, path: Path) -> None:
    """Write a figure over the epochs with up to four panels, omitting those without values (requires matplotlib)."""
    from relaxon.core.pictures import new_figure

    curves = (
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
