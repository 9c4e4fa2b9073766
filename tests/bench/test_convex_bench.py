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
    import convex_parts
    import convex_report

    monkeypatch.setattr(convex_parts, "find_spec", lambda name: None)
    made = convex_parts.problem("diabetes", 3, 0.05)
    row = convex_parts.race(made)
    assert row["missing"] == "cvxpy"
    low, high = row["optimum"]
    assert low <= high <= row["ours"]["objective"] <= (1.0 + convex_parts.WITHIN) * high
    assert "not installed" in convex_report.line("race", row)
    # The targets have variance 1 and the inputs a column of ones.
    assert np.isclose(made.y.std(), 1.0)
    assert (made.x[:, -1] == 1.0).all()


def test_the_fastest_rival_is_one_that_came_near_enough() -> None:
    import convex_report

    rivals: Any = [
        {"solver": "A", "seconds": 1.0, "within": False},
        {"solver": "B", "seconds": 3.0, "within": True},
        {"solver": "C", "seconds": 2.0, "within": True},
        {"solver": "D", "missing": True},
    ]
    best = convex_report.fastest({"cvxpy": rivals})
    assert best is not None
    assert best["solver"] == "C"
    assert convex_report.fastest({"cvxpy": rivals[:1]}) is None


def test_a_contest_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import boosting_contest
    import convex

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
