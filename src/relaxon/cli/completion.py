"""`relaxon completion bash|zsh|fish`: what a shell runs to complete this command's arguments at the tab key.

The shell asks `relaxon` itself, which answers from its own parser: nothing is listed here that could lag behind.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable

SHELLS = ("bash", "zsh", "fish")
ASKED, LINE = "_ARGCOMPLETE", "COMP_LINE"
"""Environment variables of a shell that asks, and the line that it has so far."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell that is to complete")


def run(args: argparse.Namespace) -> int:
    """0, with the shell's commands on the output: `eval "$(relaxon completion bash)"` in its start-up file."""
    from argcomplete.shell_integration import shellcode

    print(shellcode(["relaxon"], shell=args.shell))
    return 0


def asked_line() -> list[str] | None:
    """The words after the command of a shell that asks for completions; None where none does."""
    return os.environ.get(LINE, "").split()[1:] if ASKED in os.environ else None


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell the shell what it can put in, and exit."""
    import argcomplete

    argcomplete.autocomplete(parser)


def completed_by(action: argparse.Action, values: Callable[[], Iterable[str]]) -> None:
    """Have an option's value completed from what `values` gives when a shell asks."""

    def completer(prefix: str, **_: object) -> list[str]:
        return [value for value in values() if value.startswith(prefix)]

    setattr(action, "completer", completer)  # noqa: B010 - argparse's actions do not know that argcomplete looks there
