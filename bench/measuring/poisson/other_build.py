"""The build of another commit as a contestant: in a process of its own, on the same system, judged by the same code."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from measuring.poisson.runs import Attempt, judge
from relaxon.core.solution import Result, Solution
from relaxon.solvers.gallery import Problem

TREE = Path(__file__).resolve().parents[3]
REST = 0.3
"""Seconds after which the threads of one process no longer spin beside those of the other."""
WORKER = """
import gc, json, pickle, sys, time
import numpy as np
from relaxon.solvers import PoissonGrid, prepare
held = {}
for line in sys.stdin:
    path, out, solver, rtol, limit = json.loads(line)
    try:
        if path not in held:
            held.clear()
            with open(path, "rb") as file:
                held[path] = pickle.load(file)
        arguments, more, b = held[path]
        grid = PoissonGrid(*arguments, **more)
        gc.collect()
        start = time.perf_counter()
        prepared = prepare(grid, solver=solver)
        ready = time.perf_counter()
        stop = {} if limit is None else {"callback": lambda _: time.perf_counter() - start > limit}
        found = prepared.solve(b, rtol=rtol, **stop)
        end = time.perf_counter()
        np.save(out, found.x)
        said = {
            "setup": ready - start, "solve": end - ready, "iterations": found.iterations, "result": found.result.value,
            "residuals": [float(residual) for residual in found.residuals], "fallbacks": found.fallbacks,
        }
    except Exception as error:
        refused = isinstance(error, (ValueError, TypeError, AttributeError, ModuleNotFoundError))
        said = {"error": f"{type(error).__name__}: {error}", "refused": refused}
    print(json.dumps(said), flush=True)
"""
"""Only what the oldest builds know: arguments that a grid does not need are left out, and an argument that a build does
not know is its refusal."""


class OtherBuild:
    """A process that solves with the package of another commit, from a clone of the repository."""

    def __init__(self, commit: str) -> None:
        """`commit` is any name that git knows; subprocess.CalledProcessError if it knows none."""
        self.commit = commit
        self._held = ExitStack()
        self._folder = Path(self._held.enter_context(tempfile.TemporaryDirectory()))
        self._systems: dict[int, tuple[Problem, Path]] = {}
        clone = self._folder / "tree"
        subprocess.run(["git", "clone", "--quiet", str(TREE), str(clone)], check=True)
        subprocess.run(["git", "checkout", "--quiet", commit], cwd=clone, check=True)
        threads = os.environ.get("RELAXON_NUM_THREADS")
        environment = os.environ | {"PYTHONPATH": str(clone / "src")}
        if threads is not None:  # which is how older builds are told
            environment["NUMBA_NUM_THREADS"] = threads
        self._process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=clone, text=True,
        )  # fmt: skip

    def attempt(self, problem: Problem, solver: str, rtol: float, limit: float) -> Attempt:
        """One cold set-up and solve; ValueError with the build's own words where it does not take the system."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        system, out = self._write(problem), self._folder / "x.npy"
        time.sleep(REST)
        wanted = [str(system), str(out), solver, rtol, limit if np.isfinite(limit) else None]
        self._process.stdin.write(json.dumps(wanted) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of {self.commit} ended")
        said: dict[str, Any] = json.loads(line)
        time.sleep(REST)
        if "error" in said:
            raise (ValueError if said["refused"] else RuntimeError)(said["error"])
        return judge(problem, _solution(said, np.load(out)), rtol, said["setup"], said["solve"])

    def close(self) -> None:
        """End the process and remove the clone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        self._held.close()

    def _write(self, problem: Problem) -> Path:
        """Return the file of a system, from which each build makes its grid; the last two are kept."""
        if id(problem) not in self._systems:
            while len(self._systems) > 1:
                self._systems.pop(next(iter(self._systems)))[1].unlink()
            path = self._folder / f"{time.monotonic_ns()}.pickle"
            path.write_bytes(pickle.dumps(_describe(problem)))
            self._systems[id(problem)] = problem, path
        return self._systems[id(problem)][1]


def _describe(problem: Problem) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Return the arguments of the problem's grid, positional and by name, and its right-hand side.

    Sides that are only names are plain strings, which every build can read.
    """
    grid = problem.grid
    sides = [tuple(getattr(side, "value", side) for side in pair) for pair in grid.boundary]
    more = {"reaction": grid.reaction, "volume": grid.volume}
    arguments = grid.cells, grid.spacing, sides, grid.coefficient
    return arguments, {name: value for name, value in more.items() if value is not None}, problem.b


def _solution(said: dict[str, Any], x: Any) -> Solution:
    """Return what the other build said as a solution of this one's, whose residual is still to be computed."""
    return Solution(
        x=x,
        result=Result(said["result"]),
        residuals=np.array(said["residuals"]),
        iterations=said["iterations"],
        setup_seconds=said["setup"],
        solve_seconds=said["solve"],
        true_residual=np.nan,
        relative_residual=np.nan,
        tolerance=np.nan,
        solver="",
        message="",
        fallbacks=said["fallbacks"],
    )
