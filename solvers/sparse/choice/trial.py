"""A trial of multigrid on a small piece of a large matrix, for what its stencils alone do not show.

Matrices of fourth-order equations (plates, `AᵀA`) have positive off-diagonals, as those of stretched elements and
elastic bodies have, but no hierarchy based on constants converges on them. A piece of a thousand unknowns shows that
within milliseconds.
"""

# Imported on first use, for its weight: `solvers.sparse.amg`.

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.interface.engine import Monitor
from relaxon.solvers.sparse.krylov.vectors import norm_of
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
from relaxon.solvers.sparse.system.row_runs import locate_entries

PIECE = 1_000
"""Number of unknowns of the piece."""
WORTH = 20_000
"""Unknowns from which a trial, some 5 ms, costs little beside a bad choice."""
POSITIVE = (0.15, 0.6)
"""Range of the positive fraction of the off-diagonal weight in which a trial is worth it: 0.2 for a beam, 0.27 for a
plate. Second-order equations on triangles and tetrahedra stay below 0.1; mass matrices have 1."""
MOST_STEPS = 150
"""Steps outwards from the middle after which a piece is complete at any size: narrow graphs are cheap to factor."""
TOLERANCE = 1e-6
MOST_ITERATIONS = 120
"""Limit of a trial's iterations; the rate until then gives the number it would take."""
MANY = 35.0
"""Iterations on a piece from which they grow with the matrix. Measured on 1,000 and 100,000 unknowns: rotated
anisotropy 28 and 36, elastic bodies 9 to 16 and 20 to 41, flat elements 41 and more than 100, the squared Laplacian of
a graph 38 and more than 150, plates 130 and more than 1,000."""
GROWTH = 0.7
"""Power of the number of unknowns with which they then grow: on plates 130, 179 and 284 for 1,000, 2,000 and 3,000."""


def pick_piece(matrix: Any, block_size: int = 1, most: int = PIECE) -> NDArray[np.int64]:
    """Return about `most` unknowns around the middle one of a CSR matrix, ascending, in whole nodes of `block_size`."""
    n = matrix.shape[0]
    found = np.zeros(n, bool)
    front = np.array([n // 2])
    found[front] = True
    count = 1
    for _ in range(MOST_STEPS):
        front = np.unique(matrix.indices[locate_entries(matrix.indptr, front)[0]])
        front = front[~found[front]][: most - count]
        if not len(front):
            break
        found[front] = True
        count += len(front)
    kept = np.flatnonzero(found)
    if block_size == 1:
        return kept
    nodes = np.unique(kept // block_size)
    return np.asarray((block_size * nodes[:, None] + np.arange(block_size)).ravel())


def try_multigrid(system: MatrixSystem) -> float:
    """Return how many iterations multigrid is expected to take on a matrix, from those on a piece of it; 0 where these
    are few, which tells nothing."""
    from relaxon.solvers.sparse.amg import AlgebraicMultigrid

    near_null = system.near_null
    kept = pick_piece(system.matrix, 1 if near_null is None else near_null.block_size)
    part = MatrixSystem.part(system.matrix[kept][:, kept], kept, system.unknowns, near_null)
    if part.near_null is not None and part.null_vectors:
        return 0.0
    engine = AlgebraicMultigrid().prepare_matrix(part)
    b = part.project(np.random.default_rng(0).standard_normal(part.unknowns))
    x = np.zeros_like(b)
    size = norm_of(b)
    monitor = Monitor(TOLERANCE * size)
    engine.run(b, x, monitor, MOST_ITERATIONS)
    least = min(monitor.history)
    if not 0 < least < size:
        return math.inf if monitor.iterations >= MOST_ITERATIONS else 0.0
    count = monitor.iterations * math.log(TOLERANCE) / math.log(least / size)
    if count < MANY:
        return 0.0
    return float(count * (system.unknowns / len(kept)) ** GROWTH)
