"""Eight right-hand sides of one sparse matrix at once against one alone, set-up included.

    python bench/sparse_together.py                              # elapsed seconds, the threads of a solve
    python bench/sparse_together.py --cpu --repeats 5            # processor seconds of one thread
    python bench/sparse_together.py --quick

Asked for is at most 3.5 times. `alone` are the eight one after another on one set-up, as a callback has them solved.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from measuring.tables import terminal_table
from rich.console import Console

from relaxon.solvers import gallery, solve_many
from relaxon.solvers.kernels.threads import get_num_threads, set_num_threads
from relaxon.solvers.sparse import MATRIX_SOLVERS, MatrixSystem

FAMILIES = (
    "laplacian-2d", "laplacian-3d", "neumann-2d", "stencil-27", "bilinear-2d", "triangles-2d", "tetrahedra-3d",
    "neighbours-3d",
)  # fmt: skip
UNKNOWNS, QUICK, SIDES = 100_000, 10_000, 8


def timed(clock: Callable[[], float], a: Any, sides: Any, solver: str, **options: Any) -> tuple[float, Any]:
    """Seconds of set-up and solves, and the solutions."""
    begin = clock()
    solutions = solve_many(a, sides, solver=solver, **options)
    return clock() - begin, solutions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(gallery.matrix_names()), default=FAMILIES, metavar="F")
    parser.add_argument("--solver", choices=list(MATRIX_SOLVERS), default="amg")
    parser.add_argument("--unknowns", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} unknowns")
    parser.add_argument("--cpu", action="store_true", help="processor seconds of one thread")
    args = parser.parse_args()
    set_num_threads(1 if args.cpu else get_num_threads())
    clock = time.process_time if args.cpu else time.perf_counter
    lines: list[list[Any]] = []
    for family in args.families:
        a = gallery.matrix(family, args.unknowns or (QUICK if args.quick else UNKNOWNS))
        system, rng = MatrixSystem.of(a), np.random.default_rng(1)
        sides = np.array([system.project(rng.standard_normal(a.shape[0])) for _ in range(SIDES)])
        solve_many(a, sides[:2], solver=args.solver)  # compiles
        runs = []
        for _ in range(args.repeats):
            one, _ = timed(clock, a, sides[:1], args.solver)
            eight, found = timed(clock, a, sides, args.solver)
            alone, others = timed(clock, a, sides, args.solver, callback=lambda _: None)
            runs.append((one, eight, alone))
        one, eight, alone = np.median(runs, axis=0)
        counts = [max(solution.iterations for solution in some) for some in (found, others)]
        cells = [f"{one:.3f}", f"{eight:.3f}", f"{eight / one:.2f}", f"{alone:.3f}", f"{alone / one:.2f}"]
        failed = sum(not solution.converged for solution in found)
        lines.append([family, a.shape[0], *cells, f"{counts[0]}, {counts[1]}", failed])
    headings = (
        "matrix",
        "n",
        "one, s",
        "eight, s",
        "times one",
        "alone, s",
        "times one",
        "iterations, alone",
        "failed",
    )
    Console(width=140).print(terminal_table(headings, lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
