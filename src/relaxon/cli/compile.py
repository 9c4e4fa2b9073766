"""`relaxon compile`: compile kernels ahead of time, so that a server's first callers need not wait.

Imported on first use, for their weight: rich, the solvers.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from relaxon.cli.completion import complete_from
from relaxon.cli.errors import UsageError
from relaxon.cli.json_output import add_json, check_json, write_json
from relaxon.cli.solvers import list_solver_names

if TYPE_CHECKING:
    from relaxon.core.compile_progress import Watcher

DEFAULT = ("dcdm",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    solvers = parser.add_argument("solvers", nargs="*", metavar="SOLVER", help="the solvers (default dcdm)")
    complete_from(solvers, list_solver_names)
    parser.add_argument(
        "--ndim", type=int, nargs="+", choices=(2, 3), default=[3], help="dimensions of the grids (default 3)"
    )
    parser.add_argument(
        "--varying",
        action="store_true",
        help="also for grids with varying κ, σ, stretched widths or Robin sides",
    )
    parser.add_argument("--matrix", action="store_true", help="also for sparse matrices, with the solver auto")
    add_json(parser, "the seconds of each")


def run(args: argparse.Namespace) -> int:
    """0; 2 for an unknown solver."""
    check_json(args.json)
    from rich.console import Console

    from relaxon.solvers.driver.warm_up import small_matrices, usual_grid, warm_up
    from relaxon.solvers.interface import registry

    names = list(dict.fromkeys(args.solvers or DEFAULT))
    for name in names:
        try:
            registry.find_solver(name)
        except (ValueError, RuntimeError) as error:
            raise UsageError(str(error)) from error
    console = Console(stderr=True)
    rows: list[dict[str, object]] = []

    def measure(kind: str, row: dict[str, object], work: Callable[[Watcher], float]) -> None:
        with console.status(f"{kind}: loading …") as line:
            seconds = work(lambda progress: line.update(f"{kind}: {progress}"))
        console.print(f"{kind}: {seconds:.1f} s", highlight=False)
        rows.append({**row, "seconds": seconds})

    for name in names:
        for ndim in dict.fromkeys(args.ndim):
            for varying in (False, True) if args.varying else (False,):
                kind = f"{name} in {ndim} dimensions, {'varying κ' if varying else 'κ = 1'}"
                grid = usual_grid(ndim, varying)
                row = {"solver": name, "ndim": ndim, "varying": varying}
                measure(kind, row, partial(warm_up, name, grid))
    if args.matrix:
        row = {"solver": "auto", "matrix": True}
        measure("auto for sparse matrices", row, partial(warm_up, "auto", next(small_matrices())))
    write_json(args.json, rows)
    return 0
