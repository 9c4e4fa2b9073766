"""What the dashboard adds: to an iteration of a solve that is recorded, and to the server for one look at the page.

    python bench/dashboard.py

Recording is timed by itself, in nanoseconds a call: a solve's own iterations scatter by more than that. The page's
state is timed with as much in it as there can be: all remembered solves, with long curves, and a thousand jobs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from relaxon.core.solution import Progress
from relaxon.server.config.settings import ServerSettings
from relaxon.server.jobs import records as jobs
from relaxon.server.jobs.database import SqliteJobStore
from relaxon.server.jobs.records import JobRecord
from relaxon.server.solving.observations import KEPT_SOLVES, Observations
from relaxon.server.solving.sessions import SessionStore
from relaxon.server.watching.dashboard.view import View

ITERATIONS = 100_000
LONG = 2000
"""Iterations of each remembered solve, steps of each job that is looked at."""
JOBS = 1000


def recording(repeats: int) -> float:
    """Nanoseconds for one iteration, median."""
    steps = [Progress(iteration, 1.0 / (1 + iteration), 1e-6) for iteration in range(ITERATIONS)]

    def run() -> float:
        trace = Observations().solve("dcdm", (128, 128, 128), 128**3)
        start = time.perf_counter()
        for step in steps:
            trace.record(step)
        return 1e9 * (time.perf_counter() - start) / ITERATIONS

    return statistics.median(run() for _ in range(repeats))


def full_view(folder: Path) -> tuple[View, SqliteJobStore, str]:
    """A view of a server that is as full as it gets, its jobs, and the id of one of them."""
    settings = replace(ServerSettings(), max_ended_jobs=JOBS)
    observations, store = Observations(), SqliteJobStore(folder, JOBS)
    for _ in range(KEPT_SOLVES):
        trace = observations.solve("dcdm", (128, 128, 128), 128**3)
        trace.begin()
        for iteration in range(LONG):
            trace.record(Progress(iteration, 1.0 / (1 + iteration), 1e-6))
    for number in range(JOBS):
        job = JobRecord.new("boosting", f"model-{number}")
        store.put(job)
        for unit in range(1, (LONG if number == JOBS - 1 else 1) + 1):
            store.add_progress(job.id, unit, {"stage": unit, "units": unit, "units_wanted": LONG, "loss": 1.0 / unit})
        store.put(jobs.finish_job(job))
    return View("127.0.0.1:0", settings, observations, SessionStore(settings), store), store, job.id


def looking(look: Callable[[], object], repeats: int) -> float:
    """Milliseconds on the event loop for one answer, JSON included, median."""

    def run() -> float:
        start = time.perf_counter()
        json.dumps(look(), allow_nan=False)
        return 1e3 * (time.perf_counter() - start)

    return statistics.median(run() for _ in range(repeats))


def main() -> int:
    """Measure and print; 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    with TemporaryDirectory() as folder:
        view, store, job_id = full_view(Path(folder))
        print(f"recording an iteration: {recording(repeats):.0f} ns")
        print(f"the page's state, {KEPT_SOLVES} solves and {JOBS} jobs: {looking(view.state, repeats):.2f} ms")
        print(f"one job's curves, {LONG} steps: {looking(lambda: view.job(job_id), repeats):.2f} ms")
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
