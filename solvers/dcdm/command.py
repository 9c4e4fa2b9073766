"""`relaxon train poisson`: the training command of the direction network, with its progress bar."""

# Imported on first use, for their weight: rich, torch, `training`.

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from relaxon.core.training_bar import Record, nowhere, settings_of, training_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, which are the fields of `DirectionTraining`; one that is not given keeps its default there."""
    group = parser.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    group.add_argument("--out", type=Path, required=True, help="folder for weights, record and checkpoint")
    group.add_argument("--network", type=int, choices=(64, 128), help="which of the paper's networks")
    group.add_argument("--size", type=int, help="cells a side of the training boxes")
    group.add_argument("--steps", type=int)
    group.add_argument("--batch", type=int)
    group.add_argument("--rate", type=float, help="Adam's learning rate at its height")
    group.add_argument("--rounds", type=int, help="steps for which a problem's residual stays in training")
    group.add_argument("--unroll", type=int, help="steps of the method that the gradient goes through")
    group.add_argument("--window", type=int, help="earlier directions a step is made A-orthogonal to")
    group.add_argument("--objective", choices=("decades", "residual"), help="residual: the paper's")
    group.add_argument("--initial", choices=("two-grid", "random"), help="weights to begin with")
    group.add_argument("--data", choices=("mixed", "ritz"), help="ritz: the paper's data alone")
    group.add_argument("--ritz-vectors", type=int, help="Lanczos steps behind the paper's data")
    group.add_argument("--seed", type=int)
    group.add_argument("--start", type=Path, help="weights to start from")
    group.add_argument("--checkpoint-every", type=int, help="steps; a run in the same --out resumes")
    group.add_argument("--bfloat16", action="store_true", help="convolve in bfloat16")
    parser.add_argument("--threads", type=int, help="torch threads; torch's own choice by default")


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train under a progress bar; 0 when all steps are done, 2 for settings that are refused."""
    import torch
    from rich.console import Console

    from relaxon.solvers.dcdm.training import DirectionTraining, train

    console = Console(stderr=True)
    try:
        settings = settings_of(DirectionTraining, args)
    except (TypeError, ValueError) as error:
        console.print(f"relaxon train poisson: {error}", markup=False)
        return 2
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with training_bar(console, "loss {task.fields[loss]:.4f}") as bar:
        task = bar.add_task("training", total=settings.steps, loss=1.0)

        def show(step: int, loss: float) -> None:
            bar.update(task, completed=step, loss=loss)

        try:
            report = train(settings, show)
        except ValueError as error:
            console.print(f"relaxon train poisson: {error}", markup=False)
            return 2
    record({**asdict(report), "weights": str(settings.out / "weights.safetensors")})
    console.print(f"{report.steps} steps in {report.seconds:.0f} s; weights in {settings.out}", markup=False)
    return 0
