"""The folder of an earlier release: its stored models predict as they did, and its unfinished jobs go on.

`tests/data/earlier-release` was written by a server of commit ceabc37 that was stopped while it trained. The boosting
job has no checkpoint, as if its process had been killed before it wrote one. Boosting takes no checkpoint of that
format since its algorithm changed: such a job begins again.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import relaxon
from relaxon.client import JobState
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings

pytest.importorskip("torch")
FOLDER = Path(__file__).parents[2] / "data" / "earlier-release"
KINDS = ("boosting", "energy", "equilibrium")
X = np.random.default_rng(0).normal(size=(40, 2))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("server") / "models"
    shutil.copytree(FOLDER, folder)
    settings = ServerSettings(port=0, model_folder=str(folder), grace_seconds=0.0, compile="", training_workers=3)
    with EmbeddedServer(settings) as server, relaxon.connect(server.target, timeout=120) as connected:
        yield connected


def test_stored_models_predict_as_they_did(client):
    found = {
        "boosting": client.boosting.predict_proba("stored", X),
        "energy": client.energy.log_density("stored", X).values,
        "equilibrium": client.equilibrium.predict_proba("stored", X),
    }
    expected = json.loads((FOLDER / "predictions.json").read_text())
    for kind in KINDS:
        assert np.allclose(found[kind][:4], expected[kind], rtol=1e-12, atol=1e-12), kind


def test_unfinished_jobs_go_on_from_where_they_were(client):
    for kind in KINDS:
        (info,) = client.jobs.list(f"kind = {kind}")
        assert info.starts >= 1
        job = client.jobs.get(info.name)
        told = len((FOLDER / "jobs" / info.name.rpartition("/")[2] / "progress.jsonl").read_text().splitlines())
        next(iter(job.progress(skip=told)))  # a step that the earlier server had not seen
        job.cancel()
        assert job.result(timeout=120).name == "begun"
        assert client.jobs.info(info.name).state is JobState.DONE
        assert client.jobs.info(info.name).starts > 1
