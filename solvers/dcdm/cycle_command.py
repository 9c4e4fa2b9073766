"""`relaxon train poisson-cycle`: the training command of the learned V-cycle, with its progress bar."""

# Imported on first use, for their weight: rich, torch, `cycle_training`.

from __future__ import annotations

import argparse
from pathlib import Path

from relaxon.core.training_bar import Record, nowhere, settings_of, training_bar

FIGURES = ("decades_first", "decades_last", "constants", "steps", "seconds")
"""Of the model's record, those that say how the training went."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, which are the fields of `CycleTraining`; one that is not given keeps its default there."""
    group = parser.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    group.add_argument("--out", type=Path, required=True, help="JSON file of models; others in it are kept")
    group.add_argument("--name", help="of the model in the file; the number of dimensions by default")
    group.add_argument("--ndim", type=int, choices=(2, 3))
    group.add_argument("--size", type=int, help="cells a side of the training boxes")
    group.add_argument("--geometries", choices=("mixed", "porous"))
    group.add_argument("--count", type=int, help="geometries drawn before training")
    group.add_argument("--steps", type=int)
    group.add_argument("--batch", type=int)
    group.add_argument("--iterations", type=int, help="steps of the method that the loss goes through")
    group.add_argument("--rate", type=float, help="Adam's learning rate at the start")
    group.add_argument("--levels", type=int, help="levels with constants of their own")
    group.add_argument("--hidden", type=int, help="hidden units of each level's network")
    group.add_argument("--visits", type=int, help="how often a cycle goes through the second level")
    group.add_argument("--seed", type=int)
    parser.add_argument("--threads", type=int, help="torch threads; torch's own choice by default")


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train under a progress bar; 0 when all steps are done, 2 for settings that are refused."""
    import torch
    from rich.console import Console

    from relaxon.solvers.dcdm.cycle_training import CycleTraining, train_cycle, write_model

    console = Console(stderr=True)
    try:
        settings = settings_of(CycleTraining, args)
    except (TypeError, ValueError) as error:
        console.print(f"relaxon train poisson-cycle: {error}", markup=False)
        return 2
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    with training_bar(console, "{task.fields[decades]:.2f} decades") as bar:
        task = bar.add_task("training", total=settings.steps, decades=0.0)
        found = train_cycle(settings, lambda step, decades: bar.update(task, completed=step, decades=decades))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    name = getattr(args, "name", str(settings.ndim))
    write_model(args.out, name, found)
    record({"model": name, **{key: found[key] for key in FIGURES}})
    console.print(
        f"{found['decades_first']:.2f} → {found['decades_last']:.2f} decades after {settings.iterations} iterations, "
        f"{found['constants']} constants, {found['seconds']:.0f} s; model {name!r} in {args.out}",
        markup=False,
    )
    return 0
