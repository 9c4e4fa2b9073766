"""`relaxon jobs` as a user types it."""

import json

import numpy as np
import pytest

import relaxon
from relaxon.cli import main
from relaxon.client import BoostingSettings
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings

X = np.random.default_rng(0).standard_normal((50, 2))


@pytest.fixture(scope="module")
def server():
    with EmbeddedServer(ServerSettings(port=0, grace_seconds=0.0)) as running:
        yield running


@pytest.fixture
def client(server):
    with relaxon.connect(server.target) as connected:
        yield connected


@pytest.fixture
def run(server, capsys):
    """The exit status and what was printed."""

    def call(action, *arguments):
        status = main(["jobs", action, "--target", server.target, *arguments])
        return status, capsys.readouterr()

    return call


def started(client, units, model):
    settings = BoostingSettings(n_units=units, learning_rate=1e-3, random_state=0)
    return client.boosting.train(X, X[:, 0], settings=settings, model=model)


def test_a_job_is_awaited_shown_listed_and_deleted(client, run):
    job = started(client, 3, "short")
    status, printed = run("wait", job.name)
    assert status == 0
    assert "state: done" in printed.out
    status, printed = run("show", job.name.removeprefix("operations/"), "--json")
    shown = json.loads(printed.out)
    assert status == 0
    assert (shown["name"], shown["state"], shown["steps"], shown["kind"]) == (job.name, "done", 3, "boosting")
    assert shown["newest_step"]["stage"] == 3
    assert "newest step: stage 3" in run("show", job.name)[1].out
    assert job.name in run("list")[1].out
    listed = json.loads(run("list", "--json", "--filter", "model = short")[1].out)
    assert [one["name"] for one in listed] == [job.name]
    assert json.loads(run("list", "--json", "--filter", "model = long")[1].out) == []
    assert "is deleted; its model is kept" in run("delete", job.name)[1].out
    assert run("show", job.name)[0] == 1
    assert [model.name for model in client.boosting.models()] == ["short"]
    client.boosting.delete_model("short")


def test_a_job_is_cancelled_and_a_failed_one_is_told_by_the_exit_status(client, run):
    running, waiting = started(client, 10_000, "running"), started(client, 2, "waiting")
    assert run("wait", running.name, "--timeout", "0")[0] == 1
    status, printed = run("delete", running.name)
    assert status == 1
    assert "has not ended" in printed.err
    assert run("cancel", waiting.name)[0] == 0
    status, printed = run("wait", waiting.name, "--json")
    assert status == 1
    assert json.loads(printed.out)["state"] == "failed"
    status, printed = run("cancel", running.name, "--json")
    assert status == 0
    assert json.loads(printed.out)["cancel_requested"] is True
    assert run("wait", running.name)[0] == 0
    client.boosting.delete_model("running")


def test_mistakes_and_a_server_that_is_not_there_have_their_status(run, capsys):
    status, printed = run("list", "--filter", "state = odd")
    assert status == 2
    assert "filter must be" in printed.err
    assert run("wait", "nobody")[0] == 1
    with pytest.raises(SystemExit) as caught:
        main(["jobs", "begin"])
    assert caught.value.code == 2
