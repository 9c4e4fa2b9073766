"""The jobs' SQLite file: what is put there is there for the next server, and files that are not ours are left alone."""

import asyncio
import sqlite3
from dataclasses import replace

import pytest

from relaxon.server.gate.errors import ServiceError
from relaxon.server.jobs import records as jobs
from relaxon.server.jobs.database import FILE, SCHEMA, SqliteJobStore
from relaxon.server.jobs.records import Failure, Job, JobState


@pytest.fixture
def store(tmp_path):
    made = SqliteJobStore(tmp_path, 100)
    yield made
    made.close()


def reopened(store, tmp_path, max_ended=100):
    store.close()
    again = SqliteJobStore(tmp_path, max_ended)
    return again


def test_jobs_and_their_steps_come_back_as_they_were(tmp_path):
    store = SqliteJobStore(tmp_path, 100)
    queued = Job.new("boosting", "a", "me", "id-1", "f" * 64)
    running = replace(jobs.begun(Job.new("equilibrium", "b")), cancel_requested=True)
    failed = jobs.failed(jobs.begun(Job.new("boosting", "c é")), Failure("INTERNAL", "why \0 not", "X"))
    for one in (queued, running, failed):
        store.put(one)
    for step in range(1, 1001):
        assert store.add_progress(running.id, step, {"step": step, "loss": 1 / step, "nan": None})
    assert not store.add_progress(running.id, 1000, {"loss": 0.0})
    assert not store.add_progress(running.id, 3, {"loss": 0.0})
    before = store.progress(running.id, 990, 100)
    again = reopened(store, tmp_path)
    assert list(again.jobs()) == sorted((queued, running, failed), key=lambda job: (job.created, job.id))
    assert again.progress(running.id, 990, 100) == before
    assert [step for step, _ in before] == list(range(991, 1001))
    assert again.steps(running.id) == 1000
    assert again.newest(running.id) == {"step": 1000, "loss": 1e-3, "nan": None}
    assert (again.steps(queued.id), again.newest(queued.id)) == (0, None)
    assert again.by_request("boosting", "me", "id-1") == queued
    for other in (("equilibrium", "me", "id-1"), ("boosting", "you", "id-1"), ("boosting", "me", "id-2")):
        assert again.by_request(*other) is None
    again.close()


def test_steps_are_told_in_pages_without_gaps_while_they_are_being_written(store):
    job = Job.new("boosting", "a")
    store.put(job)
    told, after = [], 0
    for step in range(1, 3001):
        store.add_progress(job.id, step, {"n": step})
        if step % 7 == 0:
            while page := store.progress(job.id, after, 5):
                told += [number for number, _ in page]
                after = told[-1]
    told += [number for number, _ in store.progress(job.id, after, 10)]
    assert told == list(range(1, 3001))


def test_what_was_saved_is_in_the_file(store, tmp_path):
    async def run():
        store.put(Job.new("boosting", "a"))
        await store.saved()
        await store.saved()

    asyncio.run(run())
    connection = sqlite3.connect(tmp_path / FILE)
    assert connection.execute("SELECT model FROM jobs").fetchall() == [("a",)]
    assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]
    connection.close()


def test_a_removed_job_takes_its_steps_along(store, tmp_path):
    kept, gone = Job.new("boosting", "kept"), Job.new("boosting", "gone")
    for one in (kept, gone):
        store.put(one)
        store.add_progress(one.id, 1, {})
    store.remove(gone.id)
    with pytest.raises(ServiceError):
        store.progress(gone.id, 0, 10)
    store.close()
    connection = sqlite3.connect(tmp_path / FILE)
    assert connection.execute("SELECT job FROM progress").fetchall() == [(kept.id,)]
    connection.close()


def test_the_last_jobs_that_have_ended_are_kept_and_those_that_have_not(tmp_path):
    store = SqliteJobStore(tmp_path, 2)
    waiting = Job.new("boosting", "waits")
    store.put(waiting)
    ended = [replace(Job.new("boosting", str(n)), state=JobState.DONE, ended=float(n)) for n in range(5)]
    for one in ended:
        store.put(one)
    again = reopened(store, tmp_path, 2)
    assert {one.model for one in again.jobs()} == {"waits", "3", "4"}
    again.close()


def test_a_disk_that_does_not_take_it_is_told_and_tried_again(store, tmp_path, monkeypatch):
    commit = store._commit

    def full(batch):
        raise sqlite3.OperationalError("database or disk is full")

    async def run():
        monkeypatch.setattr(store, "_commit", full)
        store.put(Job.new("boosting", "a"))
        with pytest.raises(sqlite3.OperationalError, match="full"):
            await store.saved()
        monkeypatch.setattr(store, "_commit", commit)
        await store.saved()

    asyncio.run(run())
    store.close()
    again = SqliteJobStore(tmp_path, 10)
    assert [job.model for job in again.jobs()] == ["a"]
    again.close()


def test_a_file_of_a_newer_release_is_refused_and_left_alone(store, tmp_path):
    store.put(Job.new("boosting", "a"))
    store.close()
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute(f"PRAGMA user_version = {len(SCHEMA) + 1}")
    connection.close()
    with pytest.raises(OSError, match=r"its version is 2, and this release knows those up to 1"):
        SqliteJobStore(tmp_path, 10)
    connection = sqlite3.connect(tmp_path / FILE)
    assert connection.execute("SELECT model FROM jobs").fetchall() == [("a",)]
    connection.close()


def test_another_program_s_file_and_a_damaged_one_are_refused(tmp_path):
    connection = sqlite3.connect(tmp_path / FILE)
    connection.execute("CREATE TABLE jobs (id TEXT)")
    connection.close()
    before = (tmp_path / FILE).read_bytes()
    with pytest.raises(OSError, match="no file of relaxon's jobs"):
        SqliteJobStore(tmp_path, 10)
    assert (tmp_path / FILE).read_bytes() == before
    (tmp_path / FILE).write_bytes(b"no database at all" * 1000)
    with pytest.raises(OSError, match="cannot be read: file is not a database; move it away"):
        SqliteJobStore(tmp_path, 10)
