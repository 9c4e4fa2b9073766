"""The linear system of the ADMM's first step, `(I + t FᵀCF) q = r`, by a Cholesky factor or conjugate gradients.

The factor is that of `I + t FᵀCF`, with a row for each unknown, or of `I + t C^½ F Fᵀ C^½`, with a row for each row of
the data (Sherman, Morrison & Woodbury), whichever is smaller; for patterns `F Fᵀ = (X Xᵀ) ∘ (D Dᵀ)`.

Where both are too large, conjugate gradients use only products with `F` and `Fᵀ`. The preconditioner is the system of a
sample of the rows, weighted to represent all rows, which the second formula inverts by a small factor.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from relaxon.neuromorphic.convex.program.maps import LinearMap

Array = NDArray[np.float64]
Factor = tuple[Array, bool]

CLOSE = 1e-10
"""Relative residual at which conjugate gradients stop."""
STEPS = 1000


def build_normal_solver(map: LinearMap, c: Array, largest: int) -> FactoredNormal | IterativeNormal:
    """Return a direct solver where its factor has at most `largest` rows, otherwise an iterative one."""
    rows = len(c) if map.by_rows else map.unknowns
    return FactoredNormal(map, c) if rows <= largest else IterativeNormal(map, c, max(1, largest // 2))


@dataclass(slots=True)
class FactoredNormal:
    """A solver by a Cholesky factor; the product is computed once, the factor once for each `t`."""

    map: LinearMap
    c: Array
    _product: Array | None = field(default=None, init=False)
    _factor: Factor | None = field(default=None, init=False)
    _t: float = field(default=0.0, init=False)

    def set_weight(self, t: float) -> None:
        """Prepare the solver for this `t`."""
        if self._product is None:
            root = np.sqrt(self.c)
            by_rows = self.map.by_rows
            self._product = self.map.outer() * np.outer(root, root) if by_rows else self.map.gram(self.c)
        self._factor, self._t = factor_shifted(self._product, t), t

    def solve(self, r: Array) -> Array:
        """Return `q` for right-hand sides `(K, N)`."""
        assert self._factor is not None
        if not self.map.by_rows:
            return np.asarray(cho_solve(self._factor, r.T, check_finite=False).T)
        root = np.sqrt(self.c)[:, None]
        inner = cho_solve(self._factor, root * self.map.forward(r), check_finite=False)
        return r - self._t * self.map.adjoint(root * inner)


@dataclass(slots=True)
class IterativeNormal:
    """A solver by preconditioned conjugate gradients, with the last solution as initial guess; it stores no matrix.

    Attributes
    ----------
    sampled : number of rows in the preconditioner.
    iterations : number of iterations of the last solve.
    """

    map: LinearMap
    c: Array
    sampled: int
    iterations: int = field(default=0, init=False)
    _t: float = field(default=0.0, init=False)
    _sample: FactoredNormal = field(init=False)
    _last: Array | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        n = len(self.c)
        rows = np.sort(np.random.default_rng(0).choice(n, min(self.sampled, n), replace=False))
        shares = self.c[rows] * (self.c.sum() / self.c[rows].sum())
        self._sample = FactoredNormal(self.map.at_rows(rows), shares)

    def set_weight(self, t: float) -> None:
        self._sample.set_weight(t)
        self._t = t

    def solve(self, r: Array) -> Array:
        q = np.zeros_like(r) if self._last is None else self._last.copy()
        residual = r - self._apply(q)
        goal = CLOSE * float(np.linalg.norm(r))
        direction, weight = np.zeros_like(r), 1.0
        self.iterations = 0
        while float(np.linalg.norm(residual)) > goal and self.iterations < STEPS:
            z = self._sample.solve(residual)
            product = float((z * residual).sum())
            direction = z + (product / weight) * direction
            applied = self._apply(direction)
            step = product / float((direction * applied).sum())
            q += step * direction
            residual -= step * applied
            weight = product
            self.iterations += 1
        self._last = q.copy()
        return q

    def _apply(self, q: Array) -> Array:
        return q + self._t * self.map.adjoint(self.c[:, None] * self.map.forward(q))


def factor_shifted(product: Array, t: float) -> Factor:
    """Return the Cholesky factor of `I + t · product`."""
    matrix = t * product
    matrix.flat[:: len(matrix) + 1] += 1.0
    factor: Factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    return factor
