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

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.kernels.atomics import add_atomically, let_others_run, load_atomically
from relaxon.solvers.kernels.compiled import part
from relaxon.solvers.kernels.threads import ABORTED, Kernel, divide, get_num_threads

SIZE, ARRIVED, ROUND = 0, 8, 16
"""Places of a team's array: the number of members, how many have arrived, and how often all have. Each has a cache line
of its own."""
SPINS = 2_000
"""Looks at the round, some microseconds, after which a waiting thread lets others of the system run."""


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


def run_team(kernel: Kernel, *args: Any, members: int | None = None) -> None:
    """Call `kernel(first, last, team, *args)` in `members` threads at once, by default as many as a solve has.

    Each call stands for the places `first … last − 1` of the team: several if fewer threads are free, all of them if
    another solve occupies the others.
    """
    size = get_num_threads() if members is None else members
    team: NDArray[np.int64] = np.zeros(24, np.int64)
    team[SIZE] = size
    divide(kernel, size, team, *args, chunks=size, team=team)
