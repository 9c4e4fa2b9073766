"""The equilibrium propagation benchmark: its parts measure what they say, and its baseline is right."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


@pytest.fixture
def digits():
    from relaxon.neuromorphic.equilibrium import datasets

    return datasets.digits().flat()


def test_the_plain_baseline_computes_the_gradient_it_is_timed_for(digits):
    """Only a baseline that does the same work may be compared with."""
    from measuring.equilibrium.runs import naive_gradient

    from relaxon.neuromorphic.equilibrium import Cauchy, LayeredNetwork, gradient

    network = LayeredNetwork((64, 12, 9, 10))
    x, y = torch.from_numpy(digits.x[:30]), torch.from_numpy(digits.y[:30])
    for n in (2, 6):
        plain = naive_gradient(network, x, y, n, 0.5)
        ours = gradient(network, x, y, Cauchy(n, 0.5))
        for name, value in plain.items():
            assert torch.allclose(value, ours.gradients[name], rtol=1e-2, atol=2e-5)


def test_every_way_of_the_cost_reaches_the_same_accuracy(digits, monkeypatch):
    from measuring.equilibrium import runs as equilibrium_runs

    monkeypatch.setattr(equilibrium_runs, "PAPER_SIZES", (64, 12, 9, 10))
    rows = list(equilibrium_runs.cost_rows(digits, 1, 6))
    assert {row["way"] for row in rows} >= {"relaxon, early stop", "numba kernel", "numpy twin"}
    errors = [row["error"] for row in rows]  # mostly of the six points: the network is narrow, the radius large
    assert max(errors) < 0.1
    assert max(errors) - min(errors) < 5e-3


def test_a_run_leaves_json_and_a_picture(tmp_path, monkeypatch, capsys):
    import equilibrium
    from measuring.equilibrium import runs as equilibrium_runs

    monkeypatch.setattr(equilibrium_runs, "POINTS", (1, 2))
    monkeypatch.setattr(equilibrium_runs, "RADII", (0.5,))
    monkeypatch.setattr(equilibrium_runs, "PAPER_SIZES", (64, 12, 9, 10))
    arguments = ["--quick", "--parts", "accuracy", "training", "--data", "digits", "--samples", "100"]
    assert equilibrium.main([*arguments, "--arms", "exact", "N = 1", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "equilibrium.json").read_text())
    assert {row["arm"] for row in record["training"]} == {
        "tied, exact",
        "tied, N = 1",
        "90°, exact",
        "90°, exact, homeostasis",
    }
    assert len(record["training_summary"]) == 4
    assert len(record["accuracy"]) == 6
    assert (tmp_path / "equilibrium.png").stat().st_size > 1000
    assert "training" in capsys.readouterr().out


def test_a_summary_is_over_the_seeds_of_an_arm():
    from equilibrium import summary

    rows = [{"arm": "a", "test_error": e, "angle": None} for e in (10.0, 14.0)]
    rows.append({"arm": "b", "test_error": None, "angle": None})
    assert summary(rows) == [
        {"arm": "a", "seeds": 2, "test_error": 12.0, "spread": pytest.approx(2.828, abs=1e-3), "angle": None}
    ]
