"""What the tolerance of other libraries' solvers means, run: what each says, by what measure, and the true residual.

    python bench/tolerances.py                 # SciPy and PyAMG; PETSc too where python3-petsc4py is installed
    python bench/tolerances.py --json out.json

Each solver is asked for 1e-6 on two systems: `laplacian`, a square of 60² unknowns, and `mixed`, the same with unknowns
and equations in units from 1e-3 to 1e3; PETSc gets also `closed`, a closed box whose right-hand side has no solution.
Where the measure that docs/tolerances.md names for a solver is not what it stopped by (said to have converged above the
tolerance in that measure) the row says so and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from measuring.tables import terminal_table, write_record
from petsc import PYTHON, _environment, reason_to_skip
from rich.console import Console
from scipy import sparse
from scipy.sparse import linalg

from relaxon.solvers import norms

CHILD = Path(__file__).parent / "measuring" / "tolerances" / "child.py"
TOLERANCE, SIDE, LIMIT = 1e-6, 60, 20_000
BACKWARD = "‖r‖/(‖A‖‖x‖) or ‖Ar‖/(‖A‖‖r‖)"
SLACK, ESTIMATED = 1.01, 5.0
"""A recurrence and the measure recomputed here part in the last digits; minres estimates the norm of the matrix."""


@dataclass(frozen=True, slots=True)
class System:
    """A matrix, a right-hand side, and `M`, the inverse of the diagonal."""

    name: str
    A: Any
    b: Any
    M: Any


@dataclass(frozen=True, slots=True)
class Row:
    """A solver on one system; `own` is the measure that the page names for it, computed here."""

    library: str
    solver: str
    system: str
    measure: str
    said: str
    own: float
    true: float
    holds: bool


def systems() -> tuple[System, System]:
    """The two systems; the right-hand sides are random."""
    path = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(SIDE, SIDE))
    A = sparse.csr_array(sparse.kronsum(path, path))
    rng = np.random.default_rng(0)
    b = rng.normal(size=A.shape[0])
    units = sparse.diags_array(10.0 ** rng.uniform(-3, 3, A.shape[0]))
    mixed = sparse.csr_array(units @ A @ units)
    return tuple(
        System(name, sparse.csr_matrix(a), b, sparse.csr_matrix(sparse.diags_array(1 / a.diagonal())))
        for name, a in (("laplacian", A), ("mixed", mixed))
    )  # type: ignore[return-value]


def python_rows() -> Iterator[Row]:
    """SciPy's and PyAMG's solvers on both systems."""
    import pyamg

    scipy_name, pyamg_name = f"SciPy {version('scipy')}", f"PyAMG {version('pyamg')}"
    plain, preconditioned = "‖r‖/‖b‖", "‖Mr‖/‖Mb‖"
    for system in systems():
        for name in ("cg", "bicgstab", "gmres", "minres"):
            solve = getattr(linalg, name)
            options = {"restart": 100} if name == "gmres" else {}
            x, info = solve(system.A, system.b, M=system.M, rtol=TOLERANCE, maxiter=LIMIT, **options)
            yield _row(scipy_name, name, system, BACKWARD if name == "minres" else plain, x, info)
        for name in ("cg", "bicgstab", "gmres"):
            solve = getattr(pyamg.krylov, name)
            options = {"restart": 100} if name == "gmres" else {}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                x, info = solve(
                    system.A, system.b, M=system.M, tol=TOLERANCE, maxiter=200 if options else LIMIT, **options
                )
            yield _row(pyamg_name, name, system, preconditioned if name == "gmres" else plain, x, info)


def petsc_rows() -> Iterator[Row]:
    """PETSc's CG by each norm; from its own process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for system in systems():
            for part in ("indptr", "indices", "data"):
                np.save(folder / f"{system.name}_{part}.npy", getattr(system.A, part))
            np.save(folder / f"{system.name}_b.npy", system.b)
        subprocess.run(
            [PYTHON, str(CHILD), str(folder)], env=_environment(), check=True, capture_output=True, timeout=300
        )
        told = json.loads((folder / "rows.json").read_text())
        found = {system.name: system for system in systems()}
        for number, one in enumerate(told["rows"]):
            x = np.load(folder / f"x_{number}.npy")
            library = f"PETSc {told['version']}"
            if one["system"] in found:
                info = 0 if one["reason"] > 0 else one["reason"]
                yield _row(library, one["solver"], found[one["system"]], one["measure"], x, info, one["reason"])
            else:
                true = float(one["true"])
                said = "converged" if one["reason"] > 0 else f"reason {one['reason']}"
                yield Row(library, one["solver"], one["system"], one["measure"], said, float(one["own"]), true, True)


def _row(library: str, solver: str, system: System, measure: str, x: Any, info: int, reason: int | None = None) -> Row:
    A, b, M = system.A, system.b, system.M
    measures: dict[str, Callable[[], float]] = {
        "‖r‖/‖b‖": lambda: norms.relative_residual(A, b, x),
        "‖Mr‖/‖Mb‖": lambda: norms.preconditioned_residual(A, b, x, M),
        "√rᵀMr/√bᵀMb": lambda: norms.natural_residual(A, b, x, M),
        BACKWARD: lambda: min(norms.backward_residual(A, b, x), norms.normal_residual(A, b, x)),
    }
    slack = ESTIMATED if measure == BACKWARD else SLACK
    own, true = measures[measure](), norms.relative_residual(A, b, x)
    said = "converged" if info == 0 else f"not converged ({info if reason is None else f'reason {reason}'})"
    return Row(library, solver, system.name, measure, said, own, true, info != 0 or own <= slack * TOLERANCE)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    args, console = parser.parse_args(argv), Console(highlight=False)
    rows = list(python_rows())
    skip = reason_to_skip()
    if skip:
        console.print(skip)
    else:
        rows += petsc_rows()
    marks = ["" if row.holds else "stopped by another measure" for row in rows]
    cells = [
        [row.library, row.solver, row.system, row.measure, row.said, f"{row.own:.1e}", f"{row.true:.1e}", mark]
        for row, mark in zip(rows, marks, strict=True)
    ]
    headings = ("library", "solver", "system", "measure", "it says", "its measure", "true ‖r‖/‖b‖", "")
    console.print(terminal_table(headings, cells))
    if args.json:
        write_record(args.json, [asdict(row) for row in rows])
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
