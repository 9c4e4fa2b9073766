"""The arguments and the run of `relaxon serve`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import fields

from rich.console import Console

from relaxon.server.settings import DEFAULT_PORT, ServerSettings
from relaxon.server.threads import wait_asleep

HELP = {
    "workers": "solves at the same time; each uses all threads",
    "max_pending": "solves that wait, run or send their answer; one more is refused",
    "memory_bytes": "memory for kept grids, their set-ups and running calls, as estimated; 0 for half of the machine's",
    "max_client_bytes": "of it, for one caller; 0 for no less than all",
    "max_client_cells": "cells of one caller's grids; 0 for no fewer than of all",
    "max_client_sessions": "one caller's grids and matrices; 0 for no fewer than of all",
    "max_attendances": "callers that say that they are there at the same time",
    "lease_seconds": "a caller's grids go when it has been gone for so long",
    "max_cells": "largest grid, in cells",
    "max_total_cells": "cells of all kept grids",
    "max_grids": "grids and matrices kept at the same time",
    "max_solvers_per_grid": "solver set-ups kept for one grid",
    "grid_ttl_seconds": "a grid not used for so long is forgotten",
    "model_folder": "where trained models are stored; empty for a temporary folder that goes with the server",
    "max_models": "stored models of one kind",
    "training_workers": "training jobs at the same time, each in a process of its own",
    "max_jobs": "training jobs that are uploaded, wait or run; one more is refused",
    "max_ended_jobs": "ended jobs that are still told of",
    "max_table_bytes": "bytes of one call's arrays for training or prediction",
    "max_units": "units of a network that is trained",
    "idle_seconds": "an upload that is silent for so long is given up",
    "grace_seconds": "time for running calls to finish when the server is stopped",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `relaxon serve`: one for each of `ServerSettings`."""
    defaults = {field.name: field.default for field in fields(ServerSettings)}
    parser.add_argument("--host", default=defaults["host"], help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="allow an address that other machines reach: there is no encryption and no authentication yet",
    )
    parser.add_argument(
        "--no-shared-memory",
        dest="shared_memory",
        action="store_false",
        help="have callers on this machine send their arrays as all others do",
    )
    for name, text in HELP.items():
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=type(defaults[name]),
            default=defaults[name],
            help=f"{text} (default: %(default)s)",
        )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; 2 for a bad setting, 1 where the port cannot be had."""
    console = Console(stderr=True)
    try:
        settings = ServerSettings(**{field.name: getattr(args, field.name) for field in fields(ServerSettings)})
    except (ValueError, TypeError) as error:
        console.print(f"relaxon serve: {error}", markup=False, style="red")
        return 2
    wait_asleep()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        from relaxon.server.app import serve

        serve(settings, lambda target: console.print(f"relaxon serves on {target} (Ctrl-C stops it)", markup=False))
    except OSError as error:
        console.print(f"relaxon serve: {error}", markup=False, style="red")
        return 1
    return 0
