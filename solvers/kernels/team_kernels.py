"""Steps that several threads take together inside one compiled kernel, where they wait for each other without sleeping.

To hand a run of rows to a sleeping thread of `relaxon.solvers.kernels.threads` takes some 50 µs on a virtual machine,
longer than most steps of a solve on 10⁵ unknowns. A team kernel is entered once by every thread and takes many steps:
in each the members work on their own shares, and `meet` lets none go on before all have arrived, which takes less than
a microsecond.

A team kernel has the arguments `(first, last, team, …)`, and every member must call `meet` equally often. It should
raise nothing. If a call raises all the same, as when a signal interrupts the compilation of a kernel, the other members
no longer wait, and what they compute is lost with the error.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.atomics import add_atomically, let_others_run, load_atomically
from relaxon.solvers.kernels.compiled import part
from relaxon.solvers.kernels.threads import ABORTED, Call, Kernel, divide, get_num_threads

SIZE, CLAIMED, ARRIVED, ROUND = 0, 1, 8, 16
"""Places of a team's array: the number of members, how many items they have claimed, how many have arrived, and how
often all have. The last two have cache lines of their own."""
SPINS = 20_000
"""Looks at the round, some microseconds, after which a waiting thread lets others of the system run."""
PAUSES = (0.02, 1.0)
"""Seconds for which threads are left alone after a call that waited for a processor, at first and at most."""
LATE = 5e-4
"""Seconds by which such a call lasts longer than twice its processor time."""


@part
def meet(first, last, team):  # type: ignore[no-untyped-def]
    """Wait until all members have arrived, the places `first … last − 1` with this call."""
    own = last - first
    if own == team[SIZE]:
        return
    before = load_atomically(team, ROUND)
    if add_atomically(team, ARRIVED, own) + own == team[SIZE]:
        team[ARRIVED] = 0
        add_atomically(team, ROUND, 1)
        return
    looks = 0
    while load_atomically(team, ROUND) == before and load_atomically(team, ABORTED) == 0:
        looks += 1
        if looks == SPINS:
            let_others_run()
            looks = 0


@part
def share(first, last, team, count):  # type: ignore[no-untyped-def]
    """Return the first of `count` items and the one after the last that belong to the places `first … last − 1`."""
    return count * first // team[SIZE], count * last // team[SIZE]


@part
def claim(team):  # type: ignore[no-untyped-def]
    """Return the number of the next item that no member has taken yet: 0 at first.

    So members that come late, or whose items take longer, take fewer; a kernel can do so once.
    """
    return add_atomically(team, CLAIMED, 1)


class _Crowding:
    """Whether more threads want to run than there are processors: then each `meet` may take the system's time slice.

    All solves of a process share its processors, and so what one of them has found.
    """

    def __init__(self) -> None:
        self._pause, self._until = PAUSES[0], 0.0

    def is_expected(self) -> bool:
        return time.perf_counter() < self._until

    def note(self, seconds: float, used: float) -> None:
        """Note that a call took so many seconds, and its thread that processor time."""
        if seconds > 2 * used + LATE:
            self._until = time.perf_counter() + self._pause
            self._pause = min(2 * self._pause, PAUSES[1])
        else:
            self._pause = PAUSES[0]


_crowding = _Crowding()


def run_team(
    kernel: Kernel, *args: Any, members: int | None = None, beside: Call | None = None, seldom: bool = False
) -> None:
    """Call `kernel(first, last, team, *args)` in `members` threads at once, by default as many as a solve has.

    Each call stands for the places `first … last − 1` of the team: several if fewer threads are free, all of them if
    another solve occupies the others. For a while after a call whose threads waited for a processor, teams have one
    member: results may not depend on their number. Teams whose members meet `seldom`, beside their work, keep their
    size even then. The last member calls `beside`, if given, before it begins.
    """
    if beside is not None:
        kernel = partial(_begin_with, beside, kernel)
    size = get_num_threads() if members is None else members
    size = 1 if size > 1 and not seldom and _crowding.is_expected() else size
    team: NDArray[np.int64] = np.zeros(24, np.int64)
    team[SIZE] = size
    start, used = time.perf_counter(), time.thread_time()
    divide(kernel, size, team, *args, chunks=size, team=team)
    if size > 1:
        _crowding.note(time.perf_counter() - start, time.thread_time() - used)


def _begin_with(beside: Call, kernel: Kernel, first: int, last: int, team: NDArray[np.int64], *args: Any) -> None:
    if last == team[SIZE]:
        beside()
    kernel(first, last, team, *args)
