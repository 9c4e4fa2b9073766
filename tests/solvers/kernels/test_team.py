"""Teams of threads inside one kernel: every step sees the whole step before it, whoever takes which places."""

import threading
from itertools import pairwise

import numpy as np
import pytest

from relaxon.solvers.kernels import team_kernels
from relaxon.solvers.kernels.compiled import kernel
from relaxon.solvers.kernels.team_kernels import SIZE, claim, meet, run_team, share


@kernel()
def _reverse_and_add(first, last, team, steps, x, y):
    """Reverse `x` and add the step's number, so that each step needs values of all members."""
    start, stop = share(first, last, team, x.size)
    for step in range(steps):
        for i in range(start, stop):
            y[i] = x[x.size - 1 - i]
        meet(first, last, team)
        for i in range(start, stop):
            x[i] = y[i] + step
        meet(first, last, team)


def _expected(x, steps):
    for step in range(steps):
        x = x[::-1] + step
    return x


@pytest.mark.parametrize("members", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [1, 4, 1_000])
def test_members_wait_for_each_other(members, size):
    x = np.arange(size, dtype=np.float64)
    expected = _expected(x, 301)
    run_team(_reverse_and_add, 301, x, np.empty_like(x), members=members)
    assert np.array_equal(x, expected)


def test_one_thread_takes_all_places_when_the_others_are_taken():
    vectors = [np.arange(100.0) + k for k in range(6)]
    expected = [_expected(x, 400) for x in vectors]
    callers = [
        threading.Thread(target=run_team, args=(_reverse_and_add, 400, x, np.empty_like(x)), kwargs={"members": 2})
        for x in vectors
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert all(np.array_equal(x, y) for x, y in zip(vectors, expected, strict=True))


def test_shares_make_up_the_whole():
    team = np.zeros(24, np.int64)
    for team[SIZE] in (1, 2, 3, 7):
        size = int(team[SIZE])
        for count in (0, 1, 5, 1_000_003):
            shares = [share.py_func(k, k + 1, team, count) for k in range(size)]
            assert shares[0][0] == 0
            assert shares[-1][1] == count
            assert all(a[1] == b[0] for a, b in pairwise(shares))


@kernel()
def _mark_claims(first, last, team, marks):
    k = claim(team)
    while k < marks.size:
        marks[k] += 1
        k = claim(team)


@pytest.mark.parametrize("members", [1, 2, 3])
def test_each_item_is_claimed_once_though_one_member_begins_with_something_else(members, monkeypatch):
    monkeypatch.setattr(team_kernels._crowding, "is_expected", lambda: False)
    marks, called = np.zeros(1_000, np.int64), []
    run_team(_mark_claims, marks, members=members, beside=lambda: called.append(1))
    assert called == [1]
    assert (marks == 1).all()


@pytest.mark.parametrize("failing", [0, 1])
def test_members_do_not_wait_for_one_that_raises(failing, monkeypatch):
    monkeypatch.setattr(team_kernels._crowding, "is_expected", lambda: False)  # however busy the machine is

    def one_fails(first, last, team, x, y):
        if first == failing:
            raise KeyboardInterrupt
        _reverse_and_add(first, last, team, 50, x, y)

    x = np.arange(64.0)
    with pytest.raises(KeyboardInterrupt):
        run_team(one_fails, x, np.empty_like(x), members=2)
    x = np.arange(64.0)
    expected = _expected(x, 50)
    run_team(_reverse_and_add, 50, x, np.empty_like(x), members=2)
    assert np.array_equal(x, expected)
