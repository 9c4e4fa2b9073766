"""Work that is done in turn on another executor's threads."""

import threading
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor

import pytest

from relaxon.server.gate.in_turn import InTurn


@pytest.fixture(params=[1, 4])
def engines(request):
    with ThreadPoolExecutor(request.param) as made:
        yield made


def test_everything_is_done_in_its_order_and_one_at_a_time(engines):
    line, done, inside = InTurn(engines), [], threading.Semaphore(1)

    def work(number):
        assert inside.acquire(blocking=False), "two at a time"
        done.append(number)
        inside.release()
        return 2 * number

    for start in (0, 500, 1000):  # it may run dry in between
        futures = [line.submit(work, number) for number in range(start, start + 500)]
        assert [one.result(timeout=30) for one in futures] == [2 * n for n in range(start, start + 500)]
    assert done == list(range(1500))


def test_the_next_begins_though_nobody_has_looked_at_the_last(engines):
    line, begun, gate = InTurn(engines), threading.Event(), threading.Event()
    first = line.submit(gate.wait, 30)
    line.submit(begun.set)
    assert not begun.wait(0.05)
    gate.set()
    assert begun.wait(30)
    assert first.done()


def test_others_have_their_turn_in_between():
    with ThreadPoolExecutor(1) as engines:
        line, order, gate = InTurn(engines), [], threading.Event()
        first = line.submit(gate.wait, 30)
        mine = [line.submit(order.append, f"mine {n}") for n in range(3)]
        others = [engines.submit(order.append, f"other {n}") for n in range(2)]
        gate.set()
        for one in (first, *mine, *others):
            one.result(timeout=30)
    assert order == ["other 0", "other 1", "mine 0", "mine 1", "mine 2"]


@pytest.mark.parametrize("error", [ValueError("b"), CancelledError(), KeyboardInterrupt()])
def test_after_one_that_fails_none_is_done(engines, error):
    line, done, gate = InTurn(engines), [], threading.Event()

    def fail():
        gate.wait(30)
        raise error

    first = line.submit(done.append, 0)
    failing = line.submit(fail)
    waiting = [line.submit(done.append, number) for number in (1, 2)]
    gate.set()
    assert failing.exception(timeout=30) is error
    assert all(one.cancelled() for one in waiting)
    assert line.submit(done.append, 3).cancelled()
    first.result(timeout=30)
    assert done == [0]


def test_one_that_is_cancelled_is_left_out(engines):
    line, done, gate = InTurn(engines), [], threading.Event()
    first = line.submit(gate.wait, 30)
    futures = [line.submit(done.append, number) for number in range(4)]
    assert futures[1].cancel()
    assert futures[3].cancel()
    assert not first.cancel()
    gate.set()
    futures[2].result(timeout=30)
    assert done == [0, 2]
    assert line.submit(done.append, 4).result(timeout=30) is None


@pytest.mark.parametrize("drop", [True, False])
def test_nothing_hangs_where_the_executor_is_shut_down(drop):
    engines = ThreadPoolExecutor(1)
    line, gate = InTurn(engines), threading.Event()
    first = line.submit(gate.wait, 30)
    blocked = engines.submit(lambda: None)
    waiting = [line.submit(lambda: None) for _ in range(2)]
    engines.shutdown(wait=False, cancel_futures=drop)
    gate.set()
    assert first.result(timeout=30) is True
    for one in waiting:
        with pytest.raises(CancelledError):
            one.result(timeout=30)
    assert blocked.cancelled() == drop
    assert line.submit(lambda: None).cancelled()


def test_a_turn_that_is_cancelled_by_the_executor_cancels_what_waits():
    class Full(Executor):
        """Takes everything and does nothing."""

        def __init__(self):
            self.taken = []

        def submit(self, work, /, *args, **kwargs):
            self.taken.append(Future())
            return self.taken[-1]

    full = Full()
    line = InTurn(full)
    waiting = [line.submit(print) for _ in range(3)]
    assert len(full.taken) == 1
    full.taken[0].cancel()
    full.taken[0].set_running_or_notify_cancel()
    assert all(one.cancelled() for one in waiting)


def test_an_executor_that_takes_nothing_says_so():
    engines = ThreadPoolExecutor(1)
    engines.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        InTurn(engines).submit(print)
