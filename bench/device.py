"""`dcdm` on a device of torch: set-up, solve, and the compiled kernels on the CPU beside them.

    python bench/device.py --sizes 256 512                  # on the GPU; says so and ends with 3 where there is none
    python bench/device.py --sizes 64 128 --device cpu      # the same code by torch on the CPU

Cases are the gallery's; `b` is on the device before the clock starts and `x` stays there (`solve_tensor`), to 1e-6.
Medians; a solve is synchronised at its ends. The first solve on a shape, which may compile, is shown apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
from measuring.tables import describe_run, terminal_table, write_record
from rich.console import Console

from relaxon.solvers import DeviceConjugateDirections, DeviceUnavailableError, gallery, prepare
from relaxon.solvers.torch import solve_tensor

NO_DEVICE = 3
Row = dict[str, Any]


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", default="cuda")
    made.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="cells a side")
    made.add_argument("--cases", nargs="+", default=["spheres", "pool"])
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--rtol", type=float, default=1e-6)
    made.add_argument("--eager", action="store_true", help="without torch.compile")
    made.add_argument("--json", type=Path)
    return made


def main(argv: list[str] | None = None) -> int:
    """Measure, print a table, write JSON where asked."""
    args = parser().parse_args(argv)
    console = Console()
    try:
        solver = DeviceConjugateDirections(args.device, compiled=False if args.eager else None)
    except DeviceUnavailableError as error:
        console.print(f"not measured: {error}")
        return NO_DEVICE
    rows = [measured(case, size, solver, args) for case in args.cases for size in args.sizes]
    headings = ("case", "cells", "unknowns", "iterations", "first solve s", "set-up s", "solve s", "CPU kernels s")
    cells = [
        [
            *(row["case"], f"{row['size']}³", f"{row['unknowns']:,}", row["iterations"]),
            *(f"{row[key]:.4f}" for key in ("first", "setup", "solve", "cpu")),
        ]
        for row in rows
    ]
    console.print(f"{rows[0]['on']}; relative residual at most {max(row['residual'] for row in rows):.1e}")
    console.print(terminal_table(headings, cells))
    if args.json:
        write_record(args.json, describe_run(torch=torch.__version__, rows=rows))
    return 0 if all(row["met"] for row in rows) else 1


def measured(case: str, size: int, solver: DeviceConjugateDirections, args: argparse.Namespace) -> Row:
    """One system."""
    problem = gallery.make(case, size)
    prepared = prepare(problem.grid, solver=solver)
    b = torch.as_tensor(problem.b, dtype=torch.float32, device=solver.device)
    first, solution = _timed(lambda: solve_tensor(prepared, b, rtol=args.rtol), solver.device)
    setups, solves = [], []
    for _ in range(args.repeats):
        seconds, prepared = _timed(lambda: prepared.update(problem.grid), solver.device)  # noqa: B023
        setups.append(seconds)
        seconds, solution = _timed(lambda: solve_tensor(prepared, b, rtol=args.rtol), solver.device)  # noqa: B023
        solves.append(seconds)
    kernels = prepare(problem.grid, solver="dcdm")
    kernels.solve(problem.b, rtol=args.rtol)
    cpu = [_timed(lambda: kernels.solve(problem.b, rtol=args.rtol), "cpu")[0] for _ in range(args.repeats)]
    return {
        "case": case,
        "size": size,
        "unknowns": problem.grid.unknowns,
        "on": solution.message,
        "iterations": solution.iterations,
        "residual": solution.relative_residual,
        "met": solution.converged,
        "first": first,
        "setup": statistics.median(setups),
        "solve": statistics.median(solves),
        "cpu": statistics.median(cpu),
    }


def _timed(work: Any, device: str) -> tuple[float, Any]:
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    start = time.perf_counter()
    found = work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start, found


if __name__ == "__main__":
    sys.exit(main())
