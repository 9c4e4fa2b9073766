"""New values on a kept pattern: an updated set-up of algebraic multigrid against a fresh one, over the gallery.

    python bench/sparse_update.py                                  # 100,000 unknowns
    python bench/sparse_update.py --families laplacian-3d --unknowns 1000000 --repeats 5

CPU seconds of one thread, checks of the matrix included, median of the repeats, fresh and updated in turn in one
process. `first` is the first update of a set-up, which finds out what later ones use. New values are those of the
family with every coupling changed by up to a tenth, the row sums kept; where couplings are positive, scaled from both
sides by up to a tenth. Iterations are to 1e-6, residuals recomputed in float64.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from measuring.tables import terminal_table, write_record
from rich.console import Console
from scipy import sparse

from relaxon.cli.machine import describe_machine
from relaxon.solvers import gallery, prepare
from relaxon.solvers.kernels.threads import num_threads

UNKNOWNS, REPEATS, SPREAD = 100_000, 5, 0.1


def other_values(a: Any, seed: int) -> Any:
    """Return a matrix of the same pattern and kind with other values."""
    rng = np.random.default_rng(seed)
    upper = sparse.triu(a, 1).tocoo()
    if (upper.data > 0).any():
        scale = sparse.diags_array(rng.uniform(1 - SPREAD, 1 + SPREAD, a.shape[0]))
        return sparse.csr_array(scale @ a @ scale)
    data = upper.data * rng.uniform(1 - SPREAD, 1 + SPREAD, upper.nnz)
    couplings = sparse.coo_array((data, (upper.row, upper.col)), shape=a.shape)
    both = sparse.csr_array(couplings + couplings.T)
    sums = np.asarray(a.sum(axis=1)).ravel() - np.asarray(both.sum(axis=1)).ravel()
    return sparse.csr_array(both + sparse.diags_array(np.where(a.diagonal() > 0, sums, 0.0)))


def cpu_seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU seconds that `work` takes, and what it gives."""
    start = time.process_time()
    found = work()
    return time.process_time() - start, found


def compare(name: str, unknowns: int, repeats: int) -> dict[str, Any]:
    """Return the figures of one family."""
    a = gallery.matrix(name, unknowns)
    prepare(a, solver="amg").update(a)  # compiles
    base, fresh, updated = prepare(a, solver="amg"), [], []
    other = other_values(a, 0)
    first, found = cpu_seconds(lambda: base.update(other))
    made = found
    for k in range(repeats):
        b = other_values(a, k + 1)
        seconds, made = cpu_seconds(lambda b=b: prepare(b, solver="amg"))
        fresh.append(seconds)
        seconds, found = cpu_seconds(lambda b=b: base.update(b))
        updated.append(seconds)
    side = b @ np.random.default_rng(0).standard_normal(a.shape[0])
    return {
        "family": name,
        "unknowns": a.shape[0],
        "fresh": statistics.median(fresh),
        "first": first,
        "updated": statistics.median(updated),
        "ratio": statistics.median(updated) / statistics.median(fresh),
        "iterations_fresh": made.solve(side).iterations,
        "iterations_updated": found.solve(side).iterations,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--families", nargs="+", default=gallery.matrix_names(), metavar="NAME")
    parser.add_argument("--unknowns", type=int, default=UNKNOWNS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    options = parser.parse_args()
    console, rows = Console(), []
    console.print(describe_machine())
    lines: list[list[str]] = []
    with num_threads(1):
        for name in options.families:
            row = compare(name, options.unknowns, options.repeats)
            rows.append(row)
            times = [f"{1000 * row[key]:.1f}" for key in ("fresh", "first", "updated")]
            counts = f"{row['iterations_fresh']} / {row['iterations_updated']}"
            lines.append([name, f"{row['unknowns']:,}", *times, f"{row['ratio']:.2f}", counts])
    headings = ("family", "n", "fresh, ms", "first update, ms", "update, ms", "update / fresh", "iterations")
    console.print(terminal_table(headings, lines))
    ratios = [row["ratio"] for row in rows]
    console.print(f"geometric mean {np.exp(np.mean(np.log(ratios))):.2f}, worst {max(ratios):.2f}")
    if options.json is not None:
        write_record(options.json, rows)


if __name__ == "__main__":
    main()
