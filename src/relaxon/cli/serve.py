"""`relaxon serve`: run the gRPC server."""

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
    "port": "port to listen on; 0 for a free one",
    "insecure": "allow an address that other machines reach without both encryption and authentication",
    "tls_certificate": "PEM file of the server's certificate; with it, calls are encrypted",
    "tls_key": "PEM file of the key of the certificate",
    "tls_client_ca": "PEM file of the authorities whose certificates callers must show",
    "certificate_role": "role of callers who show only a certificate: read, solve, train or admin",
    "token_file": "file of tokens, made by `relaxon token add`; with it, every call needs a token",
    "open_health": "answer health checks without a token",
    "shared_memory": "exchange arrays with callers on this machine through shared memory",
    "compile": "solvers to compile in the background at the start, separated by commas; empty for none",
    "workers": "concurrent solves; each uses all threads",
    "max_pending": "most solves that wait, run or send their answer; further ones are refused",
    "memory_bytes": "estimated memory of kept grids, their set-ups and running calls; 0 for half of the machine's",
    "max_client_bytes": "share of memory_bytes for one caller; 0 for all of it",
    "max_client_cells": "most cells in the grids of one caller; 0 for max_total_cells",
    "max_client_sessions": "most grids and matrices of one caller; 0 for max_grids",
    "max_client_jobs": "most training jobs of one caller that are uploaded, wait or run; 0 for max_jobs",
    "max_attendances": "most callers that can announce their presence at the same time",
    "lease_seconds": "time after which the grids of a caller that is gone are deleted",
    "max_cells": "cells of the largest grid",
    "max_total_cells": "most cells in all kept grids together",
    "max_grids": "most grids and matrices that are kept",
    "max_solvers_per_grid": "most solver set-ups kept for one grid",
    "grid_ttl_seconds": "time after which an unused grid is deleted",
    "model_folder": "folder of the trained models; empty for a temporary folder, deleted when the server ends",
    "job_folder": "folder of the training jobs, which the next server continues; empty for one in the model folder",
    "checkpoint_seconds": "most work that a training job loses when its process or the server is killed",
    "max_attempts": "most processes that a job may lose in a row without progress",
    "max_models": "most stored models of one kind",
    "training_workers": "concurrent training jobs, each in a process of its own",
    "training_backend": "where training jobs run: local for processes on this machine, ray for a Ray cluster",
    "ray_address": "address of the Ray cluster: host:port, or auto for the one that this machine belongs to",
    "ray_cpus": "processors of the cluster reserved for each training job",
    "max_jobs": "most training jobs that are uploaded, wait or run; further ones are refused",
    "max_ended_jobs": "most ended jobs that are still listed",
    "max_table_bytes": "most bytes in the arrays of one call for training or prediction",
    "max_units": "most units of a network",
    "max_model_bytes": "most bytes of an uploaded model",
    "max_calls": "most concurrent calls; further ones are refused",
    "reflection": "describe the services and their messages to callers (gRPC reflection)",
    "channelz": "describe connections and sockets to admins (gRPC channelz)",
    "metrics_port": "port of the Prometheus metrics, on this machine only; 0 for none",
    "traces": "send OpenTelemetry traces to OTEL_EXPORTER_OTLP_ENDPOINT",
    "log_format": "text, or json for one object per line",
    "log_level": "least severe messages to log: debug, info, warning or error",
    "log_calls": "log every call",
    "dashboard": "serve a page on the state of the server to browsers on this machine",
    "dashboard_port": "port of the dashboard; 0 for a free one, which the log names",
    "idle_seconds": "time after which a silent upload is ended",
    "grace_seconds": "time for running calls to finish when the server is stopped",
}


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
    for name, default in configuration.DEFAULTS.items():
        option, text = f"--{name.replace('_', '-')}", f"{HELP[name]} (default: {default})"
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
