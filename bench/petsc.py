"""PETSc's multigrids on this project's systems: GAMG, hypre's BoomerAMG and PFMG, Trilinos's ML, and simpler ones.

    apt-get install python3-petsc4py          # Debian's; the benchmark says so and ends where it is absent
    python bench/petsc.py --size 64 --cases spheres pool --json out.json
    python bench/petsc.py --size 64 --cases spheres --tune          # every variant, to choose the options below anew

CG with each preconditioner, on the same matrix and right-hand side as the other benchmarks (the CSR matrix on the
fluid cells in C order, which gives slabs to the ranks). Set-up and solve are timed apart inside PETSc's own process,
median of the repeats; the residual is recomputed here. Closed components are made regular by one held unknown, as for
PyAMG.
PFMG and SMG are geometric: they get the whole box as a stencil, with rows of its own for cells outside the fluid. Their
input is put together in Python, which is not timed. `--ranks 1 2` runs each with one and with two MPI processes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measuring.petsc.launcher import find_launcher
from measuring.tables import terminal_table, write_record
from rich.console import Console
from rich.table import Table

from relaxon.cli.machine import describe_machine
from relaxon.solvers import gallery
from relaxon.solvers.sparse import MatrixSystem

CHILD = Path(__file__).parent / "measuring" / "petsc" / "child.py"
PYTHON = "/usr/bin/python3"
"""Debian's petsc4py is built for Debian's Python."""
PACKAGES = "/usr/lib/petscdir"
"""Where the package's files are, should no alternative for /usr/lib/petsc be set."""
SKIPPED = "skipped: petsc4py not present (apt-get install python3-petsc4py)"
CASES = ("box", "spheres", "pool", "random", "neumann", "variable")
RTOL, REPEATS, SECONDS = 1e-6, 5, 60.0
START_SECONDS = 60.0
SLACK = 1.001
"""CG's recurrence and the residual recomputed here part in the last digits."""
Options = dict[str, str]

_SOR = {"mg_levels_ksp_type": "richardson", "mg_levels_pc_type": "sor"}
_CHEBYSHEV = {"mg_levels_ksp_type": "chebyshev", "mg_levels_pc_type": "jacobi"}
_BOOMER = {
    "pc_type": "hypre",
    "pc_hypre_type": "boomeramg",
    "pc_hypre_boomeramg_strong_threshold": "0.5",
    "pc_hypre_boomeramg_coarsen_type": "HMIS",
    "pc_hypre_boomeramg_interp_type": "ext+i",
    "pc_hypre_boomeramg_P_max": "4",
}
VARIANTS: dict[str, Options] = {
    "gamg default": {"pc_type": "gamg"},
    "gamg jacobi": {"pc_type": "gamg", **_CHEBYSHEV, "mg_levels_ksp_max_it": "2"},
    "gamg sor": {"pc_type": "gamg", **_SOR, "mg_levels_ksp_max_it": "1"},
    "gamg sor, threshold 0.02": {"pc_type": "gamg", **_SOR, "mg_levels_ksp_max_it": "1", "pc_gamg_threshold": "0.02"},
    "gamg sor, unsmoothed": {"pc_type": "gamg", **_SOR, "mg_levels_ksp_max_it": "2", "pc_gamg_agg_nsmooths": "0"},
    "gamg sor, no squaring": {
        "pc_type": "gamg",
        **_SOR,
        "mg_levels_ksp_max_it": "1",
        "pc_gamg_square_graph": "0",
        "pc_gamg_aggressive_coarsening": "0",
    },
    "hypre default": {"pc_type": "hypre", "pc_hypre_type": "boomeramg"},
    "hypre": {**_BOOMER, "pc_hypre_boomeramg_agg_nl": "1"},
    "hypre, none aggressive": _BOOMER,
    "hypre, two aggressive": {**_BOOMER, "pc_hypre_boomeramg_agg_nl": "2"},
    "hypre, threshold 0.25": {
        **_BOOMER,
        "pc_hypre_boomeramg_agg_nl": "1",
        "pc_hypre_boomeramg_strong_threshold": "0.25",
    },
    "hypre, chebyshev": {
        **_BOOMER,
        "pc_hypre_boomeramg_agg_nl": "1",
        "pc_hypre_boomeramg_relax_type_all": "Chebyshev",
    },
    "ml default": {"pc_type": "ml"},
    "ml sor": {"pc_type": "ml", **_SOR, "mg_levels_ksp_max_it": "1"},
    "ml sor, MIS": {"pc_type": "ml", **_SOR, "mg_levels_ksp_max_it": "1", "pc_ml_CoarsenScheme": "MIS"},
    "ml jacobi": {"pc_type": "ml", **_CHEBYSHEV, "mg_levels_ksp_max_it": "2"},
    "hypre pfmg": {"pc_type": "pfmg"},
    "hypre pfmg, red-black": {"pc_type": "pfmg", "pc_pfmg_relax_type": "symmetric-Red/Black-Gauss-Seidel"},
    "hypre smg": {"pc_type": "smg"},
    "icc": {"pc_type": "bjacobi", "sub_pc_type": "icc"},
    "jacobi": {"pc_type": "jacobi"},
}
CHOSEN = (
    "gamg sor",
    "gamg sor, unsmoothed",
    "hypre",
    "hypre, threshold 0.25",
    "hypre pfmg",
    "hypre pfmg, red-black",
    "ml sor",
    "icc",
)
"""The best of each kind, by `--tune`; two of a kind where which is better depends on the case."""


@dataclass(frozen=True, slots=True)
class PetscRow:
    """A preconditioner on one system; `setup` and `solve` in seconds, one a repeat; `failed` says why none."""

    case: str
    size: int
    unknowns: int
    variant: str
    options: Options
    ranks: int
    setup: tuple[float, ...]
    solve: tuple[float, ...]
    iterations: int
    relative_residual: float | None
    """Recomputed here, with SciPy's product."""
    met: bool
    failed: str

    @property
    def seconds(self) -> float:
        """Median of set-up and solve together; infinite where the tolerance was not met."""
        if not (self.met and self.setup):
            return math.inf
        return statistics.median(one + other for one, other in zip(self.setup, self.solve, strict=True))


def reason_to_skip() -> str:
    """Why PETSc cannot be measured here; empty where it can."""
    if not Path(PYTHON).exists():
        return SKIPPED
    command = [PYTHON, "-c", "import petsc4py; petsc4py.init([]); from petsc4py import PETSc"]
    found = subprocess.run(command, env=_environment(), capture_output=True, check=False)
    return "" if found.returncode == 0 else SKIPPED


def petsc_rows(
    case: str,
    size: int,
    *,
    variants: Sequence[str] = CHOSEN,
    ranks: int = 1,
    repeats: int = REPEATS,
    rtol: float = RTOL,
    seconds: float = SECONDS,
    seed: int = 0,
) -> list[PetscRow]:
    """Each variant on one of the gallery's systems; a variant's repeats end when they have taken `seconds`."""
    problem = gallery.make(case, size, seed=seed)
    grid = problem.grid
    system = MatrixSystem.of(grid.operator().to_csr())
    matrix, b = system.regular(), grid.pack(problem.b)
    job = {"repeats": repeats, "rtol": rtol, "seconds": seconds}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("indptr", "indices", "data"):
            np.save(folder / f"{part}.npy", getattr(matrix, part))
        np.save(folder / "b.npy", b)
        _save_stencil(folder, problem, matrix)
        named = [{"name": variant, "options": VARIANTS[variant]} for variant in variants]
        (folder / "job.json").write_text(json.dumps({**job, "variants": named}))
        # A repeat that has begun is let end: the process gets twice what the repeats may take, and its start.
        failed = _run(folder, ranks, START_SECONDS + 2 * seconds * len(named))
        path = folder / "rows.json"
        done = json.loads(path.read_text())["rows"] if path.exists() else []
        nothing = {"setup": [], "solve": [], "failed": failed or "gave nothing"}
        rows = []
        for number, variant in enumerate(named):
            row = done[number] if number < len(done) else {**variant, **nothing}
            residual = None
            if not row["failed"]:
                x = np.load(folder / f"x_{number}.npy")
                x = x if len(x) == grid.unknowns else grid.pack(x.reshape(grid.shape))
                # On the matrix as posed: a held unknown changes the solution by a constant at most.
                residual = float(np.linalg.norm(b - system.matrix @ x) / np.linalg.norm(b))
            rows.append(
                PetscRow(
                    case=case,
                    size=size,
                    unknowns=grid.unknowns,
                    variant=row["name"],
                    options=row["options"],
                    ranks=ranks,
                    setup=tuple(row["setup"]),
                    solve=tuple(row["solve"]),
                    iterations=row.get("iterations", 0),
                    relative_residual=residual if residual is not None and math.isfinite(residual) else None,
                    met=residual is not None and residual <= SLACK * rtol,
                    failed=row["failed"],
                )
            )
        return rows


def _save_stencil(folder: Path, problem: gallery.Problem, matrix: Any) -> None:
    """The same system on all cells of the box: outside the fluid the largest diagonal entry, and `b = 0`."""
    grid, operator = problem.grid, problem.grid.operator()
    diagonal = grid.unpack(matrix.diagonal(), fill=float(matrix.diagonal().max()))
    # A fluid cell that is walled in on all sides has an empty row, which no relaxation can divide by.
    diagonal[diagonal == 0] = float(diagonal.max())
    np.save(folder / "diagonal.npy", diagonal.reshape(grid.shape3))
    np.save(folder / "couplings.npy", np.stack([np.asarray(lower, np.float64) for lower in operator.couplings]))
    np.save(folder / "box_b.npy", np.where(grid.fluid, problem.b, 0.0).reshape(grid.shape3))


def _run(folder: Path, ranks: int, limit: float) -> str:
    """Run the child; why it failed, empty where it did not."""
    command = [PYTHON, str(CHILD), str(folder)]
    if ranks > 1:
        launcher = find_launcher(PYTHON, _environment())
        if launcher is None:
            return "skipped: mpiexec not present"
        command = [*launcher, "-n", str(ranks), *command]
    try:
        done = subprocess.run(command, env=_environment(), capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return f"over {limit:g} s"
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        return f"exit status {done.returncode}: {' '.join(last)}"
    return ""


def _environment() -> dict[str, str]:
    """One thread a process, and the package's modules within reach of Debian's Python."""
    places = sorted(str(path) for path in Path(PACKAGES).glob("*/*-real/lib/python3/dist-packages"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return kept | {"PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, help="cells a side (default %(default)s)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["spheres", "pool"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(CHOSEN))
    parser.add_argument("--tune", action="store_true", help="all variants")
    parser.add_argument("--ranks", nargs="+", type=int, default=[1, 2], help="MPI processes (default 1 2)")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a variant's repeats may take together")
    parser.add_argument("--json", type=Path)
    args, console = parser.parse_args(argv), Console(highlight=False)
    skip = reason_to_skip()
    if skip:
        console.print(skip)
        if args.json:
            write_record(args.json, {"skipped": skip, "rows": []})
        return 0
    rows: list[PetscRow] = []
    for case in args.cases:
        for ranks in args.ranks:
            rows += petsc_rows(
                case,
                args.size,
                variants=list(VARIANTS) if args.tune else args.variants,
                ranks=ranks,
                repeats=args.repeats,
                seconds=args.seconds,
            )
        console.print(_table([row for row in rows if row.case == case], args.size))
        if args.json:
            machine: dict[str, Any] = describe_machine().as_dict()
            record = {"machine": machine | {"load": os.getloadavg()[0]}, "rtol": RTOL}
            record["rows"] = [asdict(row) | {"seconds": row.seconds if row.met else None} for row in rows]
            write_record(args.json, record)
    return 0


def _table(rows: list[PetscRow], size: int) -> Table:
    cells: list[list[Any]] = []
    for row in sorted(rows, key=lambda row: row.seconds):
        if not row.setup:
            cells.append([row.variant, row.ranks, "", "", "", "", row.failed])
            continue
        times = [statistics.median(row.setup), statistics.median(row.solve), row.seconds]
        shown = [f"{value:.3f}" if math.isfinite(value) else "not met" for value in times]
        residual = row.failed or ("–" if row.relative_residual is None else f"{row.relative_residual:.1e}")
        cells.append([row.variant, row.ranks, *shown, row.iterations, residual])
    headings = ("variant", "ranks", "set-up s", "solve s", "both s", "its", "residual")
    return terminal_table(headings, cells, f"{rows[0].case} {size}³, {rows[0].unknowns} unknowns")


if __name__ == "__main__":
    sys.exit(main())
