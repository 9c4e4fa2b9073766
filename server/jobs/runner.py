"""Runs jobs in worker processes: a bounded queue, progress as it is made, cancelling, and going on after any end."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import errors
from relaxon.server.jobs import folder as job_folder
from relaxon.server.jobs import process as job_process
from relaxon.server.jobs import records as jobs
from relaxon.server.jobs.database import SqliteJobStore
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.records import JobFailure, JobRecord, Json
from relaxon.wire.conversions.jobs import JobState

logger = logging.getLogger("relaxon.server")
QUEUE_RETRY_SECONDS = 5.0
KILLED_SECONDS = 5.0
"""The time that a killed process has to disappear and its job to end."""
PAGE = 256
"""Steps that are read at once for a watching caller."""
NOT_STARTED = JobFailure("CANCELLED", "the job was cancelled before it had begun")
STOPPED = JobFailure("CANCELLED", "the server stopped before the job was done")
DATA_GONE = JobFailure("DATA_LOSS", "the job's data are gone")


@dataclass(slots=True)
class _Live:
    """What the runner keeps of a job until it has ended."""

    owner: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced by a new one, when the job has news."""
    task: asyncio.Task[None] | None = None
    process: job_process.Process | None = None


class JobRunner:
    """The queue of jobs and their processes; used from the event loop's thread only.

    A job is a folder with a request and its data. A process of its own reads the folder, trains, reports each step in a
    line of JSON on its standard output, keeps a checkpoint in the folder, and leaves the model there. A process that is
    killed, or runs out of memory, loses only its work since the last checkpoint.
    """

    def __init__(
        self, store: SqliteJobStore, folder: Path, models: ModelStore, settings: ServerSettings, lasting: bool
    ) -> None:
        """`folder` holds the jobs' folders; if `lasting`, the next server continues the jobs that this one leaves."""
        self.store = store
        self._folder = folder
        self._models = models
        self._settings = settings
        self._lasting = lasting
        self._places: Counter[str] = Counter()
        """The places that jobs hold, by owner."""
        self._live: dict[str, _Live] = {}
        self._waiting: deque[str] = deque()
        self._running = 0
        self._stopping = False

    def recover(self) -> None:
        """Take up the jobs that an earlier server has left, in whatever state; call it once, before anything else."""
        left = [job for job in self.store.jobs() if not job.state.ended]
        job_folder.remove_others(self._folder, {job.id for job in left})
        for job in left:
            folder = self.folder_of(job)
            further = [self.store.add_progress(job.id, *step) for step in job_folder.read_steps(folder)]
            attempts = 0 if any(further) else job.attempts
            if not (folder / job_folder.REQUEST).exists():
                self.store.put(jobs.fail_job(job, DATA_GONE))
            elif job_folder.is_stored(folder):
                self.store.put(jobs.finish_job(job))
            else:
                self._models.hold(job.kind, job.model, job.owner)
                self.store.put(replace(job, state=JobState.QUEUED, attempts=attempts))
                self._places[job.owner] += 1
                self._live[job.id] = _Live(job.owner)
                self._waiting.append(job.id)
        if left:
            logger.info("%d jobs of an earlier server are taken up, %d of them continue", len(left), len(self._live))
        self._advance()

    @contextmanager
    def place(self, owner: str) -> Iterator[None]:
        """Hold a place among the jobs that are uploaded, wait or run.

        RESOURCE_EXHAUSTED where the server, or this caller, has no free one.
        """
        if self._stopping:
            raise errors.stopping()
        settings = self._settings
        for subject, used, limit, whose in (
            ("jobs", self._places.total(), settings.max_jobs, "this server's limit"),
            ("client_jobs", self._places[owner], settings.max_client_jobs, "one caller's limit"),
        ):
            if limit and used >= limit:
                raise errors.exhausted(
                    subject, f"{subject}: {used} are uploaded, wait or run, which is {whose}", QUEUE_RETRY_SECONDS
                )
        self._places[owner] += 1
        try:
            yield
        finally:
            self._give_back(owner)

    def folder_of(self, job: JobRecord) -> Path:
        """Return the folder for a job's request and data, which are written before the job is submitted."""
        return self._folder / job.id

    def submit(self, job: JobRecord) -> None:
        """Queue a job whose folder is complete and whose model's name is reserved.

        Call it while holding a `place`: from here on the job has one of its own. The job outlives the server once the
        store's `saved` has returned.
        """
        if self._stopping:
            raise errors.stopping()
        self._places[job.owner] += 1
        self._live[job.id] = _Live(job.owner)
        self.store.put(job)
        self._waiting.append(job.id)
        self._advance()

    async def cancel(self, job_id: str) -> None:
        """End a job after its current step, or before it starts; do nothing if it has ended."""
        job = self.store.find(job_id)
        if job.state.ended or job.cancel_requested:
            return
        job = replace(job, cancel_requested=True)
        self._update(job)
        if job_id in self._waiting and not job.starts:
            self._waiting.remove(job_id)
            await self._conclude(jobs.fail_job(job, NOT_STARTED))
        elif job_id in self._live:
            # A job that an earlier server had started runs for one more step, to return what it has trained.
            job_process.tell(self._live[job_id].process, job_process.CANCEL)
            await self.store.saved()

    async def remove(self, job_id: str) -> None:
        """Remove a job that has ended; FAILED_PRECONDITION where it has not."""
        if not self.store.find(job_id).state.ended:
            raise errors.failed_precondition(
                f"{jobs.operation_name(job_id)} has not ended yet; cancel it, and delete it when it has"
            )
        self.store.remove(job_id)
        await self.store.saved()

    async def wait(self, job_id: str) -> JobRecord:
        """Return a job once it has ended; UNAVAILABLE if the server stops first and leaves it to the next one."""
        while True:
            live, job = self._live.get(job_id), self.store.find(job_id)
            if live is None:
                if not job.state.ended:
                    raise errors.stopping()
                return job
            await live.news.wait()

    async def watch(self, job_id: str, skip: int = 0) -> AsyncIterator[Json]:
        """Yield the reports of a job after step number `skip`, until it has ended.

        UNAVAILABLE if the server stops first and leaves the job to the next one.
        """
        reached = skip
        while True:
            live = self._live.get(job_id)
            news = None if live is None else live.news
            while page := self.store.progress(job_id, reached, PAGE):
                for step, progress in page:
                    yield progress
                    reached = step
            if news is None:
                if not self.store.find(job_id).state.ended:
                    raise errors.stopping()
                return
            await news.wait()

    async def close(self, grace_seconds: float) -> None:
        """Take no more jobs. Lasting jobs keep a checkpoint and stop; otherwise all are cancelled.

        Processes that have not ended after `grace_seconds` are killed.
        """
        self._stopping = True
        for job_id, live in list(self._live.items()):
            if not self._lasting:
                await self.cancel(job_id)
            elif live.task is None:
                self._leave(job_id)
            else:
                job_process.tell(live.process, job_process.SUSPEND)
        tasks = [live.task for live in self._live.values() if live.task is not None]
        if tasks and grace_seconds > 0:
            await asyncio.wait(tasks, timeout=grace_seconds)
        for live in self._live.values():
            if live.process is not None:
                with suppress(ProcessLookupError):
                    live.process.kill()
        if tasks:
            await asyncio.wait(tasks, timeout=KILLED_SECONDS)

    def _advance(self) -> None:
        """Start the jobs for which there are free processes."""
        while self._waiting and self._running < self._settings.training_workers and not self._stopping:
            job_id = self._waiting.popleft()
            self._running += 1
            live = self._live[job_id]
            live.task = asyncio.create_task(self._conduct(job_id, live), name=f"job {job_id}")

    async def _conduct(self, job_id: str, live: _Live) -> None:
        """Run a job from its start, or from where it was, to its end; every way out ends it or leaves it for later."""
        ended: JobRecord | None = None
        try:
            ended = await self._run(job_id, live)
        except errors.ServiceError as error:
            ended = self._fail_job(job_id, JobFailure(error.code.name, error.message))
        except Exception:
            logger.exception("job %s failed", job_id)
            message = f"internal error; the server's log has it under {job_id}"
            ended = self._fail_job(job_id, JobFailure("INTERNAL", message))
        finally:
            self._running -= 1
            if ended is None:
                self.store.put(jobs.suspend_job(self.store.find(job_id)))
                self._leave(job_id)
            else:
                await self._conclude(ended)
            self._advance()

    def _leave(self, job_id: str) -> None:
        """Release a job that has not ended, for the next server to continue."""
        live = self._live.pop(job_id)
        self._give_back(live.owner)
        live.news.set()

    def _give_back(self, owner: str) -> None:
        self._places[owner] -= 1
        self._places += Counter()  # drops the owners without places

    async def _conclude(self, ended: JobRecord) -> None:
        """Record that a job has ended, free its place, and remove its folder, which is no longer needed."""
        self.store.put(ended)
        # At once: a caller that sees the end may send its next job before this one is on the disk.
        self._give_back(ended.owner)
        self._models.release(ended.kind, ended.model)
        saved = True
        try:
            await self.store.saved()
        except sqlite3.Error:
            # Its folder stays: it tells the next server the state of the job.
            saved = False
            logger.exception("job %s has ended, but that could not be written", ended.id)
        self._live.pop(ended.id).news.set()
        if saved:
            folder = self.folder_of(ended)
            await asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(folder, ignore_errors=True))

    def _fail_job(self, job_id: str, failure: JobFailure) -> JobRecord:
        return jobs.fail_job(self.store.find(job_id), failure)

    async def _run(self, job_id: str, live: _Live) -> JobRecord | None:
        """Return the ended job; None where the server stops and the next one is to continue it."""
        folder = self.folder_of(self.store.find(job_id))
        why = "its server was ended"
        while not (folder / job_folder.COMPLETE).exists():
            if self._stopping:
                return None if self._lasting else self._fail_job(job_id, STOPPED)
            job = self.store.find(job_id)
            if job.attempts >= self._settings.max_attempts:
                times = "once" if job.attempts == 1 else f"{job.attempts} times in a row"
                message = f"the job was given up: its process was lost {times} without a step further; {why}"
                return self._fail_job(job_id, JobFailure("INTERNAL", message))
            self._update(jobs.start_job(job))
            last, why = await self._attempt(job_id, live, folder)
            if "failed" in last:
                logger.warning("job %s failed; its process said:\n%s", job_id, job_process.log_tail(folder))
                return self._fail_job(job_id, JobFailure(**last["failed"]))
            if "suspended" in last:
                return None
            if "done" not in last and not self._stopping:
                logger.warning("job %s: %s; it said:\n%s", job_id, why, job_process.log_tail(folder))
        await asyncio.get_running_loop().run_in_executor(None, self._store_model, self.store.find(job_id), folder)
        return jobs.finish_job(self.store.find(job_id))

    def _store_model(self, job: JobRecord, folder: Path) -> None:
        job_folder.mark_committed(folder)
        self._models.put(job.kind, job.model, folder / job_folder.COMPLETE)

    async def _attempt(self, job_id: str, live: _Live, folder: Path) -> tuple[Json, str]:
        """Run a process of a job to its end; return its last message, and how it ended."""
        job = self.store.find(job_id)
        process = live.process = await job_process.start(folder, job.kind, self.store.steps(job_id), self._settings)
        try:
            # A cancel or a stop may have come while the process was starting.
            if self.store.find(job_id).cancel_requested:
                job_process.tell(process, job_process.CANCEL)
            if self._stopping and self._lasting:
                job_process.tell(process, job_process.SUSPEND)
            last = await job_process.listen(process, lambda step, progress: self._record_step(job_id, step, progress))
            status = await process.wait()
        finally:
            live.process = None
            if process.returncode is None:
                process.kill()
                await process.wait()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return last, f"the job's process {how} before the model was complete"

    def _record_step(self, job_id: str, step: int, progress: Json) -> None:
        if not self.store.add_progress(job_id, step, progress):
            return  # reported before, by a process that got further than its last checkpoint
        job = self.store.find(job_id)
        if job.attempts:
            self.store.put(replace(job, attempts=0))
        self._announce(job_id)

    def _update(self, job: JobRecord) -> None:
        self.store.put(job)
        self._announce(job.id)

    def _announce(self, job_id: str) -> None:
        """Wake those who wait for news of a job."""
        live = self._live[job_id]
        news, live.news = live.news, asyncio.Event()
        news.set()
