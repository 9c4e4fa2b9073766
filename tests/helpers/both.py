"""One scenario for both clients: what the blocking one gives at once, the other gives when awaited."""

from __future__ import annotations

import asyncio
import inspect

import relaxon.aio

KINDS = ("blocking", "asyncio")


async def given(value):
    """The value itself, or what it gives when it is awaited."""
    return await value if inspect.isawaitable(value) else value


async def listed(steps):
    """All that an iterator of either kind gives."""
    return [step async for step in steps] if hasattr(steps, "__aiter__") else list(steps)


def play(kind, target, scenario, **options):
    """What the scenario, a coroutine function, gives with a client of that kind."""

    async def inside():
        if kind == "asyncio":
            async with relaxon.aio.connect(target, **options) as client:
                return await scenario(client)
        with relaxon.connect(target, **options) as client:
            return await scenario(client)

    return asyncio.run(inside())
