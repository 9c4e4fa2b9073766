"""A client belongs to the process, and an asyncio client to the event loop, that connected it, until it is closed."""

import asyncio
import copy
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from both import KINDS, given, listed, play

import relaxon
import relaxon.aio
from relaxon.client import BoostingSettings, Cancelled, FailedPrecondition
from relaxon.client._async.ownership import OTHER_LOOP
from relaxon.wire.ownership import BELONGS, CLOSED

SOURCE = Path(relaxon.__file__).resolve().parents[1]
CELLS = np.zeros((16, 16), np.uint8)
B = np.ones(CELLS.shape)
ROWS = np.linspace(-1.0, 1.0, 40).reshape(-1, 1)

FORKING = """
import asyncio, os, signal, sys
import numpy as np
from scipy.sparse import diags_array
import relaxon, relaxon.aio
from relaxon.client import BoostingSettings
from relaxon.wire.ownership import BELONGS
from both import given, listed

kind, target, ending = sys.argv[1:]
CELLS = np.zeros((400, 400), np.uint8)
B, ROWS = np.ones(CELLS.shape), np.linspace(-1.0, 1.0, 40).reshape(-1, 1)
A = diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(50, 50))
connect = relaxon.aio.connect if kind == "asyncio" else relaxon.connect
MODEL = f"of-a-fork-{os.getpid()}"


def run(coroutine):
    if kind == "asyncio":
        return asyncio.run(coroutine)
    try:
        coroutine.send(None)  # never waits
    except StopIteration as done:
        return done.value


def calls(client, grid, matrix, job):
    return {
        "connect": lambda: connect(target, timeout=60),
        "health": client.health,
        "status": client.status,
        "solvers": client.poisson.list_solvers,
        "grid": lambda: client.poisson.grid(CELLS),
        "matrix": lambda: client.linear.matrix(A),
        "solve": lambda: grid.solve(B),
        "solve_many": lambda: grid.solve_many([B, B]),
        "update": lambda: grid.update(CELLS),
        "empty": grid.empty,
        "solve of a matrix": lambda: matrix.solve(np.ones(50)),
        "delete": matrix.delete,
        "steps": lambda: listed(grid.solve_steps([B])),
        "job": job.info,
        "result": job.result,
        "cancel": job.cancel,
        "progress": lambda: listed(job.progress()),
        "jobs": client.jobs.list,
        "find": lambda: client.jobs.get(job.name),
        "predict": lambda: client.boosting.predict(MODEL, ROWS),
        "models": client.models.list,
        "train": lambda: client.boosting.train(ROWS, ROWS[:, 0]),
    }


async def serving():
    client = await given(connect(target, timeout=60))
    return 0 if await given(client.health()) == "SERVING" else 1


async def told(call):
    signal.alarm(30)  # ends a call that hangs, and this process with it
    try:
        return repr(await given(call()))
    except relaxon.client.FailedPrecondition as error:
        return str(error)


async def wrong(asked):
    said = {name: await told(call) for name, call in asked.items()}
    return {name: one for name, one in said.items() if one != BELONGS}


async def parent():
    before = os.fork()
    if before == 0:
        os._exit(run(serving()))
    assert os.waitpid(before, 0)[1] == 0, "a child forked before the first connect"
    client = await given(connect(target, timeout=60))
    grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
    matrix = await given(client.linear.matrix(A))
    settings = BoostingSettings(n_units=2, random_state=0)
    job = await given(client.boosting.train(ROWS, ROWS[:, 0], settings=settings, model=MODEL))
    await given(job.result())
    steps = grid.solve_steps([B, B, B])
    step = steps.__anext__ if kind == "asyncio" else steps.__next__
    await given(step())
    pid = os.fork()
    if pid == 0:
        asked = calls(client, grid, matrix, job) | {"a stream begun before": step}
        found = run(wrong(asked))
        run(given(client.close()) if kind == "blocking" else client.close())
        if found or ending == "at once":
            print(found, file=sys.stderr, flush=True)
            os._exit(2 if found else 0)
        return
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"the child ended with status {status}"
    assert len(await listed(steps)) == 2
    assert (await given(grid.solve(B))).converged and (await given(matrix.solve(np.ones(50)))).converged
    assert await given(client.health()) == "SERVING" and (await given(job.info())).steps == 2
    await given(client.boosting.delete_model(MODEL))
    await given(client.close())
    print("the parent goes on")


run(parent())
"""


@pytest.mark.in_clear
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize(
    ("kind", "ending"), [("blocking", "at once"), ("blocking", "by the interpreter"), ("asyncio", "at once")]
)
def test_a_forked_child_is_refused_at_once_and_its_parent_goes_on(embedded, kind, ending):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, kind, embedded.target, ending],
        env={**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{Path(__file__).parents[1] / 'helpers'}"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "the parent goes on\n"), done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_belongs_to_a_process_is_pickled_or_copied(embedded, kind):
    async def scenario(client):
        settings = BoostingSettings(n_units=1, random_state=0)
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        job = await given(client.boosting.train(ROWS, ROWS[:, 0], settings=settings, model=f"copied-{kind}"))
        await given(job.result())
        trainers = (client.boosting, client.convex, client.equilibrium, client.energy, client.proximal)
        parts = (client.poisson, client.linear, *trainers, client.models)
        for one in (client, grid, job, client.jobs, *parts):
            for reproduced in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(TypeError) as refused:
                    reproduced(one)
                assert str(refused.value) == BELONGS, one
        return (await given(grid.solve(B))).converged

    assert play(kind, embedded.target, scenario)


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_client_says_so_whatever_is_asked_of_it(embedded, kind):
    async def scenario(client):
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        steps = grid.solve_steps([B, B, B, B])
        await (anext(steps) if kind == "asyncio" else given(next(steps)))
        await given(client.close())
        await given(client.close())
        asked = (
            client.health,
            client.status,
            client.wait_until_ready,
            client.poisson.list_solvers,
            client.jobs.list,
            client.models.list,
            grid.delete,
            grid.empty,
            lambda: grid.solve(B),
            lambda: listed(grid.solve_steps([B])),
            lambda: client.poisson.grid(CELLS),
            lambda: client.boosting.train(ROWS, ROWS[:, 0]),
        )
        for ask in asked:
            with pytest.raises(Cancelled) as refused:
                await given(ask())
            assert str(refused.value) == CLOSED
        with pytest.raises(Cancelled):
            await listed(steps)
        return True

    assert play(kind, embedded.target, scenario)


def test_leaving_a_grid_s_block_after_its_client_is_closed_is_no_error(embedded):
    with relaxon.connect(embedded.target) as client, client.poisson.grid(CELLS) as grid:
        client.close()
    assert "256" in repr(grid)


async def _asked(client, grid):
    """What each of these calls says."""
    said = []
    asked = (client.health, grid.delete, lambda: grid.solve(B), lambda: client.poisson.grid(CELLS), client.close)
    for ask in (*asked, lambda: listed(grid.solve_steps([B]))):
        with pytest.raises(FailedPrecondition) as refused:
            await given(ask())
        said.append(str(refused.value))
    return said


async def _connected(target):
    client = await relaxon.aio.connect(target, timeout=30)
    return client, await client.poisson.grid(CELLS, boundary="dirichlet")


def test_a_second_event_loop_is_refused_an_asyncio_client(embedded):
    with asyncio.Runner() as runner:
        client, grid = runner.run(_connected(embedded.target))
        said = []

        def other():
            said.extend(asyncio.run(_asked(client, grid)))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert set(said) == {OTHER_LOOP}
        assert runner.run(grid.solve(B)).converged
        runner.run(client.close())


def test_a_client_of_an_event_loop_that_has_ended_is_refused_and_can_be_closed(embedded):
    client, grid = asyncio.run(_connected(embedded.target))

    async def later():
        with pytest.raises(FailedPrecondition) as refused:
            await grid.solve(B)
        await client.close()
        with pytest.raises(Cancelled):
            await client.health()
        return str(refused.value)

    assert asyncio.run(later()) == OTHER_LOOP
