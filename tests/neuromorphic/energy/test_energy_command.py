"""`relaxon train energy`: what it writes, what it says, and whom it refuses."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from relaxon import cli
from relaxon.neuromorphic.energy import command, load_estimator


def train(tmp_path, *arguments):
    return cli.main(["train", "energy", *map(str, arguments), "--out", str(tmp_path / "out")])


@pytest.mark.usefixtures("brief_search")
def test_a_known_density_is_learnt_reported_drawn_and_stored(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "NODES", 120)
    options = ("--data", "two-moons", "--rows", 500, "--steps", 150, "--hidden", 24, 24, "--noise", "mixture")
    files = ("--plot", tmp_path / "p.png", "--json", tmp_path / "r.json")
    assert train(tmp_path, *options, *files) == 0
    told = json.loads((tmp_path / "r.json").read_text())
    assert told["trusted"] is True
    assert 0 < told["nll_above_it"] < 0.2
    assert told["mass"] == pytest.approx(1, abs=0.02)
    assert told["log_z_interval"][0] <= told["log_z"] <= told["log_z_interval"][1]
    assert told["settings"]["data"] == "two-moons"
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    model = load_estimator(tmp_path / "out" / "model")
    assert model.n_features_in_ == 2


@pytest.mark.parametrize("columns", [1, 3])
def test_a_table_of_numbers_is_taken_as_it_is(tmp_path, columns):
    x = np.random.default_rng(0).standard_normal((300, columns))
    names = ",".join("abc"[:columns])
    np.savetxt(tmp_path / "t.csv", x, delimiter=",", header=names, comments="")
    plot = tmp_path / "p.svg"
    assert train(tmp_path, "--data", tmp_path / "t.csv", "--steps", 60, "--hidden", 8, "--plot", plot) == 0
    assert plot.read_text().startswith("<?xml")


@pytest.mark.usefixtures("brief_search")
def test_a_bundled_set_is_taken_by_its_name(tmp_path):
    assert train(tmp_path, "--data", "wine", "--steps", 5, "--hidden", 4, "--noise", "gaussian") == 0
    assert load_estimator(tmp_path / "out" / "model").n_features_in_ == 13


@pytest.mark.parametrize(
    ("content", "extra", "words"),
    [
        ("a,b\n1,x\n2,y\n3,x\n", (), "words"),
        ("a,b\n1,2\n2,2\n3,2\n4,2\n5,2\n", (), "constant"),
        ("a,b\n1,\n2,1\n3,4\n", (), ""),
        ("a,b\n1,2\n2,3\n4,1\n", ("--test", "1.5"), "--test"),
        ("a,b\n1,2\n2,3\n", (), "atleast2rows"),
        ("a,b\n1,2\n2,3\n4,1\n", ("--drop", "c"), "c"),
        ("a,b\n1,2\n2,3\n4,1\n", ("--seed", "-1"), "--seed"),
        ("a,b\n1,2\n2,3\n4,1\n", ("--steps", "0"), "steps"),
        (None, (), "nowhere"),
    ],
)
def test_mistakes_are_refused_before_training(tmp_path, capsys, content, extra, words):
    path = tmp_path / "nowhere.csv"
    if content is not None:
        path = tmp_path / "t.csv"
        path.write_text(content)
    assert train(tmp_path, "--data", path, *extra) == 2
    said = "".join(capsys.readouterr().err.split())  # lines are broken where a long path falls
    assert words in said
    assert not (tmp_path / "out").exists()
