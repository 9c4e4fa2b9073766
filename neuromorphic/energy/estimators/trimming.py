"""Trimming: the rows that a density of contaminated data is fitted to.

A density of all rows is high where outliers cluster. Trimming leaves the rows out that are farthest from their k-th
nearest neighbour (Ramaswamy, Rastogi and Shim 2000), where k is larger than the number of rows left out: a cluster of
fewer rows than that is as far from its k-th neighbour as from the other rows.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from relaxon.neuromorphic.energy.noise.fitted import CHUNK, measure_squared_distances

MOST_NEIGHBOURS = 4000
"""Approximate maximum number of rows, evenly spaced, among which neighbours are sought."""
BEYOND = 5
"""Neighbours in addition to the share of rows that is left out."""


def select_dense_rows(x: NDArray[np.float64], share: float) -> NDArray[np.bool_]:
    """Return a mask of the rows of `x (n, d)` without the `share` of the most remote ones.

    Distances are in standard deviations of the features. A feature that varies over all rows does so over those kept:
    where it would not, the least remote row that differs in it is kept too.
    """
    z = torch.from_numpy((x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1.0))
    some = z[:: max(1, -(-len(z) // MOST_NEIGHBOURS))]
    place = min(len(some), int(share * len(some)) + BEYOND + 1)  # a row is its own first neighbour
    parts = torch.split(z, max(1, CHUNK // len(some)))
    remoteness = torch.cat([measure_squared_distances(part, some).kthvalue(place, 1).values for part in parts])
    remote = torch.argsort(remoteness, stable=True).numpy()[len(x) - int(share * len(x)) :]
    kept = np.ones(len(x), bool)
    kept[remote] = False
    for feature in range(x.shape[1]):
        column = x[kept, feature]
        differing = remote[x[remote, feature] != column[0]]
        if len(differing) and (column == column[0]).all():
            kept[differing[0]] = True
    return kept
