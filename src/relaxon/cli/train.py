"""`relaxon train <what>`: the training commands."""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

TRAINABLE = {
    "poisson": ("the published DCDM network for Poisson systems", "relaxon.solvers.dcdm.command"),
    "poisson-cycle": ("the learned multigrid cycle of dcdm", "relaxon.solvers.dcdm.cycle_command"),
    "boosting": ("a gradient-boosted network on a table", "relaxon.neuromorphic.boosting.command"),
    "equilibrium": ("a network by equilibrium propagation", "relaxon.neuromorphic.equilibrium.command"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    subparsers = parser.add_subparsers(metavar="what", required=True)
    for name, (summary, module) in TRAINABLE.items():
        subparser = subparsers.add_parser(name, help=summary)
        command: Any = import_module(module)
        command.add_arguments(subparser)
        subparser.set_defaults(train=command.run)


def run(args: argparse.Namespace) -> int:
    status: int = args.train(args)
    return status
