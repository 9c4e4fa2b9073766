"""`relaxon completion bash|zsh|fish`: print the commands with which a shell completes the arguments of this command.

The shell asks `relaxon` itself, which answers from its parser, so no list can become stale.
Imported on first use, for its weight: argcomplete.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable

SHELLS = ("bash", "zsh", "fish")
ASKED, LINE = "_ARGCOMPLETE", "COMP_LINE"
"""Environment variables: that a shell asks for completions, and the line typed so far."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell")


def run(args: argparse.Namespace) -> int:
    """0, with the commands on the output, for the shell's start-up file: `eval "$(relaxon completion bash)"`."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["relaxon"], shell=args.shell))
    return 0


def find_asked_line() -> list[str] | None:
    """Return the words after the command where a shell asks for completions; None where none does."""
    return os.environ.get(LINE, "").split()[1:] if ASKED in os.environ else None


def answer(parser: argparse.ArgumentParser) -> None:
    """Print the completions for the shell, and exit."""
    import argcomplete

    argcomplete.autocomplete(parser)


def complete_from(action: argparse.Action, values: Callable[[], Iterable[str]]) -> None:
    """Complete an option's value from `values`, which is called when a shell asks."""

    def completer(prefix: str, **_: object) -> list[str]:
        return [value for value in values() if value.startswith(prefix)]

    setattr(action, "completer", completer)  # noqa: B010 - argparse's actions do not know that argcomplete looks there
