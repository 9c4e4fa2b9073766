"""`relaxon stress sparse`: random sparse systems of every awkward kind; no solver may call a wrong answer right."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from relaxon.cli.errors import UsageError
from relaxon.cli.json_output import add_json, check_json, text_beside, write_json

if TYPE_CHECKING:
    from rich.console import Console

    from relaxon.solvers.stress import MatrixTrial, MatrixTrialSettings, Regret

SHOWN = 40
"""Failures, and cases of regret, that the tables name; the JSON file has all of them."""
SOLVERS = ("auto", "amg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    parser.add_argument("--count", type=int, default=500, help="cases (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the sequence of cases (default %(default)s)")
    parser.add_argument("--only", type=int, nargs="+", metavar="K", help="these cases of the sequence alone")
    names = f"the solvers, each on every case (default {' '.join(SOLVERS)})"
    parser.add_argument("--solver", nargs="+", default=list(SOLVERS), metavar="SOLVER", help=names)
    parser.add_argument("--rtol", type=float, default=1e-6, help="on ‖b − A x‖/‖b‖ (default %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="iterations (default: each solver's own)")
    most = "of the largest matrices; most have a tenth of it at most (default %(default)s)"
    parser.add_argument("--max-unknowns", type=int, default=60_000, help=most)
    regret = "time the automatic choice against the best of the project's own solvers too; on a quiet machine"
    parser.add_argument("--regret", action="store_true", help=regret)
    add_json(parser, "every case, its outcome and its residuals")


def run(args: argparse.Namespace) -> int:
    """Return 0 where no CONVERGED was wrong and nothing was raised, 1 where not, 2 for a mistake."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from relaxon.server.config.threads import wait_asleep

    wait_asleep()  # before anything loads torch, whose threads are OpenMP's
    settings, numbers = _settings(args), _numbers(args)
    trials: list[MatrixTrial] = []
    regrets: list[Regret] = []
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[failed]} failed"), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("cases", total=len(numbers), failed=0)
            for number in numbers:
                _run_case(args, settings, number, trials, regrets)
                bar.update(task, advance=1, failed=sum(trial.result != "converged" for trial in trials))
    finally:
        # An interrupted run leaves what it has found.
        if trials:
            write_json(args.json, _record(args, trials, regrets), indent=1)
    with text_beside(args.json):
        console = Console(highlight=False, emoji=False)
        _report_failures(console, args, trials)
        if args.regret:
            _report_regret(console, regrets)
        return _report_counts(console, args, trials)


def _run_case(
    args: argparse.Namespace,
    settings: MatrixTrialSettings,
    number: int,
    trials: list[MatrixTrial],
    regrets: list[Regret],
) -> None:
    """Run one case through every solver; the first case also compiles, which no case is charged for."""
    from relaxon.solvers import warm_up
    from relaxon.solvers.stress import make_matrix_case, measure_regret, run_matrix_trial

    case = make_matrix_case(args.seed, number, args.max_unknowns)
    if not trials:
        for solver in args.solver:
            warm_up(solver, case.judged)
    trials.extend(run_matrix_trial(case, solver, settings) for solver in args.solver)
    if args.regret and (found := measure_regret(case, settings)) is not None:
        regrets.append(found)


def _settings(args: argparse.Namespace) -> MatrixTrialSettings:
    from relaxon.solvers.sparse.choice.automatic import find_solver
    from relaxon.solvers.stress import MatrixTrialSettings, make_matrix_case

    try:
        for solver in args.solver:
            find_solver(solver)
        settings = MatrixTrialSettings(args.rtol, args.limit)
        make_matrix_case(0, 0, args.max_unknowns)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--{str(error).replace('max_unknowns', 'max-unknowns', 1)}") from error
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


def _report_failures(console: Console, args: argparse.Namespace, trials: list[MatrixTrial]) -> None:
    """Print every case that a solver has not solved, and why."""
    from rich.markup import escape

    failed = [trial for trial in trials if trial.wrong or trial.result != "converged"]
    failed.sort(key=lambda trial: (not trial.wrong, not trial.raised))
    for trial in failed[:SHOWN]:
        ended = "WRONG CONVERGED" if trial.wrong else trial.result
        residuals = f"residual {trial.relative_residual:.1e}, scaled {trial.scaled_residual:.1e}"
        why = "; ".join(part for part in (trial.raised, trial.explanation, trial.message) if part)
        console.print(f"case {trial.number}, {trial.solver}: [bold]{ended}[/], {residuals}", soft_wrap=True)
        console.print(f"  {escape(trial.summary)}", style="dim", soft_wrap=True)
        console.print(f"  {escape(why)}", soft_wrap=True)
    if len(failed) > SHOWN:
        console.print(f"… and {len(failed) - SHOWN} more (--json FILE has all)")
    if failed:
        again = f"relaxon stress sparse --seed {args.seed} --max-unknowns {args.max_unknowns} --only K"
        console.print(f"one of them again: {again}", style="dim", soft_wrap=True)


def _report_regret(console: Console, regrets: list[Regret]) -> None:
    """Print how much longer the automatic choice took than the best of the project's own solvers."""
    from rich.markup import escape

    from relaxon.solvers.stress.matrix_trial import FACTOR, SLACK

    over = sorted((one for one in regrets if one.excessive), key=lambda one: -one.automatic / one.best)
    mean = math.exp(sum(math.log(max(one.ratio, 1e-3)) for one in regrets) / max(len(regrets), 1))
    for one in over[:SHOWN]:
        console.print(
            f"case {one.number}: auto {one.automatic:.3f} s, {one.solver} {one.best:.3f} s ({one.ratio:.1f} times); "
            f"{escape(one.summary)}",
            soft_wrap=True,
        )
    console.print(
        f"regret: auto over {FACTOR:g} × the best of our own + {SLACK * 1000:g} ms in {len(over)} of {len(regrets)} "
        f"cases; {mean:.2f} times the best in the geometric mean",
        soft_wrap=True,
    )


def _report_counts(console: Console, args: argparse.Namespace, trials: list[MatrixTrial]) -> int:
    """Print the counts of each solver, and return the exit status."""
    from rich.table import Table

    cases = len(trials) // len(args.solver)
    table = Table(title=f"{cases} cases, seed {args.seed}, rtol {args.rtol:g}", box=None, title_justify="left")
    table.add_column("", no_wrap=True)
    counts: list[dict[str, str]] = []
    for solver in args.solver:
        table.add_column(solver, justify="right", no_wrap=True)
        counts.append(_counts([trial for trial in trials if trial.solver == solver]))
    for name in counts[0]:
        table.add_row(name, *(count[name] for count in counts))
    console.print(table)
    wrong, raised = sum(trial.wrong for trial in trials), sum(bool(trial.raised) for trial in trials)
    failed = bool(wrong or raised)
    console.print(f"{wrong} wrong CONVERGED, {raised} raised", style="red" if failed else "green")
    return 1 if failed else 0


def _counts(trials: list[MatrixTrial]) -> dict[str, str]:
    """Return the lines of the last table for one solver."""
    from relaxon.solvers.stress.matrix_trial import AT_LIMIT, NO_ANSWER

    iterations = sorted(trial.iterations for trial in trials if trial.result == "converged")
    left = [trial for trial in trials if trial.result != "converged" and not trial.raised]
    return {
        "converged": str(len(iterations)),
        "wrong CONVERGED": str(sum(trial.wrong for trial in trials)),
        "raised": str(sum(bool(trial.raised) for trial in trials)),
        "not converged": str(len(left)),
        "  of these beyond float64": str(sum(trial.explanation.startswith((NO_ANSWER, AT_LIMIT)) for trial in left)),
        "iterations, median and most": f"{iterations[len(iterations) // 2]}, {iterations[-1]}" if iterations else "–",
        "seconds in the solver": f"{sum(trial.seconds for trial in trials):.1f}",
    }


def _record(args: argparse.Namespace, trials: list[MatrixTrial], regrets: list[Regret]) -> dict[str, Any]:
    from dataclasses import asdict

    from relaxon.cli.machine import describe_machine

    rows = [asdict(trial) for trial in trials]
    for row in rows:
        for key in ("relative_residual", "scaled_residual", "rounding"):
            row[key] = row[key] if math.isfinite(row[key]) else None  # JSON has no infinity
    asked = {name: getattr(args, name) for name in ("seed", "solver", "rtol", "limit", "max_unknowns")}
    return {
        "settings": asked,
        "machine": describe_machine().as_dict(),
        "trials": rows,
        "regrets": [asdict(one) for one in regrets],
    }
