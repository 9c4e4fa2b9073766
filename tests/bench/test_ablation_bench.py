"""The ablation benchmark runs through, and says of each variant what the solver said."""

import json
import math
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).parents[2] / "bench"


def test_the_ablation_runs_and_leaves_its_figures(tmp_path):
    out = tmp_path / "ablation.json"
    command = [sys.executable, str(BENCH / "ablation.py"), "--size", "20", "--cases", "box", "random", "--repeats", "1"]
    done = subprocess.run([*command, "--json", str(out)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    by = {(row["case"], row["variant"]): row for row in record["parts"]}
    assert len(by) == 12
    for case in ("box", "random"):
        assert by[case, "dcdm"]["result"] == "converged"
        assert by[case, "dcdm"]["iterations"] <= by[case, "not learned"]["iterations"]
        assert by[case, "dcdm"]["iterations"] < by[case, "smoother"]["iterations"]
    # Times are only said to be there: on a busy machine their differences may come out as anything.
    assert record["roofline"]["bytes_a_cell"] > 0
    assert math.isfinite(record["roofline"]["gigabytes_a_second"])
    assert record["batch"]["eight"] > 0
    assert record["batch"]["one"] > 0
    assert record["moved"]["milliseconds"] > 0
