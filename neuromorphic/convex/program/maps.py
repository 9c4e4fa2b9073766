"""Linear maps from the programs' unknowns to the outputs, in blocks of rows whose products fit into memory.

A map F leads from unknowns `(K, N)` to outputs `(n, M)`; `C = diag(c)` are the rows' shares, `(n,)`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BLOCK = 2**22
"""Largest number of entries of a block's product."""


def row_blocks(rows: int, width: int) -> Iterator[slice]:
    """Yield blocks of rows, each with at most `BLOCK` entries at this width."""
    step = max(1, BLOCK // max(width, 1))
    for begin in range(0, rows, step):
        yield slice(begin, min(begin + step, rows))


@dataclass(frozen=True, slots=True)
class PatternMap:
    """`F q = Σ_i D_i X q_i` for patterns `(n, P)` and rows `(n, d)`; unknowns `(K, P·d)`, outputs `(n, K)`."""

    x: Array
    patterns: NDArray[np.bool_]

    @property
    def unknowns(self) -> int:
        """`N`."""
        return int(self.patterns.shape[1] * self.x.shape[1])

    @property
    def by_rows(self) -> bool:
        """Whether `F Fᵀ` is smaller than `FᵀCF` and `outer` is available."""
        return len(self.x) <= self.unknowns

    def forward(self, q: Array) -> Array:
        """Return `F q`: `(K, N)` to `(n, M)`."""
        n, d = self.x.shape
        outputs = len(q)
        stacked = q.reshape(-1, d).T
        out = np.empty((n, outputs))
        for part in row_blocks(n, stacked.shape[1]):
            # All patterns of all outputs in one product.
            products = (self.x[part] @ stacked).reshape(part.stop - part.start, outputs, -1)
            np.einsum("nkp,np->nk", products, self.patterns[part], out=out[part])
        return out

    def adjoint(self, theta: Array) -> Array:
        """Return `Fᵀ θ`: `(n, M)` to `(K, N)`."""
        n, outputs = theta.shape
        width = outputs * self.patterns.shape[1]
        out = np.zeros((width, self.x.shape[1]))
        for part in row_blocks(n, width):
            active = theta[part, :, None] * self.patterns[part, None, :]
            out += active.reshape(-1, width).T @ self.x[part]
        return out.reshape(outputs, -1)

    def gram(self, c: Array) -> Array:
        """Return `FᵀCF` `(N, N)`."""
        out = np.zeros((self.unknowns, self.unknowns))
        root = np.sqrt(c)
        for part in row_blocks(len(c), self.unknowns):
            scaled = self.x[part] * root[part, None]
            matrix = (self.patterns[part, :, None] * scaled[:, None, :]).reshape(len(scaled), -1)
            out += matrix.T @ matrix
        return out

    def outer(self) -> Array:
        """Return `F Fᵀ` `(n, n)`, where `by_rows`."""
        active = self.patterns.astype(np.float64)
        return np.asarray((self.x @ self.x.T) * (active @ active.T))

    def at_rows(self, rows: NDArray[np.int64]) -> LinearMap:
        """Return the map to the outputs of these rows, `(rows, K)`, for which `outer` is available."""
        return PatternMap(self.x[rows], self.patterns[rows])


@dataclass(frozen=True, slots=True)
class RobustMap(PatternMap):
    """`F q` and, for each row, its sensitivity `box ∘ Σ_i d_ik q_i` to a perturbation: `(n, K (1 + d))`.

    As long as its pattern does not change, a perturbation `|δ_j| ≤ box_j` of row `k` changes its output by
    `δᵀ Σ_i d_ik q_i`, and so by at most `‖box ∘ Σ_i d_ik q_i‖₁`.
    """

    box: Array

    @property
    def by_rows(self) -> bool:
        return False

    def forward(self, q: Array) -> Array:
        n, d = self.x.shape
        outputs = len(q)
        vectors = q.reshape(outputs, -1, d)
        out = np.empty((n, outputs, 1 + d))
        active = self.patterns.astype(np.float64)
        for k in range(outputs):
            slopes = active @ vectors[k]
            out[:, k, 0] = np.einsum("nd,nd->n", self.x, slopes)
            out[:, k, 1:] = slopes * self.box
        return out.reshape(n, -1)

    def adjoint(self, theta: Array) -> Array:
        n, d = self.x.shape
        parts = theta.reshape(n, -1, 1 + d)
        active = self.patterns.astype(np.float64)
        rows = parts[:, :, :1] * self.x[:, None, :] + parts[:, :, 1:] * self.box
        return np.stack([(active.T @ rows[:, k]).ravel() for k in range(parts.shape[1])])

    def gram(self, c: Array) -> Array:
        active = self.patterns.astype(np.float64)
        overlap = active.T @ (active * c[:, None])
        return PatternMap(self.x, self.patterns).gram(c) + np.kron(overlap, np.diag(np.square(self.box)))

    def outer(self) -> Array:
        raise TypeError("a map with perturbations is not by_rows: its factor has a row for each unknown")

    def at_rows(self, rows: NDArray[np.int64]) -> LinearMap:
        return PatternMap(self.x[rows], self.patterns[rows])


@dataclass(frozen=True, slots=True)
class UnitMap:
    """`F α = H α` for hidden activations `H` `(n, m)`; unknowns `(K, m)`, outputs `(n, K)`."""

    hidden: Array

    @property
    def unknowns(self) -> int:
        return int(self.hidden.shape[1])

    @property
    def by_rows(self) -> bool:
        return len(self.hidden) <= self.unknowns

    def forward(self, q: Array) -> Array:
        return self.hidden @ q.T

    def adjoint(self, theta: Array) -> Array:
        return np.asarray(theta.T @ self.hidden)

    def gram(self, c: Array) -> Array:
        scaled = self.hidden * np.sqrt(c)[:, None]
        return np.asarray(scaled.T @ scaled)

    def outer(self) -> Array:
        return np.asarray(self.hidden @ self.hidden.T)

    def at_rows(self, rows: NDArray[np.int64]) -> LinearMap:
        return UnitMap(self.hidden[rows])


LinearMap = PatternMap | UnitMap
