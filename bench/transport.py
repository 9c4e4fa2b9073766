"""What a solve costs more over gRPC than in process: the same problem and solver, interleaved, medians.

    python bench/transport.py [--size 128] [--problem pool] [--solver cg mg-cg] [--repeat 5] [--server process]

The server is another process on this machine (or, with `--server thread`, a thread of this one, as
`relaxon solve` starts it). Set-ups are made before the clock runs; client and server check and copy as they always do.
"shared" hands the arrays over through this machine's shared memory, "sent" sends them, as to another machine.
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
from relaxon.server.config.threads import wait_asleep
from relaxon.solvers import gallery, prepare
from relaxon.solvers.driver.prepared import PreparedSolver

SERVE = """
import sys
from relaxon.server.config.threads import wait_asleep
wait_asleep()
from relaxon.server.app import serve
from relaxon.server.config.settings import ServerSettings
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


def race(problem: gallery.Problem, solver: str, remotes: dict[str, RemoteGrid], repeat: int) -> None:
    """Solve here and there in turn, and print the medians; of differences and ratios, those within a round."""
    local = prepare(problem.grid, solver=solver)
    here, there = Times([], []), {way: Times([], []) for way in remotes}
    for round_ in range(repeat + 1):
        if round_ == 1:  # the first round compiled, set up and touched its memory
            here, there = Times([], []), {way: Times([], []) for way in remotes}
        ours = measured(local, problem.b, here)
        same = True
        for way, remote in remotes.items():
            same &= np.array_equal(ours, measured(remote, problem.b, there[way], solver=solver))
    moved = (problem.b.nbytes + ours.nbytes) / 2**20
    inside = statistics.median(w - e for w, e in zip(here.wall, here.engine, strict=True))
    print(f"{solver}: in process {statistics.median(here.wall):.3f} s, {1e3 * inside:.1f} ms of it outside the engine")
    for way, times in there.items():
        outside = statistics.median(w - e for w, e in zip(times.wall, times.engine, strict=True))
        added = outside - inside
        ratio = statistics.median(t / h for t, h in zip(times.wall, here.wall, strict=True))
        print(
            f"  {way:6}  {statistics.median(times.wall):.3f} s, {1e3 * outside:.1f} ms outside the engine; transport "
            f"adds {1e3 * added:.1f} ms for {moved:.0f} MiB = {added / statistics.median(here.wall):.1%} of the solve; "
            f"median ratio {ratio:.3f}"
        )
    print(f"  same bits: {same}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--problem", default="pool", choices=gallery.names())
    parser.add_argument("--solver", nargs="+", default=["cg", "mg-cg"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--server", choices=["process", "thread"], default="process")
    args = parser.parse_args()
    wait_asleep()
    problem = gallery.make(args.problem, args.size)
    grid = problem.grid
    print(f"{args.problem} {grid}, server in another {args.server}, {args.repeat} rounds")
    with contextlib.ExitStack() as stack:
        target = stack.enter_context(server(args.server))
        remotes = {}
        for way, shared in (("sent", False), ("shared", True)):
            client = stack.enter_context(relaxon.connect(target, shared_memory=shared))
            start = time.perf_counter()
            made = client.poisson.grid(grid.cells, grid.spacing, grid.boundary, grid.coefficient)
            print(f"grid made in {time.perf_counter() - start:.3f} s, of which {made.setup_seconds:.3f} s on it")
            remotes[way] = stack.enter_context(made)
        for solver in args.solver:
            race(problem, solver, remotes, args.repeat)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
