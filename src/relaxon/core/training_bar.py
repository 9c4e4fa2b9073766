"""What the training commands share: settings from their arguments, the progress bar, what they are asked to record."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

Settings = TypeVar("Settings")
Record = Callable[[dict[str, Any]], object]
"""Is given what came of a training, as JSON values."""


def nowhere(record: dict[str, Any]) -> None:
    """The `Record` of a command that nobody asks for one."""


def settings_of(kind: type[Settings], args: argparse.Namespace) -> Settings:
    """Settings (a dataclass) from the arguments of the same names; one that is not given has its default."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(args).items() if name in names})


def training_bar(console: Console, figure: str) -> Progress:
    """A bar, the steps done, a figure of the task's fields such as "loss {task.fields[loss]:.3f}", the time to go."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (BarColumn(), MofNCompleteColumn(), TextColumn(figure), TimeRemainingColumn())
    return Progress(*columns, console=console)
