"""How well aggregates of nodes fit: how far the errors that sweeps leave are from the near-null vectors.

Source of the measure: the weak approximation property, J. Mandel, "Local approximation estimators for algebraic
multigrid", ETNA 15 (2003), taken at a relaxed random error instead of at the worst one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.amg.quality import SWEEPS, SmoothError, sample_blocks
from relaxon.solvers.sparse.nodal import block_kernels
from relaxon.solvers.sparse.nodal.blocks import Floats

if TYPE_CHECKING:
    from relaxon.solvers.sparse.nodal.hierarchy import BlockLevel


def relax_errors(level: BlockLevel) -> tuple[SmoothError, ...]:
    """Return a random error, `(nodes, size)`, that sweeps have left on each of some parts of the rows."""
    return tuple(_relax(level, part) for part in sample_blocks(len(level.bounds) - 1))


def _relax(level: BlockLevel, part: int) -> SmoothError:
    a, size = level.matrix, (0,) * level.size
    own = slice(int(level.bounds[part]), int(level.bounds[part + 1]))
    b, x, old, image = (np.zeros(level.unknowns, np.float32) for _ in range(4))
    mine = slice(own.start * level.size, own.stop * level.size)
    x[mine] = np.random.default_rng(part).uniform(-1.0, 1.0, mine.stop - mine.start)
    entries = a.columns, a.values
    for _ in range(SWEEPS):
        old[mine] = x[mine]
        block_kernels.sweep_backward(
            part, part + 1, level.bounds, size, a.first, level.middle, level.inner, a.last, *entries, level.inverse,
            level.excess, b, x, old, image,
        )  # fmt: skip
    block_kernels.multiply(
        part, part + 1, level.bounds, size, size, a.first, a.last, *entries, False, np.float32(1), x, image
    )
    values = x[mine].astype(np.float64)
    return SmoothError(own, values.reshape(-1, level.size), float((values * image[mine]).sum()))


def deviation(level: BlockLevel, errors: tuple[SmoothError, ...], group: NDArray[np.int32], basis: Floats) -> float:
    """Return `Σ a_ii (e − T Tᵀ e)_i² / eᵀAe` over smooth errors `e`.

    The columns of `T` are the vectors of `basis`, `(nodes, k, size)`, orthonormal on each aggregate.
    """
    diagonal = np.einsum("ncc->nc", level.matrix.values[level.middle])
    far = energy = 0.0
    for error in errors:
        own = error.own
        joined = group[own] >= 0
        number, vectors, e = group[own][joined], basis[own][joined], error.values[joined]
        parts = np.einsum("nkc,nc->nk", vectors, e)
        along = np.zeros((int(number.max(initial=-1)) + 1, vectors.shape[1]))
        np.add.at(along, number, parts)
        left = e - np.einsum("nkc,nk->nc", vectors, along[number])
        far += float(np.sum(diagonal[own][joined] * left**2))
        energy += error.energy
    return far / energy if energy > 0 else 0.0
