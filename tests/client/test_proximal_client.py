"""Learned proximal operators through the client, blocking and awaited: trained, asked, refused, ended early."""

import asyncio
import json
import time

import numpy as np
import pytest

pytest.importorskip("torch")

import relaxon.aio
from relaxon import client as errors
from relaxon.client import (
    BlurMap,
    FieldMap,
    IdentityMap,
    JobState,
    MaskMap,
    ProximalNetwork,
    ProximalSettings,
    RadonMap,
)
from relaxon.neuromorphic.proximal import (
    BlurOperator,
    CompositeOperator,
    IdentityOperator,
    MaskOperator,
    MatchingSettings,
    NetworkSettings,
    PoissonMap,
    ProximalModel,
    RadonOperator,
    load_proximal,
    train_proximal,
)
from relaxon.neuromorphic.proximal.potentials import build_potential
from relaxon.solvers import PoissonGrid, Result

SHAPE = (6, 5)
DATA = np.random.default_rng(0).laplace(size=(120, *SHAPE))
NETWORK = {"shape": SHAPE, "hidden": (12,)}
SETTINGS = {"noise": 1.0, "start_steps": 30, "gammas": (0.5,), "stage_steps": 15}
OBSERVED = np.random.default_rng(1).random(SHAPE) < 0.6
GRID = PoissonGrid(np.zeros(SHAPE, np.uint8), boundary="dirichlet")
KERNEL = np.ones((3, 3)) / 9.0
MAPS = {
    "identity": (IdentityMap(), IdentityOperator(SHAPE)),
    "mask": (MaskMap(OBSERVED), MaskOperator(OBSERVED)),
    "gaussian": (BlurMap(width=0.7), BlurOperator.gaussian(SHAPE, 0.7)),
    "kernel": (BlurMap(KERNEL, boundary="periodic"), BlurOperator(SHAPE, KERNEL, boundary="periodic")),
    "radon": (RadonMap([0.0, 30.0, 90.0]), RadonOperator(SHAPE, [0.0, 30.0, 90.0])),
    "poisson": (FieldMap(GRID), PoissonMap(GRID)),
    "several": ([FieldMap(GRID), MaskMap(OBSERVED)], CompositeOperator([PoissonMap(GRID), MaskOperator(OBSERVED)])),
}


def untrained(tmp_path, name, **changes):
    """A model that has not learned anything, and the folder that it is in."""
    model = ProximalModel(build_potential(NetworkSettings(**{**NETWORK, **changes})), noise=0.5)
    model.save(tmp_path / name)
    return model, tmp_path / name


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


@pytest.fixture(scope="module")
def images(embedded, tmp_path_factory):
    """A convolutional model of two channels: here, and on the server as "images"."""
    model, folder = untrained(
        tmp_path_factory.mktemp("images"), "images", shape=(2, 4, 3), kind="convolutional", hidden=(3,)
    )
    with relaxon.connect(embedded.target) as client:
        client.models.upload("proximal", folder, name="images")
        yield model
        client.proximal.delete_model("images")


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


@pytest.mark.parametrize("method", ["pgd", "admm", "mirror"])
@pytest.mark.parametrize("name", MAPS)
def test_a_reconstruction_has_the_bits_of_the_one_in_process(client, done, ours, name, method):
    described, operator = MAPS[name]
    b = operator.apply(DATA[3])
    options = {"data_weight": 0.4 / operator.norm**2, "method": method, "tolerance": 1e-7}
    found, here = client.proximal.solve("done", b, described, **options), ours.solve(b, operator, **options)
    assert here.converged
    for array in ("x", "residuals", "objectives"):
        assert np.array_equal(getattr(found, array), getattr(here, array)), array
    for figure in ("result", "iterations", "tolerance", "method", "data_weight", "operator_norm", "guaranteed"):
        assert getattr(found, figure) == getattr(here, figure), figure
    assert found.message == here.message
    assert np.isnan(found.penalty) == (method != "admm")
    assert "converged" in found._repr_html_()


def test_a_start_a_weight_from_the_noise_and_a_penalty_are_taken(client, done, ours):
    described, operator = MAPS["mask"]
    b, x0 = operator.apply(DATA[3]), DATA[4]
    options = {"observation_noise": 1.5, "method": "admm", "penalty": 2.0, "x0": x0, "max_iterations": 3}
    found, here = client.proximal.solve("done", b, described, **options), ours.solve(b, operator, **options)
    assert found.result is here.result is Result.MAX_ITERATIONS
    assert (found.penalty, found.message) == (2.0, here.message)
    assert np.array_equal(found.x, here.x)


def test_images_of_several_channels_and_other_sizes_travel(client, images):
    rng = np.random.default_rng(2)
    many, one = rng.standard_normal((5, 2, 4, 3)), rng.standard_normal((2, 7, 6))
    assert np.array_equal(client.proximal.denoise("images", many), images.denoise(many))
    assert np.array_equal(client.proximal.denoise("images", one), images.denoise(one))
    assert np.array_equal(client.proximal.prior("images", many).preimage, images.prior(many).preimage.y)
    found = client.proximal.solve("images", one, BlurMap(width=0.5), data_weight=0.5, shape=one.shape)
    here = images.solve(one, BlurOperator.gaussian(one.shape, 0.5), data_weight=0.5)
    assert np.array_equal(found.x, here.x)
    observed = rng.random(one.shape) < 0.5
    found = client.proximal.solve("images", one[observed], MaskMap(observed), data_weight=0.5)
    assert found.x.shape == one.shape


def test_awaited_calls_answer_alike(embedded, client, done):
    described, operator = MAPS["several"]
    b = operator.apply(DATA[3])
    options = {"data_weight": 0.4 / operator.norm**2, "method": "mirror"}

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


@pytest.fixture
def slow(monkeypatch):
    """Have each application of a forward operator take some time, so that a run goes on until it is told to stop."""
    applied = []

    def apply(self, x):
        applied.append(x.shape)
        time.sleep(0.005)
        return x.copy()

    monkeypatch.setattr(IdentityOperator, "_apply", apply)
    return applied


ENDLESS = {"data_weight": 1e-6, "tolerance": 1e-300, "max_iterations": 10**6, "method": "mirror"}


def test_a_run_whose_callback_says_so_ends_with_what_there_is(client, done, slow):
    seen = []

    def callback(progress):
        seen.append(progress)
        return len(seen) == 2

    found = client.proximal.solve("done", DATA[3], IdentityMap(), callback=callback, **ENDLESS)
    assert found.result is Result.CANCELLED
    assert len(found.residuals) == found.iterations + 1 > seen[1].iteration
    assert found.residuals[seen[1].iteration] == seen[1].residual
    assert found.objectives[seen[1].iteration] == seen[1].objective
    assert "cancelled" in found._repr_html_()


def test_a_run_beyond_its_deadline_is_ended_on_the_server_within_an_application(client, done, slow):
    with pytest.raises(errors.DeadlineExceeded):
        client.proximal.solve("done", DATA[3], IdentityMap(), timeout=0.3, **ENDLESS)
    count = settled(slow)
    assert count > 1
    time.sleep(0.1)
    assert len(slow) == count


def test_a_prior_beyond_its_deadline_is_ended_on_the_server_within_a_step(client, done, monkeypatch):
    from relaxon.neuromorphic.proximal import inversion

    steps, own = [], inversion._newton_step

    def step(*arguments):
        steps.append(1)
        time.sleep(0.02)
        return 0.0 * own(*arguments)

    monkeypatch.setattr(inversion, "_newton_step", step)
    monkeypatch.setattr(inversion, "_search", lambda potential, y, v, a, c, d, value: (
        y, value, potential.value_and_proximal(y)[1], value == value))  # fmt: skip
    with pytest.raises(errors.DeadlineExceeded):
        client.proximal.prior("done", DATA[:3], rtol=1e-300, max_iterations=10_000, timeout=0.3)
    count = settled(steps)
    assert 1 < count < 10_000
    time.sleep(0.1)
    assert len(steps) == count


def settled(counted):
    """How many there are, once there come no more."""
    deadline = time.monotonic() + 20.0
    while time.monotonic() < deadline:
        before = len(counted)
        time.sleep(0.1)
        if len(counted) == before:
            return before
    raise AssertionError("it goes on")


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


def bad_solve(operator, b=DATA[3], **options):
    return lambda p: p.solve("done", b, operator, **{"data_weight": 0.1, **options})


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
    "no operator": (bad_solve([]), "operator"),
    "an operator by its name": (bad_solve("blur"), "operator"),
    "an operator that is none": (bad_solve([IdentityMap(), 3]), r"operator\[1\]"),
    "a mask of numbers": (bad_solve(MaskMap(OBSERVED.astype(int))), "operator.observed"),
    "a mask of another shape": (bad_solve(MaskMap(OBSERVED[:4])), "operator.observed must have the shape"),
    "an empty mask": (bad_solve(MaskMap(np.zeros(SHAPE, bool))), "operator.observed"),
    "an even blur": (bad_solve(BlurMap(np.ones((2, 3)))), "operator.kernel must have odd sides"),
    "a blur of zeros": (bad_solve(BlurMap(np.zeros((3, 3)))), "operator.kernel"),
    "a blur of NaN": (bad_solve(BlurMap(np.full((3, 3), np.nan))), "operator.kernel"),
    "a blur of three axes": (bad_solve(BlurMap(np.ones((3, 3, 3)))), "operator.kernel"),
    "a blur of nothing": (bad_solve(BlurMap()), "operator.kernel"),
    "a width": (bad_solve(BlurMap(width=-1.0)), "operator.width"),
    "a boundary": (bad_solve(BlurMap(width=1.0, boundary="open")), "operator.boundary"),
    "no angles": (bad_solve(RadonMap([])), "operator.angles"),
    "angles of NaN": (bad_solve(RadonMap([np.nan])), "operator.angles"),
    "detectors": (bad_solve(RadonMap([0.0], detectors=0)), "operator.detectors"),
    "a radon of a vector": (bad_solve([MaskMap(OBSERVED), RadonMap([0.0])]), r"operator\[1\].shape must have 2 axes"),
    "a grid of another shape": (
        bad_solve(FieldMap(PoissonGrid(np.zeros((4, 4), np.uint8)))), "operator.cells must have the shape",
    ),
    "a grid that is none": (bad_solve(FieldMap(np.zeros(SHAPE))), "operator.grid"),
    "a grid's solver": (bad_solve(FieldMap(GRID, solver="none")), "operator.solver"),
    "a grid's rtol": (bad_solve([FieldMap(GRID, rtol=0.0), MaskMap(OBSERVED)]), r"operator\[0\].rtol"),
    "an observation of another shape": (bad_solve(MaskMap(OBSERVED)), "observation must have the shape"),
    "an observation of NaN": (bad_solve(IdentityMap(), np.full(SHAPE, np.nan)), "observation"),
    "a weight and a noise": (bad_solve(IdentityMap(), observation_noise=1.0), "data_weight"),
    "no weight": (bad_solve(IdentityMap(), data_weight=None), "data_weight"),
    "a weight that is too large": (bad_solve(IdentityMap(), data_weight=2.0), "data_weight must be below"),
    "a method": (bad_solve(IdentityMap(), method="newton"), "method"),
    "a penalty of pgd": (bad_solve(IdentityMap(), penalty=2.0), "penalty"),
    "a penalty": (bad_solve(IdentityMap(), penalty=0.5, method="admm"), "penalty"),
    "a tolerance": (bad_solve(IdentityMap(), tolerance=0.0), "tolerance"),
    "iterations": (bad_solve(IdentityMap(), max_iterations=0), "max_iterations"),
    "a start of another shape": (bad_solve(IdentityMap(), x0=DATA[3, :4]), "x0 must have the signal's shape"),
    "a start of NaN": (bad_solve(IdentityMap(), x0=np.full(SHAPE, np.nan)), "x0"),
    "a shape": (bad_solve(IdentityMap(), shape=(3, 3)), "shape"),
    "a model that is none": (lambda p: p.denoise(3, DATA), "model"),
}  # fmt: skip


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
        bad_train(network={"hidden": (10**6, 10**6)}),
        bad_train(network={"hidden": (1,) * 100}),
        bad_train(
            np.ones((2, 2, 2)), network={"shape": (2, 2), "kind": "convolutional", "hidden": (4,), "kernel": 99_999}
        ),
        lambda p: p.prior("done", DATA[0], max_iterations=10**9),
        bad_solve(BlurMap(width=1e9)),
        bad_solve(BlurMap(np.ones((301, 301)))),
        bad_solve(RadonMap(np.zeros(5000))),
        bad_solve(RadonMap([0.0], detectors=10**9)),
        bad_solve([IdentityMap()] * 9),
        bad_solve(IdentityMap(), max_iterations=10**9),
        lambda p: p.solve(
            "images", np.ones((2, 4, 3)), BlurMap(np.ones((255, 255))), data_weight=0.1, shape=(2, 9000, 9000)
        ),
        lambda p: p.solve("images", np.ones((2, 4, 3)), IdentityMap(), data_weight=0.1, shape=(2, 10**6, 10**6)),
    ],
)  # fmt: skip
def test_what_is_too_large_is_refused_before_anything_is_allocated(client, done, images, call):
    with pytest.raises(errors.ResourceExhausted):
        call(client.proximal)


def test_a_field_that_cannot_be_solved_to_its_tolerance_is_refused_by_name(client, done):
    with pytest.raises(errors.InvalidArgument, match="operator must give fields") as caught:
        client.proximal.solve("done", DATA[3], FieldMap(GRID, solver="cg", rtol=1e-30), data_weight=1e-9)
    assert caught.value.field == "operator"


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


def test_a_job_of_another_kind_is_not_watched_here_nor_a_model_of_another_kind_read(client, tmp_path):
    _, folder = untrained(tmp_path, "model")
    for kind in ("energy", "boosting"):
        with pytest.raises((errors.InvalidArgument, FileNotFoundError)):
            client.models.upload(kind, folder)


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
