"""The benchmark itself: it judges by the residual, reports what it leaves out, and draws what it measured."""

import dataclasses
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from relaxon.solvers import gallery, list_solvers, prepare

BENCH = Path(__file__).parents[2] / "bench"
SMALL = ["--repeats", "1", "--no-memory"]


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    from measuring.poisson import scenarios as poisson_scenarios

    monkeypatch.setattr(poisson_scenarios, "TRIAD_LENGTH", 200_000)


@pytest.fixture
def bench():
    import poisson

    return poisson


@pytest.fixture
def runs():
    from measuring.poisson import runs as poisson_runs

    return poisson_runs


@pytest.fixture
def report():
    from measuring.poisson import report as poisson_report

    return poisson_report


@pytest.fixture
def without_pictures(bench, monkeypatch):
    """Pictures take most of a small run, and are what other tests here are about."""
    monkeypatch.setattr(bench, "_draw", lambda *_: None)


def no_constant(name):
    raise AssertionError(f"JSON has no {name}")


def record_of(folder):
    return json.loads((folder / "poisson.json").read_text(), parse_constant=no_constant)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory):
    """A run of four solvers on two cases and two sizes, with time steps and memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCH))
        import poisson

        folder = tmp_path_factory.mktemp("bench")
        arguments = ["--cases", "neumann", "plume", "--sizes", "16", "12", "--solvers", "cg", "dcdm", "mg-cg"]
        arguments += ["pyamg-sa", "--repeats", "2", "--steps", "2", "--memory", "--out", str(folder)]
        return poisson.main(arguments), folder


def test_every_row_of_the_json_has_its_times_and_a_true_residual_within_the_tolerance(small_run):
    status, folder = small_run
    record = record_of(folder)
    assert status == 0
    assert len(record["rows"]) == 2 * 2 * 4
    assert {(r["case"], r["size"]) for r in record["rows"]} == {(c, n) for c in ("neumann", "plume") for n in (12, 16)}
    for row in record["rows"]:
        assert row["result"] == "converged"
        assert not row["skipped"]
        assert len(row["setup"]) == len(row["solve"]) == len(row["relative_residuals"]) == 2
        assert all(s > 0 for s in row["setup"] + row["solve"])
        assert min(map(sum, zip(row["setup"], row["solve"], strict=True))) <= row["seconds"]
        assert row["relative_residual"] == max(row["relative_residuals"]) <= 1e-6
        assert len(row["residuals"]) == row["iterations"] + 1
        assert row["residuals"][-1] < row["residuals"][0]
        assert row["warm_up_seconds"] > 0


def test_the_machine_and_the_versions_are_in_the_json(small_run):
    record = record_of(small_run[1])
    machine = record["machine"]
    assert machine["triad_bytes_per_second"] > 1e8
    assert machine["cores"] >= 1
    assert machine["threads"] >= 1
    assert machine["blas_threads"]
    assert machine["load_before"] >= 0
    assert machine["cpu"]
    assert machine["python"]
    assert record["versions"]["client"]["numpy"]
    assert {"numba", "pyamg", "scipy"} <= set(record["versions"]["server"])


def test_time_steps_are_run_on_both_geometries_and_judged(small_run):
    steps = record_of(small_run[1])["steps"]
    assert {(s["geometry"], s["solver"]) for s in steps} == {
        (g, s) for g in ("at rest", "moving") for s in ("dcdm", "mg-cg", "pyamg-sa")
    }
    assert all(s["all_met_rtol"] and s["honest"] and s["setup"] > 0 and s["solve"] > 0 for s in steps)


def test_memory_is_measured_for_every_solver_that_ran_at_the_largest_size(small_run):
    memory = record_of(small_run[1])["memory"]
    assert {m["solver"] for m in memory} == {"cg", "dcdm", "mg-cg", "pyamg-sa"}
    assert {(m["case"], m["size"], m["failed"]) for m in memory} == {("plume", 16, "")}


def test_peak_memory_of_a_process_is_bounded_and_a_failed_one_says_why():
    from measuring.poisson import scenarios as poisson_scenarios

    measured = poisson_scenarios.memory_per_unknown("box", 64, "cg", 1e-6)
    assert 8 <= measured.bytes_per_unknown < 2000
    refused = poisson_scenarios.memory_per_unknown("box", 64, "scipy-direct", 1e-6)
    assert refused.bytes_per_unknown is None
    assert "takes at most" in refused.failed


def test_both_pictures_are_drawn(small_run):
    for name in ("poisson.png", "convergence.png"):
        data = (small_run[1] / name).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) > 5000


def test_pictures_come_from_an_earlier_json_too(small_run, bench, tmp_path):
    assert bench.main(["--from", str(small_run[1] / "poisson.json"), "--out", str(tmp_path / "again")]) == 0
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"poisson.png", "convergence.png"}


def test_a_run_that_is_cut_short_leaves_its_results_and_pictures(bench, monkeypatch, tmp_path):
    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "run_beside", cut)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--cases", "box", "--sizes", "12", "--solvers", "cg", "--out", str(tmp_path), *SMALL])
    assert len(record_of(tmp_path)["rows"]) == 1
    assert (tmp_path / "poisson.png").exists()
    assert (tmp_path / "convergence.png").exists()


def test_markdown_comes_from_an_earlier_json_with_a_line_a_case(small_run, bench, tmp_path):
    path = tmp_path / "table.md"
    assert bench.main(["--from", str(small_run[1] / "poisson.json"), "--markdown", str(path)]) == 0
    lines = path.read_text().splitlines()
    (at, header), *_ = [(at, line) for at, line in enumerate(lines) if line.startswith("| 16³")]
    assert header.startswith("| 16³, to 1e-06 | unknowns | `dcdm` | `mg-cg` | `cg` | `pyamg-sa` | best PyAMG / `dcdm`")
    assert lines[at + 2].split(" | ")[:2] == ["| neumann", "4,096"]
    assert all(line.endswith("× |") for line in lines[at + 2 : at + 4])


def test_the_outcome_of_every_solver_is_legible_in_80_columns(small_run, report):
    record = record_of(small_run[1])
    record["rows"][0] |= {"result": "max_iterations", "note": "1 of 2 repeats: 3.0 s so far, --limit 4 s"}
    record["rows"][1] |= {"setup": [], "solve": [], "result": "", "skipped": "skipped: over its largest size here"}
    console = Console(width=80, record=True, file=io.StringIO())
    for table in report.table(record):
        console.print(table)
    text = console.export_text()
    assert "…" not in text
    assert text.count("converged") == len(record["rows"]) - 2
    for said in ("max_iterations*", "1 of 2 repeats: 3.0 s so far", "skipped: over its largest size here"):
        assert said in text


def test_a_solver_that_claims_what_it_did_not_reach_is_caught(runs):
    problem = gallery.make("box", 12)
    solution = prepare(problem.grid, solver="cg").solve(problem.b)
    assert runs.judge(problem, solution, 1e-6, 0.0, 0.0).honest
    lie = dataclasses.replace(solution, x=solution.x * 1.01)
    caught = runs.judge(problem, lie, 1e-6, 0.0, 0.0)
    assert not caught.honest
    assert caught.relative_residual == pytest.approx(0.01, rel=1e-3)
    assert not runs.judge(problem, dataclasses.replace(solution, x=solution.x * math.nan), 1e-6, 0.0, 0.0).honest
    not_claimed = dataclasses.replace(lie, result=type(solution.result).STAGNATED)
    assert runs.judge(problem, not_claimed, 1e-6, 0.0, 0.0).honest


class _Lying:
    """A set-up whose solutions are off by a percent, called converged."""

    def __init__(self, prepared, when):
        self.prepared, self.when = prepared, when

    def solve(self, b, **options):
        solution = self.prepared.solve(b, **options)
        return dataclasses.replace(solution, x=solution.x * 1.01) if self.when(b.shape) else solution


@pytest.mark.usefixtures("without_pictures")
@pytest.mark.parametrize("lying_at", [12, 16], ids=["a counted run", "the warm-up"])
def test_one_lie_makes_the_exit_status_1_and_is_named(bench, runs, report, monkeypatch, tmp_path, capsys, lying_at):
    def lying(grid, *, solver):
        prepared = prepare(grid, solver=solver)
        return _Lying(prepared, lambda shape: shape[0] == lying_at) if solver == "jacobi-cg" else prepared

    monkeypatch.setattr(runs, "prepare", lying)
    arguments = ["--cases", "box", "--sizes", "12", "--solvers", "cg", "jacobi-cg", "--out", str(tmp_path), *SMALL]
    assert bench.main(arguments) == 1
    assert "jacobi-cg on box 12³ said CONVERGED" in " ".join(capsys.readouterr().out.split())
    honest, liar = record_of(tmp_path)["rows"]
    assert honest["honest"]
    assert not liar["honest"]
    assert bench.main(["--from", str(tmp_path / "poisson.json")]) == 1
    assert "not true" in report.markdown(record_of(tmp_path)) or lying_at == 16


@pytest.mark.usefixtures("without_pictures")
def test_a_lie_in_the_time_steps_makes_the_exit_status_1(bench, monkeypatch, tmp_path):
    from measuring.poisson import scenarios as poisson_scenarios

    monkeypatch.setattr(poisson_scenarios, "prepare", lambda g, *, solver: _Lying(prepare(g, solver=solver), bool))
    arguments = ["--cases", "box", "--sizes", "12", "--solvers", "cg", "--steps", "1", "--out", str(tmp_path), *SMALL]
    assert bench.main(arguments) == 1
    assert [s["honest"] for s in record_of(tmp_path)["steps"]] == [False, False]


@pytest.mark.usefixtures("without_pictures")
def test_what_would_take_too_long_is_left_out_with_the_reason(bench, runs, monkeypatch, tmp_path, capsys):
    real = runs.attempt
    slow = {"cg": 50.0, "mg-cg": 0.1}

    def slowed(problem, solver, rtol, limit=math.inf):
        return dataclasses.replace(real(problem, solver, rtol), setup=0.0, solve=slow[solver])

    monkeypatch.setattr(runs, "attempt", slowed)
    arguments = ["--cases", "box", "--sizes", "12", "24", "--solvers", "cg", "mg-cg", "--limit", "99", *SMALL]
    assert bench.main([*arguments, "--out", str(tmp_path), "--markdown", str(tmp_path / "table.md")]) == 0
    small_cg, small_mg, large_cg, large_mg = record_of(tmp_path)["rows"]
    assert not any(r["skipped"] for r in (small_cg, small_mg, large_mg))
    assert "would take about 800 s" in large_cg["skipped"]
    assert "--limit 99 s" in large_cg["skipped"]
    assert large_cg["setup"] == []
    assert "would take about 800 s" in " ".join(capsys.readouterr().out.split())
    assert "- `cg`, box: skipped: would take about 800 s" in (tmp_path / "table.md").read_text()


def test_fewer_repeats_than_asked_for_are_reported(runs, monkeypatch):
    real = runs.attempt
    monkeypatch.setattr(runs, "attempt", lambda *a: dataclasses.replace(real(*a[:3]), setup=0.0, solve=4.0))
    (row,) = runs.Contest(["cg"], 5, runs.Limits(10.0)).run("box", 12, 1e-6)
    assert len(row.attempts) == 2
    assert "2 of 5 repeats" in row.note


def test_a_solve_that_passes_the_limit_is_stopped_and_not_called_converged(runs):
    (row,) = runs.Contest(["cg"], 3, runs.Limits(1e-9)).run("box", 12, 1e-6)
    assert row.worst.result == "cancelled"
    assert row.worst.iterations <= 1


def test_a_solver_s_own_largest_size_and_refusals_are_reported(runs):
    contest = runs.Contest(["cg", "jacobi-cg", "scipy-direct"], 1, runs.Limits(60.0, (("cg", 8),)))
    cg, jacobi, direct = contest.run("box", 56, 1e-6)
    assert "over its largest size here, 8³" in cg.skipped
    assert jacobi.attempts
    assert direct.skipped.startswith("refused: solver 'scipy-direct' takes at most")


def test_one_solver_s_crash_is_reported_and_the_others_go_on(runs, monkeypatch):
    def crashing(grid, *, solver):
        if solver == "cg":
            raise MemoryError("no more")
        return prepare(grid, solver=solver)

    monkeypatch.setattr(runs, "prepare", crashing)
    crashed, fine = runs.Contest(["cg", "jacobi-cg"], 1, runs.Limits()).run("box", 12, 1e-6)
    assert crashed.skipped == "failed: MemoryError: no more"
    assert fine.worst.result == "converged"


def test_each_repeat_sets_up_on_a_grid_that_nothing_is_known_about(runs, monkeypatch):
    seen = []

    def watched(grid, *, solver):
        seen.append((id(grid), "nullspace" in vars(grid), "_operator_parts" in vars(grid)))
        grids.append(grid)
        return prepare(grid, solver=solver)

    grids = []
    monkeypatch.setattr(runs, "prepare", watched)
    runs.Contest(["cg", "mg-cg"], 2, runs.Limits()).run("neumann", 12, 1e-6)
    assert len({grid for grid, _, _ in seen}) == len(seen) == 2 + 4
    assert not any(null or operators for _, null, operators in seen)


def test_repeats_go_round_the_solvers(runs, monkeypatch):
    order = []
    real = runs.attempt
    monkeypatch.setattr(runs, "attempt", lambda p, s, *a: order.append((s, p.grid.shape[0])) or real(p, s, *a))
    runs.Contest(["cg", "jacobi-cg"], 3, runs.Limits()).run("box", 12, 1e-6)
    counted = [solver for solver, size in order if size == 12]
    assert [set(counted[i : i + 2]) for i in (0, 2, 4)] == [{"cg", "jacobi-cg"}] * 3


def test_a_factor_over_pyamg_needs_both_to_have_solved(report, small_run):
    record = record_of(small_run[1])
    assert record["rows"]
    for row in record["rows"]:
        if row["solver"] == "dcdm":
            row["result"] = "stagnated"
    lines = [line for line in report.markdown(record).splitlines() if line.startswith(("| neumann", "| plume"))]
    assert len(lines) >= 2
    assert all(line.endswith("| – |") for line in lines[:2])


def test_the_threads_asked_for_are_those_that_run(tmp_path):
    command = [sys.executable, str(BENCH / "poisson.py"), "--cases", "box", "--sizes", "8", "--solvers", "cg", *SMALL]
    command += ["--threads", "1", "--blas-threads", "1", "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    machine = record_of(tmp_path)["machine"]
    assert (machine["threads"], machine["blas_threads"]) == (1, "1")


def test_the_report_knows_every_solver(report):
    assert set(report.ORDER) == {entry.name for entry in list_solvers()}


def test_the_quick_run_keeps_the_network_to_small_grids(bench):
    quick = bench.settings(bench.parser().parse_args(["--quick"]))
    assert quick.sizes == (32, 48, 64)
    assert quick.repeats == 3
    assert set(quick.cases) == set(bench.CASES)
    assert dict(quick.limits.largest)["dcdm-cnn"] == 48
    assert "dcdm-cnn" in quick.solvers


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))


def test_another_build_takes_part_on_the_same_system_and_is_judged_by_its_residual(runs, report):
    class Lying:
        def attempt(self, problem, solver, rtol, limit):
            assert solver == "dcdm"
            answer = prepare(problem.grid, solver="cg").solve(problem.b, rtol=rtol)
            return runs.judge(problem, dataclasses.replace(answer, x=2 * answer.x), rtol, 0.0, 1.0)

    contest = runs.Contest(["dcdm"], 2, runs.Limits(), {"dcdm at abc": (Lying(), "dcdm")})
    own, other = contest.run("box", 12, 1e-6)
    assert (own.honest, other.honest) == (True, False)
    assert len(other.attempts) == 2
    assert other.worst.relative_residual == pytest.approx(1.0, rel=1e-3)


def test_what_an_older_build_needs_of_a_system_is_written_without_this_one_s_types():
    from measuring.poisson.other_build import _describe

    arguments, more, b = _describe(gallery.make("box", 8))
    assert more == {}
    assert all(isinstance(side, str) for pair in arguments[2] for side in pair)
    assert b.shape == arguments[0].shape
    assert set(_describe(gallery.make("cylinder", 8))[1]) == {"volume"}


def test_the_best_of_pyamg_is_a_lower_bound_where_the_limit_cut_all_of_it(report):
    def row(seconds, result):
        return {"seconds": seconds, "result": result, "honest": True, "setup": [seconds]}

    ours = row(0.5, "converged")
    assert report._factor([row(3.0, "cancelled"), row(2.0, "cancelled")], ours) == "over 4.0×"
    assert report._factor([row(3.0, "converged"), row(2.0, "cancelled")], ours) == "6.0×"
    assert report._factor([None], ours) == "–"


def test_a_table_goes_between_the_lines_of_a_page_and_nowhere_else(report, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    report.write_into(page, "| new |\n")
    report.write_into(page, "| new |\n")
    assert page.read_text() == f"before\n\n{report.BEGIN}\n\n| new |\n\n{report.END}\n\nafter\n"
    page.write_text("no lines")
    with pytest.raises(ValueError, match="must have the lines"):
        report.write_into(page, "new")
