"""`relaxon stress poisson`: solve random systems of every awkward kind; no solver may report a wrong answer as right.

`relaxon stress service` is in `stress_service`, and `relaxon stress sparse` in `stress_sparse`.
Imported on first use, for their weight: rich, the solvers.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from relaxon.cli import stress_cases, stress_service, stress_sparse
from relaxon.cli.completion import complete_from
from relaxon.cli.errors import UsageError
from relaxon.cli.json_output import add_json, text_on_stderr
from relaxon.cli.solvers import list_solver_names

if TYPE_CHECKING:
    from rich.console import Console

    from relaxon.solvers.stress import Trial, TrialSettings

POISSON = "Solve random systems of every awkward kind, and check each answer."
SERVICE = "Let crowds of clients use a server in every way and be killed, check each answer, and look for leaks."
SPARSE = "Solve random sparse systems of every awkward kind, and check each answer in extended precision."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(metavar="what", required=True)
    service = what.add_parser("service", help=SERVICE, description=SERVICE)
    stress_service.add_arguments(service)
    service.set_defaults(stress=stress_service.run)
    sparse = what.add_parser("sparse", help=SPARSE, description=SPARSE)
    stress_sparse.add_arguments(sparse)
    sparse.set_defaults(stress=stress_sparse.run)
    parser = what.add_parser("poisson", help=POISSON, description=POISSON)
    parser.set_defaults(stress=_run_poisson)
    stress_cases.add_case_arguments(parser, 200)
    solver = parser.add_argument("--solver", default="dcdm", help="the solver (default %(default)s)")
    complete_from(solver, list_solver_names)
    parser.add_argument("--few", type=int, default=30, help="iterations that should be enough (default %(default)s)")
    parser.add_argument("--limit", type=int, default=1000, help="most iterations (default %(default)s)")
    parser.add_argument("--max-cells", type=int, default=50_000, help="size of the largest grids (default %(default)s)")
    add_json(parser, "every case with its outcome and residual")


def run(args: argparse.Namespace) -> int:
    """0 where no CONVERGED was wrong, nothing was raised and nothing was left behind, 1 where not, 2 for a mistake;
    slow convergence is no failure."""
    status: int = args.stress(args)
    return status


def _run_poisson(args: argparse.Namespace) -> int:
    from rich.console import Console

    from relaxon.server.config.threads import wait_asleep
    from relaxon.solvers.stress import make_case, run_trial

    wait_asleep()  # before anything loads torch, whose threads are OpenMP's
    settings, numbers = _read_settings(args), stress_cases.choose_cases(args)
    trials: list[Trial] = []

    def run_case(number: int) -> int:
        trials.append(run_trial(make_case(args.seed, number, args.max_cells), settings))
        return sum(not trial.converged_within(settings.few) for trial in trials)

    try:
        stress_cases.run_cases(numbers, "slow", run_case)
    finally:  # an interrupted run leaves what it has found
        stress_cases.write_record(args, ("seed", "solver", "rtol", "few", "limit", "max_cells"), trials)
    with text_on_stderr(args.json):
        return _print_report(Console(highlight=False, emoji=False), args, settings, trials)


def _read_settings(args: argparse.Namespace) -> TrialSettings:
    from relaxon.solvers.interface import registry
    from relaxon.solvers.stress import TrialSettings, make_case

    try:
        registry.find_solver(args.solver)
        settings = TrialSettings(args.solver, args.rtol, args.few, args.limit)
        make_case(0, 0, args.max_cells)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--{str(error).replace('max_cells', 'max-cells', 1)}") from error
    return settings


def _print_report(console: Console, args: argparse.Namespace, settings: TrialSettings, trials: list[Trial]) -> int:
    from rich.markup import escape
    from rich.table import Table

    from relaxon.solvers.stress.matrix_trial import AT_LIMIT, NO_ANSWER

    slow = [trial for trial in trials if not trial.converged_within(settings.few)]
    if slow:
        title = f"not converged to {settings.rtol:g} within {settings.few} iterations"
        table = Table(title=title, box=None, pad_edge=False, title_justify="left")
        for name in ("case", "ended", "iterations", "residual", "unknowns"):
            table.add_column(name, justify="left" if name == "ended" else "right", no_wrap=True)
        table.add_column("what it is")
        for trial in slow[: stress_cases.SHOWN]:
            residual = f"{trial.relative_residual:.1e}"
            what = escape(trial.raised or "; ".join(part for part in (trial.explanation, trial.summary) if part))
            ended = "WRONG" if trial.wrong else trial.result
            table.add_row(str(trial.number), ended, str(trial.iterations), residual, str(trial.unknowns), what)
        console.print(table)
        again = f"relaxon stress poisson --seed {args.seed} --max-cells {args.max_cells} --solver {args.solver}"
        stress_cases.print_remainder(console, slow, again)
    wrong, raised = sum(trial.wrong for trial in trials), sum(bool(trial.raised) for trial in trials)
    never = sum(trial.result != "converged" for trial in trials) - raised
    counts = sorted(trial.iterations for trial in trials if trial.result == "converged")
    table = Table(
        title=f"{args.solver}: {len(trials)} cases, seed {args.seed}", box=None, title_justify="left", show_header=False
    )
    for name, value in (
        ("wrong CONVERGED", str(wrong)),
        ("raised", str(raised)),
        (f"within {settings.few} iterations", str(len(trials) - len(slow))),
        ("converged later", str(len(slow) - never - raised - wrong)),
        (f"not within {settings.limit}", str(never)),
        ("  of these beyond float64", str(sum(trial.explanation.startswith((NO_ANSWER, AT_LIMIT)) for trial in slow))),
        ("iterations, median and most", f"{counts[len(counts) // 2]}, {counts[-1]}" if counts else "–"),
        ("seconds in the solver", f"{sum(trial.seconds for trial in trials):.1f}"),
    ):
        table.add_row(name, value)
    console.print(table)
    failed = bool(wrong or raised)
    console.print("FAILED" if failed else "no wrong answer was called right", style="red" if failed else "green")
    return 1 if failed else 0
