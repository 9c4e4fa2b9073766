"""The option `--json [FILE]`, the same for every command: the results as JSON, to a file or to the output."""

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
"""In the place of a file: the standard output."""


def add_json(parser: argparse._ActionsContainer, what: str) -> None:
    """Add the option; `what` is what is written."""
    parser.add_argument(
        "--json",
        nargs="?",
        type=Path,
        const=OUTPUT,
        metavar="FILE",
        help=f"{what} as JSON, to FILE or to the output",
    )


def check_json(path: Path | None) -> None:
    """Refuse, before any work, a file that cannot be written after it."""
    if path is not None and path != OUTPUT:
        check_writable("--json", path)


def check_writable(option: str, path: Path) -> None:
    """UsageError where the option's file cannot be made."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"{option} {path} cannot be written: it must name a file in a folder that can be written to")


@contextmanager
def text_beside(path: Path | None) -> Iterator[None]:
    """Keeps the output free for JSON, where that goes there: what the block prints is seen on the error stream."""
    if path == OUTPUT:
        with redirect_stdout(sys.stderr):
            yield
    else:
        yield


def write_json(path: Path | None, content: Any, indent: int = 2) -> None:
    """Write it where the option says, if anywhere; call it outside `text_beside`."""
    if path is None:
        return
    text = json.dumps(content, indent=indent, allow_nan=False) + "\n"
    if path == OUTPUT:
        sys.stdout.write(text)
    else:
        path.write_text(text, encoding="utf-8")
