"""The cones of sampled activation patterns, and projections onto them that keep their active rows."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.convex.program.cone_kernels import BLOCK, project_groups
from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.threads import divide

Array = NDArray[np.float64]


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
