"""Learned proximal operators through the client, blocking and awaited: trained, asked, refused, ended early."""

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("torch")

from small_priors import DATA, NETWORK, SHAPE, untrained

import relaxon.aio
from relaxon import client as errors
from relaxon.client import (
    IdentityMap,
    JobState,
    MaskMap,
    ProximalNetwork,
    ProximalSettings,
)
from relaxon.neuromorphic.proximal import (
    MatchingSettings,
    NetworkSettings,
    load_proximal,
    train_proximal,
)
from relaxon.solvers import Result

OBSERVED = np.random.default_rng(1).random(SHAPE) < 0.6
SETTINGS = {"noise": 1.0, "start_steps": 30, "gammas": (0.5,), "stage_steps": 15}


@pytest.fixture(scope="module")
def done(embedded):
    """A model that the server has trained, deleted at the end."""
    with relaxon.connect(embedded.target) as client:
        job = client.proximal.train(DATA, ProximalNetwork(**NETWORK), ProximalSettings(**SETTINGS), model="done")
        reports = list(job.progress())
        yield job.result(), reports
        client.proximal.delete_model("done")


@pytest.fixture(scope="module")
def ours():
    return train_proximal(DATA, NetworkSettings(**NETWORK), MatchingSettings(**SETTINGS))


def test_what_is_trained_on_the_server_is_what_is_trained_in_process(client, done, ours):
    model, reports = done
    records = ours.training.records
    assert [one.report for one in reports] == list(range(1, len(records) + 1))
    assert [(one.step, one.stage, one.loss) for one in reports] == [(one.step, one.stage, one.loss) for one in records]
    assert {one.steps_wanted for one in reports} == {45}
    assert model.train_loss.tolist() == [one.loss for one in records]
    assert model.mean_square.tolist() == [one.mean_square for one in records]
    assert (model.steps, model.outcome, model.noise) == (45, "finished", 1.0)
    assert (model.network.shape, model.network.hidden, model.network.kind) == (SHAPE, (12,), "dense")
    assert np.array_equal(client.proximal.denoise(model, DATA), ours.denoise(DATA))
    assert client.proximal.denoise("done", DATA[0]).tobytes() == ours.denoise(DATA[0]).tobytes()
    (listed,) = (one for one in client.proximal.models() if one.name == "done")
    assert not len(listed.train_loss)
    assert "45 steps, finished" in model._repr_html_()
    with pytest.raises(ValueError, match="curves"):
        listed.plot()


@pytest.mark.parametrize("x", [DATA[:7] * 0.05, DATA[0] * 0.05], ids=["several", "one"])
def test_the_prior_s_values_are_those_in_process(client, done, ours, x):
    found, here = client.proximal.prior("done", x, rtol=1e-9), ours.prior(x, rtol=1e-9)
    assert np.array_equal(found.values, here.values)
    assert np.array_equal(found.preimage, here.preimage.y)
    assert np.array_equal(found.residuals, here.preimage.residuals)
    assert np.array_equal(found.converged, here.preimage.converged)
    assert found.converged.any()
    assert found.iterations == here.preimage.iterations
    early = client.proximal.prior("done", x, rtol=1e-300, max_iterations=1)
    assert not early.converged.any()
    assert early.iterations == 1


def test_awaited_calls_answer_alike(embedded, client, done):
    described, b = MaskMap(OBSERVED), DATA[3][OBSERVED]
    options = {"data_weight": 0.4, "method": "mirror"}

    async def asked():
        async with relaxon.aio.connect(embedded.target) as there:
            job = await there.proximal.job((await there.jobs.list('model = "done"'))[0].name)
            model = await job.result()
            reports = [step async for step in job.progress()]
            found = await there.proximal.solve(model, b, described, **options)
            seen = []

            async def stop(progress):
                seen.append(progress)
                return True

            ended = await there.proximal.solve(
                model, b, described, data_weight=1e-3, tolerance=1e-300, max_iterations=10**6, callback=stop
            )
            prior = await there.proximal.prior(model, DATA[:2] * 0.2)
            return reports, await there.proximal.denoise(model, DATA), found, prior, ended, seen

    reports, denoised, found, prior, ended, seen = asyncio.run(asked())
    assert reports == done[1]
    assert np.array_equal(denoised, client.proximal.denoise("done", DATA))
    assert np.array_equal(found.x, client.proximal.solve("done", b, described, **options).x)
    assert np.array_equal(prior.values, client.proximal.prior("done", DATA[:2] * 0.2).values)
    assert ended.result is Result.CANCELLED
    assert 0 < seen[0].iteration <= ended.iterations


def test_a_job_is_watched_cancelled_and_found_again(client):
    settings = ProximalSettings(noise=1.0, start_steps=100_000, record_every=5)
    job = client.proximal.train(DATA, ProximalNetwork(**NETWORK), settings)
    steps = job.progress()
    first, second = next(steps), next(steps)
    assert [(one.report, one.step) for one in (first, second)] == [(1, 5), (2, 10)]
    client.proximal.job(job.name).cancel()
    model = job.result()
    assert (model.outcome, job.state) == ("cancelled", JobState.DONE)
    assert model.steps >= 10
    assert client.jobs.get(job.name).result().name == model.name
    client.proximal.delete_model(model)


def bad_train(data=DATA, network=None, settings=None, **options):
    made = ProximalNetwork(**{**NETWORK, **(network or {})})
    return lambda p: p.train(data, made, ProximalSettings(**{**SETTINGS, **(settings or {})}), **options)


REFUSED = {
    "NaN in data": (bad_train(np.full((3, *SHAPE), np.nan)), "data"),
    "data of another shape": (bad_train(DATA[:, :4]), r"data must have shape \(n, 6, 5\)"),
    "no data": (bad_train(np.empty((0, *SHAPE))), "data"),
    "text": (bad_train([["a"]]), "data"),
    "noise": (bad_train(settings={"noise": -1.0}), "noise"),
    "gammas that rise": (bad_train(settings={"gammas": (0.5, 0.7)}), "gammas"),
    "no gammas": (bad_train(settings={"gammas": ()}), "gammas"),
    "average": (bad_train(settings={"average": 1.5}), "average"),
    "kind": (bad_train(network={"kind": "recurrent"}), "kind"),
    "hidden": (bad_train(network={"hidden": (0,)}), "hidden"),
    "an even kernel": (bad_train(network={"kernel": 4}), "kernel"),
    "pairing": (bad_train(settings={"pairing": "all"}), "pairing"),
    "alpha": (bad_train(network={"alpha": 2.0}), "alpha"),
    "a float for an int": (bad_train(settings={"batch": 2.5}), "batch"),
    "network": (lambda p: p.train(DATA, NETWORK, ProximalSettings(1.0)), "network"),
    "settings": (lambda p: p.train(DATA, ProximalNetwork(**NETWORK), SETTINGS), "settings"),
    "a model's name": (bad_train(model="../up"), "model"),
    "y of another shape": (lambda p: p.denoise("done", DATA[0, :, :4]), r"y must have shape \(6, 5\) or \(n, 6, 5\)"),
    "y of five axes": (lambda p: p.denoise("done", np.ones((1,) * 5)), "y"),
    "infinity in y": (lambda p: p.denoise("done", np.full(SHAPE, np.inf)), "y"),
    "masked x": (lambda p: p.prior("done", np.ma.array(DATA[0], mask=OBSERVED)), "x"),
    "a prior's rtol": (lambda p: p.prior("done", DATA[0], rtol=0.0), "rtol"),
    "a prior's steps": (lambda p: p.prior("done", DATA[0], max_iterations=0), "max_iterations"),
    "a model that is none": (lambda p: p.denoise(3, DATA), "model"),
}  # fmt: skip
IMAGES = {"shape": (2, 2), "kind": "convolutional", "hidden": (4,)}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_refused_by_the_arguments_name(client, done, name):
    call, said = REFUSED[name]
    with pytest.raises(errors.InvalidArgument, match=f"^{said}") as caught:
        call(client.proximal)
    # What the message begins with is the field that it names.
    assert str(caught.value).startswith(f"{caught.value.field} must")
    assert caught.value.field


@pytest.mark.parametrize(
    "call",
    [
        bad_train(settings={"start_steps": 10**8}),
        bad_train(settings={"stage_steps": 900_000, "record_every": 1}),
        bad_train(settings={"batch": 10**9}),
        bad_train(settings={"pairing": "posterior", "batch": 65_536}),
        bad_train(network={"hidden": (10**6, 10**6)}),
        bad_train(network={"hidden": (1,) * 100}),
        bad_train(np.ones((2, 2, 2)), network={**IMAGES, "kernel": 99_999}),
        lambda p: p.prior("done", DATA[0], max_iterations=10**9),
    ],
)  # fmt: skip
def test_what_is_too_large_is_refused_before_anything_is_allocated(client, done, call):
    with pytest.raises(errors.ResourceExhausted):
        call(client.proximal)


def test_what_is_not_there_is_not_found(client):
    for call in (
        lambda p: p.model("none"),
        lambda p: p.denoise("none", DATA),
        lambda p: p.prior("none", DATA),
        lambda p: p.solve("none", DATA[3], IdentityMap(), data_weight=0.1),
        lambda p: p.delete_model("none"),
        lambda p: p.job("operations/none"),
    ):
        with pytest.raises(errors.NotFound):
            call(client.proximal)


def test_files_of_this_kind_are_no_model_of_another(client, tmp_path):
    untrained(tmp_path)
    with pytest.raises(errors.InvalidArgument) as caught:
        client.models.upload("energy", tmp_path)
    assert caught.value.field == "description"


def rewritten(path, change):
    """The weights file with another description."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(path, "np") as file:
        description = json.loads(file.metadata()["description"])
    change(description)
    save_file(load_file(path), path, {"description": json.dumps(description)})


def test_files_go_out_and_come_in_and_damaged_ones_are_refused(client, done, tmp_path):
    client.models.download("proximal", "done", tmp_path)
    assert np.array_equal(load_proximal(tmp_path).denoise(DATA), client.proximal.denoise("done", DATA))
    copy = client.models.upload("proximal", tmp_path, name="copy")
    assert copy.size > 0
    assert np.array_equal(client.proximal.denoise("copy", DATA), client.proximal.denoise("done", DATA))
    client.proximal.delete_model("copy")
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    changes = (
        ("network", lambda card: card["network"].update(hidden=[13])),
        ("description", lambda card: card.update(kind="energy")),
        ("hidden", lambda card: card["network"].update(hidden=[10**7])),
        ("shape", lambda card: card["network"].update(shape=[10**7, 10**7])),
        ("network", lambda card: card["network"].update(beta="sharp")),
        ("network", lambda card: card["network"].update(depth=3)),
        ("files", lambda card: card.update(noise=-1.0)),
    )
    for field, change in changes:
        path.write_bytes(whole)
        rewritten(path, change)
        with pytest.raises((errors.InvalidArgument, errors.ResourceExhausted)) as caught:
            client.models.upload("proximal", tmp_path, name="broken")
        assert getattr(caught.value, "field", field) == field
    for broken in (whole[:-10], b"\x80\x04N.", whole[: len(whole) // 2]):
        path.write_bytes(broken)
        with pytest.raises(errors.InvalidArgument):
            client.models.upload("proximal", tmp_path, name="broken")
    assert "broken" not in [model.name for model in client.proximal.models()]
