"""Start `relaxon serve` where torch is not installed: it solves, says what it lacks, and refuses to train with it."""

import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np

import relaxon
from relaxon.client import FailedPrecondition

assert find_spec("torch") is None, "torch is installed here"
assert Path(relaxon.__file__).is_relative_to(sys.prefix), relaxon.__file__
command = [sys.executable, "-m", "relaxon", "serve", "--port", "0"]
with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
    target = next(filter(None, (re.search(r"serves on (\S+)", line) for line in server.stderr)))[1]
    try:
        with relaxon.connect(target) as client:
            lacking = {engine.name: engine.extra for engine in client.status().engines if not engine.available}
            print("not served:", lacking)
            assert lacking.keys() == {"energy", "equilibrium", "proximal", "dcdm-cnn", "dcdm@device", "onnx"}, lacking
            cells = np.zeros((16, 16, 16), np.uint8)
            with client.poisson.grid(cells, boundary="dirichlet") as grid:
                solution = grid.solve(np.ones(cells.shape), solver="cg")
            print("solved:", solution.result)
            assert solution.converged
            refusal = ""
            try:
                client.equilibrium.train(np.eye(20, 2), np.arange(20) % 2)
            except FailedPrecondition as error:
                refusal = str(error)
            print("refused:", refusal)
            assert 'pip install "relaxon[neuromorphic]"' in refusal
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=60)
assert server.returncode == 0, server.returncode
