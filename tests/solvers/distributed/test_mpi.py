"""Processes that MPI really runs: the same iterations whatever their number, over mpi4py and through PETSc."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.append(str(ROOT / "bench"))
from measuring.petsc import launcher as petsc_launcher  # noqa: E402

PETSC_PYTHON = Path(os.environ.get("RELAXON_PETSC_PYTHON", ROOT / "build/petsc/bin/python"))
"""Where docs/distributed.md has it installed."""
COUNTS = (1, 2, 4)
pytestmark = pytest.mark.mpi


def launched(python: str | Path, launcher: list[str], program: str, processes: int) -> dict[str, Any]:
    """What the first process printed."""
    command = [*launcher, "-n", str(processes), str(python), str(HERE / "processes" / program)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RELAXON_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-2000:]
    return json.loads(done.stdout.splitlines()[-1].removeprefix("FOUND "))


@pytest.fixture(scope="module")
def own() -> dict[int, dict[str, Any]]:
    launcher = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if find_spec("mpi4py") is None or launcher is None:
        pytest.skip("needs mpi4py and mpiexec: pip install mpi4py mpich")
    command = [launcher, *petsc_launcher.launcher_options(launcher)]
    return {count: launched(sys.executable, command, "own.py", count) for count in COUNTS}


@pytest.fixture(scope="module")
def petsc() -> dict[int, dict[str, Any]]:
    launcher = petsc_launcher.find_launcher(PETSC_PYTHON, os.environ) if PETSC_PYTHON.exists() else None
    if launcher is None:
        pytest.skip(f"needs petsc4py in {PETSC_PYTHON} (docs/distributed.md says how) and its mpiexec")
    return {count: launched(PETSC_PYTHON, launcher, "through_petsc.py", count) for count in COUNTS}


def rows_of(found: dict[int, dict[str, Any]], case: str) -> list[dict[str, Any]]:
    return [row for count in COUNTS for row in found[count]["solves"] if row["case"] == case]


ANY_KIND = [f"any kind {seed}" for seed in (3, 4, 9)]


@pytest.mark.parametrize("case", ["box", "spheres", "pool", "random", "neumann", "periodic", *ANY_KIND])
def test_any_number_of_processes_takes_the_iterations_of_one(own, case):
    for row in rows_of(own, case):
        assert row["result"] == "CONVERGED"
        assert abs(row["iterations"] - row["alone"]) <= 1
        assert row["residual"] <= 1.001e-8
        assert row["difference"] <= 1e-6


@pytest.mark.parametrize("count", COUNTS)
def test_what_is_wrong_in_the_last_process_is_raised_in_all(own, count):
    found = own[count]["refused"]
    assert len(found) == count
    assert all("cells must have the shape" in text for text in found)


PETSC_CASES = [f"{name} {way}" for name in ("box", "spheres", "pool", "random", "neumann") for way in ("cg", "dcdm")]


OTHER_KINDS = {
    "nodes beyond": 14,
    "κ varies": 40,
    "layers": 40,
    "closed, κ varies": 30,
    "σ": 14,
    "σ of cells": 14,
    "cut cells": 20,
    "widths": 20,
    "Robin": 14,
}
"""The most iterations of CG."""


@pytest.mark.parametrize("case", OTHER_KINDS)
def test_petsc_takes_matrices_of_every_kind_of_grid(petsc, case):
    for way in ("cg", "dcdm"):
        rows = rows_of(petsc, f"{case} {way}")
        assert len(rows) == len(COUNTS)
        assert max(row["iterations"] for row in rows) - min(row["iterations"] for row in rows) <= 1
        assert max(row["iterations"] for row in rows) <= OTHER_KINDS[case]
        assert all(row["reason"] > 0 and row["residual"] <= 1.001e-8 for row in rows)


@pytest.mark.parametrize("case", [*PETSC_CASES, "across x", "negative", "plane", "periodic", "nodes", "jacobi"])
def test_petsc_takes_the_same_iterations_on_any_number_of_processes(petsc, case):
    rows = rows_of(petsc, case)
    assert len(rows) == len(COUNTS)
    assert max(row["iterations"] for row in rows) - min(row["iterations"] for row in rows) <= 1
    assert all(row["reason"] > 0 and row["residual"] <= 1.001e-8 for row in rows)
    assert max(row["x"] for row in rows) - min(row["x"] for row in rows) <= 1e-6 * rows[0]["x"]
    if case != "jacobi":
        assert all(row["exact"] for row in rows)
        assert all(row["iterations"] <= 25 for row in rows)


def test_a_grid_is_read_off_its_matrix(petsc):
    (row, *_) = rows_of(petsc, "periodic")
    assert row["spacing"] == pytest.approx([1.0, 0.5, 0.7])
    assert row["boundary"] == [["periodic"] * 2, ["periodic"] * 2, ["dirichlet", "neumann"]]
    assert [row["scale"] for row in rows_of(petsc, "negative")] == [-1.0] * 3
    assert [row["cut"] for row in rows_of(petsc, "across x")] == [[1, 1], [2, 1], [2, 2]]


def test_a_matrix_that_is_no_grid_s_is_refused_with_a_reason(petsc):
    expected = {
        "not symmetric": "must be symmetric, got couplings",
        "couplings of both signs": "with the sign opposite to its diagonal's",
        "far": "neighbours only, got 1 entries farther away",
        "NaN": "must be finite, got 1 entries",
        "too small a diagonal": "the diagonal must be",
        "no couplings": "must couple neighbours",
        "no DMDA": "",
    }
    for count in COUNTS:
        found = petsc[count]["refusals"]
        assert found.keys() == expected.keys()
        for name, text in expected.items():
            assert found[name], name
            assert text in found[name]


def test_another_matrix_is_read_anew(petsc):
    for count in COUNTS:
        assert all(iterations <= 15 and reason > 0 for iterations, reason in petsc[count]["changed"])


# --- any matrix -------------------------------------------------------------------------------------------------------


def matrix_rows(found: dict[int, dict[str, Any]], case: str) -> list[dict[str, Any]]:
    return [row for count in COUNTS for row in found[count]["matrices"]["solves"] if row["case"] == case]


MOST = {"random-jumps-3d": 14, "rotated-2d": 20, "blocks": 28}
"""Iterations in one process; 14 elsewhere."""
MATRICES = [
    "laplacian-3d",
    "tetrahedra-3d",
    "random-jumps-3d",
    "lognormal-3d",
    "rotated-2d",
    "stretched-3d",
    "negative",
    "flexible",
]


@pytest.mark.parametrize("case", [*MATRICES, "singular", "blocks", "sbaij", "gathered at once"])
def test_several_processes_take_about_the_iterations_of_one(petsc, case):
    rows = matrix_rows(petsc, case)
    assert len(rows) == len(COUNTS)
    assert all(row["reason"] > 0 and row["residual"] <= 1.001e-6 for row in rows)
    assert rows[0]["iterations"] <= MOST.get(case, 14)
    assert all(row["iterations"] <= 1.3 * rows[0]["iterations"] for row in rows)
    if case != "random-jumps-3d":  # where 1e-6 leaves much of what the jumps hardly hold
        assert max(row["x"] for row in rows) <= (1 + 1e-3) * min(row["x"] for row in rows)
    assert [bool(row["levels"]) for row in rows] == [False] + [case != "gathered at once"] * 2


def test_the_map_is_linear_symmetric_and_definite_on_any_number_of_processes(petsc):
    for count in COUNTS:
        seen = petsc[count]["matrices"]["symmetry"]
        assert seen["asymmetry"] <= 3e-5
        assert seen["linear"] <= 3e-5
        assert seen["positive"]


def test_a_matrix_that_is_not_for_it_is_refused_in_every_number_of_processes(petsc):
    for count in COUNTS:
        refused = petsc[count]["matrices"]["refusals"]
        assert re.search("must be symmetric|got a nonsymmetric one", refused["not symmetric"])
        assert (
            "the matrix must be definite, got 450 positive and 450 negative diagonal entries" in refused["both signs"]
        )
        assert "must be real and its diagonal finite" in refused["NaN"]
        assert "pc_relaxon_gathered must be at least 1, got 0" in refused["option"]


def test_another_matrix_is_set_up_anew(petsc):
    for count in COUNTS:
        (first, one), (second, two) = petsc[count]["matrices"]["changed"]
        assert one > 0
        assert two > 0
        assert second < first


def test_near_null_vectors_and_block_sizes_reach_the_set_up(petsc):
    assert petsc[1]["matrices"]["passed on"] == {"block_size": 3, "near_null": [6, "1.0 0.0 0.0"]}
