"""`solve_steps`: a right-hand side for each time step, warm starts, obstacles that move, room for two steps only."""

import asyncio
import time

import numpy as np
import pytest
from both import KINDS, given, listed, play
from client_steps import LARGE, in_process, same

from relaxon import client as errors
from relaxon.client import Step
from relaxon.solvers import PoissonGrid, Result, solve

CELLS = np.zeros((20, 18), np.uint8)
CELLS[4:8, 5:9] = 1
SIDES = np.random.default_rng(1).standard_normal((5, *CELLS.shape))
OPTIONS = {"solver": "mg-cg", "rtol": 1e-7}


def stepped(kind, target, cells, steps, before=None, connection=None, **options):
    async def scenario(client):
        grid = await given(client.poisson.grid(cells, boundary="dirichlet"))
        if before is not None:
            await given(before(grid))
        found = await listed(grid.solve_steps(steps, **options))
        await given(grid.delete())
        return found

    return play(kind, target, scenario, **(connection or {}))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("read_ahead", [True, False])
def test_steps_are_the_solves_in_process_one_after_the_other(embedded, kind, warm, read_ahead):
    local = PoissonGrid(CELLS, boundary="dirichlet")
    ours = in_process(lambda _: local, SIDES, warm, **OPTIONS)
    theirs = stepped(kind, embedded.target, CELLS, SIDES, warm_start=warm, read_ahead=read_ahead, **OPTIONS)
    same(theirs, ours)
    assert theirs[0].setup_seconds > 0
    assert all(one.setup_seconds == 0 for one in theirs[1:])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shared_memory", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_large_steps_of_every_type_pass_both_ways(embedded, kind, shared_memory, dtype):
    """Each of the two places in the shared file is used again and again."""
    local = PoissonGrid(LARGE, boundary="dirichlet")
    rng = np.random.default_rng(2)
    sides = rng.standard_normal((5, *LARGE.shape))
    sides = (sides + 1j * rng.standard_normal(sides.shape) if np.dtype(dtype).kind == "c" else sides).astype(dtype)
    start = rng.standard_normal(LARGE.shape)
    options = {"solver": "jacobi-cg", "max_iterations": 5}
    ours = in_process(lambda _: local, sides, start=start, **options)
    connection = {"shared_memory": shared_memory}
    same(stepped(kind, embedded.target, LARGE, sides, connection=connection, x0=start, **options), ours)


@pytest.mark.parametrize("kind", KINDS)
def test_packed_steps_and_none_at_all(embedded, kind):
    local = PoissonGrid(CELLS, boundary="dirichlet")
    packed = [local.pack(b) for b in SIDES]
    ours = in_process(lambda _: local, packed, **OPTIONS)
    same(stepped(kind, embedded.target, CELLS, packed, **OPTIONS), ours)
    assert stepped(kind, embedded.target, CELLS, [], **OPTIONS) == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_an_obstacle_that_moves_gives_what_fresh_grids_give(embedded, kind, packed):
    rng = np.random.default_rng(5)
    kappa = rng.uniform(0.5, 2.0, CELLS.shape)
    geometries = []
    for step in range(5):
        cells = np.zeros(CELLS.shape, np.uint8)
        cells[2 + 2 * step : 6 + 2 * step, 5:9] = 1
        geometries.append((cells, kappa if step == 3 else None))
    locals_ = [PoissonGrid(cells, boundary="dirichlet", coefficient=one) for cells, one in geometries]
    sides = [local.pack(b) if packed else b for local, b in zip(locals_, SIDES, strict=True)]
    start, ours = None, []
    for step, (local, b) in enumerate(zip(locals_, sides, strict=True)):
        if packed and start is not None:
            start = local.pack(locals_[step - 1].unpack(start))
        ours.append(solve(local, b, x0=start, **OPTIONS))
        start = ours[-1].x
    steps = [Step(b, cells, one) for b, (cells, one) in zip(sides, geometries, strict=True)]
    theirs = stepped(kind, embedded.target, CELLS, iter(steps), **OPTIONS)
    same(theirs, ours)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_may_depend_on_the_solution_before_it(embedded, kind):
    local = PoissonGrid(CELLS, boundary="dirichlet")
    seen = [np.zeros(CELLS.shape)]

    def steps():
        for _ in range(4):
            yield SIDES[0] + 0.1 * seen[-1]

    async def scenario(client):
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        found = grid.solve_steps(steps(), read_ahead=False, **OPTIONS)
        if hasattr(found, "__aiter__"):
            async for one in found:
                seen.append(one.x)
        else:
            for one in found:
                seen.append(one.x)

    play(kind, embedded.target, scenario)
    start, x = None, np.zeros(CELLS.shape)
    for one in seen[1:]:
        start = x = solve(local, SIDES[0] + 0.1 * x, x0=start, **OPTIONS).x
        np.testing.assert_array_equal(one, x)


def test_an_async_iterable_is_pulled_from_as_well(embedded):
    local = PoissonGrid(CELLS, boundary="dirichlet")

    async def steps():
        for b in SIDES:
            await asyncio.sleep(0)
            yield b

    same(stepped("asyncio", embedded.target, CELLS, steps(), **OPTIONS), in_process(lambda _: local, SIDES, **OPTIONS))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("read_ahead", [True, False])
def test_steps_are_pulled_no_further_ahead_than_is_said(embedded, kind, read_ahead):
    pulled, ahead = [], []

    def steps():
        for b in SIDES:
            pulled.append(None)
            yield b

    async def scenario(client):
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        done = 0
        found = grid.solve_steps(steps(), read_ahead=read_ahead, **OPTIONS)
        if hasattr(found, "__aiter__"):
            async for _ in found:
                done += 1
                ahead.append(len(pulled) - done)
        else:
            for _ in found:
                done += 1
                ahead.append(len(pulled) - done)

    play(kind, embedded.target, scenario)
    assert max(ahead) == (1 if read_ahead else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_may_be_written_to_again_when_the_next_step_is_asked_for(embedded, kind):
    local = PoissonGrid(LARGE, boundary="dirichlet")
    options = {"solver": "jacobi-cg", "max_iterations": 3}
    sides = np.random.default_rng(2).standard_normal((4, *LARGE.shape))

    def steps():
        b = np.empty(LARGE.shape)
        for one in sides:
            b[:] = one
            yield b
            b[:] = np.nan

    theirs = stepped(kind, embedded.target, LARGE, steps(), **options)
    same(theirs, in_process(lambda _: local, sides, **options))


@pytest.mark.parametrize("kind", KINDS)
def test_a_callback_stops_its_own_step_alone(embedded, kind):
    steps = iter(range(3))
    state = {"step": -1}

    def sides():
        for step in steps:
            state["step"] = step
            yield np.ones(LARGE.shape) * (1 + step)

    def callback(progress):
        return state["step"] == 1 and progress.iteration >= 1

    options = {"solver": "cg", "rtol": 1e-300, "max_iterations": 400, "warm_start": False, "read_ahead": False}
    theirs = stepped(kind, embedded.target, LARGE, sides(), callback=callback, **options)
    others = [theirs[0].result, theirs[2].result]
    assert theirs[1].result is Result.CANCELLED
    assert theirs[1].iterations < 400
    assert others == [Result.MAX_ITERATIONS] * 2
    with pytest.raises(LookupError):
        stepped(kind, embedded.target, LARGE, sides_failing(), callback=failing, solver="cg")


def sides_failing():
    yield np.ones(LARGE.shape)


def failing(progress):
    raise LookupError(progress.iteration)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_step_is_named_by_its_number_when_its_turn_has_come(embedded, kind):
    bad = [
        (np.full(CELLS.shape, np.nan), "b[2]"),
        (np.ones((3, 3)), "b[2]"),
        (Step(SIDES[0], np.full(CELLS.shape, 9)), "cells"),
        (Step(SIDES[0], coefficient=-np.ones(CELLS.shape)), "coefficient"),
        ("text", "b[2]"),
    ]

    async def scenario(client):
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        for step, field in bad:
            with pytest.raises(errors.InvalidArgument) as caught:
                await listed(grid.solve_steps([SIDES[0], SIDES[1], step, SIDES[2]], **OPTIONS))
            assert caught.value.field == field, caught.value
            assert (await given(grid.solve(SIDES[0], **OPTIONS))).converged
        for options in ({"rtol": 0.0}, {"solver": 3}, {"x0": np.ones(3)}, {"timeout": -1.0}):
            with pytest.raises(errors.InvalidArgument) as caught:
                grid.solve_steps(SIDES, **options)  # at once
            assert caught.value.field == next(iter(options))
        with pytest.raises(errors.InvalidArgument):
            grid.solve_steps(3.0)
        with pytest.raises(errors.InvalidArgument, match="did you mean"):
            await listed(grid.solve_steps(SIDES, solver="mgcg"))
        await given(grid.delete())
        with pytest.raises(errors.NotFound):
            await listed(grid.solve_steps(SIDES))

    play(kind, embedded.target, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_that_takes_too_long_ends_the_call(embedded, kind):
    async def scenario(client):
        grid = await given(client.poisson.grid(LARGE, boundary="dirichlet"))
        start = time.monotonic()
        with pytest.raises(errors.DeadlineExceeded):
            options = {"solver": "cg", "rtol": 1e-300, "max_iterations": 10**6, "timeout": 0.3}
            await listed(grid.solve_steps([np.ones(LARGE.shape)], **options))
        assert time.monotonic() - start < 20
        assert (await given(grid.solve(np.ones(LARGE.shape), solver="cg", max_iterations=2))).iterations == 2

    play(kind, embedded.target, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_the_iteration_ends_the_call_on_the_server(embedded, kind):
    async def scenario(client):
        grid = await given(client.poisson.grid(LARGE, boundary="dirichlet"))
        options = {"solver": "cg", "rtol": 1e-300, "max_iterations": 30, "warm_start": False}
        found = grid.solve_steps((np.ones(LARGE.shape) for _ in range(10**6)), **options)
        if hasattr(found, "__aiter__"):
            async for _ in found:
                break
            await found.aclose()
        else:
            for _ in found:
                break
            found.close()
        for _ in range(500):
            if (await given(client.status())).solves.used == 0:
                return
            await asyncio.sleep(0.02)
        raise AssertionError("the call goes on")

    play(kind, embedded.target, scenario)
