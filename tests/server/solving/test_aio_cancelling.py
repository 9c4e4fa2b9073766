"""A task that is cancelled, or has no more time, ends its solve on the server; a closed client ends its calls."""

import asyncio

import numpy as np
import pytest

import relaxon.aio
from relaxon.client import Cancelled, DeadlineExceeded

CELLS = np.zeros((64, 64), np.uint8)
WAIT = 20.0  # a solve of these cells takes minutes


async def running(grid, solver):
    """A task with a solve that the server is at."""
    solver.started.clear()
    task = asyncio.create_task(grid.solve(np.ones(CELLS.shape), solver="damped", rtol=1e-14, timeout=WAIT))
    assert await asyncio.to_thread(solver.started.wait, WAIT)
    return task


async def ended(solver):
    return await asyncio.to_thread(solver.finished.wait, WAIT)


def test_cancelling_the_task_stops_the_solve(server, endless):
    async def scenario():
        async with (
            relaxon.aio.connect(server.target) as client,
            client.poisson.grid(CELLS, boundary="dirichlet") as grid,
        ):
            task = await running(grid, endless)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await ended(endless)
            count = endless.iterations
            endless.gate.set()  # the connection still serves
            assert (await grid.solve(np.ones(CELLS.shape), solver="damped", rtol=1e-3)).converged
            return count

    assert asyncio.run(scenario()) < endless.iterations


def test_asyncio_s_own_timeout_stops_the_solve(server, endless):
    async def scenario():
        async with (
            relaxon.aio.connect(server.target) as client,
            client.poisson.grid(CELLS, boundary="dirichlet") as grid,
        ):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await grid.solve(np.ones(CELLS.shape), solver="damped", rtol=1e-14)
            assert await ended(endless)
            with pytest.raises(DeadlineExceeded):
                await grid.solve(np.ones(CELLS.shape), solver="damped", rtol=1e-14, timeout=0.2)
            assert await ended(endless)

    asyncio.run(scenario())


def test_closing_the_client_ends_its_calls_with_this_package_s_error(server, endless):
    async def scenario():
        client = await relaxon.aio.connect(server.target)
        grid = await client.poisson.grid(CELLS, boundary="dirichlet")
        task = await running(grid, endless)
        await client.close()
        with pytest.raises(Cancelled, match="closed"):
            await task
        assert not task.cancelled()
        assert await ended(endless)

    asyncio.run(scenario())


def test_an_exception_in_the_callback_stops_the_solve(server, endless):
    kept = []

    def failing(progress):
        raise LookupError(progress.iteration)

    async def scenario():
        async with (
            relaxon.aio.connect(server.target) as client,
            client.poisson.grid(CELLS, boundary="dirichlet") as grid,
        ):
            with pytest.raises(LookupError) as caught:
                await grid.solve(np.ones(CELLS.shape), solver="damped", rtol=1e-14, callback=failing)
            kept.append(caught)  # its traceback holds the call, which garbage collection would end otherwise
            assert await ended(endless)

    asyncio.run(scenario())
