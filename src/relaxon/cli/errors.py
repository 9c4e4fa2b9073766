"""Errors that end a command with a message instead of a traceback."""

from __future__ import annotations

from collections.abc import Iterable

from relaxon.core.extras import explain, find_extra, install_command


class CommandError(Exception):
    """The command cannot continue. The message says why in one line; `status` is the exit status."""

    status = 1


class UsageError(CommandError):
    """A mistake in the arguments."""

    status = 2


def explain_missing_module(error: ModuleNotFoundError) -> str:
    """Return what to install for a missing module; raise the error again where no extra brings the module."""
    explained = explain(error)
    if not find_extra([error.name] if error.name else []):
        raise error
    return str(explained)


def describe_missing(missing: Iterable[str], extra: str) -> str:
    """Return a phrase with the missing packages that something needs and the command that installs them."""
    names = list(missing)
    command = install_command(extra) if extra else f"pip install {' '.join(names)}"
    return f"needs {', '.join(names)}: {command}"
