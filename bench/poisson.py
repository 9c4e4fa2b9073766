"""Time to a solution of Poisson systems, set-up included: every solver on every case and size, in one run.

    python bench/poisson.py --quick              # minutes: 32³ to 64³
    python bench/poisson.py                      # 32³ to 160³
    python bench/poisson.py --from results.json --markdown table.md

Same operator, same right-hand side, one tolerance on the true relative residual, recomputed here in float64 by code
that the solvers do not share. Repeats go round the solvers, each on a grid made anew, and the median counts. Exit
status 1 where a solver says CONVERGED and the recomputed residual does not meet the tolerance.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from poisson_report import draw_convergence, draw_times, markdown, table
from rich.console import Console

from relaxon.cli.machine import describe_machine, package_versions
from relaxon.cli.residual import true_residual
from relaxon.server.threads import wait_asleep
from relaxon.solvers import gallery, list_solvers, prepare
from relaxon.solvers.gallery import Problem
from relaxon.solvers.grid import PoissonGrid
from relaxon.solvers.plume import SmokePlume
from relaxon.solvers.solution import Result, Solution

CASES = ("box", "spheres", "pool", "random", "neumann", "variable", "plume")
SIZES = (32, 64, 96, 128, 160)
QUICK_SIZES = (32, 48, 64)
GROWTH = {"scipy-direct": 2.5, "dcdm-cnn": 4 / 3, "cg": 4 / 3, "jacobi-cg": 4 / 3, "scipy-cg": 4 / 3, "ic-cg": 7 / 6}
"""How a solver's time grows with the unknowns, as a power, to tell beforehand what would take too long."""
WARM_UP_SIDE = 16
STEP_SOLVERS = ("dcdm", "mg-cg", "ic-cg", "pyamg-sa", "pyamg-rs")
MIB = 2**20


@dataclass(slots=True)
class Row:
    """A solver on a case and size; times of all repeats, in seconds. `skipped` says why there are none."""

    case: str
    size: int
    unknowns: int
    solver: str
    rtol: float
    setup: list[float] = field(default_factory=list)
    solve: list[float] = field(default_factory=list)
    iterations: int = 0
    result: str = ""
    relative_residual: float = float("nan")
    honest: bool = True
    """Not (said CONVERGED, and the recomputed residual does not meet the tolerance)."""
    residuals: list[float] = field(default_factory=list)
    fallbacks: int = 0
    skipped: str = ""

    @property
    def seconds(self) -> float:
        """Median of set-up and solve together."""
        return statistics.median(a + b for a, b in zip(self.setup, self.solve, strict=True))


def measured(row: Row, problem: Problem) -> Solution:
    """One repeat, on a new grid so that nothing is found done; what came out is judged here."""
    old = problem.grid
    grid = PoissonGrid(old.cells, old.spacing, [tuple(pair) for pair in old.boundary], old.coefficient)
    start = time.perf_counter()
    prepared = prepare(grid, solver=row.solver)
    row.setup.append(time.perf_counter() - start)
    start = time.perf_counter()
    solution = prepared.solve(problem.b, rtol=row.rtol)
    row.solve.append(time.perf_counter() - start)
    judge(row, problem, solution)
    return solution


def judge(row: Row, problem: Problem, solution: Solution) -> None:
    """Fill in the outcome, with the residual of the returned solution recomputed."""
    true = true_residual(problem.grid, problem.b, solution.x)
    row.honest = row.honest and (solution.result is not Result.CONVERGED or true.meets(row.rtol))
    row.iterations, row.result, row.relative_residual = solution.iterations, solution.result.value, true.relative
    row.residuals, row.fallbacks = [float(r) for r in solution.residuals], solution.fallbacks


def contest(case: str, size: int, args: argparse.Namespace, rtol: float, earlier: list[Row]) -> list[Row]:
    """All solvers on one system, their repeats interleaved."""
    problem = gallery.make(case, size)
    rows = [Row(case, size, problem.grid.unknowns, solver, rtol) for solver in args.solvers]
    for row in rows:
        row.skipped = _too_long(row, args.limit, earlier)
    running = [row for row in rows if not row.skipped]
    for row in running:
        measured(Row(case, 0, 0, row.solver, rtol), gallery.make(case, WARM_UP_SIDE))  # compiles; not counted
    for repeat in range(args.repeats):
        for row in running:
            # A second repeat of what is slow tells no more than the first.
            if not row.skipped and (repeat == 0 or row.setup[0] + row.solve[0] < args.limit / 4):
                try:
                    measured(row, problem)
                except ValueError as error:
                    row.skipped = f"refused: {error}"
    return rows


def _too_long(row: Row, limit: float, earlier: list[Row]) -> str:
    """Why the solver is left out, from how long it took on a smaller system of the same case; empty where it is not."""
    before = [r for r in earlier if (r.case, r.solver, r.rtol) == (row.case, row.solver, row.rtol)]
    if not before:
        return ""
    last = before[-1]
    if last.skipped:
        return last.skipped
    expected = last.seconds * (row.unknowns / last.unknowns) ** GROWTH.get(row.solver, 1.0)
    return f"would take about {expected:.0f} s, over --limit {limit:g} s" if expected > limit else ""


def steps_contest(size: int, steps: int, solvers: Iterable[str], rtol: float) -> list[dict[str, Any]]:
    """Seconds of the pressure solves of a plume: around a sphere at rest (one set-up), a moving one (one a step)."""
    results = []
    for moving in (False, True):
        for solver in solvers:
            plume, prepared, x, seconds, iterations = SmokePlume((size,) * 3, moving=moving), None, None, 0.0, 0
            met = True
            for _ in range(steps):
                problem = plume.pressure_problem()
                start = time.perf_counter()
                if moving or prepared is None:
                    prepared = prepare(problem.grid, solver=solver)
                solution = prepared.solve(problem.b, rtol=rtol, x0=x, inconsistent="project")
                seconds += time.perf_counter() - start
                x, iterations = solution.x, iterations + solution.iterations
                met = met and true_residual(problem.grid, problem.b, x).meets(rtol)
                plume.step(solver="mg-cg", rtol=rtol)  # the same flow for every solver
            results.append(
                {
                    "geometry": "moving" if moving else "at rest",
                    "size": size,
                    "steps": steps,
                    "solver": solver,
                    "seconds": seconds,
                    "iterations": iterations,
                    "all_met_rtol": met,
                }
            )
    return results


def memory_per_unknown(case: str, size: int, solver: str) -> float:
    """Peak resident bytes an unknown that set-up and solve add, in a process of its own."""
    command = [sys.executable, __file__, "--peak", case, str(size), solver]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _peak(case: str, size: int, solver: str) -> float:
    """Run once in this process, warm, with the system made before the count starts."""
    problem = gallery.make(case, size)
    measured(Row(case, 0, 0, solver, 1e-6), gallery.make(case, WARM_UP_SIDE))
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is resident now
    before = _peak_bytes()
    prepare(problem.grid, solver=solver).solve(problem.b)
    return (_peak_bytes() - before) / problem.grid.unknowns


def _peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        found = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if found:
            return int(found[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def triad_bandwidth() -> float:
    """Bytes a second of `a ← b + s·c` in float64 by all threads, best of five: the roof over every solver here."""
    from numba import njit, prange

    @njit(parallel=True)
    def triad(a: Any, b: Any, c: Any) -> None:
        for i in prange(a.size):
            a[i] = b[i] + 3.0 * c[i]

    a, b, c = (np.ones(2**24) for _ in range(3))
    triad(a, b, c)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        triad(a, b, c)
        best = min(best, time.perf_counter() - start)
    return 3 * a.nbytes / best


def arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [entry.name for entry in list_solvers()]
    parser.add_argument("--quick", action="store_true", help="sizes 32, 48, 64, three repeats, short limit")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--sizes", nargs="+", type=int)
    parser.add_argument("--solvers", nargs="+", choices=known, default=known)
    parser.add_argument("--rtol", nargs="+", type=float, default=[1e-6])
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--limit", type=float, help="seconds a run may be expected to take")
    parser.add_argument("--steps", type=int, default=0, help="also so many time steps of the plume, at the first size")
    parser.add_argument("--memory", action="store_true", help="also peak memory, for the last case and size")
    parser.add_argument("--threads", type=int, help="Numba's and torch's; all cores by default")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="folder for JSON and pictures")
    parser.add_argument("--from", dest="results", type=Path, help="report from a JSON of an earlier run")
    parser.add_argument("--markdown", type=Path, help="file for a table of the largest size")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.sizes = args.sizes or list(QUICK_SIZES if args.quick else SIZES)
    args.repeats = args.repeats or (3 if args.quick else 5)
    args.limit = args.limit or (4.0 if args.quick else 60.0)
    return args


def run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    """The whole benchmark as JSON values."""
    if args.threads:
        import numba
        import torch

        numba.set_num_threads(args.threads)
        torch.set_num_threads(args.threads)
    bandwidth = triad_bandwidth()
    rows: list[Row] = []
    for rtol in args.rtol:
        for case in args.cases:
            for size in sorted(args.sizes):
                console.print(f"{case} {size}³, rtol {rtol:g} …", highlight=False)
                rows += contest(case, size, args, rtol, rows)
    record: dict[str, Any] = {
        "machine": asdict(describe_machine()) | {"triad_bytes_per_second": bandwidth, "threads": args.threads},
        "versions": package_versions(),
        "date": time.strftime("%Y-%m-%d"),
        "repeats": args.repeats,
        "rows": [asdict(row) | ({} if row.skipped else {"seconds": row.seconds}) for row in rows],
    }
    if args.steps:
        chosen = [solver for solver in STEP_SOLVERS if solver in args.solvers]
        record["steps"] = steps_contest(args.sizes[0], args.steps, chosen, args.rtol[0])
    if args.memory:
        case, size = args.cases[-1], max(args.sizes)
        ran = [row.solver for row in rows if (row.case, row.size) == (case, size) and not row.skipped]
        record["memory"] = [
            {"case": case, "size": size, "solver": s, "bytes_per_unknown": memory_per_unknown(case, size, s)}
            for s in dict.fromkeys(ran)
        ]
    return record


def main(argv: list[str] | None = None) -> int:
    wait_asleep()  # before anything loads OpenMP: spinning threads of one solver must not slow another
    args, console = arguments(argv), Console()
    if args.peak:
        case, size, solver = args.peak
        sys.stdout.write(f"{_peak(case, int(size), solver)}\n")
        return 0
    if args.results:
        record = json.loads(args.results.read_text())
    else:
        record = run(args, console)
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "poisson.json").write_text(json.dumps(record, indent=1))
    for rendered in table(record):
        console.print(rendered)
    if args.markdown:
        args.markdown.write_text(markdown(record))
    if not args.results:
        draw_times(record, args.out / "poisson.png")
        draw_convergence(record, args.out / "convergence.png")
        console.print(f"written: poisson.json, poisson.png, convergence.png in {args.out}", highlight=False)
    lies = [row for row in record["rows"] if not row["honest"]]
    for row in lies:
        console.print(
            f"{row['solver']} on {row['case']} {row['size']}³ said CONVERGED at {row['relative_residual']:.2e}"
        )
    return 1 if lies else 0


if __name__ == "__main__":
    sys.exit(main())
