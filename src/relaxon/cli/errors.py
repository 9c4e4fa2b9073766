"""What ends a command with a message instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterable

from relaxon.core.extras import explain, find_extra, install_command


class CommandError(Exception):
    """The command cannot go on; the message says why in one line, `status` is the exit status."""

    status = 1


class UsageError(CommandError):
    """A mistake in the arguments."""

    status = 2


def explain_missing_module(error: ModuleNotFoundError) -> str:
    """What to install for the missing module; a module that no extra brings is a fault and is raised again."""
    explained = explain(error)
    if not find_extra([error.name] if error.name else []):
        raise error
    return str(explained)


def lacking(missing: Iterable[str], extra: str) -> str:
    """Say what something needs that is not installed, and how to install it."""
    names = list(missing)
    command = install_command(extra) if extra else f"pip install {' '.join(names)}"
    return f"needs {', '.join(names)}: {command}"
