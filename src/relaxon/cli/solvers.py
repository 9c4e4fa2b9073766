"""`relaxon solvers`: the solvers by name, and what each needs."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from relaxon.cli.json_output import add_json, check_json, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser, "the list")


def solver_names() -> list[str]:
    """The solvers' names, best first."""
    from relaxon.solvers import list_solvers

    return [entry.name for entry in list_solvers()]


def run(args: argparse.Namespace) -> int:
    """0, whatever is missing."""
    check_json(args.json)
    from rich.console import Console
    from rich.table import Table

    from relaxon.solvers import list_solvers

    rows = [
        {
            "name": entry.name,
            "summary": entry.summary,
            "missing": [module for module in entry.needs if find_spec(module) is None],
        }
        for entry in list_solvers()
    ]
    write_json(args.json, rows)
    if args.json is not None:
        return 0
    table = Table(box=None, pad_edge=False)
    table.add_column("solver", no_wrap=True)
    table.add_column("what it is")
    table.add_column("available")
    for row in rows:
        missing = ", ".join(row["missing"])
        table.add_row(str(row["name"]), str(row["summary"]), f"needs {missing}" if missing else "yes")
    Console().print(table)
    return 0
