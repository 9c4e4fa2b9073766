"""The diagnostics benchmark: its parts measure what they say, and what misses its goal ends it with 1."""

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture(autouse=True)
def bench_on_path(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))


def test_the_parts_are_written_with_their_goals(tmp_path, monkeypatch, capsys):
    import diagnostics

    monkeypatch.setattr(diagnostics, "QUICK", diagnostics.Scale(splits=1, seeds=1, repeats=1, roar_repeats=1))
    status = diagnostics.main(["--quick", "--parts", "labels", "coherence", "--out", str(tmp_path)])
    record = json.loads((tmp_path / "diagnostics.json").read_text())
    assert status == 0
    assert all(met for part in ("labels", "coherence") for met in record[part]["goals"].values())
    (row,) = record["labels"]["rows"]
    assert row["share found"] == row["found in the top 15 %"] / row["wrong labels"]
    assert [entry["epoch"] for entry in record["coherence"]["rows"]] == [0, 1, 2, 3, 5, 10]
    assert "met " in capsys.readouterr().out

    def missed(scale):
        return [{"figure": 1.0}], {"a goal": False}, None

    monkeypatch.setitem(diagnostics.PARTS, "speed", missed)
    assert diagnostics.main(["--parts", "speed", "--out", str(tmp_path)]) == 1
    assert "MISSED a goal" in capsys.readouterr().out


def test_the_loop_that_is_timed_makes_the_same_gradients():
    """Only a baseline that does the same work may be compared with."""
    from measuring.diagnostics.parts import build, build_module, looped_gradients, split_digits

    from relaxon.neuromorphic.diagnostics import per_sample_gradients

    module, data = build_module(build, 0), split_digits(0)
    (chunk,) = per_sample_gradients(module, data.x[:12], data.y[:12])
    for row, parts in enumerate(looped_gradients(module, torch.tensor(data.x[:12], dtype=torch.float32), data.y[:12])):
        torch.testing.assert_close(torch.cat([part.flatten() for part in parts]), chunk.flat()[row])
