"""`relaxon stress sparse`: what it counts, what it explains, and what it exits with."""

import json

import pytest

from relaxon.cli import main
from relaxon.solvers.interface.verdict import Figures
from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix

SMALL = ["stress", "sparse", "--max-unknowns", "800", "--seed", "3"]


def outcome(capsys, *options):
    status = main([*SMALL, *options])
    return status, capsys.readouterr()


def test_cases_run_through_every_solver_and_are_written_down(capsys, tmp_path):
    path = tmp_path / "out.json"
    status, printed = outcome(capsys, "--count", "12", "--solver", "auto", "ic-cg", "--json", str(path))
    record = json.loads(path.read_text())
    assert status == 0
    assert "0 wrong CONVERGED, 0 raised" in printed.out
    assert [(trial["number"], trial["solver"]) for trial in record["trials"]] == [
        (number, solver) for number in range(12) for solver in ("auto", "ic-cg")
    ]
    assert record["settings"]["seed"] == 3


def test_failures_are_explained_with_the_command_that_makes_them_again(capsys):
    status, printed = outcome(capsys, "--count", "5", "--solver", "cg", "--limit", "1")
    assert status == 0  # slow is not wrong
    assert "slow: 1 iterations" in printed.out
    assert "--seed 3 --max-unknowns 800 --only K" in printed.out
    again = outcome(capsys, "--only", "4", "--solver", "cg", "--limit", "1")[1].out
    assert "case 4, cg: max_iterations" in again


def test_a_wrong_converged_fails_the_command(capsys, monkeypatch):
    monkeypatch.setattr(PreparedMatrix, "_figures", lambda *_: Figures(0.0, 0.0))  # every verdict becomes CONVERGED
    status, printed = outcome(capsys, "--count", "3", "--solver", "cg", "--limit", "1")
    assert status == 1
    assert "WRONG CONVERGED" in printed.out


def test_regret_is_measured_where_it_is_asked_for(capsys, tmp_path):
    path = tmp_path / "out.json"
    status, printed = outcome(capsys, "--count", "2", "--solver", "auto", "--regret", "--json", str(path))
    assert status == 0
    assert "times the best in the geometric mean" in printed.out
    assert len(json.loads(path.read_text())["regrets"]) == 2


def test_an_interrupted_run_leaves_what_it_has_found(capsys, tmp_path, monkeypatch):
    from relaxon.solvers import stress

    path, made = tmp_path / "out.json", stress.make_matrix_case

    def interrupted(seed, number, most):
        if number == 3:
            raise KeyboardInterrupt
        return made(seed, number, most)

    monkeypatch.setattr(stress, "make_matrix_case", interrupted)
    assert outcome(capsys, "--count", "9", "--solver", "cg", "--json", str(path))[0] == 130
    assert len(json.loads(path.read_text())["trials"]) == 3


@pytest.mark.parametrize(
    "options",
    [
        ["--count", "0"],
        ["--seed", "-1"],
        ["--only", "-1"],
        ["--solver", "mg-cg"],
        ["--rtol", "0"],
        ["--limit", "0"],
        ["--max-unknowns", "3"],
        ["--json", "/no/such/folder/out.json"],
    ],
)
def test_a_mistake_is_refused_by_the_options_name(capsys, options):
    status, printed = outcome(capsys, *options)
    assert status == 2
    assert options[0] in printed.err
