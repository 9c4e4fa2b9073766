"""Grids are refused before their upload where they are too large, and are really freed; see test_sessions."""

import gc
import weakref

import numpy as np
import pytest

import relaxon
from relaxon import client as errors
from relaxon.server.gate.identity import ANYONE
from relaxon.server.solving.grids import KeptGrid


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
        made.append(weakref.ref(server.sessions.find(kept.id, ANYONE, KeptGrid).set_ups["damped"].front.engine))
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
