"""The arguments that choose the server that a command calls, and secure the connection."""

# Imported on first use, for their weight: `client`, `client.shared.target`.

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from relaxon.cli.errors import CommandError, UsageError

if TYPE_CHECKING:
    from relaxon.client import Client

TARGET, TOKEN, ROOTS = "RELAXON_TARGET", "RELAXON_TOKEN", "RELAXON_ROOT_CERTIFICATES"
"""Environment variables with defaults for the arguments."""
DEFAULT_SECONDS = 10.0
"""Longest wait for a server's answer."""


def add_arguments(
    parser: argparse.ArgumentParser, default: str = f"{TARGET}, or this machine", timeout: bool = True
) -> None:
    """Add the arguments; `default` says which server is called where none is named, `timeout` adds that option.

    There is no option for a token, because other users of the machine can see a command's options.
    """
    group = parser.add_argument_group("the server", f"A token, where the server asks for one, is read from {TOKEN}.")
    group.add_argument("--target", metavar="HOST:PORT", help=f"default: {default}")
    group.add_argument("--token-from", type=Path, metavar="FILE", help=f"read the token from a file, not from {TOKEN}")
    group.add_argument("--tls", action="store_true", help="use TLS, also without certificates of your own")
    group.add_argument(
        "--root-certificates",
        type=Path,
        metavar="FILE",
        help=f"certificate authorities of the server (default: {ROOTS})",
    )
    group.add_argument(
        "--client-certificate", type=Path, nargs=2, metavar=("FILE", "KEY"), help="your own certificate and its key"
    )
    if timeout:
        seconds = "seconds for each call (default: %(default)s)"
        group.add_argument("--timeout", type=float, default=DEFAULT_SECONDS, metavar="SECONDS", help=seconds)


def connect(args: argparse.Namespace, timeout: float | None = None) -> Client:
    """Connect to the server that the arguments name; CommandError where it does not answer.

    `timeout` replaces the option where that was not added.
    """
    from relaxon import client
    from relaxon.client.shared.target import DEFAULT_TARGET

    try:
        token = args.token_from.read_text("utf-8").strip() if args.token_from else os.environ.get(TOKEN) or None
        roots = args.root_certificates or os.environ.get(ROOTS) or None
        return client.connect(
            args.target or os.environ.get(TARGET) or DEFAULT_TARGET,
            timeout=args.timeout if timeout is None else timeout,
            token=token,
            tls=True if args.tls else None,
            root_certificates=roots,
            client_certificate=tuple(args.client_certificate) if args.client_certificate else None,
        )
    except client.InvalidArgument as error:
        raise UsageError(str(error)) from error
    except (client.RelaxonError, OSError) as error:
        raise CommandError(str(error)) from error
