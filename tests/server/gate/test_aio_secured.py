"""The asyncio client over TLS with a token: every kind of call brings it, and one without is refused."""

import asyncio

import numpy as np
import pytest
from secured import Authority

import relaxon
import relaxon.aio
from relaxon.client import BoostingSettings, InvalidArgument, Unauthenticated

X = np.linspace(-1, 1, 40).reshape(-1, 1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.make(tmp_path_factory.mktemp("authority"))


def test_every_kind_of_call_brings_the_token_over_tls(serving, authority, tmp_path):
    server = serving(**authority.settings)

    async def scenario():
        connecting = relaxon.aio.connect(server.target, token=authority.token, root_certificates=authority.roots)
        async with connecting as client:
            assert await client.health() == "SERVING"
            status = await client.status()
            assert (status.caller, status.encrypted) == ("tests", True)
            async with client.poisson.grid(np.zeros((6, 6), np.uint8), boundary="dirichlet") as grid:
                assert (await grid.solve(np.ones((6, 6)), solver="cg")).converged
            job = await client.boosting.train(X, X[:, 0], settings=BoostingSettings(n_units=2), model="line")
            assert len([step async for step in job.progress()]) == 2
            there = await client.boosting.predict(await job.result(), X)
            files = await client.models.download("boosting", "line", tmp_path)
            assert {path.name for path in files} == {"model.json", "network.safetensors"}
            copy = await client.models.upload("boosting", tmp_path, name="copy")
            assert (there == await client.boosting.predict(copy.name, X)).all()
            assert [one.name for one in await client.models.list("boosting")] == ["copy", "line"]
            assert [one.model for one in await client.jobs.list("kind = boosting")] == ["line"]

    asyncio.run(scenario())


def test_a_call_without_the_token_is_refused_and_a_token_is_not_sent_in_clear(serving, authority):
    server = serving(**authority.settings)

    async def without():
        async with relaxon.aio.connect(server.target, root_certificates=authority.roots) as client:
            with pytest.raises(Unauthenticated):
                await client.poisson.list_solvers()
            with pytest.raises(Unauthenticated):
                await client.poisson.grid(np.zeros((6, 6), np.uint8))

    asyncio.run(without())
    with pytest.raises(InvalidArgument, match="^token must not be sent in clear"):
        relaxon.aio.connect("example.org:50551", token=authority.token)
