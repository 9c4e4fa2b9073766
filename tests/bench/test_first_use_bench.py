"""The bench of the first use measures what it says, on a system that takes no time."""

import io
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"


@pytest.fixture
def first_use(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import first_use

    return first_use


@pytest.fixture
def tree(first_use, tmp_path):
    return first_use.Commit("HEAD", tmp_path)


def test_a_clone_is_measured_with_an_empty_cache_each_time(tree, first_use, monkeypatch):
    one_kernel = "\ndef warm_up():\n    from relaxon.solvers.kernels.compiled import column_sum\n"
    one_kernel += "    import numpy\n    column_sum(numpy.ones((2, 1)), 0, 0, 2)\n"
    monkeypatch.setattr(first_use, "WORK", first_use.WORK + one_kernel)
    for _ in range(2):
        told = tree.measure("kernels", "cg 2D", 8)
        (row,) = (one for one in told["kernels"] if one["kernel"] == "solvers.kernels.compiled.column_sum")
        assert row["count"] == 1
        assert 0 < row["self_cpu"] <= row["cpu"] <= told["cpu"]
    assert tree.measure("compile", "cg 2D", 8)["cpu"] > 0
    assert list(tree._caches.iterdir()) == [tree.tree]


def test_what_is_set_up_is_the_readme_s_own_command(tree):
    (tree.tree / "README.md").write_text(
        "## Set up and run\n\nText.\n\n```sh\nmkdir -p .venv/bin && printf 12345 > .venv/bin/python\nfalse\n```\n"
    )
    told = tree.set_up()
    assert told["bytes"] == 5
    assert told["seconds"] > 0
    assert tree.python == tree.tree / ".venv" / "bin" / "python"


def test_ratios_are_those_of_the_first_commit_to_the_second(first_use):
    def of(wall):
        row = {"kernel": "k", "count": 2, "wall": wall, "cpu": wall, "self_wall": wall / 2, "self_cpu": wall / 2}
        return {
            "compile": {"dcdm 3D": {"wall": wall, "cpu": 2 * wall}},
            "kernels": {"dcdm 3D": {"wall": wall, "cpu": wall, "kernels": [row]}},
            "solve": {"dcdm 3D": {"first": wall, "second": 0.5, "next_process": 1.0}},
        }

    out = io.StringIO()
    first_use.show({"HEAD": of(4.0), "old": of(16.0)}, out)
    assert "| compile dcdm 3D, wall s | 4 | 16 | 0.250 |" in out.getvalue()
    assert "| second solve dcdm 3D, s | 0.5 | 0.5 | 1.000 |" in out.getvalue()
    assert "| `k` | 2 | 2.00 (2.00) | 4.00 (4.00) |" in out.getvalue()
