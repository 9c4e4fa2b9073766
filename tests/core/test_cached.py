"""Properties that are computed once: no object waits for another's, and all threads get the same value."""

import threading

import pytest

from relaxon.core.cached import cached_property

WAIT = 20


class Slow:
    """Its value is there when `go` is set."""

    def __init__(self):
        self.go, self.begun, self.calls = threading.Event(), threading.Event(), 0

    @cached_property
    def value(self):
        """A new object."""
        self.calls += 1
        self.begun.set()
        assert self.go.wait(WAIT)
        return [self.calls]


def test_the_value_is_computed_once():
    one = Slow()
    one.go.set()
    assert one.value is one.value
    assert one.calls == 1
    assert Slow.value.__doc__ == "A new object."


def test_an_error_is_not_kept():
    class Failing:
        failures = 1

        @cached_property
        def value(self):
            if self.failures:
                self.failures -= 1
                raise ValueError("not yet")
            return 3

    one = Failing()
    with pytest.raises(ValueError, match="not yet"):
        one.value  # noqa: B018
    assert one.value == 3


def test_an_object_does_not_wait_for_another_ones_value():
    slow, quick = Slow(), Slow()
    thread = threading.Thread(target=lambda: slow.value, daemon=True)
    thread.start()
    assert slow.begun.wait(WAIT)
    quick.go.set()
    found = []
    other = threading.Thread(target=lambda: found.append(quick.value), daemon=True)
    other.start()
    other.join(5)
    assert found == [[1]]
    slow.go.set()
    thread.join(WAIT)


def test_threads_that_ask_at_once_get_the_same_value():
    slow, found = Slow(), []
    workers = [threading.Thread(target=lambda: found.append(slow.value), daemon=True) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert slow.begun.wait(WAIT)
    slow.go.set()
    for worker in workers:
        worker.join(WAIT)
    assert len(found) == 3
    assert all(value is slow.value for value in found)
