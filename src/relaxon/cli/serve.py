"""`relaxon serve`: run the gRPC server."""

# Imported on first use, for its weight: `server.app`.

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import fields
from typing import Any

from rich.console import Console

from relaxon.server.config import configuration
from relaxon.server.config.settings import ServerSettings
from relaxon.server.config.threads import keep_apart, wait_asleep
from relaxon.server.watching import logs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add an option for each of `ServerSettings`; those that are not given are absent from the arguments."""
    parser.add_argument(
        "--config", default="", metavar="FILE", help="TOML file of settings (default: the file named by RELAXON_CONFIG)"
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print all settings as such a file, with the source of each, and do not serve",
    )
    for setting in fields(ServerSettings):
        default: Any = setting.default
        option, text = f"--{setting.name.replace('_', '-')}", f"{setting.metadata['help']} (default: {default})"
        if isinstance(default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        else:
            metavar = {int: "N", float: "X", str: "TEXT"}[type(default)]
            parser.add_argument(option, type=type(default), default=argparse.SUPPRESS, metavar=metavar, help=text)
    parser.add_argument(
        "--no-compile", dest="compile", action="store_const", const="", default=argparse.SUPPRESS,
        help="compile nothing at the start: the first solves wait for it",
    )  # fmt: skip


def collect_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given as options."""
    return {name: value for name, value in vars(args).items() if name in configuration.DEFAULTS}


def run(args: argparse.Namespace) -> int:
    """0 where SIGTERM or Ctrl-C has stopped it, 1 where the port or a file is not available, 2 for a bad setting."""
    # Paths and addresses are not broken, however narrow the output is.
    console = Console(stderr=True, soft_wrap=True)
    try:
        configured = configuration.load(collect_settings(args), os.environ, args.config)
    except (ValueError, TypeError, OSError) as error:
        console.print(f"relaxon serve: {error}", markup=False, style="red")
        return 2
    if args.print_config:
        sys.stdout.write(configured.as_toml())
        return 0
    wait_asleep()
    if configured.settings.workers == 1 and configured.settings.training_backend == "local":
        keep_apart()  # Ray's processes would inherit it
    logs.set_up(configured.settings)
    try:
        from relaxon.server.app import serve

        serve(
            configured.settings,
            lambda target: console.print(f"relaxon serves on {target} (Ctrl-C stops it)", markup=False),
        )
    except (OSError, ValueError) as error:
        console.print(f"relaxon serve: {error}", markup=False, style="red")
        return 1
    return 0
