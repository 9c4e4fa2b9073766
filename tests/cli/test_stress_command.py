"""`relaxon stress poisson`: what it counts, what it exits with, and how a case is made again."""

import json

import pytest

from relaxon.cli import main
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.interface.verdict import Figures

SMALL = ["stress", "poisson", "--max-cells", "600", "--seed", "3"]


def outcome(capsys, *options):
    status = main([*SMALL, *options])
    return status, capsys.readouterr()


def test_a_few_cases_run_and_are_written_down(capsys, tmp_path):
    path = tmp_path / "out.json"
    status, printed = outcome(capsys, "--count", "12", "--json", str(path))
    record = json.loads(path.read_text())
    assert status == 0
    assert "wrong CONVERGED" in printed.out
    assert [trial["number"] for trial in record["trials"]] == list(range(12))
    assert not any(trial["wrong"] for trial in record["trials"])
    assert record["settings"]["seed"] == 3


def test_a_case_alone_is_the_case_among_others(capsys, tmp_path):
    many, one = tmp_path / "many.json", tmp_path / "one.json"
    outcome(capsys, "--count", "6", "--solver", "cg", "--json", str(many))
    outcome(capsys, "--only", "4", "--solver", "cg", "--json", str(one))
    among, alone = json.loads(many.read_text())["trials"][4], json.loads(one.read_text())["trials"][0]
    among.pop("seconds"), alone.pop("seconds")
    assert among == alone


def test_an_interrupted_run_leaves_what_it_has_found(capsys, tmp_path, monkeypatch):
    from relaxon.solvers import stress

    path, made = tmp_path / "out.json", stress.make_case

    def interrupted(seed, number, max_cells):
        if number == 3:
            raise KeyboardInterrupt
        return made(seed, number, max_cells)

    monkeypatch.setattr(stress, "make_case", interrupted)
    assert outcome(capsys, "--count", "9", "--solver", "cg", "--json", str(path))[0] == 130
    assert len(json.loads(path.read_text())["trials"]) == 3


def test_slow_cases_are_named_with_the_command_that_makes_them_again(capsys):
    status, printed = outcome(capsys, "--count", "6", "--solver", "cg", "--few", "1", "--limit", "2")
    assert status == 0  # slow is not wrong
    assert "max_iterations" in printed.out
    assert "--seed 3 --max-cells 600 --solver cg --only K" in printed.out


def test_a_wrong_converged_fails_the_command(capsys, monkeypatch):
    monkeypatch.setattr(PreparedSolver, "_figures", lambda *_: Figures(0.0, 0.0))  # every verdict becomes CONVERGED
    status, printed = outcome(capsys, "--count", "4", "--solver", "cg", "--few", "1", "--limit", "1")
    assert status == 1
    assert "WRONG" in printed.out


@pytest.mark.parametrize(
    "options",
    [
        ["--count", "0"],
        ["--seed", "-1"],
        ["--only", "-1"],
        ["--solver", "no-such"],
        ["--rtol", "0"],
        ["--few", "0"],
        ["--limit", "3"],
        ["--max-cells", "3"],
        ["--json", "/no/such/folder/out.json"],
    ],
)
def test_a_mistake_is_refused_by_the_options_name(capsys, options):
    status, printed = outcome(capsys, *options)
    assert status == 2
    assert options[0] in printed.err
