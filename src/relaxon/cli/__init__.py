"""The `relaxon` command.

A subcommand is a module with `add_arguments(parser)` and `run(args) -> int`, which returns the exit status. It is
imported only when that subcommand is used.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from relaxon._version import __version__
from relaxon.cli import completion
from relaxon.cli.errors import CommandError, explain_missing_module

INTERRUPTED = 130
"""The exit status that shells give to a command ended by SIGINT."""


class Subcommand(Protocol):
    """A subcommand's module."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, args: argparse.Namespace) -> int: ...


@dataclass(frozen=True, slots=True)
class CommandEntry:
    """A subcommand's help text and module."""

    summary: str
    module: str


COMMANDS = {
    "solve": CommandEntry(
        "solve a Poisson problem over gRPC, or with the matrix of a file; check the answer, compare solvers",
        "relaxon.cli.solve",
    ),
    "serve": CommandEntry("run the gRPC server", "relaxon.cli.serve"),
    "status": CommandEntry("show what a server is busy with", "relaxon.cli.status"),
    "token": CommandEntry("add, list and remove the tokens that a server asks for", "relaxon.cli.token"),
    "train": CommandEntry("train a learned solver or a network", "relaxon.cli.train"),
    "diagnose": CommandEntry(
        "show which rows matter to a trained network and which look wrong", "relaxon.cli.diagnose"
    ),
    "jobs": CommandEntry("list, show, wait for, cancel and delete a server's training jobs", "relaxon.cli.jobs"),
    "stress": CommandEntry(
        "attack the solvers with random systems, or a server with crowds of clients", "relaxon.cli.stress"
    ),
    "compile": CommandEntry(
        "compile the kernels of solvers, for all later processes on this machine", "relaxon.cli.compile"
    ),
    "solvers": CommandEntry("list the solvers", "relaxon.cli.solvers"),
    "completion": CommandEntry(
        "print the commands that set up completion in bash, zsh or fish", "relaxon.cli.completion"
    ),
    "doctor": CommandEntry("show what is installed, and whether the solvers can run", "relaxon.cli.doctor"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status: 0 done, 1 not, 2 a mistake in the arguments, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _run(arguments)
    except CommandError as error:
        print(f"{_full_name(arguments)}: error: {error}", file=sys.stderr)
        return error.status
    except ModuleNotFoundError as error:
        print(f"{_full_name(arguments)}: error: {explain_missing_module(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{_full_name(arguments)}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`head`, say) is gone; what the interpreter still flushes at its exit goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def build_parser(loaded: Container[str | None]) -> argparse.ArgumentParser:
    """Return the parser of the command line, with the arguments of the subcommands in `loaded`."""
    parser = argparse.ArgumentParser(
        prog="relaxon", description="Solvers that relax to an equilibrium, in process and over gRPC."
    )
    parser.add_argument("--version", action="version", version=f"relaxon {__version__}")
    subparsers = parser.add_subparsers(metavar="command", required=True)
    for name, entry in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=entry.summary, description=_capitalise(entry.summary))
        if name in loaded:
            subcommand = cast(Subcommand, import_module(entry.module))
            subcommand.add_arguments(subparser)
            subparser.set_defaults(subcommand=subcommand)
    return parser


def _run(arguments: list[str]) -> int:
    asked = completion.find_asked_line()
    parser = build_parser((_find_command(arguments if asked is None else asked),))
    if asked is not None:
        completion.answer(parser)
    args = parser.parse_args(arguments)
    subcommand: Subcommand = args.subcommand  # argparse has refused everything that names no command
    return subcommand.run(args)


def _find_command(arguments: Sequence[str]) -> str | None:
    return next((argument for argument in arguments if not argument.startswith("-")), None)


def _full_name(arguments: Sequence[str]) -> str:
    chosen = _find_command(arguments)
    return f"relaxon {chosen}" if chosen in COMMANDS else "relaxon"


def _capitalise(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."
