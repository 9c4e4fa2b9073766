"""Sampled activation patterns, the rows at which a unit is active, their cones, and projections onto these.

Sampling is as in Pilanci & Ergen 2020, Bai et al. 2023; projections keep their active rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.program.cone_kernels import BLOCK, project_groups
from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.threads import divide

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


@dataclass(frozen=True, slots=True)
class PatternCones:
    """The cones `{v : (2D_i − I) X v ≥ Σ_j box_j |v_j|}` of patterns `D_i`.

    Attributes
    ----------
    xt : (d, n) float64, rows of norm 1, feature by feature.
    signs : (P, n) int8.
    inverse_norms : (n,) float64.
    box : (d,) float64, zeros where nothing is perturbed.
    """

    xt: Array
    signs: NDArray[np.int8]
    inverse_norms: Array
    box: Array

    @classmethod
    def of(cls, x: Array, patterns: NDArray[np.bool_], box: Array) -> PatternCones:
        """Return the cones of patterns `(n, P)` for nonzero rows `x` `(n, d)`."""
        inverse = 1.0 / np.linalg.norm(x, axis=1)
        signs = np.where(patterns.T, 1, -1).astype(np.int8)
        return cls(np.ascontiguousarray((x * inverse[:, None]).T), np.ascontiguousarray(signs), inverse, box)

    def violation(self, groups: Array) -> float:
        """Return the largest cone violation of vectors `(G, d)`, for rows of norm 1, relative to their norms."""
        worst = 0.0
        count = len(self.signs)
        for begin in range(0, len(groups), count):
            part = groups[begin : begin + count]
            products = self.signs * (part @ self.xt) - np.outer(np.abs(part) @ self.box, self.inverse_norms)
            norms = np.linalg.norm(part, axis=1)
            least = products.min(axis=1)[norms > 0.0] / norms[norms > 0.0]
            worst = max(worst, float(-least.min(initial=0.0)))
        return worst


@dataclass(slots=True)
class ConeProjector:
    """A projector of groups `(G, d)`, group `g` onto the cone of pattern `g mod P`, which keeps its active rows."""

    cones: PatternCones
    groups: int
    _columns: Array = field(init=False)
    _weights: Array = field(init=False)
    _counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        d = len(self.cones.xt)
        self._columns = np.zeros((self.groups, d, d))
        self._weights = np.zeros((self.groups, d))
        self._counts = np.zeros(self.groups, np.int64)

    def __call__(self, inputs: Array, floor: float = 0.0) -> Array:
        """Return the projections `(G, d)`; a projection of norm at most `floor` may be any vector of that size."""
        cones = self.cones
        d = len(cones.xt)
        out = np.empty_like(inputs)
        divide(
            project_groups,
            self.groups,
            cones.xt,
            cones.signs,
            cones.inverse_norms,
            cones.box,
            inputs,
            floor,
            self._columns,
            self._weights,
            self._counts,
            out,
            chunks=threads_for(cones.xt.size * self.groups),
            work=lambda: (np.empty(BLOCK), np.empty((d, d)), np.empty((d, d)), np.empty(d)),
        )
        return out
