"""Elastic bodies: what coordinates bring, against PyAMG's smoothed aggregation with the same rigid motions.

    python bench/sparse_systems.py --quick                    # 10,000 unknowns, one repeat
    python bench/sparse_systems.py                            # 100,000 unknowns, CPU seconds of one thread
    python bench/sparse_systems.py --bodies cantilever-3d --unknowns 1000000 --no-pyamg

Set-up and solve, the checks of the matrix among it, to a relative residual of 1e-6, recomputed here with SciPy; one
random right-hand side, without the rigid motions where nothing holds the body; median of the repeats, all interleaved,
a small body first to compile. PyAMG gets the matrix in blocks and the rigid motions as `B`, with conjugate
gradients, and counts at the better of its default and of strong couplings alone.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
from measuring.tables import terminal_table
from numpy.typing import NDArray
from rich.console import Console
from scipy import sparse

from relaxon.server.config.threads import wait_asleep
from relaxon.solvers import gallery, solve
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.families.bodies import ElasticBody
from relaxon.solvers.sparse.system.near_null import rigid_motions
from relaxon.solvers.sparse.system.properties import MatrixProperties

UNKNOWNS, QUICK_UNKNOWNS, WARM_UP = 100_000, 10_000, 3_000
REPEATS, RTOL, MAX_ITERATIONS = 3, 1e-6, 300
STRENGTHS = (0.0, 0.08)
"""Of PyAMG's strong couplings: its default, and that of the paper on smoothed aggregation."""
Array = NDArray[np.float64]
Answer = tuple[Array, int]


def with_coordinates(body: ElasticBody, b: Array) -> Answer:
    """The automatic choice, told where the nodes are."""
    solution = solve(body.matrix, b, coordinates=body.coordinates, rtol=RTOL)
    return solution.x, solution.iterations


def without(body: ElasticBody, b: Array) -> Answer:
    """Our multigrid of single unknowns, told nothing."""
    solution = solve(body.matrix, b, solver="amg", rtol=RTOL, max_iterations=MAX_ITERATIONS, inconsistent="project")
    return solution.x, solution.iterations


def pyamg_with(strength: float) -> Callable[[ElasticBody, Array], Answer]:
    """PyAMG's smoothed aggregation with rigid motions."""

    def run(body: ElasticBody, b: Array) -> Answer:
        import pyamg

        ndim = body.coordinates.shape[1]
        residuals: list[float] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            blocks = sparse.csr_matrix(body.matrix).tobsr((ndim, ndim))
            motions, strong = rigid_motions(body.coordinates), ("symmetric", {"theta": strength})
            levels = pyamg.smoothed_aggregation_solver(blocks, B=motions, strength=strong)
            x = levels.solve(b, tol=RTOL, accel="cg", maxiter=MAX_ITERATIONS, residuals=residuals)
        return x, len(residuals) - 1

    return run


PEERS = {f"pyamg {strength:g}": pyamg_with(strength) for strength in STRENGTHS}
OWN = {"coordinates": with_coordinates, "nothing": without}


def timed(run: Callable[[ElasticBody, Array], Answer], body: ElasticBody, b: Array) -> tuple[float, int]:
    """CPU seconds of this thread and iterations; infinite where the tolerance was not met or the system was refused."""
    start = time.thread_time()
    try:
        x, iterations = run(body, b)
    except ValueError:  # a factor that finds a floating body singular
        return math.inf, 0
    seconds = time.thread_time() - start
    met = np.linalg.norm(b - body.matrix @ x) <= 1.01 * RTOL * np.linalg.norm(b)
    return (seconds if met else math.inf), iterations


def race(name: str, n: int, repeats: int, peers: bool) -> tuple[int, dict[str, tuple[float, int]]]:
    """All contestants on one body: its unknowns, and of each the median seconds and the last run's iterations."""
    body = gallery.elastic_body(name, n)
    system = MatrixSystem.of(body.matrix, MatrixProperties(coordinates=body.coordinates))
    b = system.project(np.random.default_rng(1).standard_normal(system.unknowns))
    contestants = OWN | (PEERS if peers else {})
    runs: dict[str, list[tuple[float, int]]] = {contestant: [] for contestant in contestants}
    for _ in range(repeats):
        for contestant, run in contestants.items():
            if runs[contestant] and runs[contestant][-1][0] == math.inf:
                continue
            runs[contestant].append(timed(run, body, b))
    found = {who: (statistics.median(seconds for seconds, _ in of), of[-1][1]) for who, of in runs.items()}
    return system.unknowns, found


def main() -> int:
    wait_asleep()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(gallery.elastic_body_names())
    parser.add_argument("--bodies", nargs="+", choices=names, default=names)
    parser.add_argument("--unknowns", type=int)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_UNKNOWNS} unknowns, one repeat")
    parser.add_argument("--no-pyamg", action="store_true")
    args = parser.parse_args()
    n = args.unknowns or (QUICK_UNKNOWNS if args.quick else UNKNOWNS)
    repeats = args.repeats or (1 if args.quick else REPEATS)
    lines: list[list[str]] = []
    ratios: dict[str, float] = {}
    console = Console(width=120)
    with num_threads(1):
        for name in ("cantilever-2d", "cantilever-3d", "flat-3d"):
            race(name, WARM_UP, 1, False)
        for name in args.bodies:
            unknowns, found = race(name, n, repeats, not args.no_pyamg)
            peers = {who: found[who] for who in PEERS if who in found}
            best = min(peers, key=lambda who: peers[who][0]) if peers else ""
            ratios[name] = peers[best][0] / found["coordinates"][0] if best else math.nan
            cells = [f"{found[who][0]:.3f} ({found[who][1]})" for who in OWN]
            peer = f"{best} {peers[best][0]:.3f} ({peers[best][1]})" if best else "-"
            lines.append([name, str(unknowns), *cells, peer, f"{ratios[name]:.1f}"])
            console.print(*lines[-1], sep="  ")
    headings = ("body", "n", "coordinates s (its)", "nothing s (its)", "PyAMG's best s (its)", "ratio")
    console.print(terminal_table(headings, lines))
    finite = {name: ratio for name, ratio in ratios.items() if math.isfinite(ratio)}
    if finite:
        mean = math.exp(statistics.fmean(math.log(ratio) for ratio in finite.values()))
        least = min(finite, key=lambda name: finite[name])
        console.print(
            f"{mean:.1f} times as fast as PyAMG's best in the geometric mean, least {finite[least]:.1f} ({least})"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
