"""The gallery: each short example runs, prints the result that its page describes, and draws a figure."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GALLERY = ROOT / "examples" / "gallery"
PRINTED = {
    "01_first_solve": r"128×128 cells: CONVERGED in \d iterations, error 1\.7\de-04",
    "02_obstacles_and_air": r"dcdm: CONVERGED in \d iterations\nmg-cg: CONVERGED in 1\d iterations\nic-cg: CONVERGED",
    "03_jumping_coefficient": r"CONVERGED in [12]\d iterations, effective conductivity 5\.35",
    "04_stretched_widths_and_robin_sides": r"t = 0\.100: \d+ iterations, surface at 0\.092",
    "05_sparse_matrix": r"CONVERGED: auto chose .*\nlargest error 2\.\de-04",
    "06_time_stepping": r"iterations of 24 steps: 9\d\d from zero, 7\d\d from the last solution",
    "07_gradient_through_a_solve": r"misfit 1\.\d+e\+00 → 5\.\d+e-03",
    "08_scipy_preconditioner": r"none: info 0, 2\d\d iterations\n.*\n.*learned constants: info 0, [1-9] iterations",
    "09_equilibrium_propagation": r"test accuracy 0\.9[4-9]",
    "10_energy_based_density": r"trusted: True\nintegral of the density over the picture: (0\.99|1\.00)",
    "11_boosted_network": r"80 units: R² 0\.9\d+\n[3-7]\d units: R² 0\.9",
    "12_job_on_a_server": r"wave: 40 units, completed, training loss 0\.\d+ → 0\.0\d+",
}
NEED_TORCH = ("07", "09", "10")


def test_the_gallery_has_twelve_numbered_examples_that_a_reader_takes_in_within_a_minute():
    assert [path.stem for path in sorted(GALLERY.glob("*.py"))] == list(PRINTED)
    assert [name[:2] for name in PRINTED] == [f"{number:02}" for number in range(1, 13)]
    assert all(15 <= len(path.read_text(encoding="utf-8").splitlines()) <= 45 for path in GALLERY.glob("*.py"))


@pytest.mark.parametrize("name", PRINTED)
def test_an_example_prints_its_result_and_draws_it(name, capsys):
    pytest.importorskip("matplotlib").use("Agg")
    if name[:2] in NEED_TORCH and find_spec("torch") is None:
        pytest.skip("torch is not installed (extra: neuromorphic)")
    from matplotlib import pyplot

    pyplot.close("all")
    runpy.run_path(str(GALLERY / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert re.search(PRINTED[name], printed), printed
    assert pyplot.gcf().axes
    pyplot.close("all")


def test_the_pages_of_the_gallery_are_what_the_examples_say():
    run = subprocess.run(
        [sys.executable, "docs/site/gallery.py", "--check"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
