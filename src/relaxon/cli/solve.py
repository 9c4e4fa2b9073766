"""`relaxon solve`: one system, by one solver and those it is compared with; a matrix of a file in `matrix_solve`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from relaxon.cli import matrix_system, remote
from relaxon.cli import system as systems
from relaxon.cli.completion import completed_by
from relaxon.cli.errors import CommandError, UsageError, lacking
from relaxon.cli.json_output import add_json, check_json, check_writable, text_beside, write_json
from relaxon.cli.solvers import solver_names

if TYPE_CHECKING:
    from relaxon.cli.contest import Run
    from relaxon.cli.progress import LiveProgress
    from relaxon.client import Client

LIST = "list"
DEFAULT_SOLVER = "dcdm"
ANNOUNCED_SECONDS = 1.0
"""Of compiling, from which it is said."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    systems.add_arguments(parser)
    matrix_system.add_arguments(parser)
    group = parser.add_argument_group("the solve")
    solver = group.add_argument(
        "--solver",
        help=f"the solver (default {DEFAULT_SOLVER}, {matrix_system.DEFAULT_SOLVER} with --matrix); "
        "dcdm@cuda for one of the server's GPUs",
    )
    compare = group.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="SOLVER",
        help="more solvers for the same system, with spaces or commas between; pyamg stands for pyamg-sa and pyamg-rs",
    )
    completed_by(solver, solver_names)
    completed_by(compare, solver_names)
    group.add_argument("--rtol", type=float, default=1e-6, help="on ‖b − A x‖/‖b‖ (default %(default)s)")
    group.add_argument("--max-iterations", type=int, metavar="N", help="limit (default: each solver's own)")
    remote.add_arguments(parser, "a server started for this solve; a matrix is solved here", timeout=False)
    group = parser.add_argument_group("what to write")
    group.add_argument(
        "--plot", type=Path, metavar="FILE", help="picture: a slice of the solution or the matrix, convergence, times"
    )
    group.add_argument("--out", type=Path, metavar="FILE", help="the solution for --matrix, as .npy or .mtx")
    add_json(group, "everything that was measured")
    group.add_argument("--quiet", action="store_true", help="no progress and no table; the exit status tells")


def run(args: argparse.Namespace) -> int:
    """0 where the named solver converged and the residual recomputed here agrees, 1 where not, 2 for a mistake."""
    if args.problem == LIST:
        names = systems.problem_names()
        if args.json is None:
            print("\n".join(names))
        write_json(args.json, list(names))
        return 0
    check(args)
    if args.matrix is not None:
        from relaxon.cli import matrix_solve

        return matrix_solve.run(args)
    matrix_system.refuse_without_matrix(args)
    args.solver = DEFAULT_SOLVER if args.solver is None else args.solver
    with text_beside(args.json):
        system, runs = _measured(args)
    if args.json:
        from relaxon.cli import report

        write_json(args.json, report.content(system, runs, {"rtol": args.rtol, "max_iterations": args.max_iterations}))
    return 0 if runs[0].converged else 1


def _measured(args: argparse.Namespace) -> tuple[systems.System, list[Run]]:
    """Solve with every solver, print what came of each as soon as it is known, then the table, and draw the picture."""
    # What follows loads gRPC and rich, which the checks before need not wait for.
    from rich.console import Console

    from relaxon.cli import contest, report
    from relaxon.cli.progress import LiveProgress
    from relaxon.client import RelaxonError
    from relaxon.server.config.threads import wait_asleep

    wait_asleep()  # before anything loads torch, whose threads are OpenMP's
    solvers = contest.expand([args.solver, *args.compare])
    if not contest.expand([args.solver]):
        raise UsageError("--solver must name a solver, got an empty name")
    system = systems.load(args)
    progress = LiveProgress(args.quiet)
    console = Console(quiet=args.quiet, highlight=False)
    runs: list[Run] = []
    progress.console.print(report.describe(system), highlight=False)
    try:
        with _client(args, progress) as client:
            _check_solvers(client, solvers)
            for solver in solvers:
                # The live line is gone before a result is printed: where both go to one terminal, they would mix.
                with progress.shown():
                    runs.append(_run_one(client, system, solver, args, progress, named=not runs))
                if len(solvers) > 1:  # the next one may take minutes
                    report.print_run(console, runs[-1], args.rtol)
    except RelaxonError as error:
        raise CommandError(f"{type(error).__name__}: {error}") from error
    report.print_table(console, report.describe(system), runs, args.rtol)
    console.print(report.verdict(runs[0], args.rtol), style="green" if runs[0].converged else "red", markup=False)
    if args.plot:
        from relaxon.cli.picture import draw

        draw(args.plot, system, runs, args.rtol)
        console.print(f"picture: {args.plot}", markup=False)
    return system, runs


def check(args: argparse.Namespace) -> None:
    """Refuse, before any work, what would fail after it."""
    if not (math.isfinite(args.rtol) and args.rtol > 0):
        raise UsageError(f"--rtol must be a number greater than 0, got {args.rtol}")
    if args.max_iterations is not None and args.max_iterations < 1:
        raise UsageError(f"--max-iterations must be at least 1, got {args.max_iterations}")
    check_json(args.json)
    if args.plot is not None:
        check_writable("--plot", args.plot)
    if args.plot:
        _check_picture(args.plot)


def _check_picture(path: Path) -> None:
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise UsageError(f"--plot {lacking(['matplotlib'], 'plot')}")
    from relaxon.cli.picture import FORMATS

    if path.suffix not in FORMATS:
        raise UsageError(f"--plot must end in {', '.join(FORMATS)}, got {path.name!r}")


@contextmanager
def _client(args: argparse.Namespace, progress: LiveProgress) -> Iterator[Client]:
    """A connection to the server that the arguments name, or to one that lives as long as the block."""
    if args.target is not None:
        with remote.connected(args, remote.DEFAULT_SECONDS) as client:
            yield client
        return
    from relaxon.client import connect
    from relaxon.server.app import EmbeddedServer

    with EmbeddedServer() as server, connect(server.target) as client:
        progress.console.print(f"server started on {server.target}", style="dim", highlight=False)
        yield client


def _check_solvers(client: Client, solvers: Sequence[str]) -> None:
    from relaxon.cli.contest import ALIASES

    known = {solver.name: solver for solver in client.poisson.list_solvers()}
    for name in solvers:
        if "@" in name and name.partition("@")[0] in known:
            continue  # of devices the server says what it thinks
        if name not in known:
            near = get_close_matches(name, [*known, *ALIASES], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageError(f"--solver and --compare must be of {', '.join(sorted(known))}, got {name!r}{hint}")
        if not known[name].available:
            why = lacking(known[name].missing, known[name].extra)
            raise CommandError(f"{name} cannot run on this server: it {why}")


def _announce_compiling(solver: str, system: systems.System, progress: LiveProgress) -> None:
    """Say, where a solver has not been used on this machine, what its first use waits for."""
    from relaxon.solvers.precompile.compiling import compile_seconds, kind_of

    seconds = compile_seconds(kind_of(solver, system.grid))
    if seconds > ANNOUNCED_SECONDS:
        text = f"{solver}: compiled once on a machine; `relaxon compile {solver}` does it ahead"
        progress.console.print(text, style="dim", highlight=False, markup=False)


def _run_one(
    client: Client,
    system: systems.System,
    solver: str,
    args: argparse.Namespace,
    progress: LiveProgress,
    named: bool,
) -> Run:
    """Warm a solver up and run it. A comparison that the server refuses is reported, the named solver's is raised."""
    from relaxon.cli import contest
    from relaxon.client import RelaxonError, Unavailable
    from relaxon.solvers import watch_compiling

    if args.target is None:
        _announce_compiling(solver, system, progress)
    line = progress.start(solver, "loading kernels …")
    try:
        with watch_compiling(lambda state: line.say(str(state))):
            warm_up_seconds = contest.warm_up(client, system, solver)
        progress.console.print(
            f"{solver}: compiled and loaded on a small system in {warm_up_seconds:.1f} s, not counted below",
            style="dim",
            highlight=False,
        )
        line.say("setting up …")
        return contest.solve(client, system, solver, args.rtol, args.max_iterations, line, warm_up_seconds)
    except Unavailable:
        raise
    except RelaxonError as error:
        if named:
            raise
        return contest.refused(solver, error)
    finally:
        line.finish()
