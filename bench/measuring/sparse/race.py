"""The race of `bench/sparse.py`: matrices, contestants in their own processes, limits, and this process's verdict."""

from __future__ import annotations

import json
import math
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from measuring.sparse.child import COARSENINGS, OPTIONS, THREADS
from relaxon.core.extras import find_missing
from relaxon.solvers import gallery, norms, read_matrix
from relaxon.solvers.sparse import MatrixSystem
from relaxon.solvers.sparse.peers import PEERS

CHILD = Path(__file__).with_name("child.py")
RTOL = 1e-6
DIMENSIONS = {"elasticity-2d": 2, "elasticity-3d": 3}
"""Unknowns of a node, where there are several: BoomerAMG is then run with its options for them too."""
PAUSE = 0.3
"""Seconds before a run: BLAS's threads in the last contestant, and here, spin for a while after their last product."""
START_SECONDS = 240.0
"""For a process to load, and to compile what it needs."""
WAIT = 0.05
"""Seconds between two looks at a process's memory."""
GROUPS: dict[str, tuple[str, ...]] = {
    "pyamg": tuple(OPTIONS),
    "hypre": ("hypre", "hypre nodes"),
    "cholmod": ("cholmod",),
    "pardiso": ("pardiso",),
    "apxchol": ("apxchol",),
    "amgcl": tuple(COARSENINGS),
}
"""The peers, each with the options of which its best counts."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run may take; what takes more is stopped and marked."""

    seconds: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Problem:
    """A matrix by name, and how many unknowns a node has."""

    name: str
    make: Callable[[], Any]
    dimension: int = 1


def from_gallery(names: list[str], n: int) -> Iterator[Problem]:
    """The families of the gallery at about `n` unknowns."""
    for name in names:
        yield Problem(name, lambda name=name: gallery.matrix(name, n), DIMENSIONS.get(name, 1))  # type: ignore[misc]


def from_folder(folder: Path) -> Iterator[Problem]:
    """A user's own matrices: every file of a folder that `relaxon.solvers.read_matrix` knows."""
    for path in sorted(folder.iterdir()):
        if not path.name.startswith("."):
            yield Problem(path.name, lambda path=path: read_matrix(path))  # type: ignore[misc]


def missing_peers() -> dict[str, tuple[str, ...]]:
    """The peers that cannot run here, with the modules that each lacks."""
    needs = {"pyamg": ("pyamg",)} | {name: solver.needs for name, solver in PEERS.items()}
    return {name: missing for name in GROUPS if (missing := find_missing(needs[name]))}


class Stopped(Exception):
    """A process has taken more than it may, or has died."""


class Worker:
    """A contestant's process, started when it is first needed and again after it was stopped."""

    def __init__(self, name: str, threads: int, cpu: bool) -> None:
        self.name = name
        self._command = [sys.executable, str(CHILD), name, "--threads", str(threads), *(["--cpu"] if cpu else [])]
        self._environment = os.environ | dict.fromkeys(THREADS, str(threads))
        self._patience = 3.0 if cpu else 1.0
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""

    def run(self, system: Path, dimension: int, limits: Limits, measured: bool) -> dict[str, Any]:
        """What the process says of one run, in which bytes may be `measured`; raises `Stopped`."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=self._environment, bufsize=0,
            )  # fmt: skip
            ready = self._answer(START_SECONDS, math.inf)
            if "failed" in ready:
                self.stop()
                raise Stopped(f"cannot start: {ready['failed']}")
        assert self._process.stdin is not None
        job = json.dumps({"system": str(system), "rtol": RTOL, "dimension": dimension, "bytes": measured}) + "\n"
        self._process.stdin.write(job.encode())
        self._answer(START_SECONDS, math.inf)
        return self._answer(self._patience * limits.seconds, limits.bytes)

    def _answer(self, seconds: float, most_bytes: float) -> dict[str, Any]:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        end = time.monotonic() + seconds
        first = _resident(process.pid)
        while b"\n" not in self._read:
            if select.select([process.stdout], [], [], WAIT)[0]:
                more = os.read(process.stdout.fileno(), 65536)
                if not more:
                    status = process.wait()
                    self.stop()
                    raise Stopped(f"died by signal {-status}" if status < 0 else f"ended with status {status}")
                self._read += more
            elif time.monotonic() > end:
                self.stop()
                raise Stopped(f"> {seconds / self._patience:g} s")
            elif _resident(process.pid) - first > most_bytes:
                self.stop()
                raise Stopped(f"> {most_bytes / 1e9:g} GB")
        line, _, self._read = self._read.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        """End the process, whatever it does."""
        process, self._process, self._read = self._process, None, b""
        if process is not None:
            process.kill()
            process.communicate()


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def race(
    problem: Problem, workers: dict[str, Worker], repeats: int, limits: Limits, hopeless: float = math.inf
) -> dict[str, Any]:
    """All contestants on one matrix, repeats interleaved.

    One that is cut does not run again, nor an option that took more than `hopeless` times as long as its group's best.
    """
    system = MatrixSystem.of(problem.make())
    if system.kind != "spd":
        raise ValueError(f"the race is of symmetric positive definite matrices, got a {system.kind} one: {system.why}")
    a, b = system.matrix, system.project(np.random.default_rng(1).standard_normal(system.unknowns))
    row: dict[str, Any] = {"family": problem.name, "unknowns": a.shape[0], "entries": a.nnz, "runs": {}}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _store(folder, "matrix", a)
        np.save(folder / "b.npy", b)
        if system.null.labels is not None:
            _store(folder, "regular", system.regular())
        for _ in range(repeats):
            for contestant, worker in workers.items():
                if contestant == "hypre nodes" and problem.dimension == 1:
                    continue
                runs = row["runs"].setdefault(contestant, [])
                if not (runs and (runs[-1]["cut"] or _is_hopeless(row["runs"], contestant, hopeless))):
                    time.sleep(PAUSE)
                    runs.append(judged(worker, folder, problem.dimension, limits, a, b, not runs))
    return row


def _is_hopeless(runs: dict[str, list[dict[str, Any]]], contestant: str, factor: float) -> bool:
    """Return whether the first run took more than `factor` times as long as another option of the same group."""
    group = next((options for options in GROUPS.values() if contestant in options), (contestant,))
    least = min(runs[option][0]["seconds"] for option in group if runs.get(option))
    return bool(runs[contestant][0]["seconds"] > factor * least)


def _store(folder: Path, kind: str, a: Any) -> None:
    for part in ("data", "indices", "indptr"):
        np.save(folder / f"{kind}_{part}.npy", getattr(a, part))


def judged(
    worker: Worker, folder: Path, dimension: int, limits: Limits, a: Any, b: Any, measured: bool
) -> dict[str, Any]:
    """One run, with bytes if they are `measured`, the residual computed here in float64, and why it does not count."""
    nothing: dict[str, Any] = {"seconds": math.inf, "residual": math.inf}
    try:
        found = worker.run(folder, dimension, limits, measured)
    except Stopped as stopped:
        return nothing | {"cut": str(stopped)}
    if "failed" in found:
        return nothing | {"cut": found["failed"]}
    x = np.load(folder / "x.npy")
    with np.errstate(all="ignore"):
        residual, scaled = norms.relative_residual(a, b, x), norms.scaled_residual(a, b, x)
    cut = "" if residual <= RTOL * 1.01 else f"ended at {residual:.0e}"
    return found | {"residual": residual, "scaled": scaled, "cut": cut}
