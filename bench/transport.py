"""What a solve costs more over gRPC than in process: the same problem and solver, interleaved, medians.

    python bench/transport.py [--size 128] [--problem pool] [--solver cg mg-cg] [--repeat 5] [--server process]

The server is another process on this machine (or, with `--server thread`, a thread of this one, as
`relaxon solve` starts it). Set-ups are made before the clock runs; client and server check and copy as they always do.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import relaxon
from relaxon.client import RemoteGrid
from relaxon.server.app import EmbeddedServer
from relaxon.solvers import gallery, prepare
from relaxon.solvers.driver import PreparedSolver

SERVE = """
import sys
from relaxon.server.app import serve
from relaxon.server.settings import ServerSettings
serve(ServerSettings(port=0), lambda target: print(target, flush=True))
"""


@dataclass
class Times:
    """Seconds of one way to solve: as the caller's clock has it, and as the solution says of the engine alone."""

    wall: list[float]
    engine: list[float]


def measured(solve: PreparedSolver | RemoteGrid, b: np.ndarray, times: Times, **options: object) -> np.ndarray:
    start = time.perf_counter()
    solution = solve.solve(b, **options)
    times.wall.append(time.perf_counter() - start)
    times.engine.append(solution.solve_seconds)
    return solution.x


@contextlib.contextmanager
def server(kind: str) -> Iterator[str]:
    """A server's address."""
    if kind == "thread":
        with EmbeddedServer() as embedded:
            yield embedded.target
        return
    with subprocess.Popen([sys.executable, "-c", SERVE], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def race(problem: gallery.Problem, solver: str, remote: RemoteGrid, repeat: int) -> None:
    """Solve here and there in turn, and print the medians."""
    local = prepare(problem.grid, solver=solver)
    here, there = Times([], []), Times([], [])
    for round_ in range(repeat + 1):
        if round_ == 1:  # the first round compiled, set up and touched its memory
            here, there = Times([], []), Times([], [])
        ours = measured(local, problem.b, here)
        theirs = measured(remote, problem.b, there, solver=solver)
    wall_here, wall_there = statistics.median(here.wall), statistics.median(there.wall)
    travel = statistics.median(w - e for w, e in zip(there.wall, there.engine, strict=True))
    moved = problem.b.nbytes + theirs.nbytes
    print(
        f"{solver:10} in process {wall_here:7.3f} s   over gRPC {wall_there:7.3f} s   "
        f"ratio {wall_there / wall_here:5.3f}   outside the engine {1e3 * travel:6.1f} ms for "
        f"{moved / 2**20:.0f} MiB ({moved / 2**20 / travel:.0f} MiB/s)   "
        f"same bits: {np.array_equal(ours, theirs)}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--problem", default="pool", choices=gallery.names())
    parser.add_argument("--solver", nargs="+", default=["cg", "mg-cg"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--server", choices=["process", "thread"], default="process")
    args = parser.parse_args()
    problem = gallery.make(args.problem, args.size)
    grid = problem.grid
    print(f"{args.problem} {grid}, server in another {args.server}, {args.repeat} rounds")
    with server(args.server) as target, relaxon.connect(target) as client:
        start = time.perf_counter()
        with client.poisson.grid(grid.cells, grid.spacing, grid.boundary, grid.coefficient) as remote:
            print(f"grid made in {time.perf_counter() - start:.3f} s, of which {remote.setup_seconds:.3f} s on it")
            for solver in args.solver:
                race(problem, solver, remote, args.repeat)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
