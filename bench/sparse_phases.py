"""Where the time of a whole `solve(A, b)` by the automatic choice goes: processor seconds of one thread by phase.

    python bench/sparse_phases.py                        # 100,000 unknowns, some families
    python bench/sparse_phases.py --families rotated-2d --unknowns 1000000 --repeats 5

The median run of the repeats, each after free memory has been given back to the system, as in a process that solves
for the first time. What a phase calls of other phases is theirs alone. Products with the matrix in float64 are shown
beside, as a measure of the machine. `--json` writes the figures down.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring.sparse.child import settle
from measuring.tables import terminal_table, write_record
from rich.console import Console

from relaxon.solvers import gallery, solve
from relaxon.solvers.interface import elimination
from relaxon.solvers.kernels.threads import set_num_threads
from relaxon.solvers.sparse.amg import cycle, engine, hierarchy, quality
from relaxon.solvers.sparse.choice import automatic as choice
from relaxon.solvers.sparse.choice import estimates
from relaxon.solvers.sparse.prepared import prepared_matrix as driver
from relaxon.solvers.sparse.system import matrix_system as system
from relaxon.solvers.sparse.system import vector_kernels as kernels

UNKNOWNS, REPEATS, WARM_UP = 100_000, 5, 45_000
FAMILIES = (
    "laplacian-3d", "lognormal-3d", "stretched-3d", "rotated-2d", "triangles-2d", "tetrahedra-contrast-3d",
    "neighbours-3d", "heavy-tailed", "heat-step-3d",
)  # fmt: skip
WARM_FAMILIES = ("lognormal-3d", "neumann-2d", "stretched-3d", "heavy-tailed", "heat-step-3d")
PHASES: tuple[tuple[str, Any, str], ...] = (
    ("checks", system.MatrixSystem, "of"),
    ("checks", elimination.MatrixElimination, "of"),
    ("choice", choice, "choose"),
    ("choice", estimates, "recognise_block_size"),
    ("choice", choice.Successors, "cheapest"),
    ("first level", hierarchy, "build_finest"),
    ("pairs", hierarchy, "coarsen"),
    ("fit", quality, "smooth_errors"),
    ("fit", quality, "deviation"),
    ("fit", hierarchy, "build_smoothed_level"),
    ("levels below", hierarchy, "build_below"),
    ("levels below", hierarchy, "dense_inverse"),
    ("cycle's copy", hierarchy.Level, "give_up"),
    ("cycle's copy", cycle.Cycle, "__init__"),
    ("cycles and iteration", engine.MultigridDirections, "run"),
    ("verdict", driver.PreparedMatrix, "_figures"),
)
REST = "the rest"


class Stopwatch:
    """Processor seconds of phases, without what they call of other phases."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._within: list[float] = []

    def watch(self, phase: str, owner: Any, name: str) -> None:
        """Have calls of a function or a method counted as a phase."""
        given = vars(owner)[name]
        is_of_class = isinstance(given, classmethod)
        call: Callable[..., Any] = given.__func__ if is_of_class else given

        def watched(*args: Any, **named: Any) -> Any:
            return self.run(phase, call, *args, **named)

        setattr(owner, name, classmethod(watched) if is_of_class else watched)

    def run(self, phase: str, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Call a function as a phase."""
        self._within.append(0.0)
        start = time.thread_time()
        try:
            return call(*args, **named)
        finally:
            taken = time.thread_time() - start
            self.seconds[phase] += taken - self._within.pop()
            if self._within:
                self._within[-1] += taken


def measure(watch: Stopwatch, name: str, unknowns: int, repeats: int) -> dict[str, Any]:
    """The median run of a family."""
    a = gallery.matrix(name, unknowns)
    b = np.random.default_rng(1).standard_normal(a.shape[0])
    runs = []
    for _ in range(repeats):
        settle()
        watch.seconds.clear()
        solution = watch.run(REST, solve, a, b, rtol=1e-6, inconsistent="project")
        runs.append(dict(watch.seconds))
    runs.sort(key=lambda run: sum(run.values()))
    product, out = [], np.empty_like(b)
    for _ in range(repeats):
        start = time.thread_time()
        kernels.multiply(a, b, out)
        product.append(time.thread_time() - start)
    return {
        "family": name, "iterations": solution.iterations, "result": solution.result.name,
        "product": sorted(product)[repeats // 2], "phases": runs[repeats // 2],
    }  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=list(gallery.matrix_names()), default=FAMILIES)
    parser.add_argument("--unknowns", type=int, default=UNKNOWNS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    set_num_threads(1)
    for name in WARM_FAMILIES:  # so that everything is compiled
        a = gallery.matrix(name, WARM_UP)
        solve(a, np.ones(a.shape[0]), inconsistent="project")
    watch = Stopwatch()
    for phase in PHASES:
        watch.watch(*phase)
    names = [*dict.fromkeys(phase for phase, _, _ in PHASES), REST]
    rows, lines = [], []
    for name in args.families:
        rows.append(row := measure(watch, name, args.unknowns, args.repeats))
        cells = [row["product"], *(row["phases"].get(phase, 0.0) for phase in names), sum(row["phases"].values())]
        lines.append([name, row["iterations"], *(f"{1e3 * seconds:.1f}" for seconds in cells)])
    Console(width=220).print(terminal_table(("family, ms", "iterations", "a product", *names, "sum"), lines))
    if args.json:
        write_record(args.json, rows)
    return 0 if all(row["result"] == "CONVERGED" for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
