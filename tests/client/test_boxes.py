"""The direct solver of boxes and the automatic choice over the wire, by both clients: solve, several sides, steps."""

import numpy as np
import pytest
from both import KINDS, given, listed, play

from relaxon.solvers import PoissonGrid, solve
from relaxon.solvers.grid.poisson_grid import CellType

DIRECT = "fast-diagonalisation"
CELLS = np.zeros((9, 8, 10), np.uint8)
SIDES = np.random.default_rng(4).standard_normal((3, *CELLS.shape))
LOCAL = PoissonGrid(CELLS, boundary="dirichlet")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", [DIRECT, "auto"])
def test_boxes_are_solved_as_in_process(embedded, kind, solver):
    ours = [solve(LOCAL, b, solver=solver, rtol=1e-11) for b in SIDES]

    async def scenario(client):
        assert {DIRECT, "auto"} <= {one.name for one in await given(client.poisson.list_solvers())}
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        one = await given(grid.solve(SIDES[0], solver=solver, rtol=1e-11))
        many = await given(grid.solve_many(SIDES, solver=solver, rtol=1e-11))
        steps = await listed(grid.solve_steps(iter(SIDES), solver=solver, rtol=1e-11))
        await given(grid.delete())
        return one, many, steps

    one, many, steps = play(kind, embedded.target, scenario)
    for expected, *found in zip(ours, many, steps, strict=True):
        for solution in found:
            assert solution.converged
            np.testing.assert_allclose(solution.x, expected.x, rtol=0, atol=1e-11 * abs(expected.x).max())
    np.testing.assert_array_equal(one.x, ours[0].x)
    assert one.message == ours[0].message
    assert (solver == "auto") == one.message.startswith(f"auto chose {DIRECT}")


@pytest.mark.parametrize("kind", KINDS)
def test_other_grids_are_refused_by_name(embedded, kind):
    cells = CELLS.copy()
    cells[3, 3, 3] = CellType.SOLID

    async def scenario(client):
        grid = await given(client.poisson.grid(cells, boundary="dirichlet"))
        with pytest.raises(ValueError, match="is for boxes .*: all cells must be unknowns, 1 of 720"):
            await given(grid.solve(SIDES[0], solver=DIRECT))
        assert "auto chose dcdm" in (await given(grid.solve(SIDES[0], solver="auto"))).message
        await given(grid.delete())

    play(kind, embedded.target, scenario)
