"""`relaxon token`: add, list and remove the tokens of a server."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from relaxon.cli.errors import CommandError, UsageError
from relaxon.server.gate import tokens
from relaxon.server.gate.identity import Role

FILE = "RELAXON_TOKEN_FILE"
ROLES = {
    "read": "look at models, jobs and the state of the server",
    "solve": "also keep grids, solve and predict",
    "train": "also train, upload and delete models",
    "admin": "also see and change what belongs to other callers, and the server's internals",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three actions."""
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    add = actions.add_parser("add", help="create a token and print it, once; the file keeps only its hash")
    add.add_argument("name", help="name of the caller; tokens with the same name belong to one caller")
    add.add_argument(
        "--role", choices=ROLES, required=True, help="; ".join(f"{role}: {text}" for role, text in ROLES.items())
    )
    add.add_argument(
        "--days", type=int, metavar="N", help="days for which the token is valid (default: until it is removed)"
    )
    listed = actions.add_parser("list", help="list names, roles and dates, but no tokens")
    listed.add_argument("--json", action="store_true", help="print JSON")
    remove = actions.add_parser("remove", help="remove all tokens of a name; a running server refuses them at once")
    remove.add_argument("name")
    for subparser in (add, listed, remove):
        subparser.add_argument(
            "--file",
            type=Path,
            default=os.environ.get(FILE) and Path(os.environ[FILE]),
            help=f"the server's token_file (default: the file named by {FILE})",
        )


def run(args: argparse.Namespace) -> int:
    """0 where it was done."""
    if args.file is None:
        raise UsageError(f"--file must name the server's token file where {FILE} does not")
    try:
        return {"add": _add, "list": _list, "remove": _remove}[args.action](args)
    except OSError as error:
        raise CommandError(f"{args.file}: {error.strerror or error}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def _add(args: argparse.Namespace) -> int:
    expires = None
    if args.days is not None:
        if args.days < 1:
            raise UsageError(f"--days must be at least 1, got {args.days}")
        expires = (datetime.now(UTC) + timedelta(days=args.days)).date()
    token = tokens.add(args.file, args.name, Role[args.role.upper()], expires)
    print("This token is not shown again:", file=sys.stderr)
    print(token)
    return 0


def _list(args: argparse.Namespace) -> int:
    rows = [
        {
            "name": entry.name,
            "role": entry.role.name.lower(),
            "added": entry.added.isoformat(),
            "expires": entry.expires.isoformat() if entry.expires else None,
        }
        for entry in tokens.read(args.file)
    ]
    if args.json:
        print(json.dumps(rows, indent=1))
        return 0
    for row in rows:
        print(f"{row['name']}  {row['role']}  added {row['added']}  expires {row['expires'] or 'never'}")
    return 0


def _remove(args: argparse.Namespace) -> int:
    gone = tokens.remove(args.file, args.name)
    if not gone:
        raise CommandError(f"{args.file} has no token of {args.name!r}")
    print(f"{gone} removed")
    return 0
