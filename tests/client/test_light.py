"""The client is small: it loads NumPy, gRPC and protobuf, and nothing that computes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import relaxon

SOURCE = Path(relaxon.__file__).resolve().parents[1]
HEAVY = ("torch", "numba", "scipy", "sklearn", "pyamg", "matplotlib", "rich", "relaxon.server", "relaxon.neuromorphic")


def test_importing_the_client_loads_no_engine():
    program = "import json, sys, relaxon; relaxon.connect; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = json.loads(done.stdout)
    assert "relaxon.client" in loaded
    assert not [name for name in loaded if name.startswith(HEAVY)]


@pytest.mark.in_clear
def test_a_whole_conversation_needs_no_engine_on_the_client_s_side(embedded):
    program = f"""
import sys
import numpy as np
import relaxon
with relaxon.connect({embedded.target!r}) as client:
    with client.poisson.grid(np.zeros((8, 8), np.uint8), boundary="dirichlet") as grid:
        assert grid.solve(np.ones((8, 8)), solver="cg").converged
        try:
            grid.solve(np.ones((8, 8)), solver="nothing")
        except relaxon.client.InvalidArgument as error:
            assert error.field == "solver"
    rows = np.linspace(-1, 1, 30).reshape(-1, 1)
    settings = relaxon.client.BoostingSettings(n_units=2, random_state=0)
    job = client.boosting.train(rows, rows[:, 0] > 0, task="classification", settings=settings)
    assert len(list(job.progress())) == job.result().stages == 2
    assert (client.boosting.predict(job.model, rows) == (rows[:, 0] > 0)).all()
heavy = [name for name in sys.modules if name.startswith({HEAVY!r})]
assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
