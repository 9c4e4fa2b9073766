"""The race of sparse solvers: answers are judged here, limits are kept and marked, figures are what they say."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.io import mmwrite

from relaxon.solvers import gallery
from relaxon.solvers.sparse.peers import PEERS

BENCH = Path(__file__).parents[2] / "bench"
STAND_IN = """
import json, os, sys, time
from pathlib import Path
import numpy as np
name = sys.argv[1]
def say(message): print(json.dumps(message), flush=True)
say({"failed": "no such library"} if name == "pyamg sa 0.25" else {"ready": True})
for line in sys.stdin:
    job = json.loads(line)
    folder = Path(job["system"])
    part = {kind: np.load(folder / f"matrix_{kind}.npy") for kind in ("data", "indices", "indptr")}
    b = np.load(folder / "b.npy")
    a = np.zeros((len(b), len(b)))
    a[np.repeat(np.arange(len(b)), np.diff(part["indptr"])), part["indices"]] = part["data"]
    say({"loaded": True})
    if name == "pyamg rs": time.sleep(60)
    if name == "apxchol": kept = np.ones(8_000_000); time.sleep(60)
    if name == "cholmod": os.kill(os.getpid(), 11)
    if name == "pardiso": say({"failed": "ValueError: not for this"}); continue
    x = np.linalg.lstsq(a, b, rcond=1e-12)[0]
    np.save(folder / "x.npy", x * (1 + 1e-3 * (name == "hypre")))
    seconds = {"auto": 0.5, "pyamg sa": 2.0, "hypre": 0.1, "amg": 0.25}[name]
    say({"seconds": seconds, "iterations": 3, "says": "converged", "peak_bytes": 10_000, "kept_bytes": 4_000})
"""


@pytest.fixture
def bench(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCH))
    for name in ("sparse", *(f"measuring.sparse.{part}" for part in ("race", "report", "child"))):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import sparse as module
    from measuring.sparse import race as sparse_race
    from measuring.sparse import report as sparse_report

    module.race_module, module.report = sparse_race, sparse_report
    monkeypatch.setattr(module, "missing_peers", dict)
    return module


@pytest.fixture
def staged(bench, monkeypatch, tmp_path):
    child = tmp_path / "child.py"
    child.write_text(STAND_IN)
    monkeypatch.setattr(bench.race_module, "CHILD", child)
    return bench


def race_of(bench, names, family="laplacian-2d", repeats=1, seconds=2.0, most=3e7):
    workers = {name: bench.Worker(name, 1, False) for name in names}
    try:
        (problem,) = bench.from_gallery([family], 400)
        return bench.race(problem, workers, repeats, bench.Limits(seconds, most))
    finally:
        for worker in workers.values():
            worker.stop()


def test_what_does_not_meet_the_residual_or_its_limits_is_marked_and_not_run_again(staged):
    names = ["auto", "pyamg sa", "pyamg sa 0.25", "pyamg rs", "hypre", "cholmod", "pardiso"]
    row = race_of(staged, names, repeats=2)
    # With time enough: a busy machine may take seconds to see how large a process has become.
    row["runs"] |= race_of(staged, ["apxchol"], seconds=100.0)["runs"]
    cuts = {name: [run["cut"] for run in runs] for name, runs in row["runs"].items()}
    assert cuts["auto"] == cuts["pyamg sa"] == ["", ""]
    assert cuts["pyamg sa 0.25"] == ["cannot start: no such library"]
    assert cuts["pyamg rs"] == ["> 2 s"]
    assert cuts["hypre"] == ["ended at 1e-03"]
    assert cuts["cholmod"] == ["died by signal 11"]
    assert cuts["pardiso"] == ["ValueError: not for this"]
    assert cuts["apxchol"] == ["> 0.03 GB"]
    report = staged.report
    assert report.seconds(row, "pyamg") == 2.0
    assert report.ratio(row, "pyamg", "auto") == 4.0
    assert report.ratio(row, "hypre", "auto") == math.inf
    assert report.shown(row, "pyamg") == "sa 2.000 (3)"
    assert report.shown(row, "cholmod") == "died by signal 11"
    assert report.wrong(row) == ["hypre"]  # it said that it had converged
    assert report.bytes_an_entry(row, "auto", "peak_bytes") == pytest.approx(10_000 / row["entries"])


def test_the_command_writes_table_profile_and_record_and_fails_where_converged_was_wrong(
    staged, monkeypatch, tmp_path, capsys
):
    page, record, picture = tmp_path / "page.md", tmp_path / "out.json", tmp_path / "profile.png"
    begin, end = staged.report.marks_of(large=False)
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    monkeypatch.setattr(staged, "PAGE", page)
    arguments = ["--families", "chain", "neumann-2d", "--unknowns", "300", "--solvers", "auto", "amg", "--repeats", "1"]
    outputs = ["--docs", "--plot", str(picture), "--json", str(record), "--limit", "5"]
    assert staged.main([*arguments, *outputs, "--peers", "hypre"]) == 1
    out = capsys.readouterr().out
    assert "wrong CONVERGED: [('chain', 'hypre'), ('neumann-2d', 'hypre')]" in out
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| chain | 300 |" in text
    assert "elapsed seconds of set-up and solve with 2 threads, one run" in text
    assert "- auto against hypre: nothing to compare; hypre failed on chain, neumann-2d." in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    rows = json.loads(record.read_text())["rows"]
    assert [row["family"] for row in rows] == ["chain", "neumann-2d"]
    assert rows[0]["runs"]["amg"][0]["seconds"] == 0.25
    page.write_text("no place for it")
    with pytest.raises(ValueError, match=r"must have the lines"):
        staged.report.write_docs(page, "text", (begin, end))


def test_large_is_a_race_of_its_own_size_and_peers_with_its_own_place_on_the_page(staged, monkeypatch, tmp_path):
    args = staged.parse(["--large"])
    assert (args.unknowns, args.peers) == (1_000_000, ["pyamg", "hypre"])
    assert set(args.families) < set(gallery.matrix_names())
    assert staged.parse([]).families == list(gallery.matrix_names())
    assert staged.parse(["--large", "--peers"]).peers == []
    page = tmp_path / "page.md"
    usual, large = staged.report.marks_of(large=False), staged.report.marks_of(large=True)
    page.write_text("\n".join([*usual, "between", *large]))
    monkeypatch.setattr(staged, "PAGE", page)
    few = ["--families", "chain", "--unknowns", "300", "--peers", "--repeats", "1"]
    assert staged.main(["--large", "--docs", *few]) == 0
    head, _, tail = page.read_text().partition("between")
    assert head == f"{usual[0]}\n{usual[1]}\n"
    assert "`python bench/sparse.py --large --docs`: " in tail
    assert "| chain | 300 |" in tail
    with pytest.raises(SystemExit):
        staged.parse(["--large", "--folder", str(tmp_path)])


def entry(seconds, cut=""):
    return {"seconds": seconds, "cut": cut, "residual": 1e-7, "scaled": 1e-7, "iterations": 5}


def row_of(family, **runs):
    return {
        "family": family,
        "unknowns": 10,
        "entries": 50,
        "runs": {name.replace("_", " "): [entry(value) for value in values] for name, values in runs.items()},
    }


def test_ratios_means_and_profiles_are_those_of_their_definitions(bench):
    report = bench.report
    rows = [
        row_of("one", auto=[1.0, 9.0, 2.0], pyamg_sa=[8.0], pyamg_rs=[4.0], hypre=[1.0]),
        row_of("two", auto=[1.0], pyamg_sa=[8.0], hypre=[4.0]),
    ]
    rows.append({**row_of("three", auto=[3.0]), "runs": {"auto": [entry(3.0)], "pyamg sa": [entry(1.0, "> 1 s")]}})
    said = report.comparison(rows, "auto", "pyamg")
    assert said == (
        "auto against pyamg: 4.0 times as fast in the geometric mean of 2, at least 2.00 (one); pyamg failed on three"
    )
    assert "1.4 times as fast in the geometric mean of 2, at least 0.50 (one, hypre)" in report.against_the_best(
        rows, "auto"
    )
    profile = report.profile(rows, ["auto", "pyamg", "hypre"])
    assert profile["auto"] == ([1.0, 1.0, 2.0], [1 / 3, 2 / 3, 1.0])
    assert profile["pyamg"] == ([4.0, 8.0], [1 / 3, 2 / 3])
    assert profile["hypre"] == ([1.0, 4.0], [1 / 3, 2 / 3])
    assert report.groups_of(rows) == ["pyamg", "hypre"]
    assert report.shown(rows[2], "hypre") == "-"


def test_the_phases_that_are_timed_are_there(bench):
    import sparse_phases

    assert [name for _, owner, name in sparse_phases.PHASES if name not in vars(owner)] == []


def test_a_folder_s_matrices_are_read_and_what_is_no_matrix_is_said(staged, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    mmwrite(folder / "a.mtx", sparse.coo_array(gallery.matrix("triangles-2d", 200)))
    sparse.save_npz(folder / "b.npz", gallery.matrix("laplacian-2d", 200))
    (folder / "c.mtx").write_text("not a matrix")
    mmwrite(folder / "d.mtx", sparse.coo_array([[2.0, 1.0], [0.5, 2.0]]))
    assert staged.main(["--folder", str(folder), "--peers", "--repeats", "1"]) == 0
    out = capsys.readouterr().out
    assert "c.mtx: not run" in out
    assert "d.mtx: not run: the race is of symmetric positive definite matrices, got a nonsymmetric one" in " ".join(
        out.split()
    )
    assert all(name in out for name in ("\na.mtx ", "\nb.npz "))
    with pytest.raises(SystemExit):
        staged.main(["--folder", str(folder / "nowhere")])


def test_the_real_contestants_measure_themselves(bench):
    names = ["jacobi-cg", "pyamg sa"]
    names += [name for name in PEERS if name not in bench.race_module.missing_peers() and name != "amgcl"]
    row = race_of(bench, names, family="neumann-2d", seconds=30.0, most=1e9)
    for name in names:
        (run,) = row["runs"][name]
        assert run["cut"] == "", name
        assert run["residual"] <= 1.01e-6
        assert run["seconds"] > 0
        assert run["iterations"] >= 1
        assert run["peak_bytes"] >= 0
    assert np.isfinite(row["runs"]["jacobi-cg"][0]["scaled"])
