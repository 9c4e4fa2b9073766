"""Grids are kept as long as promised, within the limits, and are really freed."""

import gc
import weakref

import numpy as np
import pytest

import relaxon
from relaxon import client as errors
from relaxon.server.errors import ServiceError
from relaxon.server.grids import GridStore
from relaxon.server.settings import ServerSettings
from relaxon.solvers import PoissonGrid


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def store(**settings):
    clock = Clock()
    return GridStore(ServerSettings(**settings), clock), clock


def grid(*shape):
    return PoissonGrid(np.zeros(shape or (3, 3), np.uint8))


def test_a_grid_expires_after_its_time_without_use_and_use_moves_that_on():
    grids, clock = store(grid_ttl_seconds=10)
    kept = grids.add(grid())
    clock.now += 9
    assert grids.find(kept.id) is kept
    clock.now += 9
    assert grids.find(kept.id) is kept
    clock.now += 10
    with pytest.raises(ServiceError, match="expired"):
        grids.find(kept.id)
    assert len(grids) == 0


def test_a_grid_in_use_does_not_expire():
    grids, clock = store(grid_ttl_seconds=10)
    kept = grids.add(grid())
    with grids.use(kept.id):
        clock.now += 100
        grids.drop_expired()
        assert len(grids) == 1
    clock.now += 9
    assert grids.find(kept.id) is kept


def test_the_longest_unused_grid_makes_room_and_one_in_use_does_not():
    grids, _ = store(max_grids=3)
    first, second, third = (grids.add(grid()) for _ in range(3))
    grids.find(first.id)
    with grids.use(second.id), grids.reserve(9):
        fourth = grids.add(grid())
    kept = {one for one in (first, second, third, fourth) if one.id in grids._grids}
    assert kept == {first, second, fourth}


def test_cells_of_all_grids_and_of_uploads_are_limited():
    grids, _ = store(max_cells=50, max_total_cells=60)
    kept = grids.add(grid(5, 6))
    with (
        grids.use(kept.id),
        grids.reserve(30),
        pytest.raises(ServiceError, match="cells of all grids"),
        grids.reserve(1),
    ):
        pass
    with grids.reserve(31):
        assert len(grids) == 0
    with pytest.raises(ServiceError, match="cells must number at most 50 here, got 51"), grids.reserve(51):
        pass


def test_a_grid_larger_than_the_server_takes_is_refused_before_its_upload(serving):
    server = serving(max_cells=100)
    with relaxon.connect(server.target) as client:
        with pytest.raises(errors.ResourceExhausted, match="at most 100 here, got 110"):
            client.poisson.grid(np.zeros((10, 11), np.uint8))
        assert client.poisson.grid(np.zeros((10, 10), np.uint8)).unknowns == 100


def test_deleting_frees_the_grid_and_what_was_set_up_for_it(server, client, damped):
    made = []
    add = server.sessions.add

    def watched(grid, *rest):
        made.append(weakref.ref(grid))
        return add(grid, *rest)

    server.sessions.add = watched
    with client.poisson.grid(np.zeros((5, 5), np.uint8), boundary="dirichlet") as kept:
        assert kept.solve(np.ones((5, 5)), solver="damped").converged
        made.append(weakref.ref(server.sessions.find(kept.id)._prepared["damped"].engine))
        assert all(reference() is not None for reference in made)
    assert len(server.sessions) == 0
    # The call's own frames may live for a moment longer than its reply.
    for _ in range(100):
        client.health()
        gc.collect()
        if not any(reference() is not None for reference in made):
            break
    assert [reference() for reference in made] == [None, None]


def test_an_expired_grid_is_not_found(serving, damped):
    server = serving(grid_ttl_seconds=0.05)
    with relaxon.connect(server.target) as client, client.poisson.grid(np.zeros((3, 3), np.uint8)) as kept:
        server.sessions._clock = lambda: 4e9
        with pytest.raises(errors.NotFound, match="expired"):
            kept.solve(np.zeros((3, 3)), solver="damped")


def test_set_ups_kept_for_one_grid_are_limited(damped):
    kept = store(max_solvers_per_grid=2)[0].add(grid())
    kept._max_solvers = 2
    seconds = [kept.prepared(name, damped)[1] for name in ("a", "b", "a", "c", "a", "b")]
    assert [spent > 0 for spent in seconds] == [True, True, False, True, False, True]
