"""The command `relaxon train sparse-constants`, which trains the network of multigrid constants under a progress
bar."""
# Imported on first use, for its weight: rich.

from __future__ import annotations

import argparse
from pathlib import Path

from relaxon.core.training_bar import Record, nowhere, settings_of, training_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options, which are the settings of `ConstantsTraining`; those not given have the defaults there."""
    group = parser.add_argument_group("settings", argument_default=argparse.SUPPRESS)
    group.add_argument("--out", type=Path, required=True, help="folder for the weights, their card and the cost table")
    group.add_argument("--survey", type=int, help="small systems on which candidates are searched")
    group.add_argument("--pool", type=int, help="constants tried on each of them in a round")
    group.add_argument("--rounds", type=int, help="rounds of the search; later ones try the neighbourhood of good ones")
    group.add_argument("--candidates", type=int, help="constants that are kept")
    group.add_argument("--systems", type=int, help="systems in the table from which the network learns")
    group.add_argument("--least", type=int, help="smallest number of their unknowns")
    group.add_argument("--most", type=int, help="largest number of their unknowns")
    group.add_argument("--dense", type=int, help="largest number of rows of the last level during training")
    group.add_argument("--members", type=int, help="networks in the ensemble")
    group.add_argument("--hidden", type=int, help="hidden units of each network")
    group.add_argument("--steps", type=int, help="steps of AdamW")
    group.add_argument("--rate", type=float, help="initial learning rate of AdamW")
    group.add_argument("--decay", type=float, help="weight decay of AdamW")
    group.add_argument("--noise", type=float, help="noise of the standardised features")
    group.add_argument("--seed", type=int, help="seed of the run")


def run(args: argparse.Namespace, record: Record = nowhere) -> int:
    """Train under a progress bar; return 0 on success, 2 for invalid settings."""
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
        f"gain on {card['kept']} held-out systems {card['seed_gain']:.3f} (one candidate for all "
        f"{card['seed_gain_of_one_for_all']:.3f}, the best of {settings.candidates} for each "
        f"{card['seed_gain_of_the_best']:.3f}), on held-out families {card['family_gain']:.3f}; "
        f"{card['numbers']} numbers in {settings.out}, {card['seconds']:.0f} s",
        markup=False,
    )
    return 0
