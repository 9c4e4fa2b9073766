"""Beside the single solve: time steps of a plume, peak memory in a process of its own, the memory's bandwidth."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from measuring.poisson.runs import WARM_UP_SIDE, attempt, fresh, judge
from relaxon.solvers import gallery, prepare
from relaxon.solvers.driver.prepared import PreparedSolver
from relaxon.solvers.gallery import Problem
from relaxon.solvers.plume import SmokePlume

STEP_SOLVERS = ("dcdm", "mg-cg", "ic-cg", "pyamg-sa", "pyamg-rs")
FLOW_SOLVER = "mg-cg"
"""Carries the flow from step to step, outside the clock, so that all solvers get the same systems."""
TRIAD_LENGTH = 2**24
CHILD_SECONDS = 600.0
BENCH = Path(__file__).parents[2]
"""The folder that `measuring` stands in, as `python -m` looks for it there."""
"""What a process that measures memory may take; compiling included."""


@dataclass(frozen=True, slots=True)
class Steps:
    """A solver through all time steps; set-ups and solves in seconds, summed."""

    geometry: str
    size: int
    steps: int
    solver: str
    setup: float
    solve: float
    seconds: float
    iterations: int
    honest: bool
    all_met_rtol: bool


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak resident bytes an unknown that a cold set-up and solve add; `failed` says why there is no figure."""

    case: str
    size: int
    solver: str
    bytes_per_unknown: float | None
    failed: str = ""


def steps_contest(size: int, steps: int, solvers: Sequence[str], rtol: float) -> list[Steps]:
    """The pressure solves of a plume, warm started: around a sphere at rest (one set-up), a moving one (one a step)."""
    for solver in solvers:
        attempt(gallery.make("plume", WARM_UP_SIDE), solver, rtol)
    results = []
    for moving in (False, True):
        plume = SmokePlume((size,) * 3, moving=moving)
        walkers = [_Walker(solver, moving) for solver in solvers]
        for _ in range(steps):
            problem = plume.pressure_problem()
            for walker in walkers:
                walker.step(problem, rtol)
            plume.step(solver=FLOW_SOLVER, rtol=rtol)
        results += [walker.total(size, steps) for walker in walkers]
    return results


class _Walker:
    """One solver going along with a simulation: it keeps its set-up where it may, and its last solution."""

    def __init__(self, solver: str, moving: bool) -> None:
        self.solver, self.moving = solver, moving
        self.prepared: PreparedSolver | None = None
        self.x: NDArray[np.float64] | None = None
        self.setup = self.solve = 0.0
        self.iterations, self.honest, self.met = 0, True, True

    def step(self, problem: Problem, rtol: float) -> None:
        grid = fresh(problem.grid)  # the simulation has found the null space of its own
        start = time.perf_counter()
        if self.moving or self.prepared is None:
            self.prepared = prepare(grid, solver=self.solver)
        ready = time.perf_counter()
        solution = self.prepared.solve(problem.b, rtol=rtol, x0=self.x, inconsistent="project")
        outcome = judge(problem, solution, rtol, ready - start, time.perf_counter() - ready)
        self.x = solution.x
        self.setup += outcome.setup
        self.solve += outcome.solve
        self.iterations += outcome.iterations
        self.honest &= outcome.honest
        self.met &= outcome.result == "converged" and outcome.honest

    def total(self, size: int, steps: int) -> Steps:
        geometry = "moving" if self.moving else "at rest"
        seconds = self.setup + self.solve
        return Steps(
            geometry, size, steps, self.solver, self.setup, self.solve, seconds, self.iterations, self.honest, self.met
        )


def memory_per_unknown(case: str, size: int, solver: str, rtol: float) -> Memory:
    """Measured in a process of its own, as a process's peak only grows."""
    command = [sys.executable, "-m", "measuring.poisson.scenarios", case, str(size), solver, str(rtol)]
    try:
        done = subprocess.run(command, cwd=BENCH, capture_output=True, text=True, timeout=CHILD_SECONDS, check=True)
    except subprocess.TimeoutExpired:
        return Memory(case, size, solver, None, f"over {CHILD_SECONDS:g} s")
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().splitlines()[-1:]
        return Memory(case, size, solver, None, f"exit status {error.returncode}: {' '.join(last)}")
    return Memory(case, size, solver, float(done.stdout))


def peak(case: str, size: int, solver: str, rtol: float) -> float:
    """Run once in this process, with code compiled and the system made before the count starts."""
    problem = gallery.make(case, size)
    attempt(gallery.make(case, WARM_UP_SIDE), solver, rtol)
    grid = fresh(problem.grid)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from what is resident now
    before = _peak_bytes()
    prepare(grid, solver=solver).solve(problem.b, rtol=rtol)
    return (_peak_bytes() - before) / grid.unknowns


def _peak_bytes() -> int:
    """The peak since the last reset where Linux tells it, else the process's."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    if found:
        return int(found[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def triad_bandwidth() -> float:
    """Bytes a second of `a ← b + s·c` in float64 by all threads, best of five: the roof over every solver here."""
    from numba import njit

    from relaxon.solvers.kernels.threads import divide

    @njit(nogil=True)
    def run(start: int, stop: int, a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> None:
        for i in range(start, stop):
            a[i] = b[i] + 3.0 * c[i]

    def triad(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> None:
        divide(run, a.size, a, b, c)

    a, b, c = (np.ones(TRIAD_LENGTH) for _ in range(3))
    triad(a, b, c)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        triad(a, b, c)
        best = min(best, time.perf_counter() - start)
    return 3 * a.nbytes / best


if __name__ == "__main__":
    from relaxon.server.config.threads import wait_asleep

    wait_asleep()
    sys.stdout.write(f"{peak(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))}\n")
