"""Iterations of a solver on each kind of grid, and the processor time of a solve: `python bench/grid_kinds.py`.

One thread, random right-hand sides, to a true relative residual of 1e-6, set-up included in the seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from relaxon.solvers import PoissonGrid, Robin, gallery, num_threads, solve


def kinds(n: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """The arguments of grids of n³ cells, each with a name."""
    h = 1 / n
    yield "κ = 1, Dirichlet", {"boundary": "dirichlet"}
    for sigma in (1e-8, 1e-4, 1.0, 1e2, 0.1 / h**2, 1 / h**2, 1e5 / h**2):
        yield f"closed, σ h² = {sigma * h * h:.1e}", {"reaction": sigma}
    for film in (1e-9, 1e-4, 1.0, 1e2, 1e6):
        yield f"Robin, h = {film:g}", {"boundary": Robin(film)}
    yield "Dirichlet nodes", {"boundary": "dirichlet-node"}
    for growth in (1.02, 1.05, 1.1):
        widths = growth ** np.arange(n)
        widths /= widths.sum()
        yield f"one axis stretched by {growth - 1:.0%} a cell", {"spacing": (h, h, widths), "boundary": "dirichlet"}
        yield f"all axes stretched by {growth - 1:.0%} a cell", {"spacing": (widths,) * 3, "boundary": "dirichlet"}
    jumps = 1e6 ** np.random.default_rng(0).integers(0, 2, (n,) * 3).astype(float)
    for growth in (1.0, 1.1, 1.2):
        widths = growth ** np.abs(np.arange(n) - (n - 1) / 2)
        axes = {"spacing": (widths / widths.sum(),) * 3, "boundary": "dirichlet", "coefficient": jumps}
        yield f"κ jumps by 10⁶, stretched by {growth - 1:.0%} a cell", axes


def main() -> None:
    """Print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=48, help="cells a side (default 48)")
    parser.add_argument("--solver", default="mg-cg")
    args = parser.parse_args()
    cells = np.zeros((args.size,) * 3, np.uint8)
    b = np.random.default_rng(0).standard_normal(cells.shape)
    problems = [
        (name, PoissonGrid(cells, **({"spacing": 1 / args.size} | given)), b) for name, given in kinds(args.size)
    ]
    for name in ("heat-step", "channel", "heat-sink", "cylinder"):
        problem = gallery.make(name, args.size)
        problems.append((problem.name, problem.grid, problem.b))
    with num_threads(1):
        for name, grid, side in problems:
            solve(grid, side, solver=args.solver, max_iterations=1)  # what is to be compiled is compiled
            start = time.process_time()
            solution = solve(grid, side, solver=args.solver)
            seconds = time.process_time() - start
            print(
                f"{name:40} {solution.result.name:10} {solution.iterations:4} iterations {seconds:8.3f} s", flush=True
            )


if __name__ == "__main__":
    main()
