"""Convection and diffusion: the automatic choice against PyAMG's hierarchies for nonsymmetric matrices, at cell Péclet
numbers from 0.1 to 100, in a constant skew wind and in one that turns in closed lines, in two and three dimensions.

    python bench/convection.py --quick                      # 10,000 unknowns, one repeat
    python bench/convection.py --cpu --json convection.json # 100,000 unknowns, on a machine that does other work too

Set-up and solve, the checks of the matrix among it, to a relative residual of 1e-6, recomputed here with SciPy; median
of the repeats, all interleaved, another system first to compile. PyAMG is taken at the best of its smoothed aggregation
(for nonsymmetric matrices), Ruge–Stüben and approximate ideal restriction (AIR), each with its GMRES and its BiCGStab.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring.tables import describe_run, terminal_table, write_record
from rich.console import Console
from scipy import sparse

from relaxon.solvers import norms, solve
from relaxon.solvers.kernels.threads import get_num_threads, num_threads
from relaxon.solvers.sparse.families.convection import recirculating_winds, skew_winds, upwind
from relaxon.solvers.sparse.families.stencils import side

UNKNOWNS, QUICK_UNKNOWNS, REPEATS = 100_000, 10_000, 3
PECLET = (0.1, 1.0, 10.0, 100.0)
WINDS = {"skew": skew_winds, "recirculating": recirculating_winds}
RTOL, MAX_ITERATIONS, LIMIT = 1e-6, 100, 10.0
ACCELERATORS = ("gmres", "bicgstab")
HIERARCHIES = ("sa", "rs", "air")
Run = Callable[[Any, Any, Callable[[], bool]], tuple[Any, int]]


class OutOfTime(Exception):
    """A solve has taken longer than the limit."""


def own(a: Any, b: Any, expired: Callable[[], bool]) -> tuple[Any, int]:
    """The automatic choice: its answer and iterations."""
    solution = solve(a, b, rtol=RTOL, callback=lambda _: expired())
    return solution.x, solution.iterations


def hierarchy(name: str, a: Any) -> Any:
    """PyAMG's hierarchy of that name."""
    import pyamg

    matrix = sparse.csr_matrix(a)
    if name == "sa":
        return pyamg.smoothed_aggregation_solver(matrix, symmetry="nonsymmetric")
    return pyamg.ruge_stuben_solver(matrix) if name == "rs" else pyamg.air_solver(matrix)


def pyamg(name: str, accelerator: str) -> Run:
    """PyAMG by a hierarchy and an accelerator."""

    def run(a: Any, b: Any, expired: Callable[[], bool]) -> tuple[Any, int]:
        residuals: list[float] = []

        def watch(_: Any) -> None:
            if expired():
                raise OutOfTime

        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            x = hierarchy(name, a).solve(
                b, tol=RTOL, accel=accelerator, maxiter=MAX_ITERATIONS, residuals=residuals, callback=watch
            )
        return x, len(residuals) - 1

    return run


CONTESTANTS: dict[str, Run] = {"auto": own} | {
    f"{name}/{accelerator}": pyamg(name, accelerator) for name in HIERARCHIES for accelerator in ACCELERATORS
}


def timed(run: Run, a: Any, b: Any, limit: float, cpu: bool) -> dict[str, Any]:
    """One run: seconds, iterations and the true residual; infinite seconds where the tolerance is not met."""
    clock = time.thread_time if cpu else time.perf_counter
    start = clock()
    try:
        x, iterations = run(a, b, lambda: clock() - start > limit)
    except Exception as error:  # a peer may raise anything; it is shown
        return {"seconds": math.inf, "iterations": 0, "residual": math.inf, "said": repr(error)[:80]}
    seconds, residual = clock() - start, norms.relative_residual(a, b, x)
    # PyAMG's GMRES tests the preconditioned residual: its true one may be some times the tolerance.
    met = residual <= (10 if run is not own else 1.001) * RTOL
    return {"seconds": seconds if met else math.inf, "iterations": iterations, "residual": float(residual), "said": ""}


def race(
    ndim: int, wind: str, peclet: float, n: int, repeats: int, limit: float, cpu: bool, names: list[str]
) -> dict[str, Any]:
    """Contestants on one matrix, repeats interleaved."""
    shape = (side(n, ndim),) * ndim
    a = sparse.csr_array(upwind(shape, peclet, WINDS[wind](shape)))
    b = np.random.default_rng(1).standard_normal(a.shape[0])
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(repeats):
        for name in names:
            run = CONTESTANTS[name]
            if not (runs[name] and math.isinf(runs[name][-1]["seconds"])):
                runs[name].append(timed(run, a, b, limit, cpu))
    return {"ndim": ndim, "wind": wind, "peclet": peclet, "unknowns": a.shape[0], "runs": runs}


def median(row: dict[str, Any], name: str) -> float:
    """Seconds of a contestant, infinite where the tolerance was not met."""
    return statistics.median(run["seconds"] for run in row["runs"][name])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--unknowns", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--peclet", type=float, nargs="+", default=list(PECLET))
    parser.add_argument("--ndim", type=int, nargs="+", choices=(2, 3), default=[2, 3])
    parser.add_argument(
        "--hierarchies",
        nargs="+",
        choices=HIERARCHIES,
        default=list(HIERARCHIES),
        help="PyAMG's; AIR in 3-D takes minutes",
    )
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of one solve")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_UNKNOWNS} unknowns, one repeat")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds of one thread in the place of elapsed ones")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    n = args.unknowns or (QUICK_UNKNOWNS if args.quick else UNKNOWNS)
    repeats = args.repeats or (1 if args.quick else REPEATS)
    names = ["auto", *(name for name in CONTESTANTS if name.split("/")[0] in args.hierarchies)]
    rows, lines = [], []
    with num_threads(1 if args.cpu else get_num_threads()):
        race(2, "skew", 1.0, 45_000, 1, args.limit, args.cpu, names)  # compiles
        for ndim in args.ndim:
            for wind in WINDS:
                for peclet in args.peclet:
                    row = race(ndim, wind, peclet, n, repeats, args.limit, args.cpu, names)
                    rows.append(row)
                    peer = min(names[1:], key=lambda name: median(row, name))
                    cells = [
                        f"{median(row, name):.3f} ({row['runs'][name][-1]['iterations']})" for name in ("auto", peer)
                    ]
                    ratio = median(row, peer) / median(row, "auto")
                    row["ratio"] = ratio
                    if args.json:
                        write_record(args.json, describe_run(cpu=args.cpu, rows=rows))
                    own, other = cells[0], f"{peer} {cells[1]}"
                    lines.append([f"{wind}, {ndim}-D", f"{peclet:g}", row["unknowns"], own, other, f"{ratio:.1f}"])
    console = Console(width=120)
    headings = ("wind", "cell Péclet", "n", "auto s (its)", "PyAMG's best s (its)", "ratio")
    console.print(terminal_table(headings, lines))
    finite = [row["ratio"] for row in rows if 0 < row["ratio"] < math.inf]
    most = max(row["runs"]["auto"][-1]["iterations"] for row in rows)
    if finite:
        mean = math.exp(statistics.fmean(math.log(ratio) for ratio in finite))
        console.print(
            f"auto: {mean:.1f}x PyAMG's best in the geometric mean, least {min(finite):.1f}x; {most} iterations"
        )
    return 0 if all(median(row, "auto") < math.inf for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
