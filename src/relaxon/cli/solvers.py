"""`relaxon solvers`: list the solvers and the packages that each needs.

Imported on first use, for their weight: rich, the solvers.
"""

from __future__ import annotations

import argparse

from relaxon.cli.errors import describe_missing
from relaxon.cli.json_output import add_json, check_json, write_json
from relaxon.core.extras import find_extra, find_missing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser, "the list")


def list_solver_names() -> list[str]:
    """Return the names of the solvers, the best first."""
    from relaxon.solvers import list_solvers

    return [entry.name for entry in list_solvers()]


def run(args: argparse.Namespace) -> int:
    """0, also where packages are missing."""
    check_json(args.json)
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from relaxon.solvers import list_solvers
    from relaxon.solvers.sparse.choice.automatic import all_matrix_solvers

    listed = [("grids", entry.name, entry.summary, entry.needs) for entry in list_solvers()]
    listed += [("matrices", name, solver.summary, solver.needs) for name, solver in all_matrix_solvers().items()]
    rows = []
    for system, name, summary, needs in listed:
        missing = find_missing(needs)
        rows.append(
            {
                "name": name,
                "for": system,
                "summary": summary,
                "missing": list(missing),
                "extra": find_extra(missing),
            }
        )
    write_json(args.json, rows)
    if args.json is not None:
        return 0
    table = Table(box=None, pad_edge=False)
    table.add_column("solver", no_wrap=True)
    table.add_column("for", no_wrap=True)
    table.add_column("description")
    table.add_column("available")
    for row in rows:
        lacks, extra = list(row["missing"]), str(row["extra"])
        table.add_row(
            str(row["name"]),
            str(row["for"]),
            Text(str(row["summary"])),
            Text(describe_missing(lacks, extra) if lacks else "yes"),
        )
    Console().print(table)
    return 0
