"""The inverse problems with a learned prior run, converge, and are not worse than total variation."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

EXAMPLES = Path(__file__).parents[2] / "examples" / "proximal"
SECONDS = 240
ROW = re.compile(r"^(.+?)  +(-?\d+\.\d+) +(\S+) +(\d+) +(\S+) +(\S+)(.*)$", re.MULTILINE)


@pytest.mark.parametrize(
    ("program", "arguments", "picture", "gain"),
    [
        ("source_recovery.py", ("--images", "1", "--side", "16", "--shares", "1.0"), "picture.png", 2.0),
        ("digits.py", ("--images", "1", "--tasks", "tomography"), "picture-tomography.png", 0.0),
    ],
)
def test_an_inverse_problem_is_solved_by_each_method(tmp_path, program, arguments, picture, gain):
    pytest.importorskip("matplotlib")
    command = [sys.executable, EXAMPLES / program, *arguments, "--plot", tmp_path / "picture.png"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=SECONDS, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "not all converged" not in done.stdout
    rows = {name.strip(): (float(psnr), float(residual)) for name, psnr, _, _, residual, *_ in ROW.findall(done.stdout)}
    assert list(rows) == [
        "Tikhonov, ‖x‖²",
        "Tikhonov, ‖∇x‖²",
        "total variation",
        "total variation, x ≥ 0",
        "learned prior",
    ]
    assert rows["learned prior"][1] <= 1e-6
    assert rows["learned prior"][0] > rows["total variation"][0] + gain
    assert (tmp_path / picture).stat().st_size > 5_000
