"""`relaxon stress service`: a sound server has no violation, and what would be one is told."""

import json

import numpy as np
import pytest

from relaxon.cli import main, service_crowd, stress_service
from relaxon.solvers import PoissonGrid, solve


def test_what_is_left_behind_is_a_violation():
    before = {"sessions": 0, "solves": 0, "calls": 1, "shared files": 0, "threads": 18, "bytes": 10**8}
    assert stress_service._find_leaks(before, before) == []
    for name, more in {"sessions": 1, "shared files": 2, "threads": 9, "bytes": 2 * 10**8, "calls": 3}.items():
        found = stress_service._find_leaks(before, before | {name: before[name] + more})
        assert found == [f"left behind: {more} {name}"]


def test_a_wrong_answer_is_a_violation():
    grid = PoissonGrid(np.zeros((9, 8), np.uint8), boundary="dirichlet")
    b = np.random.default_rng(0).standard_normal(grid.shape)
    stresser = service_crowd.Stresser(None, 0)
    for side in (b, b * (1 + 2j), b.astype(np.float32)):
        good = solve(grid, side, solver="mg-cg", rtol=1e-9)
        stresser._check(grid, side, good)
        x = good.x.copy()
        x[4, 4] += 1e-4
        with pytest.raises(service_crowd.Violation, match="CONVERGED is wrong"):
            stresser._check(grid, side, type(good)(**{**_fields(good), "x": x}))
    with pytest.raises(service_crowd.Violation, match="max_iterations|maximum"):
        stresser._check(grid, b, solve(grid, b, solver="cg", rtol=1e-12, max_iterations=1))


def _fields(solution):
    return {name: getattr(solution, name) for name in solution.__dataclass_fields__}


@pytest.mark.parametrize("options", [["--seconds", "0"], ["--clients", "1"], ["--seed", "-1"]])
def test_a_mistake_is_refused_before_a_server_is_started(capsys, options):
    assert main(["stress", "service", *options]) == 2
    assert options[0] in capsys.readouterr().err


@pytest.mark.slow
def test_a_sound_server_has_no_violation(tmp_path, capsys):
    path = tmp_path / "out.json"
    status = main(["stress", "service", "--seconds", "5", "--clients", "12", "--json", str(path)])
    record = json.loads(path.read_text())
    assert record["violations"] == []
    assert status == 0
    assert set(record["operations"]) == set(service_crowd.OPERATIONS)
    assert record["killed"] >= 12
