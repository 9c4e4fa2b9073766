"""`relaxon solve`: solve one system, on a grid or with the matrix of a file, and compare solvers on it.

Imported on first use, for their weight: rich, gRPC, the solvers, matplotlib.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relaxon.cli import grid_system, matrix_system, remote
from relaxon.cli.completion import complete_from
from relaxon.cli.errors import UsageError, describe_missing
from relaxon.cli.json_output import add_json, check_json, check_writable, text_on_stderr, write_json
from relaxon.cli.solvers import list_solver_names

if TYPE_CHECKING:
    from rich.console import Console

    from relaxon.cli.contest import Order, Run, Venue
    from relaxon.cli.progress import LiveProgress

LIST = "list"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    grid_system.add_arguments(parser)
    matrix_system.add_arguments(parser)
    group = parser.add_argument_group("the solve")
    solver = group.add_argument(
        "--solver",
        help=f"the solver (default {grid_system.DEFAULT_SOLVER}, or {matrix_system.DEFAULT_SOLVER} with --matrix); "
        "dcdm@cuda for one of the server's GPUs",
    )
    compare = group.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="SOLVER",
        help="further solvers for the same system, separated by spaces or commas; pyamg stands for pyamg-sa and "
        "pyamg-rs",
    )
    complete_from(solver, list_solver_names)
    complete_from(compare, list_solver_names)
    group.add_argument("--rtol", type=float, default=1e-6, help="tolerance on ‖b − A x‖/‖b‖ (default %(default)s)")
    group.add_argument("--max-iterations", type=int, metavar="N", help="most iterations (default: each solver's own)")
    remote.add_arguments(parser, "a server started for this solve; a matrix is solved in this process", timeout=False)
    group = parser.add_argument_group("what to write")
    group.add_argument(
        "--plot", type=Path, metavar="FILE", help="picture: a slice of the solution or the matrix, convergence, times"
    )
    group.add_argument("--out", type=Path, metavar="FILE", help="the solution for --matrix, as .npy or .mtx")
    add_json(group, "all measurements")
    group.add_argument("--quiet", action="store_true", help="no progress and no table, only the exit status")


def run(args: argparse.Namespace) -> int:
    """0 where the named solver converged and the residual recomputed here agrees, 1 where not, 2 for a mistake."""
    if args.problem == LIST:
        names = grid_system.list_problem_names()
        if args.json is None:
            print("\n".join(names))
        write_json(args.json, list(names))
        return 0
    check(args)
    matrix_system.check(args)
    if args.solver is None:
        args.solver = (grid_system if args.matrix is None else matrix_system).DEFAULT_SOLVER
    with text_on_stderr(args.json):
        system, runs = _run_all(args)
    if args.json:
        from relaxon.cli import report

        write_json(
            args.json, report.build_record(system, runs, {"rtol": args.rtol, "max_iterations": args.max_iterations})
        )
    return 0 if runs[0].converged else 1


def _run_all(args: argparse.Namespace) -> tuple[Any, list[Run]]:
    """Run every solver, print the outcome of each at once, then the table; write the solution and the picture."""
    from rich.console import Console

    from relaxon.cli import contest, report
    from relaxon.cli.progress import LiveProgress
    from relaxon.server.config.threads import wait_asleep

    wait_asleep()  # before anything loads torch, whose threads are OpenMP's
    solvers = contest.expand_names([args.solver, *args.compare])
    if not contest.expand_names([args.solver]):
        raise UsageError("--solver must name a solver, got an empty name")
    progress = LiveProgress(args.quiet)
    console = Console(quiet=args.quiet, highlight=False, emoji=False)
    system: Any = (grid_system if args.matrix is None else matrix_system).load(args)
    if args.matrix is None:
        progress.console.print(system.describe(), highlight=False)
    else:
        from relaxon.cli.matrix_structure import print_structure

        print_structure(console, system)
    with _open_venue(args, progress) as venue, contest.explain_refusals(venue):
        runs, order = _run_solvers(args, venue, system, solvers, console, progress)
    heading = system.describe()
    report.print_table(console, heading, runs, args.rtol, venue.recomputed)
    if args.matrix is not None and runs[0].converged and runs[0].message:
        console.print(runs[0].message, style="dim", markup=False)
    console.print(
        report.describe_outcome(runs[0], args.rtol), style="green" if runs[0].converged else "red", markup=False
    )
    if args.out and runs[0].x is not None:
        matrix_system.write_solution(args.out, runs[0].x)
        console.print(f"solution: {args.out}", markup=False)
    if args.plot:
        from relaxon.cli.picture import draw

        draw(args.plot, system, runs, args.rtol, order)
        console.print(f"picture: {args.plot}", markup=False)
    return system, runs


def _open_venue(args: argparse.Namespace, progress: LiveProgress) -> AbstractContextManager[Venue[Any]]:
    """Return the place where the system is solved: a server, or this process for a matrix."""
    if args.matrix is None:
        from relaxon.cli import grid_contest

        return grid_contest.open_venue(args, progress)
    from relaxon.cli import matrix_contest

    return matrix_contest.open_venue(args)


def _run_solvers(
    args: argparse.Namespace,
    venue: Venue[Any],
    system: Any,
    solvers: Sequence[str],
    console: Console,
    progress: LiveProgress,
) -> tuple[list[Run], Order]:
    """Return the runs, and the order in which the named solver took the rows."""
    from relaxon.cli import contest, report

    reasons = contest.check_solvers(venue, solvers)
    runs: list[Run] = []
    order: Order = None
    for solver in solvers:
        used: Order = None
        # The live line is gone before an outcome is printed: on one terminal they would mix.
        with progress.show():
            if reason := reasons.get(solver):
                run = contest.refuse(solver, reason)
            else:
                limits = args.rtol, args.max_iterations
                run, used = contest.run_one(venue, system, solver, *limits, progress, named=not runs)
        order = order if runs else used
        runs.append(run)
        if len(solvers) > 1:  # the next one may take minutes
            report.print_run(console, run, args.rtol)
    return runs, order


def check(args: argparse.Namespace) -> None:
    """Refuse, before any work, what would fail after it."""
    if not (math.isfinite(args.rtol) and args.rtol > 0):
        raise UsageError(f"--rtol must be a number greater than 0, got {args.rtol}")
    if args.max_iterations is not None and args.max_iterations < 1:
        raise UsageError(f"--max-iterations must be at least 1, got {args.max_iterations}")
    check_json(args.json)
    if args.plot is not None:
        check_writable("--plot", args.plot)
        _check_picture(args.plot)


def _check_picture(path: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise UsageError(f"--plot {describe_missing(['matplotlib'], 'plot')}")
    from relaxon.cli.picture import FORMATS

    if path.suffix not in FORMATS:
        raise UsageError(f"--plot must end in {', '.join(FORMATS)}, got {path.name!r}")
