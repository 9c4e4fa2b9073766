"""Sequences of steps in process, and what tests of the clients compare with them."""

import numpy as np

from relaxon.solvers import solve
from relaxon.wire import handover

LARGE = np.zeros((400, 350), np.uint8)
"""Cells enough for arrays to be handed over through shared memory."""


def in_process(grid_of, sides, warm=True, start=None, **options):
    """Return the solutions in process; with `warm` each starts from the solution of the one before."""
    found = []
    for step, b in enumerate(sides):
        found.append(solve(grid_of(step), b, x0=start, **options))
        start = found[-1].x if warm else None
    return found


def same(theirs, ours):
    """Assert that two lists of solutions have the same bits, outcomes and iterations."""
    assert len(theirs) == len(ours)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_array_equal(one.x, other.x)
        np.testing.assert_array_equal(one.residuals, other.residuals)
        assert (one.result, one.iterations) == (other.result, other.iterations)


def in_the_file(x):
    """Whether an array lies in the shared file."""
    return isinstance(x.base, handover.Loan)
