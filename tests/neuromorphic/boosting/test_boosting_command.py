"""`relaxon train boosting`: tables read as they are meant, reports that add up, refusals by name."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relaxon.cli import main
from relaxon.neuromorphic.boosting import load
from relaxon.neuromorphic.tabular import tables

RNG = np.random.default_rng(0)
ROWS = 240
AGE = RNG.uniform(20, 70, ROWS)
TOWN = RNG.choice(["Ulm", "Köln", "Bonn, east"], ROWS)
PAY = 1000 + 30 * AGE + 500 * (TOWN == "Köln") + RNG.normal(0, 20, ROWS)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["age", "town", "name", "pay", "rich"])
        for row in range(ROWS):
            age = "" if row % 17 == 0 else f"{AGE[row]:.3f}"
            writer.writerow([age, TOWN[row], f"person {row}", f"{PAY[row]:.2f}", "yes" if PAY[row] > 2400 else "no"])
    return path


def train(*options: Any) -> int:
    return main(["train", "boosting", *map(str, options)])


def test_a_regression_from_a_file(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    args = ("--data", table, "--target", "pay", "--drop", "name", "--drop", "rich", "--units", 30, "--out", out)
    assert train(*args) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["task"] == "regression"
    assert list(report["importances"]) == ["age", "town=Bonn, east", "town=Köln", "town=Ulm"]
    assert report["test_error"] < 0.6 * report["truncation"]["test"][0]
    assert report["truncation"]["units"][-1] == report["units"]
    assert report["units"] == 30 or report["outcome"] == "stalled"
    assert report["truncation"]["test"][-1] == report["test_error"]
    # The towns' columns sum to 1, so that which of them a network has looked at says nothing; that it did, does.
    assert 0.2 < sum(share for name, share in report["importances"].items() if name.startswith("town=")) < 0.8
    for picture in ("loss.png", "truncation.png", "importances.png"):
        assert (out / picture).stat().st_size > 5000
    said = capsys.readouterr().out
    assert "RMSE" in said
    assert f"{report['test_error']:.4g}" in said
    # The stored model and encoding predict from the file again.
    model = load(out / "model")
    again = tables.read_table(table).without(["pay", "name", "rich"])
    encoding = tables.build_encoding(again)
    assert encoding.as_dict() == report["encoding"]
    assert np.sqrt(np.mean((model.predict(encoding.features(again)) - PAY) ** 2)) < 200


def test_a_classification_by_its_words(table: Path, tmp_path: Path) -> None:
    args = ("--data", table, "--target", "rich", "--drop", "name", "--drop", "pay", "--units", 10)
    assert train(*args, "--out", tmp_path / "out") == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (report["task"], report["measure"]) == ("classification", "error rate")
    assert report["test_error"] < 0.2
    assert set(load(tmp_path / "out" / "model").classes_) == {"yes", "no"}


@pytest.mark.parametrize("name", ["digits", "diabetes"])
def test_scikit_learns_sets_by_name(name: str, tmp_path: Path) -> None:
    assert train("--data", name, "--units", 12, "--per-stage", 4, "--early-stopping", "--out", tmp_path) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["test_error"] < 0.95 * report["truncation"]["test"][0]
    assert report["rows"]["train"] + report["rows"]["test"] == {"digits": 1797, "diabetes": 442}[name]


def test_parquet_is_the_same_as_csv(table: Path, tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from_csv = tables.read_table(table)
    columns = dict(zip(from_csv.names, from_csv.columns, strict=True))
    parquet.write_table(pyarrow.table(columns), tmp_path / "people.parquet")
    assert tables.read_table(tmp_path / "people.parquet") == from_csv


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_delimiters_missing_cells_and_byte_order_marks(tmp_path: Path) -> None:
    table = tables.read_table(write(tmp_path / "t.csv", "\ufeffa;b\n1;x\n ?;NA\n3.5;'y'\n\n"))
    assert table == tables.ColumnTable(("a", "b"), ([1.0, None, 3.5], ["x", None, "'y'"]))
    features = tables.build_encoding(table).features(table)
    np.testing.assert_array_equal(features[:, 1:], [[0, 1], [0, 0], [1, 0]])
    assert np.isnan(features[1, 0])


def test_an_unseen_word_has_no_column_set_and_an_unseen_kind_is_refused() -> None:
    encoding = tables.build_encoding(tables.ColumnTable(("a", "b"), ([1.0, 2.0], ["x", "y"])))
    np.testing.assert_array_equal(encoding.features(tables.ColumnTable(("b", "a"), (["z"], [3.0]))), [[3.0, 0.0, 0.0]])
    with pytest.raises(tables.TableError, match="'a' must hold numbers"):
        encoding.features(tables.ColumnTable(("a", "b"), (["one"], ["x"])))


@pytest.mark.parametrize(
    ("target", "task"),
    [
        ([1.0, 2.0, 1.0], "classification"),
        ([1.0, 2.5, 1.0], "regression"),
        ([float(i) for i in range(21)], "regression"),
        (["a", 1.0], "classification"),
    ],
)
def test_the_task_is_what_the_target_looks_like(target: Any, task: str) -> None:
    assert tables.infer_task(target) == task


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (None, ["--target", "pay"], "column 'name' has 240 different words"),
        (None, [], "--target must name a column"),
        (None, ["--target", "wage"], "no column 'wage'; the columns are age, town"),
        (None, ["--target", "pay", "--drop", "nmae"], "no column 'nmae'"),
        (None, ["--target", "age", "--drop", "name"], "missing in 15 of 240 rows"),
        (None, ["--target", "rich", "--drop", "name", "--loss", "huber"], "--loss is for a regression"),
        (None, ["--target", "pay", "--drop", "name", "--test", "1.5"], "--test must be between 0 and 1"),
        (None, ["--target", "pay", "--drop", "name", "--rate", "7"], "learning_rate must be"),
        (None, ["--target", "pay", "--drop", "name", "--task", "regression", "--quantile", "0.5"], "--quantile goes"),
        ("a,a\n1,2\n", ["--target", "a"], "must have column names that differ"),
        ("a,b\n1,2\n3\n", ["--target", "a"], "row 3 must have 2 cells, got 1"),
        ("a,b\n", ["--target", "a"], "has no rows"),
        ("", ["--target", "a"], "is empty"),
        ("a\n1\n2\n", ["--target", "a"], "a column beside the target"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_by_name(
    text: str | None, options: list[str], said: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = table if text is None else write(tmp_path / "bad.csv", text)
    assert train("--data", path, *options, "--units", 2, "--out", tmp_path / "out") == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
