"""The arguments and the run of `relaxon serve`."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from rich.console import Console

from relaxon.server.config import configuration
from relaxon.server.config.threads import keep_apart, wait_asleep
from relaxon.server.watching import logs

HELP = {
    "host": "address to listen on",
    "port": "0 for a free one",
    "insecure": "allow an address that other machines reach without both encryption and authentication",
    "tls_certificate": "PEM file of the server's certificate; calls are encrypted then",
    "tls_key": "PEM file of the certificate's key",
    "tls_client_ca": "PEM file of the authorities whose certificates callers must show",
    "certificate_role": "role of those who are known by their certificate alone: read, solve, train or admin",
    "token_file": "file of tokens, made by `relaxon token add`; every call needs one then",
    "open_health": "answer health checks without a token",
    "shared_memory": "take arrays from callers on this machine through its shared memory",
    "compile": "solvers that are compiled in the background at the start, with commas between; empty for none",
    "workers": "solves at the same time; each uses all threads",
    "max_pending": "solves that wait, run or send their answer; one more is refused",
    "memory_bytes": "memory for kept grids, their set-ups and running calls, as estimated; 0 for half of the machine's",
    "max_client_bytes": "of it, for one caller; 0 for no less than all",
    "max_client_cells": "cells of one caller's grids; 0 for no fewer than of all",
    "max_client_sessions": "one caller's grids and matrices; 0 for no fewer than of all",
    "max_client_jobs": "one caller's training jobs that are uploaded, wait or run; 0 for no fewer than of all",
    "max_attendances": "callers that say that they are there at the same time",
    "lease_seconds": "a caller's grids go when it has been gone for so long",
    "max_cells": "largest grid, in cells",
    "max_total_cells": "cells of all kept grids",
    "max_grids": "grids and matrices kept at the same time",
    "max_solvers_per_grid": "solver set-ups kept for one grid",
    "grid_ttl_seconds": "a grid not used for so long is forgotten",
    "model_folder": "where trained models are stored; empty for a temporary folder that goes with the server",
    "job_folder": "where training jobs are kept, for the next server to go on with; empty for one in the model folder",
    "checkpoint_seconds": "work that a training job may lose where its process or the server is killed",
    "max_attempts": "processes that a job may lose in a row without a step further",
    "max_models": "stored models of one kind",
    "training_workers": "training jobs at the same time, each in a process of its own",
    "training_backend": "where they are worked on: local processes, or a ray cluster",
    "ray_address": "the cluster's: host:port, or auto for the one that this machine belongs to",
    "ray_cpus": "processors of the cluster that a training job has for itself",
    "max_jobs": "training jobs that are uploaded, wait or run; one more is refused",
    "max_ended_jobs": "ended jobs that are still told of",
    "max_table_bytes": "bytes of one call's arrays for training or prediction",
    "max_units": "units of a network that is trained",
    "max_model_bytes": "bytes of a model that is uploaded",
    "max_calls": "calls at the same time; one more is refused",
    "reflection": "tell callers of the services and their messages",
    "channelz": "tell admins of connections and sockets",
    "metrics_port": "where Prometheus finds figures, on this machine only; 0 for nowhere",
    "traces": "send OpenTelemetry traces to where OTEL_EXPORTER_OTLP_ENDPOINT says",
    "log_format": "text, or json: an object a line",
    "log_level": "debug, info, warning or error",
    "log_calls": "a line in the log for every call",
    "dashboard": "show a page on what the server does to browsers on this machine",
    "dashboard_port": "where the dashboard is; 0 for a free port, which the log names",
    "idle_seconds": "an upload that is silent for so long is given up",
    "grace_seconds": "time for running calls to finish when the server is stopped",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `relaxon serve`: one for each of `ServerSettings`, which are only there where given."""
    parser.add_argument(
        "--config", default="", metavar="FILE", help="TOML file of settings (default: what RELAXON_CONFIG names)"
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print all settings as such a file, each with where it comes from, and do not serve",
    )
    for name, default in configuration.DEFAULTS.items():
        option, text = f"--{name.replace('_', '-')}", f"{HELP[name]} (default: {default})"
        if isinstance(default, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=text)
        else:
            metavar = {int: "N", float: "X", str: "TEXT"}[type(default)]
            parser.add_argument(option, type=type(default), default=argparse.SUPPRESS, metavar=metavar, help=text)
    parser.add_argument(
        "--no-compile", dest="compile", action="store_const", const="", default=argparse.SUPPRESS,
        help="compile nothing at the start: first solves wait for it",
    )  # fmt: skip


def given(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given as options."""
    return {name: value for name, value in vars(args).items() if name in configuration.DEFAULTS}


def run(args: argparse.Namespace) -> int:
    """0 when SIGTERM or Ctrl-C has stopped it, 1 where the port or a file cannot be had, 2 for a bad setting."""
    # A path or an address is one line, however narrow the output is.
    console = Console(stderr=True, soft_wrap=True)
    try:
        configured = configuration.load(given(args), os.environ, args.config)
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
