"""Sparse matrices: what each solver takes on kinds of matrix and sizes, and whether the automatic choice was the best.

    python bench/sparse.py                                  # about ten minutes
    python bench/sparse.py --unknowns 30000 --kinds laplacian-2d chain

Set-up and solve to a relative residual of 1e-6, recomputed here with SciPy; median of the repeats, solvers interleaved,
a small system first to compile. What a solver cannot do within the limit is left out of the larger sizes, and said.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import sparse

from relaxon.cli.machine import describe_machine
from relaxon.server.threads import wait_asleep
from relaxon.solvers import gallery, solve
from relaxon.solvers.sparse import MATRIX_SOLVERS, MatrixSystem
from relaxon.solvers.sparse.choice import choose

UNKNOWNS = (3_000, 10_000, 30_000, 100_000)
REPEATS, RTOL, LIMIT = 3, 1e-6, 20.0
WARM_UP = 500


def chain(n: int) -> Any:
    """One dimension: a factor has no fill."""
    return sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tocsr()


def grid_matrix(name: str, ndim: int) -> Callable[[int], Any]:
    def make(n: int) -> Any:
        return gallery.make(name, round(n ** (1 / ndim)), ndim=ndim).grid.operator().to_csr()

    return make


def heat_step(n: int) -> Any:
    """A short implicit time step: dominated by its diagonal."""
    a = grid_matrix("box", 3)(n)
    return sparse.csr_array(a * (0.5 / a.diagonal().max()) + sparse.eye_array(a.shape[0]))


def random_graph(n: int) -> Any:
    """The Laplacian of a random graph with weights over four decades, held at one vertex: no geometry at all."""
    rng = np.random.default_rng(0)
    rows, columns = rng.integers(n, size=(2, 3 * n))
    rows, columns = np.append(rows, np.arange(1, n)), np.append(columns, np.arange(n - 1))
    keep = rows != columns
    w = 10.0 ** rng.uniform(-2, 2, int(keep.sum()))
    a = sparse.coo_array((w, (rows[keep], columns[keep])), shape=(n, n)).tocsr()
    a = a + a.T
    held = np.zeros(n)
    held[0] = 1.0
    return sparse.csr_array(sparse.diags_array(a.sum(axis=1) + held) - a)


def biharmonic(n: int) -> Any:
    """A plate: the square of a Laplacian, with positive off-diagonals and its condition squared."""
    a = grid_matrix("box", 2)(n)
    return sparse.csr_array(a @ a)


KINDS: dict[str, Callable[[int], Any]] = {
    "laplacian-2d": grid_matrix("box", 2),
    "laplacian-3d": grid_matrix("box", 3),
    "jumps-3d": grid_matrix("variable", 3),
    "pockets-3d": grid_matrix("random", 3),
    "chain": chain,
    "heat-step-3d": heat_step,
    "graph": random_graph,
    "plate-2d": biharmonic,
}


def measure(kind: str, n: int, solvers: list[str], repeats: int, slow: dict[str, str]) -> list[dict[str, Any]]:
    """All solvers on one matrix, repeats interleaved."""
    a = KINDS[kind](n)
    b = a @ np.random.default_rng(0).standard_normal(a.shape[0])
    chosen = choose(MatrixSystem.of(a))
    rows: dict[str, dict[str, Any]] = {}
    for _ in range(repeats):
        for name in solvers:
            row = rows.setdefault(
                name,
                {"kind": kind, "unknowns": a.shape[0], "solver": name, "seconds": [], "setup": [], "skipped": ""}
                | {"chosen": MATRIX_SOLVERS[name] == chosen.solver, "reason": chosen.reason},
            )
            row["skipped"] = row["skipped"] or slow.get(name, "")
            if row["skipped"]:
                continue
            start = time.perf_counter()
            try:
                solution = solve(a, b, solver=name, rtol=RTOL, callback=_stop_after(start))
            except ValueError as error:
                row["skipped"] = str(error)
                continue
            seconds = time.perf_counter() - start
            residual = float(np.linalg.norm(b - a @ solution.x) / np.linalg.norm(b))
            row["seconds"].append(seconds)
            row["setup"].append(solution.setup_seconds)
            row |= {"result": solution.result.value, "iterations": solution.iterations, "relative_residual": residual}
            if seconds > LIMIT / 4:
                slow[name] = f"took {seconds:.1f} s on {a.shape[0]} unknowns"
    return list(rows.values())


def _stop_after(start: float) -> Callable[[object], bool]:
    return lambda _: time.perf_counter() - start > LIMIT


def main() -> int:
    wait_asleep()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--unknowns", nargs="+", type=int, default=list(UNKNOWNS))
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console, solvers = Console(width=140), [name for name in MATRIX_SOLVERS if name != "auto"]
    for name in solvers:
        solve(chain(WARM_UP), np.ones(WARM_UP), solver=name)
    rows: list[dict[str, Any]] = []
    wrong = 0
    for kind in args.kinds:
        slow: dict[str, str] = {}
        for n in sorted(args.unknowns):
            rows += measure(kind, n, solvers, args.repeats, slow)
            table = Table("solver", "set-up s", "total s", "its", "result", title=f"{kind}, {rows[-1]['unknowns']}")
            for row in rows[-len(solvers) :]:
                name = f"[bold]{row['solver']} ← auto" if row["chosen"] else row["solver"]
                if row["seconds"]:
                    setup, total = (f"{statistics.median(row[key]):.4f}" for key in ("setup", "seconds"))
                    table.add_row(name, setup, total, str(row["iterations"]), row["result"])
                    wrong += row["result"] == "converged" and row["relative_residual"] > RTOL * 1.001
                else:
                    table.add_row(name, "", "", "", row["skipped"][:60])
            console.print(table)
            if args.json:
                machine = describe_machine().as_dict() | {"load": os.getloadavg()[0]}
                args.json.write_text(json.dumps({"machine": machine, "rtol": RTOL, "rows": rows}, indent=1) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
