"""Inverse problems through the client: the bits of those in process, ended early, refused."""

import asyncio
import time

import numpy as np
import pytest

pytest.importorskip("torch")

from small_priors import DATA, SHAPE, uploaded

import relaxon.aio
from relaxon import client as errors
from relaxon.client import BlurMap, FieldMap, IdentityMap, MaskMap, RadonMap
from relaxon.neuromorphic.proximal import (
    BlurOperator,
    CompositeOperator,
    IdentityOperator,
    MaskOperator,
    PoissonMap,
    RadonOperator,
)
from relaxon.neuromorphic.proximal.forward.operators import NORM_STEPS
from relaxon.solvers import PoissonGrid, Result

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


@pytest.fixture(scope="module")
def model(embedded, tmp_path_factory):
    """The model that the server has as "inverse"."""
    with uploaded(embedded.target, tmp_path_factory.mktemp("inverse"), "inverse") as model:
        yield model


@pytest.fixture(scope="module")
def images(embedded, tmp_path_factory):
    """The convolutional model of two channels that the server has as "images"."""
    form = {"shape": (2, 4, 3), "kind": "convolutional", "hidden": (3,)}
    with uploaded(embedded.target, tmp_path_factory.mktemp("images"), "images", **form) as model:
        yield model


@pytest.mark.parametrize("method", ["pgd", "admm", "mirror"])
@pytest.mark.parametrize("name", MAPS)
def test_a_reconstruction_has_the_bits_of_the_one_in_process(client, model, name, method):
    described, operator = MAPS[name]
    b = operator.apply(DATA[3])
    options = {"data_weight": 0.4 / operator.norm**2, "method": method, "tolerance": 1e-7}
    found, here = client.proximal.solve("inverse", b, described, **options), model.solve(b, operator, **options)
    assert here.converged
    for array in ("x", "residuals", "objectives"):
        assert np.array_equal(getattr(found, array), getattr(here, array)), array
    for figure in ("result", "iterations", "tolerance", "method", "data_weight", "operator_norm", "guaranteed"):
        assert getattr(found, figure) == getattr(here, figure), figure
    assert found.message == here.message
    assert np.isnan(found.penalty) == (method != "admm")
    assert "converged" in found._repr_html_()


def test_a_start_a_weight_from_the_noise_and_a_penalty_are_taken(client, model):
    described, operator = MAPS["mask"]
    b, x0 = operator.apply(DATA[3]), DATA[4]
    options = {"observation_noise": 1.5, "method": "admm", "penalty": 2.0, "x0": x0, "max_iterations": 3}
    found, here = client.proximal.solve("inverse", b, described, **options), model.solve(b, operator, **options)
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
    told = client.proximal.model("images")
    assert (told.network.shape, told.network.kind, told.noise) == ((2, 4, 3), "convolutional", images.noise)
    assert (told.steps, told.outcome, len(told.train_loss)) == (0, "", 0)
    observed = rng.random(one.shape) < 0.5
    found = client.proximal.solve("images", one[observed], MaskMap(observed), data_weight=0.5)
    assert found.x.shape == one.shape


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


def test_a_run_whose_callback_says_so_ends_with_what_there_is(client, model, slow):
    seen = []

    def callback(progress):
        seen.append(progress)
        return len(seen) == 2

    found = client.proximal.solve("inverse", DATA[3], IdentityMap(), callback=callback, **ENDLESS)
    assert found.result is Result.CANCELLED
    assert len(found.residuals) == found.iterations + 1 > seen[1].iteration
    assert found.residuals[seen[1].iteration] == seen[1].residual
    assert found.objectives[seen[1].iteration] == seen[1].objective
    assert "cancelled" in found._repr_html_()


def test_a_run_beyond_its_deadline_is_ended_on_the_server_within_an_application(client, model, slow, monkeypatch):
    # All of them come before the first iteration.
    monkeypatch.setattr("relaxon.neuromorphic.proximal.forward.operators.NORM_RTOL", -1.0)
    with pytest.raises(errors.DeadlineExceeded):
        client.proximal.solve("inverse", DATA[3], IdentityMap(), timeout=0.3, **ENDLESS)
    count = settled(slow)
    assert 1 < count < NORM_STEPS
    time.sleep(0.1)
    assert len(slow) == count


def test_a_task_that_is_cancelled_ends_its_run_on_the_server(embedded, model, slow):
    async def asked():
        async with relaxon.aio.connect(embedded.target) as there:
            task = asyncio.create_task(there.proximal.solve("inverse", DATA[3], IdentityMap(), **ENDLESS))
            while len(slow) < 20:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            count = await asyncio.to_thread(settled, slow)
            await asyncio.sleep(0.1)
            return count

    assert asyncio.run(asked()) == len(slow)


def test_a_prior_beyond_its_deadline_is_ended_on_the_server_within_a_step(client, model, monkeypatch):
    from relaxon.neuromorphic.proximal import inversion

    steps, own = [], inversion._find_newton_step

    def step(*arguments):
        steps.append(1)
        time.sleep(0.02)
        return 0.0 * own(*arguments)

    monkeypatch.setattr(inversion, "_find_newton_step", step)
    monkeypatch.setattr(inversion, "_search", lambda potential, y, v, a, c, d, value: (
        y, value, potential.value_and_proximal(y)[1], value == value))  # fmt: skip
    with pytest.raises(errors.DeadlineExceeded):
        client.proximal.prior("inverse", DATA[:3], rtol=1e-300, max_iterations=10_000, timeout=0.3)
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


def bad_solve(operator, b=DATA[3], **options):
    return lambda p: p.solve("inverse", b, operator, **{"data_weight": 0.1, **options})


REFUSED = {
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
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_refused_by_the_arguments_name(client, model, name):
    call, said = REFUSED[name]
    with pytest.raises(errors.InvalidArgument, match=f"^{said}") as caught:
        call(client.proximal)
    # What the message begins with is the field that it names.
    assert str(caught.value).startswith(f"{caught.value.field} must")
    assert caught.value.field


@pytest.mark.parametrize(
    "call",
    [
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
def test_what_is_too_large_is_refused_before_anything_is_allocated(client, model, images, call):
    with pytest.raises(errors.ResourceExhausted):
        call(client.proximal)


def test_a_field_that_cannot_be_solved_to_its_tolerance_is_refused_by_name(client, model):
    with pytest.raises(errors.InvalidArgument, match="operator must give fields") as caught:
        client.proximal.solve("inverse", DATA[3], FieldMap(GRID, solver="cg", rtol=1e-30), data_weight=1e-9)
    assert caught.value.field == "operator"
