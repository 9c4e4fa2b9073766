"""The asyncio client gives what the blocking one gives, and never holds its event loop up."""

import asyncio
import threading
from contextlib import suppress

import numpy as np
import pytest
from both import KINDS, given, listed, play
from kept_sessions import MadeSince

import relaxon
import relaxon.aio
from relaxon.client import (
    BoostingSettings,
    DeadlineExceeded,
    EquilibriumSettings,
    GradientEstimator,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from relaxon.core import errors, validation
from relaxon.neuromorphic.boosting import GradientBoostedNetworkRegressor, UnseenCategoryWarning
from relaxon.solvers import Solution

CELLS = np.zeros((6, 7, 8), np.uint8)
B = np.random.default_rng(0).standard_normal(CELLS.shape)
X = np.linspace(-1, 1, 60).reshape(-1, 1)
BOOSTING = BoostingSettings(n_units=6, units_per_stage=2, random_state=0)


def run(embedded, scenario, **options):
    return play("asyncio", embedded.target, scenario, timeout=90, transfer_timeout=600, **options)


def test_a_solve_gives_the_same_bits_as_the_blocking_client(embedded):
    async def solved(client):
        grid = await given(client.poisson.grid(CELLS, 0.5, "dirichlet", np.full(CELLS.shape, 2.0)))
        one = await given(grid.solve(B, solver="mg-cg", rtol=1e-9, x0=B))
        many = await given(grid.solve_many([B, 2 * B], solver="mg-cg"))
        packed = await given(grid.solve(B.ravel(), solver="cg"))
        shown = {name: value for name, value in vars(grid).items() if not name.startswith("_")}
        await given(grid.delete())
        return [one, *many, packed], shown

    ours, shown = play("blocking", embedded.target, solved)
    theirs, also = play("asyncio", embedded.target, solved)
    assert set(shown) == set(also)
    for mine, other in zip(ours, theirs, strict=True):
        assert type(other) is Solution
        assert mine.x.tobytes() == other.x.tobytes()
        assert mine.residuals.tobytes() == other.residuals.tobytes()
        assert (mine.result, mine.iterations, mine.info) == (other.result, other.iterations, other.info)


def test_solves_of_several_tasks_run_on_one_connection(embedded):
    async def together(client):
        async with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
            return await asyncio.gather(*(grid.solve(k * B, solver="cg") for k in range(1, 5)))

    first, *rest = run(embedded, together)
    assert all(one.converged for one in rest)
    for k, one in enumerate(rest, 2):
        np.testing.assert_allclose(one.x, k * first.x, rtol=1e-4, atol=1e-5 * np.abs(one.x).max())


@pytest.mark.parametrize("awaited", [False, True])
def test_a_callback_that_says_so_stops_the_solve(embedded, awaited):
    seen = []

    def plain(progress):
        seen.append(progress.iteration)
        return True

    async def coroutine(progress):
        await asyncio.sleep(0)
        return plain(progress)

    async def stopped(client):
        async with client.poisson.grid(np.zeros((40, 40, 40), np.uint8)) as grid:
            b = np.zeros(grid.shape)
            b[0, 0, 0], b[-1, -1, -1] = 1.0, -1.0
            callback = coroutine if awaited else plain
            return await grid.solve(b, solver="cg", rtol=1e-15, max_iterations=10**6, callback=callback)

    assert run(embedded, stopped).result.name == "CANCELLED"
    assert len(seen) == 1


def test_an_exception_in_the_callback_ends_the_solve_with_it(embedded):
    def failing(progress):
        raise LookupError(progress.iteration)

    async def solved(client):
        async with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
            with pytest.raises(LookupError):
                await grid.solve(B, solver="cg", callback=failing)
            return await grid.solve(B, solver="cg")

    assert run(embedded, solved).converged


def test_large_arrays_are_handed_over_through_shared_memory(embedded):
    cells = np.zeros((96, 64, 64), np.uint8)

    async def solved(client):
        async with client.poisson.grid(cells, boundary="dirichlet") as grid:
            used = grid._handover.file is not None
            return used, await grid.solve(np.ones(cells.shape), solver="mg-cg")

    shared, ours = run(embedded, solved)
    sent, theirs = run(embedded, solved, shared_memory=False)
    assert (shared, sent) == (True, False)
    assert ours.x.tobytes() == theirs.x.tobytes()


def test_arrays_are_checked_off_the_event_loop(embedded, monkeypatch):
    checked, original = [], validation.real_array

    def noted(name, value, **options):
        checked.append(threading.get_ident())
        return original(name, value, **options)

    monkeypatch.setattr(validation, "real_array", noted)

    async def solved(client):
        async with client.poisson.grid(CELLS, boundary="dirichlet") as grid:
            await grid.solve(B, solver="cg")
        await client.boosting.train(X, X[:, 0], settings=BOOSTING)
        return threading.get_ident()

    loop = run(embedded, solved)
    assert len(checked) >= 2
    assert loop not in checked


@pytest.mark.parametrize("kind", KINDS)
def test_refusals_are_the_same(embedded, kind):
    async def refused(client):
        words = []
        grid = await given(client.poisson.grid(CELLS))
        for call in (
            lambda: client.poisson.grid(CELLS, spacing=-1.0),
            lambda: grid.solve(B[1:]),
            lambda: grid.solve(np.where(B > 1, np.nan, B)),
            lambda: grid.solve(0 * B, solver="gauss"),
            lambda: grid.solve_many([0 * B, B]),
            lambda: grid.solve(0 * B, timeout=0),
            lambda: client.boosting.train(X, X[1:]),
            lambda: client.boosting.train(X, X, settings=BoostingSettings(n_units=0)),
            lambda: client.equilibrium.train(X, X[:, 0] > 0, settings=EquilibriumSettings(epochs=0)),
        ):
            with pytest.raises(InvalidArgument) as caught:
                await given(call())
            words.append((caught.value.field, str(caught.value)))
        with pytest.raises(NotFound) as missing:
            await given(client.boosting.model("none"))
        assert missing.value.resource_type == "relaxon.v1.BoostingModel"
        assert missing.value.resource_name == "none"
        return words

    fields = ["spacing", "b", "b", "solver", "b[1]", "timeout", "y", "n_units", "epochs"]
    words = play(kind, embedded.target, refused)
    assert [field for field, _ in words] == fields
    assert words == play("blocking", embedded.target, refused)


def test_a_refusal_that_comes_while_sending_is_told_as_the_server_sent_it(embedded):
    """gRPC's asyncio stack loses about every second one: https://github.com/grpc/grpc/issues/36066."""

    async def refused(client):
        async with client.poisson.grid(CELLS) as grid:
            await grid.delete()
            for _ in range(60):
                with pytest.raises(NotFound, match=r"is not known") as caught:
                    await grid.solve(0 * B, solver="cg")
                assert caught.value.resource_name == grid.id

    run(embedded, refused)


@pytest.mark.parametrize("kind", KINDS)
def test_categories_and_constraints_reach_the_server_and_unseen_ones_are_told(embedded, kind):
    options = {"n_units": 3, "random_state": 0, "categorical_features": [0], "monotone_constraints": [0, -1]}
    coded = np.column_stack([np.arange(60) % 3, X[:, 0]])
    later = np.column_stack([coded[::-1, 0] + 3, coded[::-1, 1]])
    ours = GradientBoostedNetworkRegressor(**options).fit(coded, B.ravel()[:60])

    async def predicted(client):
        job = await given(client.boosting.train(coded, B.ravel()[:60], settings=BoostingSettings(**options)))
        model = await given(job.result())
        with pytest.warns(UnseenCategoryWarning, match=r"column 0 5, 4, 3"):
            found = await given(client.boosting.predict(model, later))
        await given(client.boosting.delete_model(model))
        return found

    with pytest.warns(UnseenCategoryWarning, match=r"column 0 5, 4, 3"):
        expected = ours.predict(later)
    assert (play(kind, embedded.target, predicted) == expected).all()


@pytest.mark.parametrize("kind", KINDS)
def test_jobs_and_models(embedded, kind):
    async def trained(client):
        job = await given(client.boosting.train(X, X[:, 0] > 0, task="classification", settings=BOOSTING))
        steps = await listed(job.progress())
        rest = await listed(job.progress(skip=2))
        model = await given(job.result())
        again = await given(client.boosting.job(job.name))
        assert (await given(again.state)).name == "DONE"
        short = await given(client.boosting.truncate(model, 2))
        assert short.units == 2
        names = {one.name for one in await given(client.boosting.models())}
        assert {model.name, short.name} <= names
        found = [
            await given(client.boosting.predict(model, X)),
            await given(client.boosting.predict_proba(model, X)),
            await given(client.boosting.decision_function(model.name, X, n_units=2)),
            (await given(client.boosting.model(model.name))).train_loss,
        ]
        await given(client.boosting.delete_model(short))
        with pytest.raises(NotFound):
            await given(client.boosting.delete_model(short.name))
        await given(job.delete())
        with pytest.raises(NotFound):
            await given(job.result())
        return [step.units for step in steps], [step.units for step in rest], found

    units, rest, found = play(kind, embedded.target, trained)
    assert (units[0], units[-1], rest) == (2, 6, units[2:])  # a stage may have dead units
    for mine, other in zip(found, play("blocking", embedded.target, trained)[2], strict=True):
        assert (mine == other).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_that_is_waited_for_too_briefly_goes_on_until_it_is_cancelled(embedded, kind):
    async def cut(client):
        job = await given(
            client.boosting.train(X, X[:, 0], settings=BoostingSettings(n_units=10_000, learning_rate=1e-3))
        )
        with pytest.raises(DeadlineExceeded, match="goes on"):
            await given(job.result(timeout=0.01))
        if kind == "asyncio":
            async for _ in job.progress():
                break
        else:
            next(job.progress())
        await given(job.cancel())
        return (await given(job.result())).outcome

    assert play(kind, embedded.target, cut) == "cancelled"


def test_equilibrium_predictions_gradients_and_warnings(embedded):
    async def compared(client):
        settings = EquilibriumSettings(hidden_sizes=(4,), epochs=2, random_state=0)
        labels = X[:, 0] > 0
        model = await given((await given(client.equilibrium.train(X, labels, settings=settings))).result())
        rows = await given(client.equilibrium.compare_gradients(model, X, labels, [GradientEstimator("cauchy")]))
        return await given(client.equilibrium.predict_proba(model, X)), rows[0].cosine

    (ours, cosine), (theirs, other) = (play(kind, embedded.target, compared) for kind in KINDS)
    assert (ours == theirs).all()
    assert cosine == other


def test_what_is_opened_may_be_awaited_or_used_in_a_block(embedded):
    async def scenario():
        client = await relaxon.aio.connect(embedded.target)
        assert await client.health() == "SERVING"
        made = MadeSince(embedded)
        kept = await client.poisson.grid(CELLS)
        async with client.poisson.grid(CELLS):
            assert len(made) == 2
        await kept.delete()
        assert len(made) == 0
        with suppress(LookupError):
            async with client.poisson.grid(CELLS):
                raise LookupError
        assert len(made) == 0
        await client.close()
        assert repr(client).startswith("Client(")

    asyncio.run(scenario())


def test_a_server_that_is_not_there_is_unavailable_and_a_bad_target_is_refused():
    async def scenario(**arguments):
        await relaxon.aio.connect(**arguments)

    with pytest.raises(Unavailable, match=r"no server answered at 127\.0\.0\.1:9 within 0\.2 s"):
        asyncio.run(scenario(target="127.0.0.1:9", timeout=0.2))
    with pytest.raises(errors.InvalidArgument, match="^target must be"):
        asyncio.run(scenario(target=""))
