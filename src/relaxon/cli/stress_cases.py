"""What `relaxon stress poisson` and `relaxon stress sparse` share: their options, the progress bar and the record.

Imported on first use, for its weight: rich.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from relaxon.cli.errors import UsageError
from relaxon.cli.json_output import check_json, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from relaxon.solvers.stress import MatrixTrial, Trial

    AnyTrial = Trial | MatrixTrial

SHOWN = 40
"""Most cases that a table names; the JSON file has all of them."""
RESIDUALS = ("relative_residual", "scaled_residual", "rounding")


def add_case_arguments(parser: argparse.ArgumentParser, count: int) -> None:
    """Add the options that choose the cases and the tolerance."""
    parser.add_argument("--count", type=int, default=count, help="number of cases (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the sequence of cases (default %(default)s)")
    parser.add_argument("--only", type=int, nargs="+", metavar="K", help="run only these cases of the sequence")
    parser.add_argument("--rtol", type=float, default=1e-6, help="tolerance on ‖b − A x‖/‖b‖ (default %(default)s)")


def choose_cases(args: argparse.Namespace) -> list[int]:
    """Return the numbers of the cases to run; UsageError for a number that is out of range."""
    check_json(args.json)
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    if args.only is None:
        if args.count < 1:
            raise UsageError(f"--count must be at least 1, got {args.count}")
        return list(range(args.count))
    if min(args.only) < 0:
        raise UsageError(f"--only must be at least 0, got {min(args.only)}")
    return list(args.only)


def run_cases(numbers: Sequence[int], word: str, run_case: Callable[[int], int]) -> None:
    """Run each case under a progress bar, which shows the count that `run_case` returns, with a word for it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[count]} " + word), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("cases", total=len(numbers), count=0)
        for number in numbers:
            bar.update(task, count=run_case(number), advance=1)


def write_record(args: argparse.Namespace, settings: Sequence[str], trials: Sequence[AnyTrial], **results: Any) -> None:
    """Write the settings, the machine and all trials as JSON, where there are any."""
    from relaxon.cli.machine import describe_machine

    if not trials:
        return
    rows = [asdict(trial) for trial in trials]
    for row in rows:
        for key in RESIDUALS:
            row[key] = row[key] if math.isfinite(row[key]) else None  # JSON has no infinity
    chosen = {name: getattr(args, name) for name in settings}
    record = {"settings": chosen, "machine": describe_machine().as_dict(), "trials": rows, **results}
    write_json(args.json, record, indent=1)


def print_remainder(console: Console, shown: Sequence[object], command: str) -> None:
    """Print how many more cases there are than a table shows, and the command that runs one of them again."""
    if len(shown) > SHOWN:
        console.print(f"… and {len(shown) - SHOWN} more (--json FILE has all)")
    if shown:
        console.print(f"to run one of them again: {command} --only K", style="dim", soft_wrap=True)
