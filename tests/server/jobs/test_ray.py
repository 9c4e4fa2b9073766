"""Jobs on a Ray cluster of two nodes: the same models as here, cancelled, suspended, lost with their node."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import relaxon
from relaxon.client import BoostingSettings, EquilibriumSettings, InvalidArgument, JobState
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.jobs.process import thread_limits

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(300),
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed (extra: ray)"),
    pytest.mark.in_clear,
]
PATIENCE = 240.0

X = np.random.default_rng(1).standard_normal((4000, 8))
Y = np.sin(2.0 * X[:, 0]) + X[:, 1] * X[:, 2]

HERE = """
import sys, numpy as np
from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor
X = np.random.default_rng(1).standard_normal((4000, 8))
y = np.sin(2.0 * X[:, 0]) + X[:, 1] * X[:, 2]
units, rate = int(sys.argv[2]), float(sys.argv[3])
GradientBoostedNetworkRegressor(units, learning_rate=rate, random_state=0).fit(X, y).save(sys.argv[1])
"""


class Nodes:
    """The cluster of `ray_nodes.py`."""

    def __init__(self, process):
        self._process = process
        self.address = self._said()

    def replace(self):
        """Have both nodes be lost, and two others come."""
        print("replace", file=self._process.stdin, flush=True)
        assert self._said() == "replaced"

    def _said(self):
        line = self._process.stdout.readline().strip()
        assert line, f"the cluster's process ended with {self._process.wait(PATIENCE)}"
        return line


@pytest.fixture(scope="module")
def cluster():
    command = [sys.executable, str(Path(__file__).parents[2] / "helpers" / "ray_nodes.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Nodes(process)
            process.stdin.close()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


@contextmanager
def serving(cluster, folder: Path | None = None, **settings):
    known = {"training_backend": "ray", "ray_address": cluster.address, "checkpoint_seconds": 0.0} | settings
    with (
        EmbeddedServer(ServerSettings(port=0, model_folder="" if folder is None else str(folder), **known)) as server,
        relaxon.connect(server.target) as client,
    ):
        yield client


def parameters(folder: Path) -> dict[str, bytes]:
    (file,) = folder.glob("*.safetensors")
    return {name: array.tobytes() for name, array in load_file(file).items()}


def trained_here(folder: Path, units: int, rate: float) -> Path:
    """The same in a process of one thread, as the cluster's are: bits differ with their number."""
    environment = {**os.environ, **thread_limits(1)}
    arguments = [str(folder), str(units), str(rate)]
    subprocess.run([sys.executable, "-c", HERE, *arguments], check=True, env=environment, timeout=PATIENCE)
    return folder


def test_an_equilibrium_job_runs_there_as_well(cluster):
    labels = (Y > 0).astype(int)
    with serving(cluster) as client:
        job = client.equilibrium.train(
            X[:400], labels[:400], settings=EquilibriumSettings(hidden_sizes=(16,), epochs=2, random_state=0)
        )
        assert len(list(job.progress())) == 2
        assert job.result().n_features == 8


def test_a_refusal_comes_back_with_its_argument(cluster):
    with serving(cluster) as client:
        job = client.boosting.train(X, Y, settings=BoostingSettings(n_units=3, loss="poisson", random_state=0))
        with pytest.raises(InvalidArgument, match="y"):
            job.result()


def test_jobs_share_the_nodes_and_a_cancelled_one_gives_what_it_has_or_says_that_it_waited(cluster):
    settings = BoostingSettings(n_units=5000, learning_rate=1e-3, random_state=0)
    with serving(cluster, training_workers=3) as client:
        jobs = [client.boosting.train(X, Y, settings=settings) for _ in range(2)]
        for job in jobs:
            next(job.progress())  # both run, each on a node of its own
        third = client.boosting.train(X, Y, settings=settings)
        until(lambda: third.state is JobState.RUNNING)
        third.cancel()
        with pytest.raises(relaxon.client.Cancelled, match="waited for processors"):
            third.result(PATIENCE)
        for job in jobs:
            job.cancel()
        assert all(1 <= job.result().units < 5000 for job in jobs)


def test_a_job_lives_through_the_end_of_its_node_and_of_its_server_with_the_model_of_one_machine(cluster, tmp_path):
    stages = 800  # seconds of work: it may not be through before it has lost its node
    settings = BoostingSettings(n_units=stages, learning_rate=1e-3, random_state=0)
    with serving(cluster, tmp_path / "models") as client:
        job = client.boosting.train(X, Y, settings=settings, model="lost")
        seen = job.progress()
        while next(seen).stage < 2:
            pass
        cluster.replace()
        until(lambda: job.info().starts > 1)
    # The server has been stopped in between: the job is with the next one.
    with serving(cluster, tmp_path / "models") as client:
        (info,) = client.jobs.list()
        job = client.boosting.job(info.name)
        assert [step.stage for step in job.progress()] == list(range(1, stages + 1))
        model = job.result()
        assert model.units == stages
        assert model.outcome == "completed"
    there = parameters(tmp_path / "models" / "boosting" / "lost")
    assert there == parameters(trained_here(tmp_path / "here", stages, 1e-3))


def test_a_cluster_that_is_not_there_is_named():
    with (
        EmbeddedServer(
            ServerSettings(port=0, training_backend="ray", ray_address="127.0.0.1:1", grace_seconds=0.0)
        ) as server,
        relaxon.connect(server.target) as client,
    ):
        job = client.boosting.train(X[:50], Y[:50], settings=BoostingSettings(n_units=2))
        with pytest.raises(relaxon.client.Unavailable, match="127.0.0.1:1"):
            job.result(PATIENCE)


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "did not come about"
        time.sleep(0.1)
