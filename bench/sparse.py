"""Sparse matrices: the automatic choice against PyAMG's smoothed aggregation and Ruge–Stüben over the gallery.

    python bench/sparse.py --quick                          # 10,000 unknowns, one repeat
    python bench/sparse.py --cpu --json sparse.json         # 100,000 unknowns, on a machine that does other work too
    python bench/sparse.py --families rotated-2d --solvers auto amg ic-cg --unknowns 30000

Set-up and solve, the checks of the matrix among it, to a relative residual of 1e-6, recomputed here with SciPy; median
of the repeats, all interleaved, another system first to compile. PyAMG is taken at the best of the options in
`OPTIONS`, each with its conjugate gradients. What takes longer than the limit is stopped and marked.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import sparse

from relaxon.cli.machine import describe_machine
from relaxon.server.threads import wait_asleep
from relaxon.solvers import gallery, norms, solve
from relaxon.solvers.sparse import MATRIX_SOLVERS, MatrixSystem
from relaxon.solvers.threads import get_num_threads, num_threads

UNKNOWNS, QUICK_UNKNOWNS, WARM_UP = 100_000, 10_000, 45_000
"""Of the matrices, of those of `--quick`, and of the one that is solved first, so that everything is compiled."""
REPEATS, RTOL, LIMIT, MAX_ITERATIONS = 3, 1e-6, 60.0, 1_000
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "pyamg sa": ("smoothed_aggregation_solver", {}),
    "pyamg sa 0.25": ("smoothed_aggregation_solver", {"strength": ("symmetric", {"theta": 0.25})}),
    "pyamg rs": ("ruge_stuben_solver", {}),
}
"""PyAMG's set-ups: its defaults, and smoothed aggregation by strong couplings alone."""


class OutOfTime(Exception):
    """A solve has taken longer than the limit."""


@contextmanager
def silent() -> Iterator[None]:
    """Take away what a library's C++ writes to the standard output."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def own(name: str, a: Any, b: Any, expired: Callable[[], bool]) -> tuple[Any, dict[str, Any]]:
    """One of the project's solvers: the answer, and what to say about it."""
    solution = solve(a, b, solver=name, rtol=RTOL, callback=lambda _: expired())
    return solution.x, {"iterations": solution.iterations, "says": solution.result.value, "message": solution.message}


def pyamg(name: str, a: Any, b: Any, expired: Callable[[], bool]) -> tuple[Any, dict[str, Any]]:
    """PyAMG under one of `OPTIONS`."""
    import pyamg as peer

    factory, options = OPTIONS[name]

    def watch(_: Any) -> None:
        if expired():
            raise OutOfTime

    with warnings.catch_warnings(), silent():
        warnings.simplefilter("ignore")
        residuals: list[float] = []
        hierarchy = getattr(peer, factory)(sparse.csr_matrix(a), **options)
        x = hierarchy.solve(b, tol=RTOL, accel="cg", maxiter=MAX_ITERATIONS, residuals=residuals, callback=watch)
    return x, {"iterations": len(residuals) - 1, "says": "", "message": ""}


def timed(run: Callable[..., Any], name: str, a: Any, b: Any, limit: float, cpu: bool) -> dict[str, Any]:
    """One run: seconds, the true residual, and why there is none."""
    clock = time.thread_time if cpu else time.perf_counter
    start = clock()
    try:
        x, found = run(name, a, b, lambda: clock() - start > limit)
    except OutOfTime:
        return {"seconds": math.inf, "residual": math.inf, "cut": f"> {limit:g} s"}
    except Exception as error:  # a peer may raise anything; it is shown
        return {"seconds": math.inf, "residual": math.inf, "cut": repr(error)[:80]}
    seconds = clock() - start
    residual, scaled = norms.relative_residual(a, b, x), norms.scaled_residual(a, b, x)
    cut = "" if residual <= RTOL * 1.01 else f"ended at {residual:.0e}"
    return found | {"seconds": seconds, "residual": residual, "scaled": scaled, "cut": cut}


def race(family: str, n: int, solvers: list[str], repeats: int, limit: float, cpu: bool) -> dict[str, Any]:
    """All contestants on one matrix, repeats interleaved; one that is cut does not run again."""
    a = gallery.matrix(family, n)
    b = MatrixSystem.of(a).project(np.random.default_rng(1).standard_normal(a.shape[0]))
    row: dict[str, Any] = {"family": family, "unknowns": a.shape[0], "entries": a.nnz, "runs": {}}
    contestants = [(name, own) for name in solvers] + [(name, pyamg) for name in OPTIONS]
    for _ in range(repeats):
        for name, run in contestants:
            runs = row["runs"].setdefault(name, [])
            if runs and runs[-1]["cut"]:
                continue
            runs.append(timed(run, name, a, b, limit, cpu))
    return row


def median(runs: list[dict[str, Any]]) -> float:
    """Seconds, infinite where the tolerance was not met."""
    return math.inf if any(run["cut"] for run in runs) else statistics.median(run["seconds"] for run in runs)


def best_peer(row: dict[str, Any]) -> str:
    """PyAMG's fastest option on a row's matrix."""
    return min(OPTIONS, key=lambda name: median(row["runs"][name]))


def wrong(row: dict[str, Any]) -> list[str]:
    """Who said `CONVERGED` of what was not."""
    return [
        name
        for name, runs in row["runs"].items()
        for run in runs
        if run.get("says") == "converged" and max(run["residual"], run["scaled"]) > RTOL * 1.001
    ]


def shown(row: dict[str, Any], name: str) -> tuple[str, str]:
    """Seconds and iterations of a contestant, or why there are none."""
    last = row["runs"][name][-1]
    if last["cut"]:
        return last["cut"], str(last.get("iterations", ""))
    return f"{median(row['runs'][name]):.3f}", str(last["iterations"])


def summary(rows: list[dict[str, Any]], name: str) -> str:
    """The geometric mean and the least ratio over the families in which both met the tolerance."""
    ratios = {row["family"]: median(row["runs"][best_peer(row)]) / median(row["runs"][name]) for row in rows}
    finite = {family: ratio for family, ratio in ratios.items() if 0 < ratio < math.inf}
    if not finite:
        return f"{name}: nothing to compare"
    mean = math.exp(statistics.fmean(math.log(ratio) for ratio in finite.values()))
    least = min(finite, key=lambda family: finite[family])
    alone = [family for family, ratio in ratios.items() if ratio == math.inf]
    failed = [family for family, ratio in ratios.items() if not ratio > 0]
    text = (
        f"{name}: {mean:.1f}x PyAMG's best in the geometric mean of {len(finite)}, least {finite[least]:.1f}x ({least})"
    )
    text += f"; PyAMG did not reach the tolerance on {', '.join(alone)}" if alone else ""
    return text + (f"; it did not itself on {', '.join(failed)}" if failed else "")


def main() -> int:
    wait_asleep()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    families = list(gallery.matrix_names())
    parser.add_argument("--families", nargs="+", choices=families, default=families)
    parser.add_argument("--unknowns", type=int)
    parser.add_argument("--solvers", nargs="+", choices=list(MATRIX_SOLVERS), default=["auto"])
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of one solve")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_UNKNOWNS} unknowns, one repeat")
    parser.add_argument("--cpu", action="store_true", help="CPU seconds of one thread in the place of elapsed ones")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    n = args.unknowns or (QUICK_UNKNOWNS if args.quick else UNKNOWNS)
    repeats = args.repeats or (1 if args.quick else REPEATS)
    console, rows = Console(width=140), []
    table = Table(
        "family", "n", "entries a row", *(f"{name} s (its)" for name in args.solvers), "PyAMG s (its)", "ratio"
    )
    with num_threads(1 if args.cpu else get_num_threads()):
        first = gallery.matrix("lognormal-3d", WARM_UP)
        for name in args.solvers:
            solve(first, np.ones(first.shape[0]), solver=name, max_iterations=5)
        for family in args.families:
            row = race(family, n, args.solvers, repeats, args.limit, args.cpu)
            rows.append(row)
            peer = best_peer(row)
            ratio = median(row["runs"][peer]) / median(row["runs"][args.solvers[0]])
            cells = ["{} ({})".format(*shown(row, name)) for name in (*args.solvers, peer)]
            cells[-1] = f"{peer.removeprefix('pyamg ')} {cells[-1]}"
            density = f"{row['entries'] / row['unknowns']:.1f}"
            table.add_row(family, str(row["unknowns"]), density, *cells, f"{ratio:.1f}")
            if args.json:
                machine = describe_machine().as_dict() | {"load": os.getloadavg()[0]}
                args.json.write_text(json.dumps({"machine": machine, "cpu": args.cpu, "rows": rows}, indent=1) + "\n")
    console.print(table)
    for name in args.solvers:
        console.print(summary(rows, name))
    mistakes = [(row["family"], name) for row in rows for name in wrong(row)]
    console.print(f"wrong CONVERGED: {mistakes or 0}")
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
