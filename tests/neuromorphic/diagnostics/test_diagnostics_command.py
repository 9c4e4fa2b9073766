"""`relaxon diagnose`: a page that needs nothing else, rows that are those of the data, refusals by name."""

import csv
import html.parser
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer

from relaxon.cli import main
from relaxon.neuromorphic import diagnostics
from relaxon.neuromorphic.boosting import GradientBoostedNetworkClassifier, GradientBoostedNetworkRegressor
from relaxon.neuromorphic.diagnostics import pictures
from relaxon.neuromorphic.equilibrium import LayeredNetwork, save_network
from relaxon.neuromorphic.equilibrium.datasets import digits

SOURCE = Path(__file__).parents[3] / "src"
RNG = np.random.default_rng(2)
ROWS = 150
A, B = RNG.normal(size=(2, ROWS))
TOWN = RNG.choice(["Ulm", "Bonn"], ROWS)
KIND = np.where(A + B > 0, "<yes>", "no")
WRONG = np.argsort(-np.abs(A + B))[:3]  # far from the border between the classes
KIND[WRONG] = np.where(KIND[WRONG] == "no", "<yes>", "no")
PAY = 2.0 * A - B + (TOWN == "Ulm")


def test_the_package_and_its_command_load_nothing_heavy_and_each_name_is_there() -> None:
    code = (
        "import argparse, sys; import relaxon.neuromorphic.diagnostics; "
        "from relaxon.neuromorphic.diagnostics import command; command.add_arguments(argparse.ArgumentParser()); "
        "print(*[m for m in ('torch', 'numba', 'scipy', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE)
    assert run.stdout.strip() == ""
    assert {"RowScores", "el2n", "train_starts"} <= set(diagnostics.__all__)
    for name in diagnostics.__all__:
        assert callable(getattr(diagnostics, name))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = diagnostics.no_such_name


class Elements(html.parser.HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def sources(self) -> list[str]:
        return [value or "" for _, attrs in self.found for name, value in attrs.items() if name in ("src", "href")]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "people.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "town", "kind", "pay"])
        writer.writerows(zip(A, B, TOWN, KIND, PAY, strict=True))
    return path


@pytest.fixture
def without_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(width: float, height: float) -> None:
        raise ModuleNotFoundError("plot() needs matplotlib", name="matplotlib")

    monkeypatch.setattr(pictures, "new_figure", missing)


def diagnose(*options: Any) -> int:
    return main(["diagnose", *map(str, options), "--starts", "2", "--epochs", "10", "--rows", "5"])


def test_a_classifier_of_a_table(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    features = ("--data", table, "--target", "kind", "--drop", "pay")
    assert main(["train", "boosting", *map(str, features), "--units", "6", "--out", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    page, scores = tmp_path / "page.html", tmp_path / "scores.json"
    assert diagnose(tmp_path / "out", *features, "--out", page, "--json", scores) == 0
    said = capsys.readouterr().out
    assert "150 rows" in said
    found = json.loads(scores.read_text())
    assert set(WRONG) <= set(found["suspects"])
    assert len(found["early_el2n"]) == len(found["grand"]) == ROWS
    assert found["accuracy"] > 0.9
    text = page.read_text(encoding="utf-8")
    assert "<yes>" not in text
    assert "&lt;yes&gt;" in text
    elements = Elements(text)
    assert all(source.startswith("data:image/png;base64,") for source in elements.sources())
    assert sum(tag == "figure" for tag, _ in elements.found) == 4
    assert not any(tag in ("script", "link", "iframe") for tag, _ in elements.found)
    assert f"<td>{found['suspects'][0]}</td>" in text
    # The same model again, from its own folder, gives the same scores.
    assert diagnose(tmp_path / "out" / "model", *features, "--out", page, "--json", tmp_path / "again.json") == 0
    assert json.loads((tmp_path / "again.json").read_text())["early_el2n"] == found["early_el2n"]


def test_a_regressor_and_a_page_without_pictures(table: Path, tmp_path: Path, without_pictures: None) -> None:
    x = np.column_stack([A, B, TOWN == "Bonn", TOWN == "Ulm"]).astype(float)
    model = GradientBoostedNetworkRegressor(n_units=6, random_state=0).fit(x, PAY)
    model.save(tmp_path / "model")
    page, scores = tmp_path / "page.html", tmp_path / "scores.json"
    options = ("--data", table, "--target", "pay", "--drop", "kind", "--out", page, "--json", scores)
    assert diagnose(tmp_path / "model", *options) == 0
    found = json.loads(scores.read_text())
    np.testing.assert_allclose(found["el2n"], np.abs(model.predict(x) - PAY), atol=1e-9)
    assert found["accuracy"] is None
    text = page.read_text(encoding="utf-8")
    assert "No pictures: plot() needs matplotlib" in text
    assert "Rows far from their target" in text


def test_a_network_that_relaxes_on_the_images_of_its_training(tmp_path: Path, without_pictures: None) -> None:
    folder = tmp_path / "network"
    save_network(LayeredNetwork((64, 8, 10)), folder)
    idx = tmp_path / "images"
    _write_idx(idx)
    page, scores = tmp_path / "page.html", tmp_path / "scores.json"
    assert diagnose(folder, "--data", idx, "--out", page, "--json", scores) == 0
    assert json.loads(scores.read_text())["rows"] == 60
    thumbnails = [attrs for tag, attrs in Elements(page.read_text()).found if tag == "img"]
    assert len(thumbnails) >= 5
    assert {attrs["width"] for attrs in thumbnails} == {"48"}


def _write_idx(folder: Path) -> None:
    data = digits()
    folder.mkdir()
    for stem, count in (("train", 60), ("t10k", 20)):
        images = np.round(data.x[:count, 0] * 255).astype(np.uint8)
        header = bytes((0, 0, 8, 3)) + np.array(images.shape, ">u4").tobytes()
        (folder / f"{stem}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        labels = data.y[:count].astype(np.uint8)
        header = bytes((0, 0, 8, 1)) + np.array(labels.shape, ">u4").tobytes()
        (folder / f"{stem}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())


def test_one_of_scikit_learns_sets_by_the_numbers_or_the_names_of_its_classes(
    tmp_path: Path, without_pictures: None
) -> None:
    data = load_breast_cancer()
    found = []
    for labels in (data.target, data.target_names[data.target]):
        GradientBoostedNetworkClassifier(n_units=3, random_state=0).fit(data.data, labels).save(tmp_path / "model")
        options = ("--data", "breast_cancer", "--out", tmp_path / "page.html", "--json", tmp_path / "scores.json")
        assert diagnose(tmp_path / "model", *options) == 0
        found.append(json.loads((tmp_path / "scores.json").read_text()))
    assert found[0]["accuracy"] > 0.9
    assert found[1]["accuracy"] > 0.9


def test_mistakes_are_refused_by_name(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = np.column_stack([A, B])
    model = tmp_path / "model"
    GradientBoostedNetworkClassifier(n_units=2, random_state=0).fit(x, KIND).save(model)
    empty, energy = tmp_path / "empty", tmp_path / "energy"
    empty.mkdir()
    energy.mkdir()
    (energy / "model.json").write_text('{"kind": "density"}')
    plain = ("--data", table, "--target", "kind", "--drop", "pay")
    for options, message in (
        ((tmp_path / "none", *plain), "MODEL must be a folder with a stored model"),
        ((empty, *plain), "MODEL must be a folder that contains model.json or network.json"),
        ((energy, *plain), "MODEL must be a boosted or a convex network or one trained by equilibrium propagation"),
        ((model, *plain), "--data must have the 2 columns that the model was trained on, got 4"),
        ((model, "--data", "iris"), "--data must have the 2 columns that the model was trained on, got 4"),
        ((model, "--data", "iris", "--target", "x"), "are for files, and iris is one of scikit-learn's data sets"),
        ((model, "--data", table), "--target must name a column"),
        ((model, *plain, "--drop", "town", "--max-bytes", 10), "max_bytes must be at least"),
        ((model, *plain, "--out", tmp_path / "no" / "page.html"), "--out"),
    ):
        assert diagnose(*options, *(() if "--out" in options else ("--out", tmp_path / "page.html"))) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert message in said
    assert not (tmp_path / "page.html").exists()
    assert main(["diagnose", str(model), *map(str, plain), "--drop", "town", "--starts", "0"]) == 2
    assert "starts must be at least 1, got 0" in capsys.readouterr().err
