"""How well aggregates fit a matrix: how far the errors that sweeps leave are from constants on aggregates.

Source of the measure: the weak approximation property, J. Mandel, "Local approximation estimators for algebraic
multigrid", ETNA 15 (2003), evaluated for a few relaxed random errors instead of the worst one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.amg import quality_kernels as kernels

if TYPE_CHECKING:
    from relaxon.solvers.sparse.amg.hierarchy import Level
    from relaxon.solvers.sparse.amg.smoothed_aggregation import Sparse

SWEEPS = 4
"""Gauss–Seidel sweeps after which an error is smooth."""
NO_PARTS = (*(np.empty(0, np.uint32) for _ in range(3)), np.empty(0, np.float32))
EVERY = 4
"""One block in this many is looked at."""


@dataclass(frozen=True, slots=True)
class SmoothError:
    """What sweeps have left of a random error on the rows `own` of a level, zero elsewhere, and its energy `eᵀAe`."""

    own: slice
    values: NDArray[np.floating[Any]]
    energy: float


class Fit:
    """How well aggregates fit a level, by errors that are relaxed on first use: beside something else, if possible."""

    def __init__(self, level: Level) -> None:
        self._level = level
        self._errors: tuple[SmoothError, ...] | None = None

    def relax(self) -> tuple[SmoothError, ...]:
        """Return the errors."""
        if self._errors is None:
            self._errors = smooth_errors(self._level)
        return self._errors

    def deviation(self, group: NDArray[np.int32], p: Sparse | None = None) -> float:
        """Return the `deviation` of these errors."""
        return deviation(self._level, self.relax(), group, p)


def smooth_errors(level: Level) -> tuple[SmoothError, ...]:
    """Return one error for each of some blocks of a level."""
    return tuple(_relax(level, block) for block in sample_blocks(len(level.bounds) - 1))


def sample_blocks(count: int) -> range:
    """Return the numbers of the blocks on which errors are looked at."""
    return range(min(1, count - 1), count, EVERY)


def deviation(
    level: Level, errors: tuple[SmoothError, ...], group: NDArray[np.int32], p: Sparse | None = None
) -> float:
    """Return `Σ a_ii (e_i − (P m)_i)² / eᵀAe` for smooth errors `e`, with their means `m` over aggregates.

    `p` interpolates the means, as constants on aggregates where None. Squares of four rows of a Laplacian have 1, lines
    of four rows in one dimension 2.
    """
    far, energy = 0.0, 0.0
    coarse = int(group.max(initial=-1)) + 1
    parts = NO_PARTS if p is None else (p.begin, p.end, p.columns, p.values)
    for error in errors:
        energy += error.energy
        far += kernels.sum_deviation(
            np.uint32(error.own.start), error.values, group, level.diagonal, np.zeros(coarse), np.zeros(coarse), *parts
        )
    return far / energy if energy > 0 else 0.0


def _relax(level: Level, block: int) -> SmoothError:
    """Return what some sweeps leave of a random error on a block's rows."""
    own = slice(int(level.bounds[block]), int(level.bounds[block + 1]))
    x = np.random.default_rng(block).uniform(-1.0, 1.0, own.stop - own.start).astype(np.float32)
    energy = kernels.relax(
        level.bounds[block], level.bounds[block + 1], SWEEPS, level.first, level.inner, level.last, level.columns,
        level.values, level.inverse, level.excess, level.sums, x,
    )  # fmt: skip
    return SmoothError(own, x, float(energy))
