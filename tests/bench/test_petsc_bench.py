"""PETSc beside the project's solvers: its absence is said, its answers are judged here, its options are recorded."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def petsc(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import petsc

    return petsc


@pytest.fixture
def present(petsc):
    reason = petsc.reason_to_skip()
    if reason:
        pytest.skip(reason)
    return petsc


def test_its_absence_is_said_and_is_no_failure(petsc, monkeypatch, capsys, tmp_path):
    out = tmp_path / "out.json"
    monkeypatch.setattr(petsc, "PACKAGES", "/nowhere")
    monkeypatch.setattr(petsc, "PYTHON", sys.executable)  # which has no petsc4py either
    assert petsc.main(["--size", "8", "--json", str(out)]) == 0
    assert "skipped: petsc4py not present" in capsys.readouterr().out
    assert json.loads(out.read_text())["skipped"].startswith("skipped: petsc4py not present")


def test_a_child_that_fails_is_a_reason_and_not_a_result(petsc, monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    child.write_text("import sys; sys.exit('out of luck')")
    monkeypatch.setattr(petsc, "CHILD", child)
    monkeypatch.setattr(petsc, "PYTHON", sys.executable)
    rows = petsc.petsc_rows("box", 8, variants=["jacobi", "hypre"])
    assert [row.failed for row in rows] == ["exit status 1: out of luck"] * 2
    assert not any(row.met for row in rows)
    assert all(row.seconds == np.inf for row in rows)


def test_a_process_cut_short_keeps_what_it_had_measured(petsc, monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    late = STAND_IN.replace('"failed": ""})', '"failed": ""}); break') + "\ntime.sleep(60)\n"
    child.write_text(late)
    monkeypatch.setattr(petsc, "CHILD", child)
    monkeypatch.setattr(petsc, "PYTHON", sys.executable)
    monkeypatch.setattr(petsc, "START_SECONDS", 10.0)
    first, second = petsc.petsc_rows("box", 6, variants=["jacobi", "hypre"], seconds=0.1)
    assert first.met
    assert second.failed == "over 10.4 s"


STAND_IN = """
import json, sys, time
from pathlib import Path
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve
folder = Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
part = {name: np.load(folder / f"{name}.npy") for name in ("indptr", "indices", "data", "b")}
a = sparse.csc_array(sparse.csr_array((part["data"], part["indices"], part["indptr"])))
rows = []
for number, variant in enumerate(job["variants"]):
    error = 1e-3 if variant["name"] == "icc" else 0.0
    np.save(folder / f"x_{number}.npy", spsolve(a, part["b"]) * (1 + error))
    rows.append({**variant, "setup": [0.5], "solve": [0.25], "iterations": 3, "reason": 2, "failed": ""})
(folder / "rows.json").write_text(json.dumps({"petsc": "0", "ranks": 1, "rows": rows}))
"""


@pytest.mark.parametrize("case", ["spheres", "neumann", "random"])
def test_an_answer_counts_where_its_residual_recomputed_here_meets_the_tolerance(petsc, monkeypatch, tmp_path, case):
    child = tmp_path / "child.py"
    child.write_text(STAND_IN)
    monkeypatch.setattr(petsc, "CHILD", child)
    monkeypatch.setattr(petsc, "PYTHON", sys.executable)
    right, wrong = petsc.petsc_rows(case, 8, variants=["jacobi", "icc"])
    assert right.met
    assert right.seconds == 0.75
    assert right.options == petsc.VARIANTS["jacobi"]
    assert not wrong.met
    assert wrong.relative_residual == pytest.approx(1e-3, rel=0.01)


@pytest.mark.parametrize("ranks", [1, 2])
def test_every_variant_meets_the_tolerance(present, ranks):
    for case in ("spheres", "neumann"):
        rows = present.petsc_rows(case, 10, variants=list(present.VARIANTS), ranks=ranks, repeats=1)
        for row in rows:
            assert not row.failed, row
            assert row.met, row
            assert row.iterations > 0
    assert {row.variant: row.options for row in rows} == present.VARIANTS


def test_it_runs_on_its_own(present, tmp_path):
    out = tmp_path / "out.json"
    command = [
        sys.executable,
        str(BENCH / "petsc.py"),
        "--size",
        "8",
        "--cases",
        "box",
        "--variants",
        "hypre",
        "gamg sor",
    ]
    subprocess.run([*command, "--repeats", "2", "--ranks", "1", "--json", str(out)], check=True, capture_output=True)
    record = json.loads(out.read_text())
    assert [row["variant"] for row in record["rows"]] == ["hypre", "gamg sor"]
    assert all(len(row["setup"]) == len(row["solve"]) == 2 for row in record["rows"])
    assert record["rows"][0]["options"]["pc_hypre_boomeramg_interp_type"] == "ext+i"
