"""`relaxon solve --matrix FILE`: its structure, the solve, those it is compared with, and the picture."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from relaxon.cli import matrix_system, remote
from relaxon.cli.errors import CommandError, UsageError
from relaxon.cli.json_output import text_beside, write_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.console import Console

    from relaxon.cli.contest import Run
    from relaxon.cli.matrix_contest import Place
    from relaxon.cli.matrix_system import FileSystem
    from relaxon.cli.progress import LiveProgress

KINDS = {
    "spd": "symmetric, positive definite as far as diagonal and signs tell",
    "negative-definite": "symmetric with a negative diagonal: --negate solves −A x = −b",
    "symmetric-indefinite": "symmetric and indefinite: its diagonal is not positive throughout",
    "hermitian": "complex and Hermitian",
    "complex-symmetric": "complex and symmetric, not Hermitian",
    "nonsymmetric": "not symmetric",
}


def run(args: argparse.Namespace) -> int:
    """Return 0 where the named solver converged and the residual recomputed here agrees, 1 where not."""
    matrix_system.check(args)
    args.solver = matrix_system.DEFAULT_SOLVER if args.solver is None else args.solver
    with text_beside(args.json):
        system, runs = _run_all(args)
    if args.json:
        write_json(args.json, _content(args, system, runs))
    return 0 if runs[0].converged else 1


def _run_all(args: argparse.Namespace) -> tuple[FileSystem, list[Run]]:
    """Print the structure, run every solver, print the table, and write solution and picture."""
    from rich.console import Console

    from relaxon.cli import contest, matrix_contest, report
    from relaxon.cli.progress import LiveProgress
    from relaxon.server.config.threads import wait_asleep

    wait_asleep()  # before anything loads torch, whose threads are OpenMP's
    solvers = contest.expand([args.solver, *args.compare])
    if not contest.expand([args.solver]):
        raise UsageError("--solver must name a solver, got an empty name")
    system = matrix_system.load(args)
    progress = LiveProgress(args.quiet)
    console = Console(quiet=args.quiet, highlight=False, emoji=False)
    print_structure(console, system)
    runs: list[Run] = []
    order: NDArray[np.int64] | None = None
    with _place(args) as place:
        reasons = matrix_contest.check_solvers(place, solvers)
        for solver in solvers:
            with progress.shown():
                run, used = _run_one(place, system, solver, args, progress, reasons.get(solver), named=not runs)
            order = order if runs else used
            runs.append(run)
            if len(solvers) > 1:  # the next one may take minutes
                report.print_run(console, runs[-1], args.rtol)
    report.print_table(console, system.describe(), runs, args.rtol, "in extended precision by a sum")
    if runs[0].converged and runs[0].message:
        console.print(runs[0].message, style="dim", markup=False)
    console.print(report.verdict(runs[0], args.rtol), style="green" if runs[0].converged else "red", markup=False)
    if args.out and runs[0].x is not None:
        matrix_system.write_solution(args.out, runs[0].x)
        console.print(f"solution: {args.out}", markup=False)
    if args.plot:
        from relaxon.cli.matrix_picture import draw

        draw(args.plot, system, runs, args.rtol, order)
        console.print(f"picture: {args.plot}", markup=False)
    return system, runs


@contextmanager
def _place(args: argparse.Namespace) -> Iterator[Place]:
    """Give the server that the arguments name, this process where they name none."""
    from relaxon.cli.matrix_contest import Here, OnServer, explain_refusals

    if args.target is None:
        yield Here()
        return
    with remote.connected(args, remote.DEFAULT_SECONDS) as client, explain_refusals():
        yield OnServer(client)


def _run_one(
    place: Place,
    system: FileSystem,
    solver: str,
    args: argparse.Namespace,
    progress: LiveProgress,
    reason: str | None,
    named: bool,
) -> tuple[Run, NDArray[np.int64] | None]:
    """Warm a solver up and run it: what came of it, and the order of the rows that it used.

    A comparison that is refused is reported, the named solver's refusal is raised.
    """
    from relaxon.cli import matrix_contest

    if reason:
        return matrix_contest.refuse(solver, reason), None
    line = progress.start(solver, "loading kernels …")
    try:
        with matrix_contest.explain_refusals():
            seconds = place.warm_up(system, solver)
            progress.console.print(
                f"{solver}: compiled and loaded on small matrices in {seconds:.1f} s, not counted below",
                style="dim",
                highlight=False,
            )
            line.say("setting up …")
            return matrix_contest.solve_and_check(place, system, solver, args.rtol, args.max_iterations, line, seconds)
    except UsageError:
        raise
    except CommandError as error:
        if named:
            raise
        return matrix_contest.refuse(solver, str(error)), None
    finally:
        line.finish()


def print_structure(console: Console, system: FileSystem) -> None:
    """Print what the matrix looks like, a line a property."""
    console.print(system.describe(), style="bold", markup=False)
    for name, value in describe_structure(system):
        console.print(f"  {name:<17}{value}", markup=False, soft_wrap=True)
    console.print()


def describe_structure(system: FileSystem) -> Iterator[tuple[str, str]]:
    """Give the properties of a system, each with what was found."""
    found = system.structure
    n = found.unknowns
    yield "format", system.layout
    for note in system.notes:
        yield "note", note
    word = "yes" if found.symmetric else "Hermitian" if found.complex_values and found.hermitian else "no"
    least = min(found.asymmetry, found.hermitian_asymmetry)
    pattern = "symmetric" if found.pattern_symmetric else "not symmetric"
    yield "symmetric", f"{word}: entries to {least:.1e} of their rows' largest, pattern {pattern}"
    zero = n - found.positive_diagonal - found.negative_diagonal
    parts = [
        f"{count:,} {name}"
        for count, name in (
            (found.positive_diagonal, "positive"),
            (found.negative_diagonal, "negative"),
            (zero, "zero"),
        )
        if count
    ]
    yield "diagonal", f"{', '.join(parts)}; sizes {found.smallest_diagonal:.2e} to {found.largest_diagonal:.2e}"
    off = found.negative_off + found.positive_off
    yield (
        "off the diagonal",
        f"{found.negative_off / off:.1%} negative, {found.positive_off / off:.1%} positive" if off else "nothing",
    )
    filled = n - found.empty_rows
    dominance = "all" if found.dominant_rows == filled else f"{found.dominant_rows:,} of {filled:,}"
    yield (
        "dominance",
        f"{dominance} rows dominated by their diagonal; least |a_ii| / Σ|a_ij| {found.least_dominance:.3g}",
    )
    empty = f", {found.empty_rows:,} empty rows" if found.empty_rows else ""
    yield "graph", f"{found.parts:,} connected part{'s' * (found.parts != 1)}, bandwidth {found.bandwidth:,}{empty}"
    null = found.constant_null_vectors
    constants = f"constants on {null:,} of the parts, whose rows sum to zero" if null else "no constants"
    yield "null space", f"{constants}; others are not looked for"
    yield "kind", KINDS[found.kind]
    yield "right-hand side", system.side


def _content(args: argparse.Namespace, system: FileSystem, runs: list[Run]) -> dict[str, Any]:
    """Return everything that was measured, the machine and the versions, as JSON values."""
    from relaxon._version import __version__
    from relaxon.cli.machine import describe_machine, package_versions

    found = system.structure
    structure = {
        name: value if not isinstance(value, float) or abs(value) < float("inf") else None
        for name, value in asdict(found).items()
    }
    return {
        "relaxon": __version__,
        "machine": describe_machine().as_dict(),
        "packages": package_versions(),
        "matrix": {
            "file": system.name,
            "format": system.layout,
            "notes": list(system.notes),
            "kind": found.kind,
            "symmetric": found.symmetric,
            "hermitian": found.hermitian,
            **structure,
        },
        "right_hand_side": system.side,
        "rtol": args.rtol,
        "max_iterations": args.max_iterations,
        "converged": runs[0].converged,
        "runs": [one.as_dict() for one in runs],
    }
