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
from relaxon.server.jobs.models import ModelStore
from relaxon.server.jobs.records import Job, JobFailure, JobStore, Json
from relaxon.wire.conversions.jobs import JobState

logger = logging.getLogger("relaxon.server")
QUEUE_RETRY_SECONDS = 5.0
KILLED_SECONDS = 5.0
"""For a killed process to be gone and its job to be ended."""
PAGE = 256
"""Steps that are read at once for those who watch."""
BEFORE_IT_BEGAN = JobFailure("CANCELLED", "the job was cancelled before it had begun")
STOPPED = JobFailure("CANCELLED", "the server stopped before the job was done")
DATA_GONE = JobFailure("DATA_LOSS", "the job's data are not there any more")


@dataclass(slots=True)
class _Live:
    """What is kept of a job until it has ended."""

    owner: str
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced by another, when there is something new."""
    task: asyncio.Task[None] | None = None
    process: job_process.Process | None = None


class JobRunner:
    """The jobs' queue and their processes; used from the event loop's thread only.

    A job is a folder with the request and its data. A process of its own reads that, trains, says on its standard
    output how far it is (a line of JSON for each step), keeps a checkpoint in the folder, and leaves the model there. A
    process that is killed, or runs out of memory, takes nothing with it but what it did since its last checkpoint.
    """

    def __init__(
        self, store: JobStore, folder: Path, models: ModelStore, settings: ServerSettings, lasting: bool
    ) -> None:
        """`folder` holds the jobs' folders; where `lasting`, the next server goes on with what this one leaves."""
        self.store = store
        self._folder = folder
        self._models = models
        self._settings = settings
        self._lasting = lasting
        self._places: Counter[str] = Counter()
        """By the callers whose jobs have them."""
        self._live: dict[str, _Live] = {}
        self._waiting: deque[str] = deque()
        self._running = 0
        self._stopping = False

    def recover(self) -> None:
        """Take up what an earlier server has left in whatever state: call it once, before anything else."""
        left = [job for job in self.store.jobs() if not job.state.ended]
        job_folder.remove_others(self._folder, {job.id for job in left})
        for job in left:
            folder = self.folder_of(job)
            further = [self.store.add_progress(job.id, *told) for told in job_folder.read_steps(folder)]
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
            logger.info("%d jobs of an earlier server are taken up, %d of them go on", len(left), len(self._live))
        self._advance()

    @contextmanager
    def place(self, owner: str) -> Iterator[None]:
        """A place among the jobs that are uploaded, wait or run; RESOURCE_EXHAUSTED where none is free, in all or for
        this caller."""
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

    def folder_of(self, job: Job) -> Path:
        """Where a job's request and data belong before it is submitted."""
        return self._folder / job.id

    def submit(self, job: Job) -> None:
        """Queue a job whose folder is complete and whose model's name is reserved.

        Call with a `place` held: the job has one of its own from here on. It outlives the server once the store says
        `saved`.
        """
        if self._stopping:
            raise errors.stopping()
        self._places[job.owner] += 1
        self._live[job.id] = _Live(job.owner)
        self.store.put(job)
        self._waiting.append(job.id)
        self._advance()

    async def cancel(self, job_id: str) -> None:
        """Have a job end after the step that it is at, or before it begins; nothing where it has ended."""
        job = self.store.find(job_id)
        if job.state.ended or job.cancel_requested:
            return
        job = replace(job, cancel_requested=True)
        self._update(job)
        if job_id in self._waiting and not job.starts:
            self._waiting.remove(job_id)
            await self._conclude(jobs.fail_job(job, BEFORE_IT_BEGAN))
        elif job_id in self._live:
            # One that an earlier server had begun goes on for a step, to give what it has trained.
            job_process.tell(self._live[job_id].process, job_process.CANCEL)
            await self.store.saved()

    async def remove(self, job_id: str) -> None:
        """Forget a job that has ended; FAILED_PRECONDITION where it has not."""
        if not self.store.find(job_id).state.ended:
            raise errors.failed_precondition(
                f"{jobs.operation_name(job_id)} has not ended yet; cancel it, and delete it when it has"
            )
        self.store.remove(job_id)
        await self.store.saved()

    async def wait(self, job_id: str) -> Job:
        """The job, once it has ended; UNAVAILABLE where the server stops first and leaves it to the next one."""
        while True:
            live, job = self._live.get(job_id), self.store.find(job_id)
            if live is None:
                if not job.state.ended:
                    raise errors.stopping()
                return job
            await live.news.wait()

    async def watch(self, job_id: str, skip: int = 0) -> AsyncIterator[Json]:
        """Its progress from the step after that number on; ends when the job has and all is told.

        UNAVAILABLE where the server stops first and leaves the job to the next one.
        """
        told = skip
        while True:
            live = self._live.get(job_id)
            news = None if live is None else live.news
            while page := self.store.progress(job_id, told, PAGE):
                for step, progress in page:
                    yield progress
                    told = step
            if news is None:
                if not self.store.find(job_id).state.ended:
                    raise errors.stopping()
                return
            await news.wait()

    async def close(self, grace_seconds: float) -> None:
        """Take no more jobs. Where they last, running ones keep a checkpoint and stop; otherwise all are cancelled.

        Processes that have not ended by then are killed.
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
        """Begin the jobs that there are free processes for."""
        while self._waiting and self._running < self._settings.training_workers and not self._stopping:
            job_id = self._waiting.popleft()
            self._running += 1
            live = self._live[job_id]
            live.task = asyncio.create_task(self._conduct(job_id, live), name=f"job {job_id}")

    async def _conduct(self, job_id: str, live: _Live) -> None:
        """A job from its beginning, or from where it was, to its end; every way out ends it or leaves it for later."""
        ended: Job | None = None
        try:
            ended = await self._run(job_id, live)
        except errors.ServiceError as error:
            ended = self._failed(job_id, JobFailure(error.code.name, error.message))
        except Exception:
            logger.exception("job %s failed", job_id)
            message = f"internal error; the server's log has it under {job_id}"
            ended = self._failed(job_id, JobFailure("INTERNAL", message))
        finally:
            self._running -= 1
            if ended is None:
                self.store.put(jobs.suspend_job(self.store.find(job_id)))
                self._leave(job_id)
            else:
                await self._conclude(ended)
            self._advance()

    def _leave(self, job_id: str) -> None:
        """Let go of a job that has not ended, for the next server to go on with."""
        live = self._live.pop(job_id)
        self._give_back(live.owner)
        live.news.set()

    def _give_back(self, owner: str) -> None:
        self._places[owner] -= 1
        self._places += Counter()  # without those that have none any more

    async def _conclude(self, ended: Job) -> None:
        """Say that a job has ended, make its place free, and remove its folder, which nothing needs any more."""
        self.store.put(ended)
        # At once: a caller that reads of the end may send its next job before the disk has taken this one.
        self._give_back(ended.owner)
        self._models.release(ended.kind, ended.model)
        saved = True
        try:
            await self.store.saved()
        except sqlite3.Error:
            # Its folder stays: from it, the next server knows how the job stands.
            saved = False
            logger.exception("job %s has ended, but that could not be written down", ended.id)
        self._live.pop(ended.id).news.set()
        if saved:
            folder = self.folder_of(ended)
            await asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(folder, ignore_errors=True))

    def _failed(self, job_id: str, failure: JobFailure) -> Job:
        return jobs.fail_job(self.store.find(job_id), failure)

    async def _run(self, job_id: str, live: _Live) -> Job | None:
        """The ended job; None where the server stops and the next one is to go on with it."""
        folder = self.folder_of(self.store.find(job_id))
        why = "its server was ended"
        while not (folder / job_folder.COMPLETE).exists():
            if self._stopping:
                return None if self._lasting else self._failed(job_id, STOPPED)
            job = self.store.find(job_id)
            if job.attempts >= self._settings.max_attempts:
                times = "once" if job.attempts == 1 else f"{job.attempts} times in a row"
                message = f"the job was given up: its process was lost {times} without a step further; {why}"
                return self._failed(job_id, JobFailure("INTERNAL", message))
            self._update(jobs.start_job(job))
            last, why = await self._attempt(job_id, live, folder)
            if "failed" in last:
                logger.warning("job %s failed; its process said:\n%s", job_id, job_process.log_tail(folder))
                return self._failed(job_id, JobFailure(**last["failed"]))
            if "suspended" in last:
                return None
            if "done" not in last and not self._stopping:
                logger.warning("job %s: %s; it said:\n%s", job_id, why, job_process.log_tail(folder))
        await asyncio.get_running_loop().run_in_executor(None, self._store_model, self.store.find(job_id), folder)
        return jobs.finish_job(self.store.find(job_id))

    def _store_model(self, job: Job, folder: Path) -> None:
        job_folder.mark_committed(folder)
        self._models.put(job.kind, job.model, folder / job_folder.COMPLETE)

    async def _attempt(self, job_id: str, live: _Live, folder: Path) -> tuple[Json, str]:
        """A process from its start to its end: its last word, and how it ended."""
        job = self.store.find(job_id)
        process = live.process = await job_process.start(folder, job.kind, self.store.steps(job_id), self._settings)
        try:
            # A cancel or a stop may have come while the process was started.
            if self.store.find(job_id).cancel_requested:
                job_process.tell(process, job_process.CANCEL)
            if self._stopping and self._lasting:
                job_process.tell(process, job_process.SUSPEND)
            last = await job_process.listen(process, lambda step, progress: self._told(job_id, step, progress))
            status = await process.wait()
        finally:
            live.process = None
            if process.returncode is None:
                process.kill()
                await process.wait()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return last, f"the job's process {how} before the model was complete"

    def _told(self, job_id: str, step: int, progress: Json) -> None:
        if not self.store.add_progress(job_id, step, progress):
            return  # told before, by a process that got further than its last checkpoint
        job = self.store.find(job_id)
        if job.attempts:
            self.store.put(replace(job, attempts=0))
        self._announce(job_id)

    def _update(self, job: Job) -> None:
        self.store.put(job)
        self._announce(job.id)

    def _announce(self, job_id: str) -> None:
        """Wake those that wait for news of a job."""
        live = self._live[job_id]
        news, live.news = live.news, asyncio.Event()
        news.set()
