"""Sparse direct libraries beside each other: the own factor, SuperLU, rslab, feral, pypardiso, cholespy, homapy.

    python bench/direct.py --quick                                # 10,000 unknowns
    python bench/direct.py --unknowns 100000 --json direct.json

Each run is a process of its own with a limit of processor seconds and of address space: one that ends is marked with
its signal. Those that are not installed are left out, and said. Seconds are processor seconds of analysis, factor and
one solve; memory is what the process has grown by at its peak, of which 8 bytes an entry of the factor are the least.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measuring.tables import describe_run, terminal_table, write_record
from rich.console import Console

MODULES = {"multifrontal": "relaxon", "superlu": "scipy", "rslab-fill": "rslab", "pardiso": "pypardiso"}
"""Of the libraries that are imported by another name."""
LIBRARIES = ("multifrontal", "superlu", "rslab", "rslab-fill", "feral", "pardiso", "cholespy", "homapy")
FAMILIES = (
    "laplacian-2d",
    "plate-2d",
    "triangles-2d",
    "elasticity-2d",
    "heavy-tailed",
    "laplacian-3d",
    "tetrahedra-contrast-3d",
    "elasticity-3d",
    "neighbours-3d",
    "chain",
    "neumann-2d",
    "saddle-2d",
    "shifted-2d",
    "convection-2d",
    "singular",
)
UNKNOWNS, QUICK, LIMIT, MEMORY = 30_000, 10_000, 60.0, 8 << 30
WAIT = 10.0
"""Times its limit of processor seconds a process is waited for."""


def bound(seconds: float) -> None:
    """Limit this process's processor seconds and its address space."""
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def start(library: str, family: str, n: int, threads: int, limit: float) -> dict[str, Any]:
    """Run one library on one matrix in a process; what it found, or why there is nothing."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    command = [sys.executable, str(Path(__file__).with_name("direct_libraries.py")), library, family, str(n)]
    try:
        done = subprocess.run(
            [*command, str(threads)],
            env=environment,
            capture_output=True,
            timeout=WAIT * limit,
            preexec_fn=partial(bound, limit),
        )
    except subprocess.TimeoutExpired:
        return {"cut": f"> {limit:g} s"}
    if done.returncode == -signal.SIGXCPU:
        return {"cut": f"> {limit:g} s"}
    if done.returncode < 0:
        return {"cut": f"process ended: {signal.Signals(-done.returncode).name}"}
    return json.loads(done.stdout) if done.returncode == 0 else {"cut": done.stderr.decode()[-120:].strip()}


def shown(run: dict[str, Any]) -> str:
    """A cell of the table: seconds, megabytes and the residual's exponent, or why there are none."""
    if "cut" in run:
        return str(run["cut"])[:40]
    return f"{run['processor']:.2f} s {run['bytes'] / 1e6:.0f} MB {run['residual']:.0e}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument("--unknowns", type=int, default=UNKNOWNS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of a process")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} unknowns")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    console = Console(width=190)
    n = QUICK if args.quick else args.unknowns
    libraries = [name for name in args.libraries if find_spec(MODULES.get(name, name)) is not None]
    if absent := sorted(set(args.libraries) - set(libraries)):
        console.print(f"not installed: {', '.join(absent)}")
    rows, lines = [], []
    for family in args.families:
        runs = {name: start(name, family, n, args.threads, args.limit) for name in libraries}
        rows.append({"family": family, "runs": runs})
        any_run = next((run for run in runs.values() if "kind" in run), {"kind": "", "unknowns": n})
        lines.append([family, any_run["kind"], any_run["unknowns"], *(shown(run) for run in runs.values())])
        if args.json:
            write_record(args.json, describe_run(threads=args.threads, rows=rows))
    console.print(terminal_table(("matrix", "kind", "n", *libraries), lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
