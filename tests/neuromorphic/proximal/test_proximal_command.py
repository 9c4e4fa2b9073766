"""`relaxon train proximal`: a model, a report and a picture from a file; refusals with status 2."""

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from relaxon.cli import main
from relaxon.neuromorphic.proximal import ProximalModel

QUICK = ["--start-steps", "4", "--stage-steps", "2", "--gammas", "0.5", "--batch", "8", "--hidden", "4", "4"]


def train(*arguments):
    return main(["train", "proximal", *map(str, arguments)])


@pytest.mark.parametrize(("shape", "kind"), [((3,), "dense"), ((6, 6), "convolutional")])
def test_a_file_of_samples_gives_a_model_a_report_and_a_picture(tmp_path, capsys, shape, kind):
    data = tmp_path / "samples.npy"
    np.save(data, 5 + 2 * np.random.default_rng(0).standard_normal((40, *shape)))
    out, picture, told = tmp_path / "run", tmp_path / "picture.png", tmp_path / "report.json"
    assert train("--data", data, *QUICK, "--out", out, "--plot", picture, "--json", told) == 0
    model = ProximalModel.load(out / "model")
    assert (model.shape, model.settings.kind, model.settings.hidden) == (shape, kind, (4, 4))
    assert model.settings.offset == pytest.approx(5, abs=0.5)
    report = json.loads(told.read_text())
    assert report["training"] == "finished"
    assert report["jacobian_asymmetry"] < 1e-6
    assert report["prior_inversion_residual"] <= 1e-10
    assert model.card["report"]["steps"] == report["steps"] == 6
    assert "--hidden 4 4" in model.card["command"]
    assert picture.stat().st_size > 5_000
    assert "jacobian asymmetry" in capsys.readouterr().out


def test_a_run_is_gone_on_with(tmp_path):
    data = tmp_path / "samples.csv"
    data.write_text("\n".join(f"{value}" for value in np.random.default_rng(0).standard_normal(30)))
    for _ in range(2):
        assert train("--data", data, *QUICK, "--out", tmp_path / "run", "--resume") == 0
    assert train("--data", data, *QUICK[:-1], "5", "--out", tmp_path / "run", "--resume") == 2


def test_polishing_follows_where_it_is_asked_for(tmp_path):
    data = tmp_path / "samples.npy"
    np.save(data, np.random.default_rng(0).laplace(size=(50, 1)))
    out, told = tmp_path / "run", tmp_path / "report.json"
    for wanted, report in ((["--polish-gammas", "0.5", "0.3"], [0.5, 0.3]), (["--polish-gammas"], None)):
        assert train("--data", data, *QUICK, *wanted, "--out", out, "--json", told) == 0
        assert json.loads(told.read_text()).get("polish_gammas") == report
        model = ProximalModel.load(out / "model")
        assert " ".join(wanted) in model.card["command"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--data", "cats"), "--data must be laplace, digits, blocks or a file"),
        (("--data", "none.npy"), "data must be a file that exists"),
        (("--data", "laplace", "--alpha", "-1"), "alpha must be greater than 0"),
        (("--data", "laplace", "--noise", "nan"), "noise must be finite"),
        (("--data", "laplace", "--gammas", "1", "2"), "gammas must decrease"),
        (("--data", "laplace", "--polish-gammas", "0.1", "0.2"), "decrease from one stage to the next"),
    ],
)
def test_mistakes_are_refused_with_status_2(tmp_path, capsys, arguments, said):
    assert train(*arguments, "--out", tmp_path / "run") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
