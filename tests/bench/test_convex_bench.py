"""The convex benchmark itself: both sides solve one program, what is not installed is said, a run goes on."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def test_a_race_without_cvxpy_says_so_and_has_our_side(monkeypatch: pytest.MonkeyPatch) -> None:
    from measuring.convex import race as convex_race
    from measuring.convex import report as convex_report

    monkeypatch.setattr(convex_race, "find_spec", lambda name: None)
    made = convex_race.problem("diabetes", 3, 0.05)
    row = convex_race.race(made, 1.0)
    assert row["missing"] == "cvxpy"
    low, high = row["optimum"]
    assert low <= high <= row["ours"]["objective"] <= (1.0 + convex_race.WITHIN) * high
    assert "not installed" in convex_report.line("race", row)
    # The targets have variance 1 and the inputs a column of ones.
    assert np.isclose(made.y.std(), 1.0)
    assert (made.x[:, -1] == 1.0).all()


def test_a_solver_is_cut_at_its_limit_and_one_that_ends_is_not() -> None:
    from measuring.convex import race as convex_race

    def never() -> Any:
        while True:
            pass

    assert convex_race.bounded(never, 0.5) is None
    assert convex_race.bounded(lambda: {"status": "optimal"}, 60.0) == {"status": "optimal"}


def race_row(rivals: list[dict[str, Any]]) -> dict[str, Any]:
    given = {"options": {}, "status": "optimal", "claimed": 1.0}
    return {
        "name": "a program",
        "rows": 3,
        "limit": 10.0,
        "optimum": [1.0, 1.0],
        "ours": {"seconds": 0.5},
        "cvxpy": [given | rival if "seconds" in rival else {"options": {}} | rival for rival in rivals],
    }


def test_the_fastest_rival_is_one_that_came_near_enough() -> None:
    from measuring.convex import report as convex_report

    row = race_row(
        [
            {"solver": "A", "seconds": 1.0, "within": False},
            {"solver": "B", "seconds": 3.0, "within": True},
            {"solver": "C", "seconds": 2.0, "within": True},
            {"solver": "D", "missing": True},
            {"solver": "E", "cut": "> 10 s"},
        ]
    )
    best = convex_report.fastest(row)
    assert best is not None
    assert best["solver"] == "C"
    assert convex_report.fastest(row | {"cvxpy": row["cvxpy"][:1]}) is None
    told = convex_report.line("race", row)
    assert "A 1.00 s (optimal, too far off), B 3.00 s" in told
    assert "D not installed, E > 10 s" in told


def test_where_all_rivals_are_cut_their_limit_is_what_the_race_was_won_by_at_least() -> None:
    from measuring.convex import report as convex_report
    from rich.console import Console

    console = Console(record=True, width=140)
    row = race_row([{"solver": "E", "cut": "> 10 s"}])
    assert not convex_report.verdicts({"race": [row]}, console)
    assert convex_report.verdicts({"race": [row | {"limit": 2.0}]}, console)
    said = console.export_text()
    assert "met: a program: more than 20 times faster, all solvers cut" in said
    assert "NOT MET: a program: more than 4 times faster" in said


def test_a_contest_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import convex
    from measuring.boosting import contest as boosting_contest

    ran: list[str] = []

    def run(model: Any, chosen: Any, index: int, fold: Any) -> dict[str, Any]:
        ran.append(f"{chosen.name} {model.name}")
        return {"set": chosen.name, "task": chosen.task, "model": model.name, "fold": index, "error": len(ran) * 0.1,
                "train_seconds": 0.1, "predict_seconds": 0.1}  # fmt: skip

    monkeypatch.setattr(boosting_contest, "run", run)
    path = tmp_path / "convex.json"
    options = ["--quick", "--parts", "contest", "--json", str(path), "--sets", "wine"]
    assert convex.main(options) == 0
    assert ran == ["wine convex network", "wine boosted network", "wine MLP"]
    assert convex.main([*options, "diabetes"]) == 0
    assert ran[3:] == ["diabetes convex network", "diabetes boosted network", "diabetes MLP"]
    assert len(json.loads(path.read_text())["contest"]) == 6
