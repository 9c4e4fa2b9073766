"""After a warm-up, a solve of that kind compiles nothing."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from relaxon.cli import main
from relaxon.solvers import PoissonGrid, warm_up
from relaxon.solvers.compiling import CYCLE_SIDE, small_grids, usual_grid

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
from relaxon.solvers import gallery, solve, warm_up

solver, size, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
kept = lambda: {str(path) for path in folder.rglob("*.nbc")}
warm_up(solver)
after_warm_up = kept()
results = []
for name in ("box", "pool", "neumann", "random"):
    problem = gallery.make(name, size, ndim=3, seed=0)
    results.append(solve(problem.grid, np.asarray(problem.b), solver=solver).result.name)
print(json.dumps({"compiled": len(after_warm_up), "more": sorted(kept() - after_warm_up), "results": results}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["dcdm", "mg-cg", "mg-rbgs-cg", "ic-cg", "cg"])
def test_a_solve_after_it_compiles_nothing(solver, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, solver, "64", str(tmp_path)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["compiled"] > 0
    assert told["more"] == []
    assert told["results"] == ["CONVERGED"] * 4


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("varying", [False, True])
def test_the_small_grids_are_of_the_kind_of_the_large_one(ndim, varying):
    large = usual_grid(ndim, varying)
    assert large.cells.size > CYCLE_SIDE[ndim] ** ndim
    for solver, count in (("dcdm", 3), ("cg", 2)):
        found = list(small_grids(large, solver))
        assert len(found) == count
        assert {grid.ndim for grid in found} == {ndim}
        assert {grid.coefficient is None for grid in found} == {not varying}
        assert set(np.unique(found[0].cells)) == {0, 1, 2}
    few = PoissonGrid(large.cells[(slice(5),) * ndim])
    assert next(small_grids(few, "dcdm")).cells.size == 5**ndim


def test_what_is_no_grid_or_no_solver_is_refused():
    with pytest.raises(TypeError, match=r"^like must be a PoissonGrid or None, got ndarray"):
        warm_up("cg", np.zeros((4, 4), np.uint8))
    with pytest.raises(ValueError, match="solver must be one of"):
        warm_up("none")


def test_the_command_says_what_each_kind_took(capsys):
    assert main(["compile", "cg", "jacobi-cg", "cg", "--ndim", "2", "--varying", "--json"]) == 0
    told = capsys.readouterr()
    rows = json.loads(told.out)
    kinds = [(row["solver"], row["ndim"], row["varying"]) for row in rows]
    assert kinds == [("cg", 2, False), ("cg", 2, True), ("jacobi-cg", 2, False), ("jacobi-cg", 2, True)]
    assert all(row["seconds"] > 0 for row in rows)
    assert "jacobi-cg in 2 dimensions, κ that varies" in told.err
    assert main(["compile", "none"]) == 2
    assert "solver must be one of" in capsys.readouterr().err
