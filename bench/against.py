"""Solves of this tree beside those of another commit, in turn, so that both see the same machine.

    python bench/against.py ceabc37 --sizes 32 128 --solvers dcdm

Each tree has a process of its own, which has compiled before anything is timed. A round is one solve by each, set-up
included, on a new grid; what is printed is the median of each and of the ratios round by round (this tree's time over
the other's: below 1 this one is quicker), and both counts of iterations.

The two may do different things: what the direct solver of boxes takes beside that commit's `dcdm`, and eight right-hand
sides in one call beside one.

    python bench/against.py ceabc37 --sizes 128 --cases box neumann --solvers fast-diagonalisation --other-solver dcdm
    python bench/against.py HEAD --sizes 128 --cases box pool variable --together 8 --other-together 1

`--processor` has processor seconds of all threads in place of those on the clock, for a machine that is busy with
something else; with RELAXON_NUM_THREADS=1 (for old commits NUMBA_NUM_THREADS=1) they are those of one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring.tables import write_record

TREE = Path(__file__).resolve().parents[1]
CASES = ("box", "spheres", "pool", "random", "neumann", "variable", "plume")
SECONDS = 25.0
"""That the rounds of a case may take together, once there are three."""
WORKER = """
import itertools, json, sys, time
import numpy as np
from relaxon.solvers import PoissonGrid, gallery, solve, solve_many
problems = {}
for line in sys.stdin:
    case, size, solver, together, processor = json.loads(line)
    clock = time.process_time if processor else time.perf_counter
    if (case, size) not in problems:
        problems.clear()
        problems[case, size] = gallery.make(case, size, seed=0)
    problem = problems[case, size]
    given = problem.grid
    grid = PoissonGrid(given.cells, given.spacing, given.boundary, given.coefficient)
    turned = itertools.islice(itertools.product([1, -1], repeat=grid.ndim), together)
    sides = [problem.b[tuple(slice(None, None, step) for step in steps)] * grid.fluid for steps in turned]
    start = clock()
    if together == 1:
        solutions = [solve(grid, sides[0], solver=solver, rtol=1e-6)]
    else:
        solutions = solve_many(grid, sides, solver=solver, rtol=1e-6)
    seconds = clock() - start
    most = max(solution.iterations for solution in solutions)
    print(json.dumps([seconds, most, all(solution.converged for solution in solutions)]), flush=True)
"""


MOST_TOGETHER = 8
"""Right-hand sides of a case: its own, turned over along some of the axes."""


class Tree:
    """A process that solves with the package of a checkout, so many right-hand sides of a case in one call."""

    def __init__(self, folder: Path, solver: str | None, together: int, processor: bool) -> None:
        """`solver` is in place of the one that is asked for; `processor` is whether processor seconds are measured."""
        self._solver, self._together, self._processor = solver, together, processor
        environment = os.environ | {"PYTHONPATH": str(folder / "src")}
        command = [sys.executable, "-c", WORKER]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder, text=True
        )

    def solve(self, case: str, size: int, solver: str) -> tuple[float, int, bool]:
        """Solve a case once; seconds, iterations and whether it converged."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wanted = [case, size, self._solver or solver, self._together, self._processor]
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        seconds, iterations, converged = json.loads(self._process.stdout.readline())
        return seconds, iterations, converged

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def race(ours: Tree, theirs: Tree, case: str, size: int, solver: str, rounds: int) -> dict[str, Any]:
    """Solve in turn, the first of a round changing; medians, iterations and the ratio."""
    for tree in (ours, theirs):
        tree.solve(case, size, solver)  # compiles, or loads what is compiled
    pairs: list[tuple[float, float]] = []
    counts: tuple[int, int] = (0, 0)
    while len(pairs) < rounds and (len(pairs) < 3 or sum(map(sum, pairs)) < SECONDS):
        if len(pairs) % 2:
            other, own = theirs.solve(case, size, solver), ours.solve(case, size, solver)
        else:
            own, other = ours.solve(case, size, solver), theirs.solve(case, size, solver)
        pairs.append((own[0], other[0]))
        counts = (own[1], other[1])
        if not (own[2] and other[2]):
            raise SystemExit(f"{solver} did not converge on {case} of {size}")
    return {
        "case": case,
        "size": size,
        "solver": solver,
        "rounds": len(pairs),
        "seconds": statistics.median(own for own, _ in pairs),
        "theirs": statistics.median(other for _, other in pairs),
        "ratio": statistics.median(own / other for own, other in pairs),
        "iterations": counts,
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="the other tree: any name that git knows")
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--solvers", nargs="+", default=["dcdm"])
    parser.add_argument("--rounds", type=int, default=41)
    parser.add_argument(
        "--other-solver", metavar="SOLVER", help="what the other tree solves with, in place of the same"
    )
    parser.add_argument(
        "--together",
        type=int,
        choices=range(1, MOST_TOGETHER + 1),
        default=1,
        metavar="K",
        help=f"right-hand sides in one call, up to {MOST_TOGETHER}",
    )
    parser.add_argument(
        "--other-together",
        type=int,
        choices=range(1, MOST_TOGETHER + 1),
        metavar="K",
        help="the other tree's, in place of as many",
    )
    parser.add_argument("--processor", action="store_true", help="processor seconds in place of those on the clock")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        clone = Path(name) / "tree"
        subprocess.run(["git", "clone", "--quiet", str(TREE), str(clone)], check=True)
        subprocess.run(["git", "checkout", "--quiet", args.commit], cwd=clone, check=True)
        ours = Tree(TREE, None, args.together, args.processor)
        theirs = Tree(clone, args.other_solver, args.other_together or args.together, args.processor)
        print(f"load before: {os.getloadavg()[0]:.2f}")
        print("solver    case       size      here s  there s   ratio  iterations  rounds")
        for solver in args.solvers:
            for size in args.sizes:
                for case in args.cases:
                    row = race(ours, theirs, case, size, solver, args.rounds)
                    rows.append(row)
                    own, other = row["iterations"]
                    print(
                        f"{solver:9} {case:10} {size:4}³ {row['seconds']:9.5f} {row['theirs']:8.5f} "
                        f"{row['ratio']:7.3f}  {own:3} {other:3}     {row['rounds']:3}",
                        flush=True,
                    )
        ours.close()
        theirs.close()
    if args.json:
        write_record(args.json, {"commit": args.commit, "rows": rows})
    return 0


if __name__ == "__main__":
    sys.exit(main())
