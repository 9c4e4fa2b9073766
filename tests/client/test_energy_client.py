"""Energy-based densities through the client, blocking and awaited: trained, asked, refused."""

import asyncio
import math

import numpy as np
import pytest

pytest.importorskip("torch")

import relaxon.aio
from relaxon import client as errors
from relaxon.client import EnergySettings, JobState
from relaxon.neuromorphic.energy import EnergyDensity, planar

X = planar("two-moons").sample(200, 1)
QUICK = EnergySettings(hidden_sizes=(16,), steps=60, noise="mixture", random_state=0)


@pytest.fixture(scope="module")
def done(embedded):
    """A model of `QUICK`, deleted at the end."""
    with relaxon.connect(embedded.target) as client:
        model = client.energy.train(X, settings=QUICK).result()
        yield model
        client.energy.delete_model(model)


def ours():
    return EnergyDensity((16,), steps=60, noise="mixture", random_state=0).fit(X)


def test_a_whole_life_of_a_model(client, done):
    here = ours()
    found = client.energy.log_density(done, X[:50])
    assert np.array_equal(found.values, here.score_samples(X[:50]))
    assert (found.trusted, found.reason) == (here.verdict_.trusted, here.verdict_.reason)
    assert found.standard_error == here.score_samples(X[:1], return_std=True)[1][0]
    assert np.array_equal(client.energy.sample(done.name, 7, random_state=3), here.sample(7, random_state=3))
    assert done.log_partition.value == here.log_partition_.value
    assert done.log_partition.interval == here.log_partition_.interval
    assert done.validation.tolist() == here.validation_.tolist()
    assert (done.n_features, done.steps, done.objective) == (2, here.training_.steps, "meco")
    listed = {model.name: model for model in client.energy.models()}
    assert not len(listed[done.name].validation)
    assert "log Z" in done._repr_html_()
    with pytest.raises(ValueError, match="curves"):
        listed[done.name].plot()


@pytest.mark.parametrize("method", ["importance", "annealed", "bridge"])
def test_log_z_is_estimated_anew(client, done, method):
    size = {"importance": 20_000, "annealed": 100, "bridge": 50}[method]
    found = client.energy.log_partition(done, method, size=size, random_state=1)
    again = client.energy.log_partition(done, method, size=size, random_state=1)
    assert (found.value, found.interval) == (again.value, again.interval)
    assert method[:6] in found.method
    if found.trusted:
        wide = 5 * math.hypot(found.standard_error, done.log_partition.standard_error) + 1e-6
        assert abs(found.value - done.log_partition.value) < wide


def test_a_job_is_watched_cancelled_and_found_again(client):
    settings = EnergySettings(steps=100_000, patience=100_000, random_state=0)
    job = client.energy.train(X, settings=settings)
    steps = job.progress()
    first, second = next(steps), next(steps)
    assert (first.report, first.step, second.report, second.step) == (1, 10, 2, 20)
    assert first.steps_wanted == 100_000
    assert first.effective_sample_size > 1
    client.energy.job(job.name).cancel()
    model = job.result()
    assert (model.outcome, job.state) == ("cancelled", JobState.DONE)
    assert client.jobs.get(job.name).result().name == model.name
    client.energy.delete_model(model)


def test_awaited_calls_answer_alike(embedded, client, done):
    async def asked():
        async with relaxon.aio.connect(embedded.target) as there:
            job = await there.energy.train(X, settings=QUICK, model="awaited")
            reports = [step.report async for step in job.progress()]
            model = await job.result()
            found = await there.energy.log_density(model, X[:5])
            rows = await there.energy.sample(model, 4, random_state=1)
            z = await there.energy.log_partition(model, size=5000, random_state=0)
            await there.energy.delete_model(model)
            return reports, found, rows, z

    reports, found, rows, z = asyncio.run(asked())
    assert reports == list(range(1, len(reports) + 1))
    assert np.array_equal(found.values, client.energy.log_density(done, X[:5]).values)
    assert np.array_equal(rows, client.energy.sample(done, 4, random_state=1))
    assert z == client.energy.log_partition(done, size=5000, random_state=0)


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda e, m: e.train([[1.0, np.nan]]), "X"),
        (lambda e, m: e.train([1.0, 2.0]), "X"),
        (lambda e, m: e.train([["a"]]), "X"),
        (lambda e, m: e.train(np.ones((30, 2))), "X"),
        (lambda e, m: e.train(X[:1]), "X"),
        (lambda e, m: e.train(np.c_[X, 2 * X[:, 0]]), "X must have a covariance of full rank.*1 of 3"),
        (lambda e, m: e.train(np.random.default_rng(0).standard_normal((25, 60))), "X must.*25 rows of 60 features"),
        (lambda e, m: e.train(X, settings={"steps": 3}), "settings"),
        (lambda e, m: e.train(X, settings=EnergySettings(steps=0)), "steps"),
        (lambda e, m: e.train(X, settings=EnergySettings(noise="cauchy")), "noise"),
        (lambda e, m: e.train(X, settings=EnergySettings(objective="likelihood")), "objective"),
        (lambda e, m: e.train(X, settings=EnergySettings(hidden_sizes=())), "hidden_sizes"),
        (lambda e, m: e.train(X, settings=EnergySettings(hidden_sizes=(0,))), "hidden_sizes"),
        (lambda e, m: e.train(X, settings=EnergySettings(learning_rate=math.nan)), "learning_rate"),
        (lambda e, m: e.train(X, settings=EnergySettings(random_state=-1)), "random_state"),
        (lambda e, m: e.train(X, model="../up"), "model"),
        (lambda e, m: e.log_density(m, X[:, :1]), "X"),
        (lambda e, m: e.log_density(m, [[np.inf, 0.0]]), "X"),
        (lambda e, m: e.log_density(3, X), "model"),
        (lambda e, m: e.sample(m, 0), "count"),
        (lambda e, m: e.sample(m, 2, random_state=-5), "random_state"),
        (lambda e, m: e.log_partition(m, "guess"), "method"),
        (lambda e, m: e.log_partition(m, size=0), "size"),
        (lambda e, m: e.log_partition(m, "bridge", size=1), "size|draws"),
    ],
)
def test_mistakes_are_refused_by_the_arguments_name(client, done, call, argument):
    with pytest.raises(errors.InvalidArgument, match=argument):
        call(client.energy, done)


@pytest.mark.parametrize(
    "call",
    [
        lambda e, m: e.train(X, settings=EnergySettings(steps=10**8)),
        lambda e, m: e.train(X, settings=EnergySettings(hidden_sizes=(10**6, 10**6))),
        lambda e, m: e.train(X, settings=EnergySettings(batch_size=10**9)),
        lambda e, m: e.train(X, settings=EnergySettings(partition_draws=10**9)),
        lambda e, m: e.sample(m, 10**12),
        lambda e, m: e.log_partition(m, size=10**9),
        lambda e, m: e.log_partition(m, "annealed", size=10**6),
        lambda e, m: e.log_partition(m, "bridge", size=10**6),
    ],
)
def test_what_is_too_large_is_refused_before_anything_is_allocated(client, done, call):
    with pytest.raises(errors.ResourceExhausted):
        call(client.energy, done)


def test_what_is_not_there_is_not_found(client):
    for call in (
        lambda: client.energy.model("none"),
        lambda: client.energy.log_density("none", X),
        lambda: client.energy.sample("none"),
        lambda: client.energy.log_partition("none"),
        lambda: client.energy.delete_model("none"),
        lambda: client.energy.job("operations/none"),
    ):
        with pytest.raises(errors.NotFound):
            call()


def test_files_go_out_and_come_in_and_damaged_ones_are_refused(client, done, tmp_path):
    client.models.download("energy", done.name, tmp_path)
    copy = client.models.upload("energy", tmp_path, name="copy")
    assert copy.size > 0
    assert np.array_equal(
        client.energy.log_density("copy", X[:9]).values, client.energy.log_density(done, X[:9]).values
    )
    client.energy.delete_model("copy")
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    for broken in (
        whole[:-10],
        whole.replace(b'"EnergyDensity\\"', b'"EnergyDensitx\\"'),
        whole.replace(b'\\"cpu\\"', b'\\"cup\\"'),
        whole.replace(b"[\\n    16\\n   ]", b"[\\n    99\\n   ]").replace(b"\\n     16\\n", b"\\n     99\\n"),
        b"\x80\x04N.",
    ):
        path.write_bytes(broken)
        if broken == whole:
            continue
        with pytest.raises((errors.InvalidArgument, errors.ResourceExhausted)):
            client.models.upload("energy", tmp_path, name="broken")
    assert "broken" not in [model.name for model in client.energy.models()]
