"""`relaxon stress sparse`: solve random sparse systems of every awkward kind; no wrong answer may be reported as right.

Imported on first use, for their weight: rich, the solvers.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from relaxon.cli import stress_cases
from relaxon.cli.errors import UsageError
from relaxon.cli.json_output import add_json, text_on_stderr
from relaxon.cli.stress_cases import SHOWN

if TYPE_CHECKING:
    from rich.console import Console

    from relaxon.solvers.stress import MatrixTrial, MatrixTrialSettings, Regret

SOLVERS = ("auto", "amg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the subcommand."""
    stress_cases.add_case_arguments(parser, 500)
    names = f"the solvers, each of which gets every case (default {' '.join(SOLVERS)})"
    parser.add_argument("--solver", nargs="+", default=list(SOLVERS), metavar="SOLVER", help=names)
    parser.add_argument("--limit", type=int, metavar="N", help="most iterations (default: each solver's own)")
    most = "size of the largest matrices; most of them have at most a tenth of it (default %(default)s)"
    parser.add_argument("--max-unknowns", type=int, default=60_000, help=most)
    regret = "also time the automatic choice against the best of the project's own solvers; use a quiet machine"
    parser.add_argument("--regret", action="store_true", help=regret)
    add_json(parser, "every case with its outcome and residuals")


def run(args: argparse.Namespace) -> int:
    """Return 0 where no CONVERGED was wrong and nothing was raised, 1 where not, 2 for a mistake."""
    from rich.console import Console

    from relaxon.server.config.threads import wait_asleep

    wait_asleep()  # before anything loads torch, whose threads are OpenMP's
    settings, numbers = _read_settings(args), stress_cases.choose_cases(args)
    trials: list[MatrixTrial] = []
    regrets: list[Regret] = []

    def run_case(number: int) -> int:
        _run_case(args, settings, number, trials, regrets)
        return sum(trial.result != "converged" for trial in trials)

    try:
        stress_cases.run_cases(numbers, "failed", run_case)
    finally:  # an interrupted run leaves what it has found
        chosen = ("seed", "solver", "rtol", "limit", "max_unknowns")
        stress_cases.write_record(args, chosen, trials, regrets=[asdict(regret) for regret in regrets])
    with text_on_stderr(args.json):
        console = Console(highlight=False, emoji=False)
        _print_failures(console, args, trials)
        if args.regret:
            _print_regret(console, regrets)
        return _print_counts(console, args, trials)


def _run_case(
    args: argparse.Namespace,
    settings: MatrixTrialSettings,
    number: int,
    trials: list[MatrixTrial],
    regrets: list[Regret],
) -> None:
    """Give one case to every solver; the first case also compiles, which is not counted."""
    from relaxon.solvers import warm_up
    from relaxon.solvers.stress import make_matrix_case, measure_regret, run_matrix_trial

    case = make_matrix_case(args.seed, number, args.max_unknowns)
    if not trials:
        for solver in args.solver:
            warm_up(solver, case.judged)
    trials.extend(run_matrix_trial(case, solver, settings) for solver in args.solver)
    if args.regret and (found := measure_regret(case, settings)) is not None:
        regrets.append(found)


def _read_settings(args: argparse.Namespace) -> MatrixTrialSettings:
    from relaxon.solvers.sparse.choice.automatic import find_solver
    from relaxon.solvers.stress import MatrixTrialSettings, make_matrix_case

    try:
        for solver in args.solver:
            find_solver(solver)
        settings = MatrixTrialSettings(args.rtol, args.limit)
        make_matrix_case(0, 0, args.max_unknowns)
    except (TypeError, ValueError) as error:
        raise UsageError(f"--{str(error).replace('max_unknowns', 'max-unknowns', 1)}") from error
    return settings


def _print_failures(console: Console, args: argparse.Namespace, trials: list[MatrixTrial]) -> None:
    """Print every case that a solver has not solved, with the reason."""
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
    command = f"relaxon stress sparse --seed {args.seed} --max-unknowns {args.max_unknowns}"
    stress_cases.print_remainder(console, failed, command)


def _print_regret(console: Console, regrets: list[Regret]) -> None:
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
        f"regret: auto took more than {FACTOR:g} × the best of our own + {SLACK * 1000:g} ms in {len(over)} of "
        f"{len(regrets)} cases; {mean:.2f} times the best in the geometric mean",
        soft_wrap=True,
    )


def _print_counts(console: Console, args: argparse.Namespace, trials: list[MatrixTrial]) -> int:
    """Print the counts of each solver, and return the exit status."""
    from rich.table import Table

    cases = len(trials) // len(args.solver)
    table = Table(title=f"{cases} cases, seed {args.seed}, rtol {args.rtol:g}", box=None, title_justify="left")
    table.add_column("", no_wrap=True)
    counts: list[dict[str, str]] = []
    for solver in args.solver:
        table.add_column(solver, justify="right", no_wrap=True)
        counts.append(_count_outcomes([trial for trial in trials if trial.solver == solver]))
    for name in counts[0]:
        table.add_row(name, *(count[name] for count in counts))
    console.print(table)
    wrong, raised = sum(trial.wrong for trial in trials), sum(bool(trial.raised) for trial in trials)
    failed = bool(wrong or raised)
    console.print(f"{wrong} wrong CONVERGED, {raised} raised", style="red" if failed else "green")
    return 1 if failed else 0


def _count_outcomes(trials: list[MatrixTrial]) -> dict[str, str]:
    """Return the entries of the last table for one solver."""
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
