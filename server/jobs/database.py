"""Jobs and their progress in an SQLite file, which outlives the server however that ends."""

from __future__ import annotations

import asyncio
import json
import logging
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from relaxon.server.jobs.records import JobFailure, JobRecord, Json, unknown_job
from relaxon.wire.conversions.jobs import JobState

logger = logging.getLogger("relaxon.server")
FILE = "jobs.sqlite"
APPLICATION = 0x72656C78
"""Distinguishes this file from those of other programs (`PRAGMA application_id`): "relx"."""
SCHEMA = (
    """
    CREATE TABLE jobs (
        id TEXT PRIMARY KEY, kind TEXT NOT NULL, model TEXT NOT NULL, owner TEXT NOT NULL, request_id TEXT NOT NULL,
        fingerprint TEXT NOT NULL, created REAL NOT NULL, state TEXT NOT NULL, started REAL, ended REAL,
        cancel_requested INTEGER NOT NULL, starts INTEGER NOT NULL, attempts INTEGER NOT NULL,
        failure_code TEXT, failure_message TEXT, failure_field TEXT
    );
    CREATE UNIQUE INDEX jobs_by_request ON jobs (kind, owner, request_id) WHERE request_id != '';
    CREATE TABLE progress (
        job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, step INTEGER NOT NULL, message TEXT NOT NULL,
        PRIMARY KEY (job, step)
    ) WITHOUT ROWID;
    """,
)
"""The statements that take the file from each version to the next; `PRAGMA user_version` counts those done."""
COLUMNS = (
    "id", "kind", "model", "owner", "request_id", "fingerprint", "created", "state", "started", "ended",
    "cancel_requested", "starts", "attempts", "failure_code", "failure_message", "failure_field",
)  # fmt: skip
PUT = (
    f"INSERT INTO jobs ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))}) ON CONFLICT (id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in COLUMNS[1:])
)
ADD = "INSERT OR IGNORE INTO progress (job, step, message) SELECT ?1, ?2, ?3 FROM jobs WHERE id = ?1"
REMOVE = "DELETE FROM jobs WHERE id = ?"
FLUSH_SECONDS = 0.25
"""How long progress may wait to be written, so that quick steps share a write. The job's folder has it meanwhile."""
RETRY_SECONDS = 1.0
"""The time between two attempts to write, on a full disk for example."""
BUSY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class _Waiter:
    """A coroutine that waits until so many changes are on the disk."""

    changes: int
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[None]

    def tell(self, error: Exception | None) -> None:
        def resolve() -> None:
            if not self.future.done():
                self.future.set_result(None) if error is None else self.future.set_exception(error)

        with suppress(RuntimeError):  # the loop has ended
            self.loop.call_soon_threadsafe(resolve)


class SqliteJobStore:
    """Jobs and their progress, held in memory and written to a file in a thread of its own, in order.

    Called from the event loop's thread; only `saved` waits for the disk. The `max_ended` jobs that ended last are kept.
    """

    def __init__(self, folder: Path, max_ended: int) -> None:
        """OSError where the file in `folder` is damaged, or written by another program or a newer release."""
        self._max_ended = max_ended
        path = folder / FILE
        try:
            self._writer, self._reader = _open(path), _open(path)
            self._jobs, self._newest = _load_jobs(self._reader)
        except (sqlite3.Error, KeyError, ValueError) as error:
            raise OSError(f"{path} cannot be read: {error}; move it away to begin without its jobs") from error
        self._fresh: dict[str, list[tuple[int, str]]] = {}
        """The steps of each job that are not yet in the file."""
        self._changes: list[tuple[str, tuple[Any, ...]]] = []
        self._made = self._written = 0
        self._urgent = self._closing = False
        self._waiters: list[_Waiter] = []
        self._guard = threading.Condition()
        self._thread = threading.Thread(target=self._write, name="relaxon-jobs", daemon=True)
        self._thread.start()

    def put(self, job: JobRecord) -> None:
        """Keep a job, in place of the one with the same id."""
        self._jobs[job.id] = job
        failure = {} if job.failure is None else asdict(job.failure)
        values = {name: getattr(job, name, failure.get(name.removeprefix("failure_"))) for name in COLUMNS}
        values["state"] = job.state.value
        self._change(PUT, tuple(values.values()))
        if job.state.ended:
            self._make_room()

    def find(self, job_id: str) -> JobRecord:
        """Return a job; NOT_FOUND where none of that id is kept."""
        job = self._jobs.get(job_id)
        if job is None:
            raise unknown_job(job_id)
        return job

    def by_request(self, kind: str, owner: str, request_id: str) -> JobRecord | None:
        """Return the job of that owner and kind that was started under that request id."""
        wanted = (kind, owner, request_id)
        return next((job for job in self._jobs.values() if (job.kind, job.owner, job.request_id) == wanted), None)

    def jobs(self) -> Sequence[JobRecord]:
        """Return all kept jobs, the oldest first."""
        return sorted(self._jobs.values(), key=lambda job: (job.created, job.id))

    def remove(self, job_id: str) -> None:
        """Forget a job and its progress; NOT_FOUND where it is not kept."""
        del self._jobs[self.find(job_id).id]
        self._newest.pop(job_id, None)
        self._change(REMOVE, (job_id,))

    def add_progress(self, job_id: str, step: int, progress: Json) -> bool:
        """Keep the report of a step, numbered from 1; return whether the step is new."""
        if step <= self.steps(job_id):
            return False
        self._newest[job_id] = step, progress
        message = json.dumps(progress)
        with self._guard:
            self._fresh.setdefault(job_id, []).append((step, message))
        self._change(ADD, (job_id, step, message), urgent=False)
        return True

    def steps(self, job_id: str) -> int:
        """Return the number of the newest step; 0 where there is none."""
        return self._newest[job_id][0] if job_id in self._newest else 0

    def newest(self, job_id: str) -> Json | None:
        """Return the report of the newest step."""
        return self._newest[job_id][1] if job_id in self._newest else None

    def progress(self, job_id: str, after: int, limit: int) -> Sequence[tuple[int, Json]]:
        """Return the first `limit` steps after that number."""
        self.find(job_id)
        with self._guard:
            query = "SELECT step, message FROM progress WHERE job = ? AND step > ? ORDER BY step LIMIT ?"
            found = self._reader.execute(query, (job_id, after, limit)).fetchall()
            reached = found[-1][0] if found else after
            if len(found) < limit:
                found += [one for one in self._fresh.get(job_id, ()) if one[0] > reached]
        return [(step, json.loads(message)) for step, message in found[:limit]]

    async def saved(self) -> None:
        """Return once all earlier changes are on the disk; sqlite3.Error where they could not be written."""
        loop = asyncio.get_running_loop()
        with self._guard:
            if self._written == self._made:
                return
            waiter = _Waiter(self._made, loop, loop.create_future())
            self._waiters.append(waiter)
            self._urgent = True
            self._guard.notify_all()
        await waiter.future

    def close(self) -> None:
        """Write what is left and close the file."""
        with self._guard:
            self._closing = True
            self._guard.notify_all()
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _make_room(self) -> None:
        ended = sorted((job for job in self._jobs.values() if job.state.ended), key=lambda job: job.ended or 0.0)
        for job in ended[: max(0, len(ended) - self._max_ended)]:
            self.remove(job.id)

    def _change(self, statement: str, values: tuple[Any, ...], urgent: bool = True) -> None:
        with self._guard:
            self._changes.append((statement, values))
            self._made += 1
            self._urgent = self._urgent or urgent
            self._guard.notify_all()

    def _write(self) -> None:
        """Write, in the thread, all changes made during the last write in one transaction."""
        while True:
            with self._guard:
                self._guard.wait_for(lambda: self._changes or self._closing)
                self._guard.wait_for(lambda: self._urgent or self._closing, FLUSH_SECONDS)
                if not self._changes:
                    return
                batch, self._changes, self._urgent = self._changes, [], False
            try:
                self._commit(batch)
            except sqlite3.Error as error:
                logger.error("the jobs cannot be written, which will be retried: %s", error)
                with self._guard:
                    self._changes = batch + self._changes
                    self._answer(self._made, error)
                    if self._closing:
                        return
                    self._guard.wait_for(lambda: self._closing, RETRY_SECONDS)
                    self._urgent = True
                continue
            with self._guard:
                self._written += len(batch)
                # The steps of a job come in order, so the last one of the batch counts.
                written = {values[0]: values[1] for statement, values in batch if statement is ADD}
                for job_id, step in written.items():
                    self._forget_fresh(job_id, step)
                self._answer(self._written, None)

    def _forget_fresh(self, job_id: str, step: int) -> None:
        """Drop the steps that are in the file; called with the guard held."""
        left = [one for one in self._fresh.get(job_id, ()) if one[0] > step]
        if left:
            self._fresh[job_id] = left
        else:
            self._fresh.pop(job_id, None)

    def _answer(self, changes: int, error: Exception | None) -> None:
        """Wake those who wait for at most so many changes; called with the guard held."""
        for waiter in self._waiters:
            if waiter.changes <= changes:
                waiter.tell(error)
        self._waiters = [waiter for waiter in self._waiters if waiter.changes > changes]

    def _commit(self, batch: list[tuple[str, tuple[Any, ...]]]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            for statement, values in batch:
                self._writer.execute(statement, values)
            self._writer.execute("COMMIT")
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                self._writer.execute("ROLLBACK")
            raise


def _open(path: Path) -> sqlite3.Connection:
    """Open a connection, for one thread at a time, to the file, brought to its newest version."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if application != APPLICATION and (application or version or tables):
            raise ValueError("it is not a file of relaxon's jobs")
        if version > len(SCHEMA):
            raise ValueError(f"its version is {version}, and this release knows those up to {len(SCHEMA)}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        for number in range(version, len(SCHEMA)):
            connection.executescript(
                f"BEGIN IMMEDIATE; {SCHEMA[number]} PRAGMA application_id = {APPLICATION}; "
                f"PRAGMA user_version = {number + 1}; COMMIT;"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def _load_jobs(connection: sqlite3.Connection) -> tuple[dict[str, JobRecord], dict[str, tuple[int, Json]]]:
    """Return all jobs, and the newest step of each."""
    jobs = {}
    for row in connection.execute(f"SELECT {', '.join(COLUMNS)} FROM jobs ORDER BY created, id"):
        values = dict(zip(COLUMNS, row, strict=True))
        code, message, field = (values.pop(f"failure_{name}") for name in ("code", "message", "field"))
        values["state"] = JobState(values["state"])
        values["cancel_requested"] = bool(values["cancel_requested"])
        jobs[values["id"]] = JobRecord(**values, failure=None if code is None else JobFailure(code, message, field))
    # SQLite takes the other columns of an aggregate from the row with the largest step.
    newest = connection.execute("SELECT job, max(step), message FROM progress GROUP BY job")
    return jobs, {job: (step, json.loads(message)) for job, step, message in newest}
