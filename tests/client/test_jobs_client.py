"""Jobs through the client: listed, found, awaited and ended by name, and told of through a server's restart."""

import threading

import numpy as np
import pytest

import relaxon
from relaxon import client as errors
from relaxon.client import BoostingSettings, EquilibriumSettings, JobState
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings

X = np.random.default_rng(0).standard_normal((50, 2))
Y = X[:, 0] ** 2
QUICK = BoostingSettings(n_units=3, random_state=0)
LONG = BoostingSettings(n_units=10_000, learning_rate=1e-3, random_state=0)


def test_jobs_of_all_kinds_are_listed_found_and_forgotten(client):
    boosted = client.boosting.train(X, Y, settings=QUICK, model="boosted", request_id="mine")
    settings = EquilibriumSettings(hidden_sizes=(4,), epochs=2, random_state=0)
    relaxed = client.equilibrium.train(X, X[:, 0] > 0, settings=settings, model="relaxed")
    ended = client.jobs.wait(relaxed.name)
    assert (ended.kind, ended.model, ended.state, ended.steps) == ("equilibrium", "relaxed", JobState.DONE, 2)
    assert ended.created <= ended.started <= ended.ended
    assert (ended.starts, ended.cancel_requested, ended.error) == (1, False, "")
    info = client.jobs.info(boosted.name.removeprefix("operations/"))
    assert info == boosted.info()
    assert (info.request_id, info.steps, info.kind) == ("mine", 3, "boosting")
    names = [one.name for one in client.jobs.list()]
    assert names.index(boosted.name) < names.index(relaxed.name)
    assert [one.name for one in client.jobs.list('model = "boosted" AND done = true')] == [boosted.name]
    again = client.jobs.get(relaxed.name)
    assert [step.epoch for step in again.progress(skip=1)] == [2]
    assert again.result().name == "relaxed"
    for name in (boosted.name, relaxed.name):
        client.jobs.delete(name)
        with pytest.raises(errors.NotFound):
            client.jobs.info(name)
    client.boosting.delete_model("boosted")
    client.equilibrium.delete_model("relaxed")


def test_a_call_that_is_made_again_under_its_id_begins_no_second_job(client):
    first = client.boosting.train(X, Y, settings=QUICK, request_id="twice")
    assert client.boosting.train(X, Y, settings=QUICK, request_id="twice").name == first.name
    with pytest.raises(errors.AlreadyExists, match="request_id 'twice'"):
        client.boosting.train(X, Y + 1, settings=QUICK, request_id="twice")
    # Without one, two calls are two jobs.
    other, another = (client.boosting.train(X, Y, settings=QUICK) for _ in range(2))
    assert other.name != another.name
    for job in (first, other, another):
        client.boosting.delete_model(job.result())


def test_a_cancelled_job_and_one_that_failed_say_why(client):
    running = client.boosting.train(X, Y, settings=LONG)
    waiting = client.boosting.train(X, Y, settings=QUICK)
    client.jobs.cancel(waiting.name)
    found = client.jobs.wait(waiting.name)
    assert found.state is JobState.FAILED
    assert "cancelled before it had begun" in found.error
    with pytest.raises(errors.DeadlineExceeded, match="it goes on"):
        client.jobs.wait(running.name, timeout=0.0)
    with pytest.raises(errors.FailedPrecondition):
        client.jobs.delete(running.name)
    client.jobs.cancel(running.name)
    assert client.jobs.wait(running.name).cancel_requested
    client.boosting.delete_model(running.result())


def test_mistakes_are_refused_by_name(client):
    job = client.boosting.train(X, Y, settings=QUICK)
    for call, field in (
        (lambda: client.jobs.list("state = odd"), "filter"),
        (lambda: client.jobs.list(3), "filter"),
        (lambda: client.jobs.info(3), "name"),
        (lambda: client.jobs.wait(job.name, timeout=-1), "timeout"),
        (lambda: list(job.progress(skip=-1)), "skip"),
        (lambda: list(job.progress(skip=0.5)), "skip"),
        (lambda: client.boosting.train(X, Y, request_id=3), "request_id"),
        (lambda: client.boosting.train(X, Y, request_id="a b"), "request_id"),
    ):
        with pytest.raises(errors.InvalidArgument, match=f"^{field} must") as caught:
            call()
        assert caught.value.field == field
    with pytest.raises(errors.NotFound):
        client.jobs.get("nobody")
    client.boosting.delete_model(job.result())


def test_progress_and_result_come_through_a_restart_of_the_server(tmp_path):
    """One loop over the steps and one wait for the end, while the server is stopped and started again."""
    first = EmbeddedServer(ServerSettings(port=0, model_folder=str(tmp_path), grace_seconds=60)).__enter__()
    port = int(first.target.rpartition(":")[2])
    seen, models = [], []
    with relaxon.connect(first.target, timeout=60) as client:
        job = client.boosting.train(X, Y, settings=LONG, model="through")
        threads = [
            threading.Thread(target=lambda: seen.extend(job.progress())),
            threading.Thread(target=lambda: models.append(job.result())),
        ]
        for thread in threads:
            thread.start()
        next(job.progress())
        first.__exit__(None, None, None)
        with EmbeddedServer(ServerSettings(port=port, model_folder=str(tmp_path), grace_seconds=0)):
            client.wait_until_ready()
            while not any(step.stage > 20 for step in seen):
                assert threads[0].is_alive()
            job.cancel()
            for thread in threads:
                thread.join(60)
            assert client.jobs.info(job.name).starts == 2
    assert [step.stage for step in seen] == list(range(1, models[0].stages + 1))
