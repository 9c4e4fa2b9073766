"""The content of the dashboard as JSON values: the server, its solves, its sessions, its jobs."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from relaxon._version import __version__
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.jobs.database import SqliteJobStore
from relaxon.server.jobs.records import JobRecord, Json
from relaxon.server.solving.background_compiler import BackgroundCompiler
from relaxon.server.solving.observations import CURVE_POINTS, Observations, SolveState, SolveTrace
from relaxon.server.solving.session import Session
from relaxon.server.solving.sessions import SessionStore
from relaxon.server.watching.capabilities import describe_missing
from relaxon.server.watching.status_service import read_memory
from relaxon.wire.conversions.jobs import JobState

DRAWN_SOLVES = 8
"""The solves whose curves come with every answer: as many as the page has colours."""
PAGE_JOBS = 50
SHORT_ID = 6
"""The characters of a session's id that are shown: the whole id would give access to the session."""
LOSSES = ("loss", "validation_loss")
WANTED = "_wanted"
"""The suffix of a report's entry with the number of steps planned; the entry without it has those done."""


class View:
    """Reads the state of the server and changes nothing; used from the event loop's thread only."""

    def __init__(
        self,
        target: str,
        settings: ServerSettings,
        observations: Observations,
        sessions: SessionStore,
        jobs: SqliteJobStore,
        compiler: BackgroundCompiler | None = None,
    ) -> None:
        self._target = target
        self._settings = settings
        self._observations = observations
        self._sessions = sessions
        self._jobs = jobs
        self._compiler = compiler
        self._since = time.time()

    def state(self, first_job: int = 0) -> Json:
        """Return everything on the page but the curves of the selection; jobs from the `first_job`-th newest on."""
        solves = self._observations.solves()
        jobs = list(reversed(self._jobs.jobs()))
        first_job = min(max(0, first_job), max(0, len(jobs) - 1) // PAGE_JOBS * PAGE_JOBS)
        return {
            "server": self._server(solves, jobs),
            "solves": [_solve(trace, place < DRAWN_SOLVES) for place, trace in enumerate(solves)],
            "sessions": [self._session(kept) for kept in self._sessions.kept()],
            "jobs": [self._job(job) for job in jobs[first_job : first_job + PAGE_JOBS]],
            "jobs_total": len(jobs),
            "jobs_first": first_job,
            "jobs_page": PAGE_JOBS,
        }

    def solve(self, number: int) -> Json | None:
        """Return a solve with its curve; None where it is not kept."""
        trace = self._observations.find(number)
        return None if trace is None else _solve(trace, True)

    def job(self, job_id: str) -> Json | None:
        """Return a job with its curves; None where it is not kept."""
        try:
            job = self._jobs.find(job_id)
        except errors.ServiceError:
            return None
        steps = self._steps(job_id)
        found = {**self._job(job), "curves": {name: _curve(steps, name) for name in LOSSES}}
        found["newest"] = {key: _number(value) for key, value in steps[-1].items()} if steps else {}
        return found

    def _server(self, solves: Sequence[SolveTrace], jobs: Sequence[JobRecord]) -> Json:
        states = Counter(trace.state for trace in solves)
        job_states = Counter(job.state for job in jobs)
        kept = self._sessions.kept()
        return {
            "version": __version__,
            "target": self._target,
            "time": time.time(),
            "uptime": time.time() - self._since,
            "memory": read_memory()[0] or None,
            "solves_running": states[SolveState.RUNNING],
            "solves_waiting": states[SolveState.WAITING],
            "solves_limit": self._settings.max_pending,
            "sessions": len(kept),
            "sessions_limit": self._settings.max_grids,
            "cells": sum(one.cells for one in kept),
            "cells_limit": self._settings.max_total_cells,
            "jobs": {state.value: job_states[state] for state in JobState},
            "jobs_limit": self._settings.max_jobs,
            "not_served": list(describe_missing()),
            "compiling": self._compiling(),
        }

    def _compiling(self) -> Json:
        waiting = () if self._compiler is None else self._compiler.waiting
        progress = None if self._compiler is None or not waiting else self._compiler.progress
        return {
            "waiting": list(waiting),
            "done": 0 if progress is None else progress.done,
            "total": 0 if progress is None else progress.total,
        }

    def _session(self, kept: Session) -> Json:
        idle = self._settings.grid_ttl_seconds - (kept.expires - time.time())
        return {
            "id": kept.id[:SHORT_ID],
            "shape": list(kept.shape),
            "unknowns": kept.unknowns,
            "bytes": kept.array_bytes(),
            "solvers": kept.set_up_labels(),
            "calls": kept.users,
            "age": time.time() - kept.created,
            "idle": 0.0 if kept.users else max(0.0, idle),
        }

    def _job(self, job: JobRecord) -> Json:
        newest = self._jobs.newest(job.id) or {}
        name = next((key.removesuffix(WANTED) for key in newest if key.endswith(WANTED)), "")
        return {
            "id": job.id,
            "kind": job.kind,
            "model": job.model,
            "state": job.state.value,
            "cancelling": job.cancel_requested and not job.state.ended,
            "message": "" if job.failure is None else job.failure.message,
            "created": job.created,
            "seconds": None if job.started is None else (job.ended or time.time()) - job.started,
            "unit": name,
            # Some reports name steps done and planned differently: `epoch` and `epochs_wanted`.
            "done": newest.get(name, newest.get(name.removesuffix("s"))),
            "wanted": newest.get(name + WANTED),
            "loss": _number(newest.get("loss")),
        }

    def _steps(self, job_id: str) -> Sequence[Json]:
        """Return the reports of a job, one for each step."""
        return [report for _, report in self._jobs.progress(job_id, 0, self._jobs.steps(job_id))]


def _solve(trace: SolveTrace, drawn: bool) -> Json:
    now = trace.ended or time.time()
    plain = ("number", "solver", "unknowns", "outcome", "iterations", "submitted", "setup_seconds")
    return {name: getattr(trace, name) for name in plain} | {
        "shape": list(trace.shape),
        "state": trace.state.value,
        "seconds": None if trace.started is None else now - trace.started,
        "tolerance": _number(trace.tolerance),
        "backward_error": _number(trace.backward_error),
        "residuals": [[x, _number(y)] for x, y in trace.residuals.points()] if drawn else None,
    }


def _curve(steps: Sequence[Json], name: str) -> list[list[Any]]:
    """Return one entry of the reports as a curve, thinned evenly, with its last point."""
    stride = max(1, math.ceil(len(steps) / CURVE_POINTS))
    places = list(range(0, len(steps), stride))
    if places and places[-1] != len(steps) - 1:
        places.append(len(steps) - 1)
    found = [[place + 1, _number(steps[place].get(name))] for place in places]
    return found if any(value is not None for _, value in found) else []


def _number(value: Any) -> Any:
    """Return a value that JSON can hold: None for NaN and infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
