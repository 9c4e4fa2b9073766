"""One grid in several MPI processes: this library beside PETSc's GAMG and hypre's BoomerAMG, and a model of more.

    mpiexec -n 2 python bench/mpi.py --quick                    # a minute or two
    mpiexec -n 2 python bench/mpi.py --size 192 --json out.json
    mpiexec --oversubscribe -n 4 python bench/mpi.py --parts iterations

One thread a process. Needs mpi4py; the lines of PETSc need petsc4py with hypre in the same Python (docs/distributed.md
says how to install both) and are left out with a word where it is absent. (strong) the same grid on 1, 2, 4 … of the
processes; (weak) a grid that grows with them along the cut axis; (iterations) every case on all numbers of processes;
(model) what the measured constants say of 1,000 processes and 10^10 cells, with the assumptions in the output.
Processes that a line does not use sleep meanwhile. Every solution's residual is computed anew with the matrix.
"""

# ruff: noqa: E402 (threads are set before anything reads how many there are)

from __future__ import annotations

import os

from measuring.tables import describe_run, terminal_table, write_record

for _name in ("OMP_NUM_THREADS", "RELAXON_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import statistics
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from measuring.mpi.model import model_rows
from measuring.mpi.runs import CASES, Part, petsc_module, runs_of
from mpi4py import MPI
from rich.console import Console

PARTS = ("strong", "weak", "iterations", "model")
RTOL = 1e-6
Record = dict[str, Any]

HEADINGS = ("solver", "processes", "cells", "iterations", "set-up s", "solve s", "together", "×")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="96 cells a side, two cases, two repeats")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    made.add_argument("--size", type=int, help="cells a side (default 192; 96 with --quick)")
    made.add_argument("--cases", nargs="+", choices=CASES, help="of strong and weak (default spheres and pool)")
    made.add_argument("--repeats", type=int)
    made.add_argument("--rtol", type=float, default=RTOL)
    made.add_argument("--without-petsc", action="store_true")
    made.add_argument("--json", type=Path)
    return made


def main(argv: list[str] | None = None) -> int:
    """Measure the parts; process 0 prints and writes."""
    args = parser().parse_args(argv)
    world = MPI.COMM_WORLD
    console = Console(quiet=world.rank != 0, width=150)
    size = args.size or (96 if args.quick else 192)
    cases = args.cases or ["spheres", "pool"]
    repeats = args.repeats or (2 if args.quick else 5)
    petsc, missing = (None, "left out") if args.without_petsc else petsc_module()
    counts = [2**k for k in range(world.size.bit_length()) if 2**k <= world.size]
    record = describe_run(
        mpi=MPI.Get_library_version().splitlines()[0].strip("\0"),
        petsc=".".join(map(str, petsc.Sys.getVersion())) if petsc else missing,
        rtol=args.rtol,
        processes=world.size,
    )
    console.print(f"{record['mpi']}; PETSc {record['petsc']}; one thread a process")
    if "strong" in args.parts:
        shapes = dict.fromkeys(counts, (size,) * 3)
        record["strong"] = _measured(world, petsc, cases, shapes, repeats, args.rtol, console, "strong scaling")
    if "weak" in args.parts:
        side = 16 * max(round(size / 2 ** (1 / 3) / 16), 2)
        shapes = {count: (side * count, side, side) for count in counts}
        record["weak"] = _measured(world, petsc, cases, shapes, repeats, args.rtol, console, "weak scaling")
    if "iterations" in args.parts:
        shapes = dict.fromkeys(counts, (64,) * 3)
        record["iterations"] = _measured(
            world, petsc, list(CASES), shapes, 1, args.rtol, console, "iterations", rivals=False
        )
        record["spread"] = _spread(record["iterations"], console)
    if "model" in args.parts:
        record["model"] = model_rows(world, console)
    if args.json and world.rank == 0:
        write_record(args.json, record)
    ours = [row for part in ("strong", "weak", "iterations") for row in record.get(part, []) if row["ours"]]
    return 0 if all(row["met"] for row in ours) else 1


def _measured(
    world: Any,
    petsc: Any,
    cases: list[str],
    shapes: dict[int, tuple[int, ...]],
    repeats: int,
    rtol: float,
    console: Console,
    title: str,
    *,
    rivals: bool = True,
) -> list[Record]:
    """All solvers on all cases and numbers of processes."""
    rows: list[Record] = []
    for case in cases:
        for count, shape in shapes.items():
            part = world.Split(0 if world.rank < count else 1, world.rank)
            if world.rank < count:
                for run in runs_of(Part(part, petsc, case, shape, rtol), repeats, rivals=rivals):
                    rows.append({"case": case, "processes": count, "shape": list(shape), **run})
            _sleep_until_all(world)
            part.Free()
        found = [row for row in rows if row["case"] == case]
        for row in found:
            alone = [one for one in found if one["solver"] == row["solver"] and one["processes"] == 1]
            row["speedup"] = alone[0]["together"] / row["together"] if alone and row["together"] else None
        console.print(f"\n[bold]{title}[/bold]")
        console.print(terminal_table(HEADINGS, [_cells(row) for row in found], case))
    return rows


def _cells(row: Record) -> list[str]:
    times = [row["setup"], row["solve"], row["together"]]
    shape = "×".join(map(str, row["shape"]))
    speedup = "" if row["speedup"] is None else f"{row['speedup']:.2f}"
    name = row["solver"] + ("" if row["met"] else " (tolerance not met)")
    return [name, str(row["processes"]), shape, str(row["iterations"]), *(f"{t:.3f}" for t in times), speedup]


def _sleep_until_all(comm: Any) -> None:
    """A barrier that leaves the processor to others."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.01)


def _spread(rows: list[Record], console: Console) -> list[Record]:
    """How much iterations differ between numbers of processes."""
    found = []
    for solver, case in sorted({(row["solver"], row["case"]) for row in rows}):
        counts = [row["iterations"] for row in rows if (row["solver"], row["case"]) == (solver, case)]
        found.append({"solver": solver, "case": case, "iterations": counts, "differ_by": max(counts) - min(counts)})
    worst = max((row["differ_by"] for row in found), default=0)
    median = statistics.median(row["differ_by"] for row in found) if found else 0
    console.print(f"iterations differ by at most {worst} between numbers of processes (median {median:g})")
    return found


def run() -> int:
    """`main`, and the end of all processes where one of them fails: the others would wait for it."""
    try:
        return main()
    except Exception:
        traceback.print_exc()
        MPI.COMM_WORLD.Abort(1)
        raise


if __name__ == "__main__":
    sys.exit(run())
