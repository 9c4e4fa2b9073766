"""Activation patterns, the rows at which a unit is active, sampled as in Pilanci & Ergen 2020, Bai et al. 2023."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Patterns = NDArray[np.bool_]

DRAWS = 8
"""Largest number of directions drawn for each requested pattern, since a few rows have few patterns."""


def draw_patterns(x: Array, wanted: int, rng: np.random.Generator, given: Patterns | None = None) -> Patterns:
    """Return distinct activation patterns `1[X g ≥ 0]` of normal directions `g`, `(n, P)`, `P ≤ wanted`.

    Patterns without an active row are omitted, since they contribute nothing. The pattern with all rows active, that of
    a linear model, comes first. Each drawn pattern is that of a unit, so its cone has an interior, except for ties.

    Parameters
    ----------
    x : (n, d) float64, the last column 1.
    given : patterns not to be drawn again, `(n, P)`; in this case the pattern of all rows is not prepended.
    """
    n, d = x.shape
    seen: set[bytes] = set() if given is None else {row.tobytes() for row in np.packbits(given.T, axis=1)}
    found: list[Patterns] = []
    if given is None:
        found.append(np.ones(n, bool))
        seen.add(np.packbits(found[0]).tobytes())
    for _ in range(DRAWS):
        if len(found) >= wanted:
            break
        active = (x @ rng.standard_normal((d, wanted))) >= 0.0
        for column, key in zip(active.T, np.packbits(active.T, axis=1), strict=True):
            if len(found) < wanted and column.any() and key.tobytes() not in seen:
                seen.add(key.tobytes())
                found.append(column.copy())
    return np.ascontiguousarray(np.array(found, bool).reshape(len(found), n).T)
