"""Both clients refuse masked arrays by name, before anything is sent."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from both import KINDS, given, listed, play
from scipy import sparse

from relaxon.client import InvalidArgument, Step

SHAPE = (6, 7)
CELLS = np.zeros(SHAPE, np.uint8)
CELLS[2, 3] = 1
ONE = np.zeros(SHAPE, bool)
ONE[0, 1] = True
B = np.ma.array(np.where(ONE, 9.96921e36, 1.0), mask=ONE)
X = np.ma.array(np.ones((5, 2)), mask=[[0, 1]] + [[0, 0]] * 4)
Y = np.ma.array([0, 1, 0, 1, 0], mask=[0, 0, 1, 0, 0])


async def refused(name, call):
    with pytest.raises(InvalidArgument) as refusal:
        found = call()
        if hasattr(found, "__aiter__") or inspect.isgenerator(found):
            await listed(found)
        await given(found)
    assert str(refusal.value).startswith(f"{name} must have no masked entries"), str(refusal.value)


@pytest.mark.parametrize("kind", KINDS)
def test_grids_and_matrices(kind, embedded):
    async def scenario(client):
        poisson = client.poisson
        await refused("cells", lambda: poisson.grid(np.ma.array(CELLS, mask=ONE)))
        await refused("coefficient", lambda: poisson.grid(CELLS, coefficient=B))
        await refused("spacing", lambda: poisson.grid(CELLS, spacing=np.ma.array([1.0, 1.0], mask=[0, 1])))
        kept = await given(poisson.grid(CELLS, boundary="dirichlet"))
        await refused("b", lambda: kept.solve(B))
        await refused("x0", lambda: kept.solve(np.ones(SHAPE), x0=B))
        await refused("b[1]", lambda: kept.solve_many([np.ones(SHAPE), B]))
        await refused("b[1]", lambda: kept.solve_steps([np.ones(SHAPE), B]))
        await refused("x0", lambda: kept.solve_steps([np.ones(SHAPE)], x0=B))
        await refused("cells", lambda: kept.update(np.ma.array(CELLS, mask=ONE)))
        await refused("coefficient", lambda: kept.update(coefficient=B))
        with pytest.raises(InvalidArgument, match="cells must have no masked"):
            await listed(kept.solve_steps([Step(np.ones(SHAPE), cells=np.ma.array(CELLS, mask=ONE))]))
        whole = await given(kept.solve(np.ma.array(np.ones(SHAPE)), solver="cg"))
        assert whole.converged
        matrix = sparse.eye_array(5, format="csr")
        matrix.data = np.ma.array(matrix.data, mask=np.arange(5) == 2)
        await refused("matrix", lambda: client.linear.matrix(matrix))

    play(kind, embedded.target, scenario, timeout=60)


@pytest.mark.parametrize("shared_memory", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_masks_wholly_outside_the_fluid_are_taken(kind, shared_memory, embedded):
    cells = np.zeros((40, 36), np.uint8)
    cells[12:20, 10:26] = 1
    cells[:, -1] = 2
    outside = cells != 0
    plain = np.where(outside, 0.0, np.random.default_rng(0).standard_normal(cells.shape))
    fill = {np.float64: 9.96921e36, np.float32: 9.96921e36, np.complex128: 9.96921e36j, np.int64: 99}
    inside = outside.copy()
    inside[0, 0] = True

    async def scenario(client):
        kept = await given(client.poisson.grid(cells, boundary="dirichlet"))
        for kind_of_number, value in fill.items():
            numbers = (10 * plain * (1 - 2j if kind_of_number is np.complex128 else 1)).astype(kind_of_number)
            masked = np.ma.array(np.where(outside, value, numbers), mask=outside, dtype=kind_of_number)
            before = masked.data.copy()
            expected = await given(kept.solve(numbers, x0=numbers, solver="cg"))
            found = [await given(kept.solve(masked, x0=masked, solver="cg"))]
            found += await given(kept.solve_many([masked], x0=[masked], solver="cg"))
            found += await listed(kept.solve_steps([masked], x0=masked, solver="cg"))
            for one in found:
                assert one.converged
                np.testing.assert_array_equal(one.x, expected.x)
            np.testing.assert_array_equal(masked.data, before)
            bad = np.ma.array(masked.data, mask=inside)
            await refused("b", lambda bad=bad: kept.solve(bad))
            await refused("x0", lambda bad=bad, ok=masked: kept.solve(ok, x0=bad))
            await refused("b[1]", lambda bad=bad, ok=masked: kept.solve_many([ok, bad]))
            await refused("b[1]", lambda bad=bad, ok=masked: kept.solve_steps([ok, bad]))
            await refused("x0", lambda bad=bad, ok=masked: kept.solve_steps([ok, ok], x0=bad))
        nan = np.ma.array(np.where(inside, np.nan, 1.0), mask=outside)
        with pytest.raises(InvalidArgument, match="^b must"):
            await given(kept.solve(nan))

    play(kind, embedded.target, scenario, timeout=60, shared_memory=shared_memory)


@pytest.mark.parametrize("kind", KINDS)
def test_training_tables_and_predictions(kind, embedded):
    async def scenario(client):
        x, y = np.ones((5, 2)), np.array([0, 1, 0, 1, 0])
        await refused("X", lambda: client.boosting.train(X, y, task="classification"))
        await refused("y", lambda: client.boosting.train(x, Y, task="classification"))
        await refused("y", lambda: client.boosting.train(x, Y.astype(float), task="regression"))
        w = np.ma.array(np.ones(5), mask=Y.mask)
        await refused("sample_weight", lambda: client.boosting.train(x, y, task="classification", sample_weight=w))
        await refused("X", lambda: client.boosting.predict("none", X))
        await refused("X", lambda: client.energy.train(X))
        await refused("X", lambda: client.energy.log_density("none", X))
        await refused("y", lambda: client.proximal.denoise("none", X))
        await refused("x", lambda: client.proximal.prior("none", X))
        await refused("X", lambda: client.convex.train(X, y))
        await refused("y", lambda: client.convex.train(x, Y))
        await refused("X", lambda: client.convex.predict("none", X))
        await refused("X", lambda: client.equilibrium.train(X, y))
        await refused("y", lambda: client.equilibrium.train(x, Y))
        await refused("X", lambda: client.equilibrium.predict("none", X))

    play(kind, embedded.target, scenario, timeout=60)
