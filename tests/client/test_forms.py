"""Both clients take a right-hand side in the forms that the library takes, and refuse the others in its words."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from both import KINDS, given, listed, play

from relaxon.client import InvalidArgument
from relaxon.solvers import solve

N = 150_000
A = sp.diags_array([-1.0, 2.5, -1.0], offsets=[-1, 0, 1], shape=(N, N)).tocsr()
CELLS = np.zeros((5, 6), np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_is_given_back_as_a_column(embedded, kind):
    async def scenario(client):
        b = np.random.default_rng(3).normal(size=(N, 1))
        matrix = await given(client.linear.matrix(A))
        own = matrix.empty()
        own[:] = b[:, 0]
        columns = [
            await given(matrix.solve(b, x0=np.zeros((N, 1)), solver="cg")),
            await given(
                matrix.solve(own[:, None], solver="cg")
            ),  # handed over through shared memory where there is some
        ]
        vector = await given(matrix.solve(b[:, 0], solver="cg"))
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        packed = await listed(grid.solve_steps([np.ones((30, 1)), np.ones(30), np.ones((5, 6))], solver="cg"))
        return columns, vector, packed

    columns, vector, packed = play(kind, embedded.target, scenario)
    for one in columns:
        assert one.x.shape == (N, 1)
        assert np.array_equal(one.x[:, 0], vector.x)
    assert [one.x.shape for one in packed] == [(30, 1), (30,), (5, 6)]


@pytest.mark.parametrize("kind", KINDS)
def test_what_cannot_be_taken_is_refused_with_the_way_on(embedded, kind):
    async def scenario(client):
        matrix = await given(client.linear.matrix(A[:50, :50]))
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        said = []

        async def refused(call):
            with pytest.raises(InvalidArgument) as error:
                await given(call())
            said.append(str(error.value))

        for system, n in ((matrix, 50), (grid, 30)):
            for b in (np.ones((n, 3)), sp.csr_array(np.ones((n, 1))), torch.ones(n, requires_grad=True)):
                await refused(lambda system=system, b=b: system.solve(b))
            await refused(lambda system=system, n=n: system.solve_many(np.ones((n, 3))))
        return said

    said = play(kind, embedded.target, scenario)
    ways = ["call solve_many(b.T)", "pass b.toarray()", "pass b.detach()", "pass b.T"]
    expected = [*ways, *ways]
    assert [way in one for one, way in zip(said, expected, strict=True)] == [True] * len(expected), said


@pytest.mark.parametrize("kind", KINDS)
def test_matrices_that_are_not_symmetric_are_solved_as_in_process(embedded, kind):
    a = A[:50, :50].tolil()
    nearly, held, wind = a.copy(), a.copy(), a.copy()
    nearly[3, 4] *= 1 + 2e-9
    held[0, :] = 0.0
    held[0, 0] = 1.0
    wind[3, 4] *= 2.0
    matrices = [one.tocsr() for one in (nearly, held, wind, -a)]
    b = np.arange(50.0)

    async def scenario(client):
        return [await given((await given(client.linear.matrix(one))).solve(b)) for one in matrices]

    for matrix, remote in zip(matrices, play(kind, embedded.target, scenario), strict=True):
        here = solve(matrix, b)
        assert remote.converged
        assert np.array_equal(remote.x, here.x)
        assert remote.message == here.message
