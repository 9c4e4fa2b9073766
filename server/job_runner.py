"""Runs jobs in worker processes: a bounded queue, progress as it is made, cancelling, and a clean stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import relaxon
from relaxon.server import errors, jobs
from relaxon.server.jobs import Failure, Job, JobState, JobStore, Json
from relaxon.server.settings import ServerSettings

logger = logging.getLogger("relaxon.server")
WORKER = "relaxon.server.worker"
LOG = "worker.log"
LOG_TAIL = 4000
"""Bytes of a failed worker's own messages that go into the server's log."""
CANCEL = b"cancel\n"
QUEUE_RETRY_SECONDS = 5.0
KILLED_SECONDS = 5.0
"""For a killed process to be gone and its job to be ended."""
BEFORE_IT_BEGAN = Failure("CANCELLED", "the job was cancelled before it had begun")
Keep = Callable[[Job, Path], Awaitable[None]]
"""Given a job and the folder in which its worker has written a model; stores it."""


@dataclass(slots=True)
class _Live:
    """What is kept of a job until it has ended."""

    keep: Keep
    end: Callable[[], None]
    news: asyncio.Event = field(default_factory=asyncio.Event)
    """Set, and replaced by another, when there is something new."""
    task: asyncio.Task[None] | None = None
    process: asyncio.subprocess.Process | None = None


class JobRunner:
    """The jobs' queue and their processes; used from the event loop's thread only.

    A job is a folder with the request and its data. A process of its own reads that, trains, says on its standard
    output how far it is (a line of JSON for each step), and writes the model into the folder. A process that is
    killed, or runs out of memory, takes nothing with it but its job.
    """

    def __init__(self, store: JobStore, folder: Path, settings: ServerSettings) -> None:
        """`folder` holds the jobs' folders while they are there."""
        self.store = store
        self._folder = folder
        self._settings = settings
        self._places = 0
        self._live: dict[str, _Live] = {}
        self._waiting: deque[str] = deque()
        self._running = 0
        self._stopping = False

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place among the jobs that are uploaded, wait or run; RESOURCE_EXHAUSTED where none is free."""
        if self._stopping:
            raise errors.stopping()
        if self._places >= self._settings.max_jobs:
            raise errors.exhausted(
                "jobs",
                f"jobs: {self._places} are uploaded, wait or run, which is this server's limit",
                QUEUE_RETRY_SECONDS,
            )
        self._places += 1
        try:
            yield
        finally:
            self._places -= 1

    def folder_of(self, job: Job) -> Path:
        """Where a job's request and data belong before it is submitted."""
        return self._folder / job.id

    def submit(self, job: Job, keep: Keep, end: Callable[[], None]) -> None:
        """Queue a job whose folder is complete.

        `keep` stores its model; `end` is called when the job has ended in any way. Call with a `place` held: the job
        has one of its own from here on.
        """
        if self._stopping:
            raise errors.stopping()
        self._places += 1
        self._live[job.id] = _Live(keep, end)
        self.store.put(job)
        self._waiting.append(job.id)
        self._advance()

    def cancel(self, job_id: str) -> None:
        """Have a job end after the step that it is at, or before it begins; nothing where it has ended."""
        job = self.store.find(job_id)
        if job.state.ended or job.cancel_requested:
            return
        job = replace(job, cancel_requested=True)
        self._update(job)
        if job.state is JobState.QUEUED:
            self._waiting.remove(job_id)
            self._conclude(jobs.failed(job, BEFORE_IT_BEGAN))
            self._discard(job_id)
            return
        process = self._live[job_id].process
        if process is not None:
            _tell(process, CANCEL)

    def remove(self, job_id: str) -> None:
        """Forget a job that has ended; FAILED_PRECONDITION where it has not."""
        if not self.store.find(job_id).state.ended:
            raise errors.failed_precondition(
                f"{jobs.operation_name(job_id)} has not ended yet; cancel it, and delete it when it has"
            )
        self.store.remove(job_id)

    async def wait(self, job_id: str) -> Job:
        """The job, once it has ended."""
        while True:
            live, job = self._live.get(job_id), self.store.find(job_id)
            if job.state.ended or live is None:
                return job
            await live.news.wait()

    async def watch(self, job_id: str, skip: int = 0) -> AsyncIterator[Json]:
        """Its progress from the message after the first `skip` on; ends when the job has and all is told."""
        progress = self.store.progress(job_id)
        told = skip
        while True:
            live = self._live.get(job_id)
            news = None if live is None else live.news
            while told < len(progress):
                yield progress[told]
                told += 1
            if news is None:
                return
            await news.wait()

    async def close(self, grace_seconds: float) -> None:
        """Take no more jobs and cancel the others; those that have not ended by then are killed."""
        self._stopping = True
        for job_id in list(self._live):
            self.cancel(job_id)
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
        while self._waiting and self._running < self._settings.training_workers:
            job = jobs.begun(self.store.find(self._waiting.popleft()))
            self._running += 1
            self._update(job)
            live = self._live[job.id]
            live.task = asyncio.create_task(self._conduct(job, live), name=f"job {job.id}")

    async def _conduct(self, job: Job, live: _Live) -> None:
        """A job from its beginning to its end; every way out leaves an ended job."""
        ended = jobs.failed(job, Failure("CANCELLED", "the server stopped before the job was done"))
        try:
            ended = await self._run(job, live)
        except errors.ServiceError as error:
            ended = self._failed(job.id, error.code.name, error.message)
        except Exception:
            logger.exception("job %s failed", job.id)
            ended = self._failed(job.id, "INTERNAL", f"internal error; the server's log has it under {job.id}")
        finally:
            self._running -= 1
            self._conclude(ended)
            await self._discard(job.id)
            self._advance()

    def _conclude(self, ended: Job) -> None:
        """Say that a job has ended and make its place free."""
        self._places -= 1
        live = self._live.pop(ended.id)
        live.end()
        self.store.put(ended)
        live.news.set()

    def _discard(self, job_id: str) -> asyncio.Future[None]:
        """Remove a job's folder."""
        folder = self._folder / job_id
        return asyncio.get_running_loop().run_in_executor(None, lambda: shutil.rmtree(folder, ignore_errors=True))

    def _failed(self, job_id: str, code: str, message: str) -> Job:
        return jobs.failed(self.store.find(job_id), Failure(code, message))

    async def _run(self, job: Job, live: _Live) -> Job:
        folder = self.folder_of(job)
        process = live.process = await self._start(folder)
        try:
            # A cancel may have come while the process was started.
            if self.store.find(job.id).cancel_requested:
                _tell(process, CANCEL)
            last = await self._listen(job.id, process)
            status = await process.wait()
        finally:
            live.process = None
            if process.returncode is None:
                process.kill()
                await process.wait()
        if "failed" in last:
            self._log_tail(job.id, folder)
            return jobs.failed(self.store.find(job.id), Failure(**last["failed"]))
        if "done" not in last or status != 0:
            self._log_tail(job.id, folder)
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            return self._failed(job.id, "INTERNAL", f"the job's process {how} before the model was complete")
        await live.keep(job, folder)
        return jobs.done(self.store.find(job.id))

    async def _start(self, folder: Path) -> asyncio.subprocess.Process:
        source = str(Path(relaxon.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
        threads = max(1, (os.cpu_count() or 1) // self._settings.training_workers)
        limits = {name: str(threads) for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        if self._settings.training_workers == 1:
            limits = {}  # the libraries' own choice, or the one that the server was started with
        with (folder / LOG).open("wb") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                # Modules come from where this server's do, not from the folder in which it was started.
                "-P",
                "-m",
                WORKER,
                str(folder),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                # A Ctrl-C in the server's terminal is for the server alone, which lets the jobs end in order.
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": path, **limits},
            )

    async def _listen(self, job_id: str, process: asyncio.subprocess.Process) -> Json:
        """Keep what the process says; its last word, empty where it did not come to that."""
        assert process.stdout is not None
        async for line in process.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                # Cut off in the middle of a line, as the process was.
                return {}
            if "progress" not in said:
                last: Json = said
                return last
            self.store.add_progress(job_id, said["progress"])
            self._announce(job_id)
        return {}

    def _update(self, job: Job) -> None:
        self.store.put(job)
        self._announce(job.id)

    def _announce(self, job_id: str) -> None:
        """Wake those that wait for news of a job."""
        live = self._live[job_id]
        news, live.news = live.news, asyncio.Event()
        news.set()

    def _log_tail(self, job_id: str, folder: Path) -> None:
        with suppress(OSError):
            said = (folder / LOG).read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
            logger.warning("job %s failed; its process said:\n%s", job_id, said or "nothing")


def _tell(process: asyncio.subprocess.Process, word: bytes) -> None:
    """Write to a process; nothing where it has ended."""
    if process.stdin is not None and not process.stdin.is_closing():
        process.stdin.write(word)
