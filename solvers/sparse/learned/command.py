"""`relaxon train sparse-constants`: the training command of the network of a matrix's constants, with its bar."""

from __future__ import annotations

import argparse
from pathlib import Path

from relaxon.core.training_bar import Record, nowhere, settings_of, training_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options, which are those of `ConstantsTraining`; one that is not given is left to its default there."""
    group = parser.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    group.add_argument("--out", type=Path, required=True, help="folder for weights, card and the table of costs")
    group.add_argument("--survey", type=int, help="small systems on which candidates are searched for")
    group.add_argument("--pool", type=int, help="constants tried on each of them in a round")
    group.add_argument("--rounds", type=int, help="later ones try what is near the good candidates")
    group.add_argument("--candidates", type=int, help="constants that are kept")
    group.add_argument("--systems", type=int, help="systems of the table that the network learns")
    group.add_argument("--least", type=int, help="their unknowns at least")
    group.add_argument("--most", type=int, help="their unknowns at most")
    group.add_argument("--dense", type=int, help="rows of the last level while training")
    group.add_argument("--members", type=int, help="networks")
    group.add_argument("--hidden", type=int, help="hidden units of each")
    group.add_argument("--steps", type=int, help="AdamW's steps")
    group.add_argument("--rate", type=float, help="AdamW's learning rate at the start")
    group.add_argument("--decay", type=float, help="AdamW's weight decay")
    group.add_argument("--noise", type=float, help="of the standardised features")
    group.add_argument("--seed", type=int)


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train under a progress bar; 0 when all is done, 2 for settings that are refused."""
    from rich.console import Console

    from relaxon.solvers.sparse.learned.training import ConstantsTraining, train_constants

    console = Console(stderr=True)
    try:
        settings = settings_of(ConstantsTraining, args)
    except (TypeError, ValueError) as error:
        console.print(f"relaxon train sparse-constants: {error}", markup=False)
        return 2
    with training_bar(console, "{task.fields[stage]}") as bar:
        task = bar.add_task("training", total=1, stage="")
        card = train_constants(
            settings, lambda stage, done, total: bar.update(task, completed=done, total=total, stage=stage)
        )
    record({name: value for name, value in card.items() if name != "settings"})
    console.print(
        f"gain on {card['kept']} systems kept from a fit {card['seed_gain']:.3f} (one for all "
        f"{card['seed_gain_of_one_for_all']:.3f}, the best of {settings.candidates} for each "
        f"{card['seed_gain_of_the_best']:.3f}), on families kept from a fit {card['family_gain']:.3f}; "
        f"{card['numbers']} numbers in {settings.out}, {card['seconds']:.0f} s",
        markup=False,
    )
    return 0
