"""`relaxon status`: show what a server is busy with.

Imported on first use, for their weight: rich, gRPC.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from relaxon.cli import remote
from relaxon.cli.errors import CommandError, describe_missing

if TYPE_CHECKING:
    from relaxon.client import ServerStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    remote.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--health", action="store_true", help="print only the health, in one word; exit status 1 unless it is SERVING"
    )


def run(args: argparse.Namespace) -> int:
    """0 where the server answers (with --health: and serves), 1 where not."""
    from relaxon.client import RelaxonError

    try:
        with remote.connect(args) as client:
            if args.health:
                word = client.health()
                print(json.dumps({"health": word}) if args.json else word)
                return 0 if word == "SERVING" else 1
            status = client.status()
    except RelaxonError as error:
        raise CommandError(str(error)) from error
    if args.json:
        print(json.dumps({**asdict(status), "started": status.started.isoformat()}, indent=1))
    else:
        _print_status(status)
    return 0


def _print_status(status: ServerStatus) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    hours, rest = divmod(int(status.uptime_seconds), 3600)
    gib = 2**30
    rows = {
        "version": status.version,
        "up for": f"{hours}:{rest // 60:02}:{rest % 60:02}",
        "grids": str(status.sessions),
        "cells": str(status.cells),
        "solves": str(status.solves),
        "calls": str(status.calls),
        "jobs": ", ".join(f"{count} {state}" for state, count in sorted(status.jobs.items())),
        "places for jobs": str(status.job_places),
        "models": ", ".join(f"{count} {kind}" for kind, count in sorted(status.models.items())),
        "memory": f"{status.memory.used / gib:.2f} GiB of {status.memory.limit / gib:.2f} GiB",
        "threads": str(status.threads),
        "compiling": f"{', '.join(status.compiling.waiting)} ({status.compiling.kernels} kernels of the first)"
        if status.compiling.waiting
        else "nothing",
        "TLS": "yes" if status.encrypted else "no",
        "you are known as": f"{status.caller or 'anyone'} ({status.role})",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    for engine in status.engines:
        if not engine.available:
            table.add_row("not served", Text(f"{engine.name} {describe_missing(engine.missing, engine.extra)}"))
    Console(highlight=False, emoji=False).print(table)
