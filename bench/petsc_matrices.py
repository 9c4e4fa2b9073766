"""Any matrix through PETSc: CG with the compiled multigrid, GAMG and BoomerAMG, on 1, 2 and 4 processes.

    python bench/petsc_matrices.py                                  # 100,000 unknowns; docs/distributed.md: set-up
    python bench/petsc_matrices.py --families laplacian-3d --unknowns 500000 --processes 1 2

Iterations to a relative residual of 1e-6 (recomputed), seconds of set-up and of the solve on the slowest process.
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PYTHON = Path(os.environ.get("RELAXON_PETSC_PYTHON", ROOT / "build/petsc/bin/python"))
FAMILIES = ["laplacian-3d", "tetrahedra-3d", "tetrahedra-contrast-3d", "random-jumps-3d"]
RTOL = 1e-6
VARIANTS: dict[str, dict[str, str]] = {
    "relaxon": {"pc_type": "python", "pc_python_type": "relaxon.solvers.petsc.AlgebraicCycle"},
    "GAMG": {"pc_type": "gamg"},
    "BoomerAMG": {"pc_type": "hypre", "pc_hypre_boomeramg_strong_threshold": "0.5"},
}
"""Options of the preconditioners: GAMG's defaults, BoomerAMG's with the threshold that its manual gives for 3-D."""


def measure(family: str, unknowns: int) -> list[dict[str, Any]]:
    """Run by every process: a row for each variant."""
    if find_spec("petsc4py") is None:
        sys.path.extend(sorted(glob.glob("/usr/lib/petscdir/*/*-real/lib/python3/dist-packages")))
    import petsc4py

    petsc4py.init([])
    import numpy as np
    from petsc4py import PETSc

    from relaxon.solvers import gallery

    size, rank = PETSc.COMM_WORLD.getSize(), PETSc.COMM_WORLD.getRank()
    whole = gallery.matrix(family, unknowns)
    n = whole.shape[0]
    low, high = n * rank // size, n * (rank + 1) // size
    rows = whole[low:high]
    csr = (rows.indptr.astype(PETSc.IntType), rows.indices.astype(PETSc.IntType), rows.data)
    matrix = PETSc.Mat().createAIJ(((high - low, n), (high - low, n)), csr=csr)
    right, x, residual = matrix.createVecLeft(), matrix.createVecRight(), matrix.createVecLeft()
    right.getArray()[...] = np.random.default_rng(1).standard_normal(n)[low:high]
    found = []
    for name, options in VARIANTS.items():
        best: dict[str, Any] = {}
        for repeat in range(3):  # the first compiles
            chosen = PETSc.Options()
            for key, value in options.items():
                chosen[f"r{repeat}_{key}"] = value
            solver = PETSc.KSP().create()
            solver.setOptionsPrefix(f"r{repeat}_")
            solver.setType("cg")
            solver.setOperators(matrix)
            solver.setTolerances(rtol=RTOL, max_it=500)
            solver.setNormType(PETSc.KSP.NormType.UNPRECONDITIONED)
            solver.setFromOptions()
            PETSc.COMM_WORLD.barrier()
            begun = time.perf_counter()
            solver.setUp()
            solver.getPC().setUp()
            ready = time.perf_counter()
            solver.solve(right, x)
            ended = time.perf_counter()
            matrix.mult(x, residual)
            residual.aypx(-1.0, right)
            if not best or ended - begun < best["setup"] + best["solve"]:
                best = {"setup": ready - begun, "solve": ended - ready}
            best |= {"iterations": solver.getIterationNumber(), "residual": residual.norm() / right.norm()}
            solver.destroy()
        found.append({"variant": name, "family": family, "unknowns": n, "processes": size, **best})
    return found if rank == 0 else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    parser.add_argument("--unknowns", type=int, default=100_000)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--measure", metavar="FAMILY", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        rows = measure(args.measure, args.unknowns)
        if rows:
            print("FOUND", json.dumps(rows))
        return 0
    from measuring.petsc import launcher as petsc_launcher
    from measuring.tables import terminal_table, write_record
    from rich.console import Console

    console = Console(width=130)
    launcher = petsc_launcher.find_launcher(PYTHON, os.environ) if PYTHON.exists() else None
    if launcher is None:
        console.print(f"skipped: needs petsc4py in {PYTHON} (docs/distributed.md says how) and its mpiexec")
        return 0
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RELAXON_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    headings = ("family", "n", "preconditioner", "processes", "iterations", "set-up, s", "solve, s", "residual")
    cells: list[list[Any]] = []
    record: list[dict[str, Any]] = []
    for family in args.families:
        for count in args.processes:
            own = [str(PYTHON), str(Path(__file__)), "--measure", family, "--unknowns", str(args.unknowns)]
            command = [*launcher, "-n", str(count), *own]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
            lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
            if done.returncode or not lines:
                console.print(f"{family}, {count} processes: {done.stderr[-800:]}")
                return 1
            record += json.loads(lines[-1].removeprefix("FOUND "))
    for row in sorted(record, key=lambda row: (args.families.index(row["family"]), row["variant"])):
        figures = (f"{row['setup']:.2f}", f"{row['solve']:.2f}", f"{row['residual']:.1e}")
        names = (row["family"], f"{row['unknowns']:,}", row["variant"])
        cells.append([*names, row["processes"], row["iterations"], *figures])
    console.print(terminal_table(headings, cells))
    if args.json:
        write_record(args.json, record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
