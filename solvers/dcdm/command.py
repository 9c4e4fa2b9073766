"""`relaxon train poisson`: the training command of the direction network, with its progress bar."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, which are those of `TrainingSettings`."""
    parser.add_argument("--out", type=Path, required=True, help="folder for weights, record and checkpoint")
    parser.add_argument("--network", type=int, default=64, choices=(64, 128), help="which of the paper's networks")
    parser.add_argument("--size", type=int, default=24, help="cells a side of the training boxes")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-5, help="Adam's learning rate at its height")
    parser.add_argument("--rounds", type=int, default=40, help="steps for which a problem's residual stays in training")
    parser.add_argument("--unroll", type=int, default=10, help="steps of the method that the gradient goes through")
    parser.add_argument("--window", type=int, default=2, help="earlier directions a step is made A-orthogonal to")
    parser.add_argument("--objective", choices=("decades", "residual"), default="decades", help="residual: the paper's")
    parser.add_argument("--initial", choices=("two-grid", "random"), default="two-grid", help="weights to begin with")
    parser.add_argument("--data", choices=("mixed", "ritz"), default="mixed", help="ritz: the paper's data alone")
    parser.add_argument("--ritz-vectors", type=int, default=600, help="Lanczos steps behind the paper's data")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="weights to start from")
    parser.add_argument("--checkpoint-every", type=int, default=30, help="steps; a run in the same --out resumes")
    parser.add_argument("--bfloat16", action="store_true", help="convolve in bfloat16")
    parser.add_argument("--threads", type=int, help="torch threads; torch's own choice by default")


def run(args: argparse.Namespace) -> int:
    """Train under a progress bar; 0 when all steps are done, 2 for settings that are refused."""
    import torch
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from relaxon.solvers.dcdm.training import TrainingSettings, train

    console = Console(stderr=True)
    names = (
        "network",
        "size",
        "steps",
        "batch",
        "rate",
        "rounds",
        "window",
        "objective",
        "initial",
        "data",
        "ritz_vectors",
        "seed",
        "start",
    )
    try:
        settings = TrainingSettings(
            out=args.out,
            checkpoint_every=args.checkpoint_every,
            bfloat16=args.bfloat16,
            **{name: getattr(args, name) for name in names},
        )
    except (TypeError, ValueError) as error:
        console.print(f"relaxon train poisson: {error}", markup=False)
        return 2
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]:.4f}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=settings.steps, loss=1.0)

        def show(step: int, loss: float) -> None:
            bar.update(task, completed=step, loss=loss)

        try:
            report = train(settings, show)
        except ValueError as error:
            console.print(f"relaxon train poisson: {error}", markup=False)
            return 2
    console.print(f"{report.steps} steps in {report.seconds:.0f} s; weights in {settings.out}", markup=False)
    return 0
