"""On which processors threads of the pool run: not on their caller's, and on no other than they are allowed."""

import os
import threading

import pytest

from relaxon.solvers.kernels import threads
from relaxon.solvers.kernels.places import Place, find_processor

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs Linux and two processors"
)


@pytest.fixture
def thread():
    """The system's number of a thread that sleeps."""
    end = threading.Event()
    sleeper = threading.Thread(target=end.wait)
    sleeper.start()
    yield sleeper.native_id
    end.set()
    sleeper.join()


def test_a_thread_keeps_off_its_callers_processor_alone(thread):
    allowed = os.sched_getaffinity(thread)
    place = Place(thread)
    for processor in [*sorted(allowed)[:2], max(allowed)]:
        place.keep_off(processor)
        assert os.sched_getaffinity(thread) == allowed - {processor}
    place.keep_off(-1)  # the system does not tell where the caller runs
    assert os.sched_getaffinity(thread) == allowed


def test_a_thread_that_is_bound_stays_bound(thread):
    first, second = sorted(os.sched_getaffinity(thread))[:2]
    place = Place(thread)
    place.keep_off(second)
    os.sched_setaffinity(thread, {second})
    for processor in (first, second, first):
        place.keep_off(processor)
        assert os.sched_getaffinity(thread) == {second}


def test_a_thread_that_has_ended_is_left_alone():
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    Place(ended.native_id).keep_off(find_processor())
    Place(None).keep_off(0)


def test_members_of_a_division_are_allowed_all_but_the_callers_processor():
    found = {}

    def note(start, stop):
        found[start] = threading.get_ident(), find_processor(), os.sched_getaffinity(0)

    for _ in range(20):
        before = find_processor()
        threads.divide(note, 2, chunks=2)
        assert found[0][0] == threading.get_ident()
        assert found[1][0] != threading.get_ident()
        if before == found[0][1] == find_processor():  # the system has not moved the caller
            assert found[1][1] in found[1][2]
            assert found[1][2] == os.sched_getaffinity(0) - {before}
            return
    pytest.fail("the caller moved in each of twenty divisions")
