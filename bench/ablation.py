"""What each part of `dcdm` buys, how near it comes to the memory's bandwidth, what batches and moved obstacles cost.

    python bench/ablation.py --size 128            # a few minutes
    python bench/ablation.py --size 64 --json ablation.json

Iterations and seconds to 1e-6 on the cases with κ = 1, in one run, each the median of the repeats, taken in turn:

    dcdm          learned constants, two visits to the second level, window 1
    one visit     the same constants, one visit
    window 2      the last two directions, as the paper has it
    not learned   Chebyshev's constants in the same kernels, two visits
    mg-cg         the same as preconditioner of CG, one visit: this project's multigrid without learning
    smoother      no coarse levels: the learned smoothing of the finest level alone
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from measuring.poisson.runs import fresh
from measuring.poisson.scenarios import triad_bandwidth
from measuring.tables import describe_run, record_table, terminal_table, write_record
from rich.console import Console
from rich.table import Table

from relaxon.cli.machine import usable_cores
from relaxon.server.config.threads import wait_asleep
from relaxon.solvers import MultigridCG, gallery, prepare, solve_many
from relaxon.solvers.dcdm.cycle import DeepConjugateDirectionCycle, shipped
from relaxon.solvers.dcdm.fused import FusedDirections
from relaxon.solvers.gallery import Problem
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.engine import Prepared, Solver
from relaxon.solvers.multigrid.constants import chebyshev
from relaxon.solvers.multigrid.fused import FusedCycle

CASES = ("box", "spheres", "pool", "random", "neumann", "plume")
RTOL, REPEATS, MANY = 1e-6, 5, 8
MOST_ITERATIONS = 400
BYTES = {
    "down": 2 * 4 + 3 + 4 / 8,
    "up": 3 * 4 + 3 + 4 / 8,
    "products": 2 * 4,
    "search": 5 * 4 + 1,
    "advance": 2 * 8 + 4 * 4,
}
"""Bytes a cell that each pass of an iteration has to read and write on the finest level, each array once."""
COARSE = 1 / 7
"""Cells of all coarser levels over those of the finest."""
COARSE_BYTES = 2 * (9 * 4 + 10 * 4)
"""The same for a coarse cell, in two visits, with its couplings."""
Record = dict[str, Any]


class _SmootherOnly(FusedCycle):
    """The learned smoothing of the finest level, without what lies below."""

    def program(self, r: Any, x: Any, z: Any) -> None:  # type: ignore[override]
        """Return None: `apply` is not made of the cycle's steps."""

    def apply(self, r: Any, x: Any, z: Any) -> None:
        from relaxon.solvers.multigrid import passes

        x[...] = 0
        level, below = self.levels[0], self.levels[1]
        assert below.r is not None
        below.r[...] = 0
        level.r, level.x, level.z = (array.reshape(len(array), -1) for array in (r, x, z))
        passes.prolong_correct_smooth(level, below.gain, below.r)


class SmootherOnly(Solver):
    """The method with the smoother as its direction."""

    name, summary = "smoother", "learned smoothing alone"

    def prepare(self, operator: PoissonOperator) -> Prepared:
        return FusedDirections(operator, _SmootherOnly(operator, {3: shipped(3)}), 2, MOST_ITERATIONS)


def variants() -> dict[str, Solver]:
    """The methods that are compared; none of them hands over to another one."""
    learned, plain = shipped(3), chebyshev(3)
    return {
        "dcdm": DeepConjugateDirectionCycle(rescue=False),
        "one visit": DeepConjugateDirectionCycle(replace(learned, visits=1), rescue=False),
        "window 2": DeepConjugateDirectionCycle(window=2, rescue=False),
        "not learned": DeepConjugateDirectionCycle(replace(plain, visits=learned.visits), rescue=False),
        "mg-cg": MultigridCG(),
        "smoother": SmootherOnly(),
    }


def parts(problem: Problem, repeats: int) -> list[Record]:
    """Each variant on one system."""
    solvers = variants()
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in solvers}
    last = {}
    for _ in range(repeats):
        for name, solver in solvers.items():
            grid = fresh(problem.grid)
            start = time.perf_counter()
            prepared = prepare(grid, solver=solver)
            ready = time.perf_counter()
            last[name] = prepared.solve(problem.b, rtol=RTOL, max_iterations=MOST_ITERATIONS)
            found[name].append((ready - start, time.perf_counter() - ready))
    rows = []
    for name, times in found.items():
        setup, solve = (statistics.median(column) for column in zip(*times, strict=True))
        solution = last[name]
        rows.append(
            {
                "case": problem.name,
                "variant": name,
                "iterations": solution.iterations,
                "result": solution.result.value,
                "setup": setup,
                "solve": solve,
                "seconds": statistics.median(sum(t) for t in times),
            }
        )
    return rows


def roofline(problem: Problem, repeats: int, triad: float) -> Record:
    """Bytes that an iteration has to move at least, over the time it takes, against triad's bandwidth."""
    prepared = prepare(fresh(problem.grid))
    few, many = (_median(lambda n=n: prepared.solve(problem.b, rtol=1e-30, max_iterations=n), repeats) for n in (2, 12))
    seconds = (many - few) / 10
    cells = problem.grid.cells.size
    moved = cells * (sum(BYTES.values()) + COARSE * COARSE_BYTES)
    return {
        "case": problem.name,
        "cells": cells,
        "milliseconds_an_iteration": 1e3 * seconds,
        "bytes_a_cell": moved / cells,
        "gigabytes_a_second": moved / seconds / 1e9,
        "triad_gigabytes_a_second": triad / 1e9,
    }


def batch(problem: Problem, repeats: int) -> Record:
    """Eight right-hand sides with one set-up, against one with its own."""
    rng = np.random.default_rng(0)
    b = [
        problem.b * rng.uniform(0.5, 2) + problem.grid.operator().matvec(problem.b) * rng.uniform(0, 1e-5)
        for _ in range(MANY)
    ]
    one = _median(lambda: prepare(fresh(problem.grid)).solve(b[0], rtol=RTOL), repeats)
    many = _median(lambda: solve_many(fresh(problem.grid), b, rtol=RTOL), repeats)
    return {"case": problem.name, "one": one, "eight": many, "ratio": many / one}


def moved(problem: Problem, repeats: int) -> Record:
    """Set-up after an obstacle has moved, against an iteration."""
    cells = problem.grid.cells

    def shifted() -> object:
        grid = PoissonGrid(np.roll(cells, 1, 0), problem.grid.spacing, problem.grid.boundary)
        return prepare(grid)

    return {"case": problem.name, "milliseconds": 1e3 * _median(shifted, repeats)}


def _median(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def tables(record: Record) -> list[Table]:
    """What was measured, for people."""
    names = list(dict.fromkeys(row["variant"] for row in record["parts"]))
    rows = []
    for case in dict.fromkeys(row["case"] for row in record["parts"]):
        by = {row["variant"]: row for row in record["parts"] if row["case"] == case}
        cells = [
            f"{1e3 * by[n]['seconds']:.0f} ({by[n]['iterations']})" + ("" if by[n]["result"] == "converged" else "!")
            for n in names
        ]
        rows.append([case, *cells])
    found = [terminal_table(["case", *names], rows, "milliseconds with set-up (iterations) to 1e-6")]
    for title, key in (("roofline", "roofline"), ("eight right-hand sides", "batch"), ("moved obstacle", "moved")):
        found.append(record_table([record[key]], title))
    return found


def main(argv: list[str] | None = None) -> int:
    """Measure and print; 0."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--size", type=int, default=128)
    made.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    made.add_argument("--repeats", type=int, default=REPEATS)
    made.add_argument("--json", type=Path)
    args, console = made.parse_args(argv), Console(width=110)
    wait_asleep()
    for case in args.cases:
        parts(gallery.make(case, 16), 1)
    triad = triad_bandwidth()
    record = describe_run(size=args.size)
    record["parts"] = [row for case in args.cases for row in parts(gallery.make(case, args.size), args.repeats)]
    problem = gallery.make("spheres", args.size)
    record["roofline"] = roofline(problem, args.repeats, triad)
    record["batch"] = batch(problem, args.repeats)
    record["moved"] = moved(problem, args.repeats)
    for found in tables(record):
        console.print(found)
    if args.json:
        write_record(args.json, record)
    return 0


def _with_threads() -> None:
    """Start again with all cores for the kernels and one thread for BLAS: libraries read them when they are loaded."""
    wanted = {
        "RELAXON_NUM_THREADS": str(usable_cores()),
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": str(usable_cores()),
    }
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | wanted)


if __name__ == "__main__":
    _with_threads()
    sys.exit(main())
