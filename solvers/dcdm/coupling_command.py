"""`relaxon train poisson-couplings`: the training command of the choice of a cycle for any couplings."""

# Imported on first use, for their weight: rich, `solvers`, `coupling_training`.

from __future__ import annotations

import argparse
from pathlib import Path

from relaxon.core.training_bar import Record, nowhere, settings_of, training_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, which are the fields of `CouplingTraining`; one that is not given keeps its default there."""
    group = parser.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    group.add_argument("--out", type=Path, required=True, help="JSON file for candidates and network")
    group.add_argument("--tried", type=int, help="candidates that are drawn")
    group.add_argument("--searched", type=int, help="systems on which all of them are tried")
    group.add_argument("--kept", type=int, help="candidates that are kept")
    group.add_argument("--systems", type=int, help="systems on which these are tried")
    group.add_argument("--price", type=float, help="what work counts beside iterations, 0 to 1")
    group.add_argument("--hidden", type=int, help="hidden units of the network")
    group.add_argument("--seed", type=int)
    parser.add_argument("--threads", type=int, default=1, help="threads of the solves (default 1)")


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train under a progress bar; 0 when all systems are done, 2 for settings that are refused."""
    from rich.console import Console

    from relaxon.solvers import num_threads
    from relaxon.solvers.dcdm.coupling_training import CouplingTraining, train_choice, write_choice

    console = Console(stderr=True)
    try:
        settings = settings_of(CouplingTraining, args)
        with num_threads(args.threads), training_bar(console, "systems") as bar:
            task = bar.add_task("training", total=settings.searched + settings.systems)
            found = train_choice(settings, lambda done, _: bar.update(task, completed=done))
    except (TypeError, ValueError) as error:
        console.print(f"relaxon train poisson-couplings: {error}", markup=False)
        return 2
    write_choice(args.out, found)
    unseen = found["unseen"]
    record({"numbers": found["numbers"], "unseen": unseen, "seconds": found["seconds"]})
    console.print(
        f"{found['numbers']} numbers, {found['seconds']:.0f} s; cost on unseen systems: {unseen['taken']:.3f}, "
        f"{unseen['best_single']:.3f} one for all, {unseen['oracle']:.3f} at best, {unseen['plain']:.3f} as mg-cg "
        f"does; choice in {args.out}",
        markup=False,
    )
    return 0
