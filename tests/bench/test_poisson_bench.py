"""The benchmark itself: it judges by the residual, reports what it leaves out, and draws what it measured."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import poisson

    return poisson


def test_a_small_run_is_written_drawn_and_reported_again(bench, tmp_path):
    arguments = ["--cases", "box", "neumann", "--sizes", "8", "12", "--solvers", "cg", "dcdm", "pyamg-sa"]
    assert bench.main([*arguments, "--repeats", "2", "--steps", "2", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "poisson.json").read_text())
    assert len(record["rows"]) == 12
    for row in record["rows"]:
        assert row["result"] == "converged"
        assert row["relative_residual"] <= 1e-6
        assert len(row["setup"]) == len(row["solve"]) == 2
        assert row["residuals"][-1] < row["residuals"][0]
    assert all(step["all_met_rtol"] for step in record["steps"])
    assert (tmp_path / "poisson.png").stat().st_size > 5000
    assert (tmp_path / "convergence.png").stat().st_size > 5000
    again = ["--from", str(tmp_path / "poisson.json"), "--markdown", str(tmp_path / "table.md")]
    assert bench.main(again) == 0
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert len(lines) == 4
    assert "12³" in lines[0]


def test_a_solver_that_claims_what_it_did_not_reach_is_caught(bench):
    problem = bench.gallery.make("box", 8)
    solution = bench.prepare(problem.grid, solver="cg").solve(problem.b)
    row = bench.Row("box", 8, 512, "cg", 1e-6)
    bench.judge(row, problem, dataclasses.replace(solution, x=solution.x * 1.01))
    assert not row.honest
    bench.judge(row, problem, solution)
    assert not row.honest


def test_what_would_take_too_long_is_left_out_with_the_reason(bench, tmp_path):
    arguments = ["--cases", "box", "--sizes", "8", "64", "--solvers", "cg", "--repeats", "1", "--limit", "1e-5"]
    assert bench.main([*arguments, "--out", str(tmp_path)]) == 0
    small, large = json.loads((tmp_path / "poisson.json").read_text())["rows"]
    assert not small["skipped"]
    assert "--limit" in large["skipped"]


def test_memory_is_measured_in_a_process_of_its_own():
    command = [sys.executable, str(BENCH / "poisson.py"), "--peak", "box", "96", "cg"]
    assert 0 < float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) < 2000
