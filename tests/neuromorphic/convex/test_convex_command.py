"""`relaxon train convex`: what it writes belongs together; refusals by name."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relaxon.cli import main
from relaxon.neuromorphic.convex import load

SMALL = ("--patterns", 5, "--refinements", 1, "--draws", 5, "--tol", 0.001)


def train(*options: Any) -> int:
    return main(["train", "convex", *map(str, options)])


def test_a_bundled_set_gives_model_report_and_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sklearn.datasets import load_diabetes

    assert train("--data", "diabetes", *SMALL, "--out", tmp_path) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    model = load(tmp_path / "model")
    X, y = load_diabetes(return_X_y=True)
    assert model.predict(X).shape == y.shape
    certificate = report["certificate"]
    assert report["units"] == model.n_units_
    assert certificate["dual"] <= certificate["primal"]
    assert certificate["relative_gap"] <= 0.001
    assert report["history"]["primal"][-1] == certificate["primal"]
    assert report["history"]["dual"][-1] == certificate["dual"]
    assert report["train_error"] < report["constant_error"]
    for picture in ("gap.png", "bounds.png"):
        assert (tmp_path / picture).stat().st_size > 5000
    said = " ".join(capsys.readouterr().out.split())
    assert "sampled patterns" in said
    assert f"{report['test_error']:.4g}" in said


def test_classes_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rng = np.random.default_rng(0)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "town", "rich"])
        for a, town in zip(rng.normal(size=80), rng.choice(["Ulm", "Bonn"], 80), strict=True):
            writer.writerow([f"{a:.4f}", town, "yes" if abs(a) > 0.7 else "no"])
    out = tmp_path / "out"
    assert train("--data", path, "--target", "rich", "--loss", "hinge", *SMALL, "--out", out) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["features"] == ["a", "town=Bonn", "town=Ulm"]
    assert set(load(out / "model").classes_) == {"yes", "no"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--data", "diabetes", "--beta", 0), "beta must be greater than 0"),
        (("--data", "diabetes", "--loss", "hinge"), "--loss hinge is for classes"),
        (("--data", "diabetes", "--patterns", 0), "n_patterns must be at least 1"),
        (("--data", "diabetes", "--epsilon", 0.1, "--program", "units"), "epsilon must be 0"),
        (("--data", "diabetes", "--test", 1.5), "--test must be between 0 and 1"),
    ],
)
def test_mistakes_are_refused_before_training(
    options: tuple[Any, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(*options, "--out", tmp_path / "out") == 2
    assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_missing_numbers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "table.csv"
    path.write_text("a,b\n" + "\n".join(f"{i if i % 5 else ''},{i * 1.5}" for i in range(40)), encoding="utf-8")
    assert train("--data", path, "--target", "b", "--out", tmp_path / "out") == 2
    assert "no missing numbers" in " ".join(capsys.readouterr().err.split())
