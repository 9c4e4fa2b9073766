"""`relaxon solvers`: the solvers by name, and what each needs."""

from __future__ import annotations

import argparse
from importlib.util import find_spec


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    import json

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
    if args.json:
        print(json.dumps(rows, indent=2))
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
