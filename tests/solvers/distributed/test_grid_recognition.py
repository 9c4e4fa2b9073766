"""Reading the grid off a matrix whose rows several processes hold, without PETSc."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from relaxon.solvers.petsc import recognition


class _HalfLayout:
    """One process's half of a grid of 4 × 2 × 2 cells cut along z; `around` waits for the other process."""

    shape3 = np.array([4, 2, 2])
    sizes3 = (2, 2, 2)

    def __init__(self, rank: int, barrier: threading.Barrier, shared: list[Any]) -> None:
        self.rank, self.barrier, self.shared = rank, barrier, shared

    def around(self, owned: NDArray[Any], outside: Any) -> NDArray[Any]:
        own = owned.reshape(self.sizes3)
        self.shared[self.rank] = own.copy()
        self.barrier.wait()
        wide = np.full((4, 4, 4), outside, owned.dtype)
        wide[1:-1, 1:-1, 1:-1] = own
        wide[-1 if self.rank == 0 else 0, 1:-1, 1:-1] = self.shared[1 - self.rank][0 if self.rank == 0 else -1]
        self.barrier.wait()
        return wide


def _compare(wrong_axis: int | None) -> list[ValueError | None]:
    """Return both verdicts; the second process holds a coupling along `wrong_axis` that another row lacks."""
    barrier, shared = threading.Barrier(2, timeout=5.0), [None, None]
    found: list[Any] = [None, None]

    def compare(rank: int) -> None:
        values = np.ones((6, 2, 2, 2))
        for axis in range(3):
            for side, end in enumerate((0, -1)):
                if axis or rank == side:
                    values[2 * axis + side][(slice(None),) * axis + (end,)] = 0.0
        if rank == 1 and wrong_axis is not None:
            values[2 * wrong_axis + 1, 0, 0, 0] = 2.0
        try:
            found[rank] = recognition._asymmetry(values.reshape(6, -1), _HalfLayout(rank, barrier, shared))  # type: ignore[arg-type]
        except threading.BrokenBarrierError as error:
            found[rank] = error

    threads = [threading.Thread(target=compare, args=(rank,)) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_symmetric_couplings_are_accepted() -> None:
    assert _compare(None) == [None, None]


@pytest.mark.parametrize("axis", range(3))
def test_process_that_finds_an_asymmetry_leaves_no_other_waiting(axis: int) -> None:
    first, second = _compare(axis)
    assert first is None
    assert isinstance(second, ValueError)
    assert "symmetric, got couplings 2 and 1" in str(second)
