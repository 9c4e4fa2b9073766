"""How long the imports a user feels take: each in a fresh interpreter, median of several, NumPy's own beside it.

python bench/import_time.py [--repeat 9]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

STATEMENTS = (
    "pass",
    "import numpy",
    "import relaxon",
    "import relaxon.solvers",
    "import relaxon.client",
    "import relaxon.cli",
)


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=9)
    repeat = parser.parse_args().repeat
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for _ in range(repeat):
        for statement in STATEMENTS:
            times[statement].append(seconds(statement))
    start_up = statistics.median(times["pass"])
    for statement in STATEMENTS:
        median = statistics.median(times[statement])
        print(f"{statement:24} {median:.3f} s in all, {median - start_up:.3f} s over an empty interpreter")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
