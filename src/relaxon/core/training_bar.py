"""What the training commands share: settings from their arguments, the progress bar, and the record of a training.

Imported on first use, for its weight: rich.
"""

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
"""Receives the results of a training, as JSON values."""


def nowhere(record: dict[str, Any]) -> None:
    """Record nothing: the `Record` of a command that is not asked for one."""


def settings_of(kind: type[Settings], args: argparse.Namespace) -> Settings:
    """Return settings (a dataclass) from the arguments of the same names, with defaults for those not given."""
    names = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in vars(args).items() if name in names})


def training_bar(console: Console, figure: str) -> Progress:
    """Return a progress bar with the steps done, the time left, and a figure such as "loss {task.fields[loss]:.3f}"."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: tuple[Any, ...] = (BarColumn(), MofNCompleteColumn(), TextColumn(figure), TimeRemainingColumn())
    return Progress(*columns, console=console)
