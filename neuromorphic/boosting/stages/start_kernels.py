"""Random numbers at the beginning of a stage, drawn in the kernels: the rows of its sample and candidate units.

The generator is SplitMix64 (Steele, Lea and Flood 2014), its first state a hash of the seed, the stage and the purpose.
"""

# Counts begin with NumPy's int64, for the sake of `FIRST`, and go on as Python's.
# mypy: disable-error-code="assignment"
from __future__ import annotations

import numpy as np

from relaxon.neuromorphic.boosting.stages.kernels import BLOCK, FIRST
from relaxon.solvers.kernels.compiled import kernel, kernel_part

STEEPEST = 10.0
"""Largest steepness of a candidate, per standard deviation: its unit rises from 0.1 to 0.9 within 0.4 of them."""
ALIGNED = 16
"""Alignment of the beginning of a block, in rows."""
GOLDEN, FIRST_MIX, SECOND_MIX = (
    np.uint64(0x9E3779B97F4A7C15),
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
)
S30, S27, S31, S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
UNIT = 1.0 / 2.0**53


@kernel_part()
def next_word(state):  # type: ignore[no-untyped-def]
    """Advance `state` (1,) uint64 and return 64 random bits."""
    state[0] += GOLDEN
    z = state[0]
    z = (z ^ (z >> S30)) * FIRST_MIX
    z = (z ^ (z >> S27)) * SECOND_MIX
    return z ^ (z >> S31)


@kernel_part()
def next_uniform(state):  # type: ignore[no-untyped-def]
    """Return a random number in [0, 1)."""
    return np.float64(next_word(state) >> S11) * UNIT


@kernel()
def draw_blocks(state, rows, places):  # type: ignore[no-untyped-def]
    """Set `places` to the starts of disjoint blocks of `rows` rows in a circle, in random order.

    `places` has room for all blocks; callers use the first ones.
    """
    blocks = rows // BLOCK
    offset = np.int64(next_uniform(state) * (rows // ALIGNED)) * ALIGNED
    for b in range(blocks):
        places[b] = (offset + b * BLOCK) % rows
    for b in range(blocks - 1):
        other = b + np.int64(next_uniform(state) * (blocks - b))
        places[b], places[other] = places[other], places[b]


@kernel()
def draw_starts(state, x, screened, places, units, flat, bound, starts):  # type: ignore[no-untyped-def]
    """Fill `W` and `b` of each row of `starts`; the first `flat` ones are Glorot's, uniform up to `bound`.

    Each unit of the others has a random direction, a log-uniform steepness from 1 to `STEEPEST`, and is centred at the
    features of a random row among the first `screened` ones.
    """
    d = x.shape[0]
    for index in range(len(starts)):
        theta = starts[index]
        if index < flat:
            for i in range(units * (d + 1)):
                theta[i] = bound * (2.0 * next_uniform(state) - 1.0)
            continue
        for j in range(units):
            square, at = 0.0, j * d
            f = FIRST
            while f < d:
                # Box and Muller's pairs of normal numbers.
                radius = np.sqrt(-2.0 * np.log(1.0 - next_uniform(state)))
                angle = 2.0 * np.pi * next_uniform(state)
                theta[at + f] = radius * np.cos(angle)
                square += theta[at + f] ** 2
                if f + 1 < d:
                    theta[at + f + 1] = radius * np.sin(angle)
                    square += theta[at + f + 1] ** 2
                f += 2
            steepness = STEEPEST ** next_uniform(state) / np.sqrt(square)
            row = np.int64(next_uniform(state) * screened)
            place, bias = places[row // BLOCK] + row % BLOCK, 0.0
            for f in range(d):
                theta[at + f] *= steepness
                bias -= theta[at + f] * x[f, place]
            theta[units * d + j] = bias
