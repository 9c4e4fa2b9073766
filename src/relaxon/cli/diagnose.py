"""`relaxon diagnose`: a page on the rows that matter to a stored network and on those that look wrong."""

from __future__ import annotations

import argparse
from typing import Any

from relaxon.cli.json_output import add_json, check_json, check_writable, text_on_stderr, write_json
from relaxon.neuromorphic.diagnostics import command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    command.add_arguments(parser)
    add_json(parser, "the scores of all rows")


def run(args: argparse.Namespace) -> int:
    """0 when the page is written, 1 where a package is missing, 2 for a mistake."""
    check_json(args.json)
    check_writable("--out", args.out)
    records: list[dict[str, Any]] = []
    with text_on_stderr(args.json):
        status = command.run(args, records.append)
    for record in records:
        write_json(args.json, record)
    return status
