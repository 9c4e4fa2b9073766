"""`relaxon train <what>`: the training commands.

A training command is a module with `add_arguments(parser)` and `run(args, record) -> int`, which returns the exit
status and passes to `record` what `--json` writes.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from relaxon.cli.json_output import add_json, check_json, text_on_stderr, write_json

TRAINABLE = {
    "poisson": ("the published DCDM network for Poisson systems", "relaxon.solvers.dcdm.command"),
    "poisson-cycle": ("the learned multigrid cycle of dcdm", "relaxon.solvers.dcdm.cycle_command"),
    "poisson-couplings": ("the cycle of dcdm where coefficients vary", "relaxon.solvers.dcdm.coupling_command"),
    "sparse-constants": ("the constants of multigrid for sparse matrices", "relaxon.solvers.sparse.learned.command"),
    "boosting": ("a gradient-boosted network on a table", "relaxon.neuromorphic.boosting.command"),
    "convex": ("a certified optimal two-layer ReLU network", "relaxon.neuromorphic.convex.command"),
    "energy": ("an energy-based density", "relaxon.neuromorphic.energy.command"),
    "equilibrium": ("a network by equilibrium propagation", "relaxon.neuromorphic.equilibrium.command"),
    "proximal": ("a learned proximal operator", "relaxon.neuromorphic.proximal.command"),
}

NOT_SETTINGS = {"json", "train", "subcommand"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(metavar="what", required=True)
    for name, (summary, module) in TRAINABLE.items():
        subparser = subparsers.add_parser(name, help=summary)
        command: Any = import_module(module)
        command.add_arguments(subparser)
        add_json(subparser, "the settings and the results")
        subparser.set_defaults(train=command.run)


def run(args: argparse.Namespace) -> int:
    """0 where the training is done, 1 where it ended in NaN, 2 for a mistake."""
    check_json(args.json)
    records: list[dict[str, Any]] = []
    with text_on_stderr(args.json):
        status: int = args.train(args, records.append)
    for record in records:
        write_json(args.json, {"settings": _collect_settings(args), **record})
    return status


def _collect_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that were given or have a default, as JSON values."""
    given = {name: value for name, value in vars(args).items() if name not in NOT_SETTINGS and value is not None}
    return {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
