"""`relaxon jobs`: a server's training jobs, from any terminal.

Imported on first use, for their weight: rich, gRPC.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from relaxon.cli import remote
from relaxon.cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from relaxon.client import Client, JobInfo

NAME_HELP = "the job's name, with or without operations/"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(metavar="action", required=True)
    for name, (summary, action) in ACTIONS.items():
        subparser = actions.add_parser(name, help=summary, description=summary)
        remote.add_arguments(subparser, timeout=False)
        subparser.add_argument("--json", action="store_true", help="print JSON instead of a table")
        if name == "list":
            subparser.add_argument(
                "--filter", default="", help="terms joined by AND, for example: state = running AND kind = boosting"
            )
        else:
            subparser.add_argument("name", help=NAME_HELP)
        if name == "wait":
            subparser.add_argument(
                "--timeout", type=float, metavar="SECONDS", help="longest wait (default: as long as it takes)"
            )
        subparser.set_defaults(action=action)


def run(args: argparse.Namespace) -> int:
    """0 where it is done, 1 where the server or the job is not found or the job has failed, 2 for a mistake."""
    from relaxon.client import InvalidArgument, RelaxonError

    try:
        with remote.connect(args, remote.DEFAULT_SECONDS) as client:
            status: int = args.action(args, client)
            return status
    except InvalidArgument as error:
        raise UsageError(str(error)) from error
    except RelaxonError as error:
        raise CommandError(str(error)) from error


def _list(args: argparse.Namespace, client: Client) -> int:
    found = client.jobs.list(args.filter)
    if args.json:
        print(json.dumps([_as_json(info) for info in found], indent=2))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("job", "kind", "model", "state", "steps", "created"):
        table.add_column(column, no_wrap=column in ("job", "state"))
    for info in found:
        created = info.created.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        state = (
            f"{info.state.value}, being cancelled" if info.cancel_requested and info.ended is None else info.state.value
        )
        table.add_row(info.name, info.kind, info.model, state, str(info.steps), created)
    Console(highlight=False).print(table)
    return 0


def _show(args: argparse.Namespace, client: Client) -> int:
    info = client.jobs.info(args.name)
    newest = None
    if info.steps:
        newest = next(iter(client.jobs.get(info.name).progress(skip=info.steps - 1)), None)
    if args.json:
        print(json.dumps({**_as_json(info), "newest_step": None if newest is None else asdict(newest)}, indent=2))
        return 0
    _print_info(info)
    if newest is not None:
        print(f"newest step: {_format_step(newest)}")
    return 0


def _wait(args: argparse.Namespace, client: Client) -> int:
    import threading

    from rich.console import Console

    from relaxon.client import JobState, RelaxonError

    job = client.jobs.get(args.name)
    console = Console(stderr=True, quiet=args.json)
    with console.status(f"{job.name}: no step yet") as status:

        def show() -> None:
            # The display ends with its job or its server; the wait below reports how that ended.
            try:
                for step in job.progress(skip=max(0, job.info().steps - 1)):
                    status.update(f"{job.name}: {_format_step(step)}")
            except RelaxonError:
                pass

        threading.Thread(target=show, daemon=True).start()
        info = client.jobs.wait(args.name, args.timeout)
    if args.json:
        print(json.dumps(_as_json(info), indent=2))
    else:
        _print_info(info)
    return 0 if info.state is JobState.DONE else 1


def _cancel(args: argparse.Namespace, client: Client) -> int:
    client.jobs.cancel(args.name)
    return _print_result(args, client.jobs.info(args.name), "will end after its current step")


def _delete(args: argparse.Namespace, client: Client) -> int:
    info = client.jobs.info(args.name)
    client.jobs.delete(args.name)
    return _print_result(args, info, "is deleted; its model is kept")


def _print_result(args: argparse.Namespace, info: JobInfo, words: str) -> int:
    if args.json:
        print(json.dumps(_as_json(info), indent=2))
    else:
        print(f"{info.name} {words}" if info.ended is None or args.action is _delete else f"{info.name} has ended")
    return 0


def _print_info(info: JobInfo) -> None:
    for name, value in _as_json(info).items():
        if value not in (None, ""):
            print(f"{name.replace('_', ' ')}: {value}")


def _as_json(info: JobInfo) -> dict[str, Any]:
    """Return a job as JSON values: times in ISO 8601, the state as a word."""
    return {field.name: _as_json_value(getattr(info, field.name)) for field in fields(info)}


def _as_json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return value.value if isinstance(value, Enum) else value


def _format_step(step: Any) -> str:
    found = {name: value for name, value in asdict(step).items() if value is not None and not isinstance(value, dict)}
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in found.items()
    )


ACTIONS: dict[str, tuple[str, Callable[[argparse.Namespace, Client], int]]] = {
    "list": ("list the jobs that the server knows, the oldest first", _list),
    "show": ("show everything that is known of a job, with its newest step", _show),
    "wait": ("wait for the end of a job; exit status 1 where it has failed", _wait),
    "cancel": ("stop a job after its current step, and keep what it has trained", _cancel),
    "delete": ("delete a job that has ended; its model is kept", _delete),
}
