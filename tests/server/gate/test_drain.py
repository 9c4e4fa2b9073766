"""A server that stops: whoever calls it then, or is still waiting for it, is told so."""

import asyncio
import threading

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import relaxon
import relaxon.aio
from relaxon.client import Retries
from relaxon.core import errors
from relaxon.server.app import EmbeddedServer
from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate import request_ids
from relaxon.server.gate.drain import STANDING, Drain
from relaxon.server.gate.errors import ServiceError

Code = grpc.StatusCode
WAIT = 20
METHOD = "/relaxon.v1.PoissonService/ListSolvers"
CELLS = np.zeros((4, 4), np.uint8)


def stopped(server):
    """A thread in which the server is stopped."""
    thread = threading.Thread(target=server.__exit__, args=(None, None, None))
    thread.start()
    return thread


def handled(drain, method, work):
    """A task that handles a call as the front does."""

    async def handle():
        with drain.call(method):
            return await work

    return asyncio.create_task(handle())


def test_calls_that_come_too_late_are_refused_until_none_has_come_for_a_while():
    async def scenario():
        drain = Drain()
        assert await handled(drain, METHOD, asyncio.sleep(0, "answered")) == "answered"
        refusing = asyncio.create_task(drain.refuse(longest=60))
        for _ in range(10):
            await asyncio.sleep(0.01)
            assert not refusing.done()
            nothing = asyncio.sleep(0)
            with pytest.raises(ServiceError, match="about to stop") as caught:
                await handled(drain, METHOD, nothing)
            nothing.close()
            assert caught.value.code is Code.UNAVAILABLE
        assert await handled(drain, "/grpc.health.v1.Health/Check", asyncio.sleep(0, "answered")) == "answered"
        await refusing

    asyncio.run(asyncio.wait_for(scenario(), WAIT))


def test_who_calls_without_end_does_not_hold_a_server_up():
    async def scenario():
        drain = Drain()
        refusing = asyncio.create_task(drain.refuse(longest=0.2))
        await asyncio.sleep(0)
        while not refusing.done():
            with pytest.raises(ServiceError), drain.call(METHOD):
                pass
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(scenario(), WAIT))


def test_running_calls_are_waited_for_and_then_cut_off():
    async def scenario():
        drain, done = Drain(), asyncio.Event()
        ends, stays = handled(drain, METHOD, done.wait()), handled(drain, METHOD, asyncio.Event().wait())
        looks_on = [handled(drain, method, asyncio.Event().wait()) for method in STANDING]
        gone = handled(drain, METHOD, asyncio.Event().wait())
        await asyncio.sleep(0)
        gone.cancel()  # by its caller
        await drain.refuse(0.0)
        for one in looks_on:
            with pytest.raises(ServiceError, match="before the call was done"):
                await one
        asyncio.get_running_loop().call_later(0.05, done.set)
        await drain.finish(0.5)
        assert await ends is True
        with pytest.raises(ServiceError, match="before the call was done") as caught:
            await stays
        assert caught.value.code is Code.UNAVAILABLE
        with pytest.raises(asyncio.CancelledError):
            await gone

    asyncio.run(asyncio.wait_for(scenario(), WAIT))


@pytest.mark.parametrize("grace", [0.0, 60.0])
def test_calls_on_their_way_to_a_server_that_stops_find_it_unavailable_or_are_answered(grace):
    server = EmbeddedServer(ServerSettings(port=0, grace_seconds=grace)).__enter__()
    with relaxon.connect(server.target, retries=Retries(attempts=1)) as client:
        began, found = threading.Barrier(9), []

        def call():
            began.wait(WAIT)
            try:
                while True:
                    client.poisson.list_solvers()
            except errors.RelaxonError as error:
                found.append(type(error))

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        began.wait(WAIT)
        server.__exit__(None, None, None)
        for thread in threads:
            thread.join(WAIT)
    assert found == [errors.Unavailable] * 8


def test_the_same_with_the_asyncio_client():
    async def scenario():
        server = EmbeddedServer(ServerSettings(port=0, grace_seconds=60)).__enter__()
        async with await relaxon.aio.connect(server.target, retries=Retries(attempts=1)) as client:

            async def call():
                while True:
                    await client.poisson.list_solvers()

            calls = [asyncio.create_task(call()) for _ in range(8)]
            await asyncio.sleep(0.05)
            await asyncio.to_thread(server.__exit__, None, None, None)
            found = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(one) for one in found] == [errors.Unavailable] * 8

    asyncio.run(asyncio.wait_for(scenario(), 2 * WAIT))


@pytest.mark.parametrize("grace", [0.0, 0.1])
def test_a_solve_that_the_grace_time_is_too_short_for_is_unavailable(endless, grace):
    server = EmbeddedServer(ServerSettings(port=0, grace_seconds=grace)).__enter__()
    with relaxon.connect(server.target, retries=Retries(attempts=1)) as client:
        grid, outcome = client.poisson.grid(CELLS, boundary="dirichlet"), []

        def solve():
            with pytest.raises(errors.Unavailable, match="before the call was done") as raised:
                grid.solve(np.ones(CELLS.shape), solver="damped", rtol=1e-300)
            outcome.append(raised.value)

        thread = threading.Thread(target=solve)
        thread.start()
        assert endless.started.wait(WAIT)
        server.__exit__(None, None, None)
        assert endless.finished.is_set()
        thread.join(WAIT)
    assert len(outcome) == 1


def test_who_only_looks_on_is_told_and_not_waited_for():
    server = EmbeddedServer(ServerSettings(port=0, grace_seconds=600)).__enter__()
    with grpc.insecure_channel(server.target) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=WAIT)
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        reflect = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        kept, let_go = threading.Event(), threading.Event()

        def asking():
            yield b"\x3a\x00"  # list the services
            kept.set()
            let_go.wait(WAIT)

        told = reflect(asking(), timeout=2 * WAIT)
        next(told)
        assert kept.wait(WAIT)
        thread = stopped(server)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for call in (watch, told):
            with pytest.raises(grpc.RpcError) as raised:
                next(call)
            assert raised.value.code() is Code.UNAVAILABLE
            assert request_ids.KEY in dict(raised.value.trailing_metadata())
        let_go.set()
        thread.join(WAIT)
        assert not thread.is_alive()
