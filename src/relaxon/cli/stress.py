"""`relaxon stress poisson`: random systems of every awkward kind; no solver may call a wrong answer right.

`relaxon stress service` is in `stress_service`, `relaxon stress sparse` in `stress_sparse`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from relaxon.cli import stress_service, stress_sparse
from relaxon.cli.completion import completed_by
from relaxon.cli.errors import UsageError
from relaxon.cli.json_output import add_json, check_json, text_beside, write_json
from relaxon.cli.solvers import solver_names

if TYPE_CHECKING:
    from rich.console import Console

    from relaxon.solvers.stress import Trial, TrialSettings

POISSON = "Solve random systems of every awkward kind, and check each answer."
SERVICE = "Have crowds of clients use a server in every way and die, check each answer, and see what is left behind."
SPARSE = "Solve random sparse systems of every awkward kind, and check each answer in extended precision."
SHOWN = 40
"""Cases that did not converge in few iterations that the table names; the JSON file has all of them."""


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
    parser.add_argument("--count", type=int, default=200, help="cases (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the sequence of cases (default %(default)s)")
    parser.add_argument("--only", type=int, nargs="+", metavar="K", help="these cases of the sequence alone")
    completed_by(parser.add_argument("--solver", default="dcdm", help="the solver (default %(default)s)"), solver_names)
    parser.add_argument("--rtol", type=float, default=1e-6, help="on ‖b − A x‖/‖b‖ (default %(default)s)")
    parser.add_argument("--few", type=int, default=30, help="iterations that should do (default %(default)s)")
    parser.add_argument("--limit", type=int, default=1000, help="iterations that are given (default %(default)s)")
    parser.add_argument("--max-cells", type=int, default=50_000, help="of the largest grids (default %(default)s)")
    add_json(parser, "every case, its outcome and its residual")


def run(args: argparse.Namespace) -> int:
    """0 where no CONVERGED was wrong, nothing was raised and nothing left behind, 1 where not, 2 for a mistake; slow is
    not wrong."""
    status: int = args.stress(args)
    return status


def _run_poisson(args: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from relaxon.server.config.threads import wait_asleep
    from relaxon.solvers.stress import make_case, run_trial

    wait_asleep()  # before anything loads torch, whose threads are OpenMP's
    settings = _settings(args)
    numbers = _numbers(args)
    trials: list[Trial] = []
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[slow]} slow"), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("cases", total=len(numbers), slow=0)
            for number in numbers:
                trials.append(run_trial(make_case(args.seed, number, args.max_cells), settings))
                slow = sum(not trial.converged_within(settings.few) for trial in trials)
                bar.update(task, advance=1, slow=slow)
    finally:
        # An interrupted run leaves what it has found.
        if trials:
            write_json(args.json, _record(args, trials), indent=1)
    with text_beside(args.json):
        return _report(Console(highlight=False, emoji=False), args, settings, trials)


def _settings(args: argparse.Namespace) -> TrialSettings:
    from relaxon.solvers.driver import registry
    from relaxon.solvers.stress import TrialSettings, make_case

    try:
        registry.get(args.solver)
        settings = TrialSettings(args.solver, args.rtol, args.few, args.limit)
        make_case(0, 0, args.max_cells)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--{str(error).replace('max_cells', 'max-cells', 1)}") from error
    check_json(args.json)
    return settings


def _numbers(args: argparse.Namespace) -> list[int]:
    if args.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {args.seed}")
    if args.only is None:
        if args.count < 1:
            raise UsageError(f"--count must be at least 1, got {args.count}")
        return list(range(args.count))
    if min(args.only) < 0:
        raise UsageError(f"--only must be at least 0, got {min(args.only)}")
    return list(args.only)


def _report(console: Console, args: argparse.Namespace, settings: TrialSettings, trials: list[Trial]) -> int:
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
        for trial in slow[:SHOWN]:
            residual = f"{trial.relative_residual:.1e}"
            what = escape(trial.raised or "; ".join(part for part in (trial.explanation, trial.summary) if part))
            ended = "WRONG" if trial.wrong else trial.result
            table.add_row(str(trial.number), ended, str(trial.iterations), residual, str(trial.unknowns), what)
        console.print(table)
        if len(slow) > SHOWN:
            console.print(f"… and {len(slow) - SHOWN} more (--json FILE has all)")
        again = (
            f"relaxon stress poisson --seed {args.seed} --max-cells {args.max_cells} --solver {args.solver} --only K"
        )
        console.print(f"one of them again: {again}", style="dim", soft_wrap=True)
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


def _record(args: argparse.Namespace, trials: list[Trial]) -> dict[str, Any]:
    from dataclasses import asdict

    from relaxon.cli.machine import describe_machine

    rows = [asdict(trial) for trial in trials]
    for row in rows:
        for key in ("relative_residual", "rounding", "scaled_residual"):
            row[key] = row[key] if abs(row[key]) < float("inf") else None  # JSON has no infinity
    asked = {name: getattr(args, name) for name in ("seed", "solver", "rtol", "few", "limit", "max_cells")}
    return {"settings": asked, "machine": describe_machine().as_dict(), "trials": rows}
