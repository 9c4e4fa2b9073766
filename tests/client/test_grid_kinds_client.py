"""Reactions, stretched widths, cut cells, closed faces, Robin and node sides over the wire, with both clients."""

import numpy as np
import pytest
from both import KINDS, given, listed, play

from relaxon import client as errors
from relaxon.cli.residual import true_residual
from relaxon.client import Step
from relaxon.proto import poisson_pb2 as pb
from relaxon.solvers import PoissonGrid, Robin, solve
from relaxon.solvers.cut_cells import outside_disc

RNG = np.random.default_rng(0)
SHAPE = (18, 14)
CELLS = np.zeros(SHAPE, np.uint8)
CELLS[4:6, 5:9] = 1
B = RNG.standard_normal(SHAPE)
REACTION = np.where(CELLS == 0, RNG.uniform(0, 3, SHAPE), np.nan)
FACES, VOLUME = outside_disc(SHAPE, 1 / 14, (0.6, 0.5), 0.21)
SIDES = [("dirichlet-node", Robin(2.0)), (Robin(RNG.uniform(0, 2, 18)), "neumann")]
ARGUMENTS = {
    "reaction": {"reaction": 2.5},
    "reaction array": {"reaction": REACTION, "boundary": "periodic"},
    "stretched": {"spacing": (RNG.uniform(0.1, 0.3, 18), 0.1), "boundary": "dirichlet"},
    "sides": {"boundary": SIDES, "spacing": (0.1, RNG.uniform(0.1, 0.3, 14))},
    "cut": {"coefficient": FACES, "volume": VOLUME, "boundary": "dirichlet", "reaction": 1.0},
}
OPTIONS = {"solver": "mg-cg", "rtol": 1e-9}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ARGUMENTS)
@pytest.mark.parametrize("shared_memory", [True, False])
def test_a_kept_grid_gives_the_bits_of_one_in_process(embedded, kind, case, shared_memory):
    cells = np.zeros(SHAPE, np.uint8) if case == "cut" else CELLS
    local = PoissonGrid(cells, **ARGUMENTS[case])

    async def scenario(client):
        async with (
            client.poisson.grid(cells, **ARGUMENTS[case])
            if kind == "asyncio"
            else _Entered(client.poisson.grid(cells, **ARGUMENTS[case])) as grid
        ):
            assert grid.unknowns == local.unknowns
            assert grid.singular_components == local.nullspace.dimension
            return await given(grid.solve(B, **OPTIONS))

    theirs = play(kind, embedded.target, scenario, shared_memory=shared_memory)
    ours = solve(local, B, **OPTIONS)
    np.testing.assert_array_equal(theirs.x, ours.x)
    np.testing.assert_array_equal(theirs.residuals, ours.residuals)
    assert theirs.converged
    assert true_residual(local, B, theirs.x).meets(1e-9)
    assert not true_residual(local, B, theirs.x * 1.001).meets(1e-9)


class _Entered:
    """A context manager where an asynchronous one is wanted."""

    def __init__(self, manager):
        self._manager = manager

    async def __aenter__(self):
        return self._manager.__enter__()

    async def __aexit__(self, *error):
        return self._manager.__exit__(*error)


def grids_of(kind, target, scenario):
    async def inside(client):
        grid = await given(client.poisson.grid(CELLS, boundary="dirichlet"))
        try:
            return await scenario(grid)
        finally:
            await given(grid.delete())

    return play(kind, target, inside)


CHANGES = [
    {"reaction": 3.0},
    {"reaction": REACTION},
    {"coefficient": [np.where(f > 0, f, 0) for f in FACES], "volume": np.maximum(VOLUME, 0.1)},
    {"reaction": None},
    {"cells": np.zeros(SHAPE, np.uint8)},
    {"volume": None, "coefficient": None},
]


def after(changes):
    """The grid with all changes made."""
    arguments = {"cells": CELLS}
    for change in changes:
        arguments |= change
    return PoissonGrid(boundary="dirichlet", **arguments)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_and_updates_change_the_terms(embedded, kind):
    ours, start = [], None
    for number in range(len(CHANGES)):
        ours.append(solve(after(CHANGES[: number + 1]), B, x0=start, **OPTIONS))
        start = ours[-1].x
    steps = [Step(B, **change) for change in CHANGES]
    theirs = grids_of(kind, embedded.target, lambda grid: listed(grid.solve_steps(steps, **OPTIONS)))
    for one, other in zip(theirs, ours, strict=True):
        assert one.converged
        np.testing.assert_allclose(one.x, other.x, rtol=1e-7, atol=1e-9)

    async def updated(grid):
        found = []
        for change in CHANGES:
            await given(grid.update(**change))
            found.append(await given(grid.solve(B, **OPTIONS)))
        return found

    for number, one in enumerate(grids_of(kind, embedded.target, updated)):
        np.testing.assert_array_equal(one.x, solve(after(CHANGES[: number + 1]), B, **OPTIONS).x)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("reaction must be at least 0", {"reaction": -1.0}),
        ("reaction must have the grid's shape", {"reaction": np.ones(3)}),
        ("reaction must be at least 0 in the fluid", {"reaction": -np.ones(SHAPE)}),
        ("volume must be greater than 0", {"volume": np.zeros(SHAPE)}),
        ("volume must be an array", {"volume": "whole"}),
    ],
)
def test_a_wrong_term_is_refused_by_name_and_leaves_the_grid(embedded, kind, name, change):
    async def scenario(grid):
        with pytest.raises(errors.InvalidArgument, match=f"^{name}"):
            await given(grid.update(**change))
        return await given(grid.solve(B, **OPTIONS))

    np.testing.assert_array_equal(grids_of(kind, embedded.target, scenario).x, solve(after([]), B, **OPTIONS).x)


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_server_is_not_asked_for_what_it_would_ignore(embedded, kind):
    async def scenario(grid):
        grid.extended = False  # as the reply of a server that does not know the field leaves it
        with pytest.raises(errors.FailedPrecondition, match="older"):
            await given(grid.update(reaction=1.0))
        with pytest.raises(errors.FailedPrecondition, match="older"):
            await listed(grid.solve_steps([Step(B, reaction=1.0)], **OPTIONS))
        await given(grid.update(CELLS))
        return await given(grid.solve(B, **OPTIONS))

    assert grids_of(kind, embedded.target, scenario).converged
    assert not pb.Grid().extended
