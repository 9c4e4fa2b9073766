"""How many more iterations a run takes, foretold from its residuals so far."""

from __future__ import annotations

import math
from collections.abc import Sequence

LOOK = 10
"""Iterations between two looks at the rate of convergence."""
SLOW = 10.0
"""A residual that has not decreased is taken to need this many times the iterations so far."""


def expected_left(history: Sequence[float], tolerance: float) -> float:
    """Return how many more iterations a run with these residual norms is expected to take, at its mean rate.

    The least residual so far counts, as the residual of conjugate gradients oscillates.
    """
    done, first, least = len(history) - 1, history[0], min(history)
    if not 0 < least < first:
        return SLOW * done
    return min(done * math.log(least / tolerance) / math.log(first / least), SLOW * SLOW * done)
