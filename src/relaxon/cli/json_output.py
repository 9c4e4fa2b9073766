"""The option `--json [FILE]` of every command: the results as JSON, in a file or on the output."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from relaxon.cli.errors import UsageError

OUTPUT = Path("-")
"""Stands for the standard output where a file is named."""


def add_json(parser: argparse._ActionsContainer, what: str) -> None:
    """Add the option; `what` names the results in its help text."""
    parser.add_argument(
        "--json",
        nargs="?",
        type=Path,
        const=OUTPUT,
        metavar="FILE",
        help=f"{what} as JSON, in FILE or on the output",
    )


def check_json(path: Path | None) -> None:
    """Refuse, before any work, a file that cannot be written."""
    if path is not None and path != OUTPUT:
        check_writable("--json", path)


def check_writable(option: str, path: Path) -> None:
    """Raise UsageError where the option's file cannot be created."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"{option} {path} cannot be written: it must name a file in a writable folder")


@contextmanager
def text_on_stderr(path: Path | None) -> Iterator[None]:
    """Redirect what the block prints to the error stream where the output is for JSON."""
    if path == OUTPUT:
        with redirect_stdout(sys.stderr):
            yield
    else:
        yield


def write_json(path: Path | None, content: Any, indent: int = 2) -> None:
    """Write the content where the option says, if anywhere; call this outside `text_on_stderr`."""
    if path is None:
        return
    text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
    if path == OUTPUT:
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")
