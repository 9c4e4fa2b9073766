"""What is kept stays as long as promised, within every limit, and its memory is counted as long as it is taken."""

import threading

import numpy as np
import pytest

from relaxon.server.config.settings import ServerSettings
from relaxon.server.gate.errors import ServiceError
from relaxon.server.gate.identity import ANYONE, Caller, Role
from relaxon.server.solving.grids import KeptGrid
from relaxon.server.solving.sessions import SessionStore
from relaxon.solvers import PoissonGrid

A, B, ADMIN = Caller("a", Role.SOLVE), Caller("b", Role.SOLVE), Caller("root", Role.ADMIN)


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def store(**settings):
    clock = Clock()
    return SessionStore(ServerSettings(**settings), clock), clock


def kept_in(sessions, shape=(3, 3), owner="", attendance=""):
    kept = KeptGrid(PoissonGrid(np.zeros(shape, np.uint8)), owner, attendance=attendance)
    sessions.add(kept)
    return kept


def room(sessions, cells=9, owner="", kept=0, passing=0):
    return sessions.reserve(owner, cells, kept, passing)


def refused(work, subject):
    with pytest.raises(ServiceError) as caught:
        work()
    assert caught.value.code.name == "RESOURCE_EXHAUSTED"
    assert caught.value.details[0].violations[0].subject == subject
    return caught.value


def enter(context):
    with context:
        pass


def found(sessions, kept, caller=ANYONE):
    return sessions.find(kept.id, caller, KeptGrid)


def test_a_session_expires_after_its_time_without_use_and_use_moves_that_on():
    sessions, clock = store(grid_ttl_seconds=10)
    kept = kept_in(sessions)
    clock.now += 9
    assert found(sessions, kept) is kept
    clock.now += 9
    assert found(sessions, kept) is kept
    clock.now += 10
    with pytest.raises(ServiceError, match="expired"):
        found(sessions, kept)
    assert len(sessions) == 0


def test_a_session_in_use_does_not_expire():
    sessions, clock = store(grid_ttl_seconds=10)
    kept = kept_in(sessions)
    with sessions.use(kept.id, ANYONE, KeptGrid):
        clock.now += 100
        sessions.drop_expired()
        assert len(sessions) == 1
    clock.now += 9
    assert found(sessions, kept) is kept


def test_the_longest_unused_makes_room_and_one_in_use_does_not():
    sessions, _ = store(max_grids=3)
    first, second, third = (kept_in(sessions) for _ in range(3))
    found(sessions, first)
    with sessions.use(second.id, ANYONE, KeptGrid), room(sessions):
        assert {one.id for one in sessions.kept()} == {first.id, second.id}
    assert third.id not in {one.id for one in sessions.kept()}


def test_cells_of_all_sessions_and_of_uploads_are_limited():
    sessions, _ = store(max_cells=50, max_total_cells=60)
    kept = kept_in(sessions, (5, 6))
    with sessions.use(kept.id, ANYONE, KeptGrid), room(sessions, 30):
        assert sessions.cells == 60
        assert "cells of all grids" in refused(lambda: enter(room(sessions, 1)), "grids").message
    with room(sessions, 31):
        assert len(sessions) == 0
    assert "at most 50 here, got 51" in refused(lambda: enter(room(sessions, 51)), "cells").message


def test_another_caller_s_session_is_not_found_and_an_admin_sees_all():
    sessions, _ = store()
    kept = kept_in(sessions, owner="a")
    assert found(sessions, kept, A) is kept
    assert found(sessions, kept, ADMIN) is kept
    with pytest.raises(ServiceError) as caught:
        found(sessions, kept, B)
    assert caught.value.code.name == "NOT_FOUND"
    with pytest.raises(ServiceError):
        sessions.remove(kept.id, B, KeptGrid)
    sessions.remove(kept.id, A, KeptGrid)
    assert len(sessions) == 0


@pytest.mark.parametrize(
    ("settings", "subject"),
    [({"max_client_sessions": 2}, "client_sessions"), ({"max_client_cells": 20}, "client_cells")],
)
def test_a_caller_s_quota_costs_that_caller_alone(settings, subject):
    sessions, _ = store(**settings)
    other = kept_in(sessions, owner="b")
    first, second = (kept_in(sessions, owner="a") for _ in range(2))
    with room(sessions, 9, "a"):
        assert {one.id for one in sessions.kept()} == {other.id, second.id}
    with sessions.use(second.id, A, KeptGrid):
        kept_in(sessions, owner="a")
        with sessions.use(sessions.kept()[-1].id, A, KeptGrid):
            error = refused(lambda: enter(room(sessions, 9, "a")), subject)
            assert any(type(detail).__name__ == "RetryInfo" for detail in error.details)
            with room(sessions, 9, "b"):  # the other caller has as much as before
                pass
    assert first.id not in {one.id for one in sessions.kept()}


def test_uploads_that_run_count_for_a_caller_s_quota():
    sessions, _ = store(max_client_sessions=2)
    with room(sessions, 9, "a"), room(sessions, 9, "a"):
        refused(lambda: enter(room(sessions, 9, "a")), "client_sessions")
        with room(sessions, 9, "b"):
            pass
    with room(sessions, 9, "a"):
        pass


def test_a_caller_s_bytes_are_limited_for_its_sessions_and_calls_together():
    kept_bytes = KeptGrid(PoissonGrid(np.zeros((3, 3), np.uint8))).bytes
    sessions, _ = store(max_client_bytes=kept_bytes + 1000)
    kept = kept_in(sessions, owner="a")
    with sessions.use(kept.id, A, KeptGrid):
        with sessions.hold("a", 600):
            refused(lambda: sessions.take("a", 401), "client_bytes")
            sessions.take("b", 60_000)
            sessions.give_back("b", 60_000)
        sessions.take("a", 1000)
        sessions.give_back("a", 1000)
    with sessions.hold("a", 1001):  # the session is not in use: it makes room
        assert len(sessions) == 0


def test_the_memory_budget_drops_set_ups_first_then_sessions_and_never_what_is_in_use():
    sessions, _ = store(memory_bytes=10**6)
    one, two = kept_in(sessions), kept_in(sessions)
    with sessions.use(one.id, ANYONE, KeptGrid), sessions.set_up(one, "cg") as place:
        place.kept_bytes = 300_000
    assert sessions.bytes == one.own_bytes + two.own_bytes + 300_000
    with sessions.hold("", 10**6 - two.own_bytes - one.own_bytes - 1000):
        assert not one.set_ups
        assert len(sessions) == 2
        assert sessions.bytes <= sessions.budget
    with sessions.use(two.id, ANYONE, KeptGrid), sessions.hold("", 10**6 - two.own_bytes):
        assert sessions.kept() == [two]
        assert "in use" in refused(lambda: sessions.take("", 1), "memory").message
    assert refused(lambda: sessions.take("", 10**6 + 1), "memory").details[0].violations
    assert sessions.bytes == two.bytes


def test_memory_of_a_session_that_left_while_in_use_is_counted_until_its_calls_end():
    sessions, _ = store(memory_bytes=10**6)
    kept = kept_in(sessions, attendance="gone")
    with sessions.use(kept.id, ANYONE, KeptGrid), sessions.set_up(kept, "cg") as place:
        place.kept_bytes = 500_000
        sessions.leave("gone")
        assert len(sessions) == 0
        assert sessions.bytes == kept.bytes > 500_000
        refused(lambda: sessions.take("", 600_000), "memory")
    assert sessions.bytes == 0
    sessions.take("", 600_000)


def test_leaving_drops_what_was_made_under_that_attendance_alone():
    sessions, _ = store()
    kept_in(sessions, attendance="gone")
    stays = kept_in(sessions, attendance="here")
    always = kept_in(sessions)
    sessions.leave("gone")
    assert sessions.kept() == [stays, always]


def test_set_ups_in_use_stay_and_the_longest_unused_goes_first():
    sessions, _ = store(max_solvers_per_grid=2)
    kept = kept_in(sessions)
    with sessions.use(kept.id, ANYONE, KeptGrid):
        with sessions.set_up(kept, "cg"):
            with sessions.set_up(kept, "mg-cg"):
                refused(lambda: enter(sessions.set_up(kept, "jacobi-cg")), "set_ups")
                assert list(kept.set_ups) == ["cg", "mg-cg"]
            with sessions.set_up(kept, "jacobi-cg"):
                assert list(kept.set_ups) == ["cg", "jacobi-cg"]
        with sessions.set_up(kept, "cg"), sessions.set_up(kept, "ic-cg"):
            assert list(kept.set_ups) == ["cg", "ic-cg"]


def test_a_set_up_that_fails_is_counted_no_more_and_is_made_again():
    sessions, _ = store()
    kept = kept_in(sessions)
    before = sessions.bytes

    class Failing:
        def prepare(self, operator):
            raise ValueError("solver must be another")

    with sessions.use(kept.id, ANYONE, KeptGrid), sessions.set_up(kept, "cg"):
        assert sessions.bytes > before
        with kept.running, pytest.raises(TypeError):
            kept.prepared("cg", Failing())
        assert sessions.bytes == before
        assert kept.solver_names() == []
    from relaxon.solvers.driver import registry

    with sessions.use(kept.id, ANYONE, KeptGrid), sessions.set_up(kept, "cg"), kept.running:
        front, seconds = kept.prepared("cg", registry.get("cg"))
        assert kept.prepared("cg", registry.get("cg")) == (front, 0.0)
        assert seconds >= 0
        assert kept.solver_names() == ["cg"]


def test_a_flood_of_sessions_from_many_callers_stays_within_the_budget():
    """However it is mixed: nothing that is counted ever exceeds the limits, and all is given back."""
    sessions, clock = store(
        memory_bytes=3_000_000, max_client_bytes=1_000_000, max_grids=20, max_client_sessions=8, max_total_cells=3000
    )
    rng = np.random.default_rng(0)
    refusals = 0
    for _ in range(2000):
        owner = str(rng.integers(6))
        side = int(rng.integers(2, 20))
        cells = side * side
        try:
            with room(sessions, cells, owner, kept=16 * cells, passing=int(rng.integers(1, 200_000))):
                assert sessions.bytes <= sessions.budget
                assert sessions._counted(owner) <= 1_000_000
            kept = kept_in(sessions, (side, side), owner, attendance=owner)
            with sessions.use(kept.id, Caller(owner, Role.SOLVE), KeptGrid), sessions.set_up(kept, "mg-cg"):
                with sessions.hold(owner, int(rng.integers(1, 300_000))):
                    assert sessions.bytes <= sessions.budget
                if rng.random() < 0.2:
                    sessions.leave(owner)
        except ServiceError as error:
            refusals += error.code.name == "RESOURCE_EXHAUSTED"
        clock.now += rng.random()
        assert len(sessions) <= 20
        assert sessions.cells <= 3000
    assert refusals < 2000
    for owner in range(6):
        sessions.leave(str(owner))
    assert (sessions.bytes, sessions.cells, len(sessions)) == (0, 0, 0)


def test_a_worker_may_set_up_while_the_loop_counts():
    """The sum over set-ups is taken while a thread changes them."""
    sessions, _ = store()
    kept = kept_in(sessions)
    stop = threading.Event()

    def churn():
        number = 0
        while not stop.is_set():
            number += 1
            with sessions.set_up(kept, f"cg{number % 7}"):
                pass

    thread = threading.Thread(target=churn)
    with sessions.use(kept.id, ANYONE, KeptGrid):
        thread.start()
        try:
            for _ in range(2000):
                assert kept.bytes > 0
                kept.solver_names()
        finally:
            stop.set()
            thread.join()
