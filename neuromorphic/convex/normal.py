"""The linear system of the ADMM's first step, `(I + t FᵀCF) q = r`, by one Cholesky factor of the smaller size.

`F q = Σ_i D_i X q_i` for differences `q_i = v_i − w_i`, `C = diag(c)`. The factor is that of `I + t FᵀCF`,
`(P d, P d)`, or of `I + t C^½ F Fᵀ C^½`, `(n, n)` (Sherman, Morrison & Woodbury), where `F Fᵀ = (X Xᵀ) ∘ (D Dᵀ)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

Array = NDArray[np.float64]


class LinearMap(Protocol):
    """The map from the unknowns `(K, N)` to the outputs `(n, K)`."""

    @property
    def unknowns(self) -> int:
        """`N`."""

    def forward(self, q: Array) -> Array:
        """Return `F q`: `(K, N)` to `(n, K)`."""

    def adjoint(self, theta: Array) -> Array:
        """Return `Fᵀ θ`: `(n, K)` to `(K, N)`."""

    def matrix(self) -> Array:
        """Return `F` `(n, N)`."""

    def outer(self) -> Array:
        """Return `F Fᵀ` `(n, n)`."""


@dataclass(slots=True)
class FactoredNormal:
    """Solve `(I + t FᵀCF) q = r`; the factored product is computed once, the factor once for each `t`."""

    map: LinearMap
    c: Array
    _product: Array | None = field(default=None, init=False)
    _factor: tuple[Array, bool] | None = field(default=None, init=False)
    _t: float = field(default=0.0, init=False)

    @property
    def by_rows(self) -> bool:
        """Whether the factor has a row for each row of the data, not for each unknown."""
        return len(self.c) <= self.map.unknowns

    def set_weight(self, t: float) -> None:
        """Factorise for this `t`."""
        root = np.sqrt(self.c)
        if self._product is None:
            if self.by_rows:
                self._product = self.map.outer() * np.outer(root, root)
            else:
                scaled = self.map.matrix() * root[:, None]
                self._product = scaled.T @ scaled
        matrix = t * self._product
        matrix.flat[:: len(matrix) + 1] += 1.0
        self._factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        self._t = t

    def solve(self, r: Array) -> Array:
        """Return `q` for right-hand sides `(K, N)`."""
        assert self._factor is not None
        if not self.by_rows:
            return np.asarray(cho_solve(self._factor, r.T, check_finite=False).T)
        root = np.sqrt(self.c)[:, None]
        inner = cho_solve(self._factor, root * self.map.forward(r), check_finite=False)
        return r - self._t * self.map.adjoint(root * inner)


@dataclass(frozen=True, slots=True)
class PatternMap:
    """`F q = Σ_i D_i X q_i` for patterns `(n, P)` and rows `(n, d)`; unknowns `(K, P·d)`."""

    x: Array
    patterns: NDArray[np.bool_]

    @property
    def unknowns(self) -> int:
        return int(self.patterns.shape[1] * self.x.shape[1])

    def forward(self, q: Array) -> Array:
        n, d = self.x.shape
        outputs = len(q)
        # All patterns of all outputs in one product.
        products = (self.x @ q.reshape(-1, d).T).reshape(n, outputs, -1)
        return np.asarray(np.einsum("nkp,np->nk", products, self.patterns))

    def adjoint(self, theta: Array) -> Array:
        n, outputs = theta.shape
        active = theta[:, :, None] * self.patterns[:, None, :]
        return np.asarray((active.reshape(n, -1).T @ self.x).reshape(outputs, -1))

    def matrix(self) -> Array:
        n = len(self.x)
        return (self.patterns[:, :, None] * self.x[:, None, :]).reshape(n, -1)

    def outer(self) -> Array:
        active = self.patterns.astype(np.float64)
        return np.asarray((self.x @ self.x.T) * (active @ active.T))


@dataclass(frozen=True, slots=True)
class UnitMap:
    """`F α = H α` for hidden activations `H` `(n, m)`; unknowns `(K, m)`."""

    hidden: Array

    @property
    def unknowns(self) -> int:
        return int(self.hidden.shape[1])

    def forward(self, q: Array) -> Array:
        return self.hidden @ q.T

    def adjoint(self, theta: Array) -> Array:
        return np.asarray(theta.T @ self.hidden)

    def matrix(self) -> Array:
        return self.hidden

    def outer(self) -> Array:
        return np.asarray(self.hidden @ self.hidden.T)
