"""The paper's right-hand sides: random combinations of Ritz vectors of one obstacle-free Neumann box.

Source: Kaneda et al., "A Deep Conjugate Direction Method for Iteratively Solving Linear Systems", ICML 2023. There
10,000 Lanczos vectors and 20,000 stored combinations; here the basis is stored once, as large as memory allows, and
a combination is computed from its seed and index when it is asked for.
"""

# Imported on first use, for its weight: SciPy.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.grid.poisson_grid import PoissonGrid

LOW_FACTOR = 9.0
"""By how much the coefficients of the lower Ritz vectors are enlarged."""
LOW_FRACTION = 0.55
"""Which part of the Ritz vectors counts as lower: `m/2 + 500` of the paper's `m = 10,000`, for any `m`."""
BREAKDOWN = 1e-5
"""A Lanczos coefficient below this is rounding: the Krylov space is exhausted (float32, eigenvalues up to 12)."""


@dataclass(frozen=True, slots=True)
class RitzBasis:
    """What `lanczos_basis` found. Ritz vector `j` is `Σ_i weights[i, j] · lanczos[i]`.

    `lanczos` is `(m, cells) float32` with orthonormal rows; `values` is `(m,) float64`, ascending; `weights` is
    `(m, m) float64`, orthogonal.
    """

    shape: tuple[int, int, int]
    lanczos: NDArray[np.float32]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def count(self) -> int:
        return len(self.values)

    def vectors(self, count: int) -> NDArray[np.float32]:
        """Return the lowest Ritz vectors: `(count, *shape) float32`, orthonormal."""
        chosen = self.weights[:, :count].T.astype(np.float32) @ self.lanczos
        return chosen.reshape(count, *self.shape)

    def combinations(self, seed: int, indices: NDArray[np.int64] | list[int]) -> NDArray[np.float32]:
        """Return the right-hand sides of these indices: `(len(indices), *shape) float32`, each of norm 1 and mean 0.

        Combination `k` depends on `seed` and `k` alone.
        """
        low = np.where(np.arange(self.count) < LOW_FRACTION * self.count, LOW_FACTOR, 1.0)
        rows = [low * np.random.default_rng([seed, int(k)]).standard_normal(self.count) for k in indices]
        mixed = (np.array(rows) @ self.weights.T).astype(np.float32) @ self.lanczos
        mixed -= mixed.mean(1, keepdims=True)
        mixed /= np.linalg.norm(mixed, axis=1, keepdims=True)
        return mixed.reshape(-1, *self.shape)


def lanczos_basis(shape: tuple[int, int, int], count: int, seed: int = 0) -> RitzBasis:
    """Run Lanczos with full reorthogonalisation on the Neumann box of that shape, spacing 1.

    Needs `4 · count · cells` bytes. Fewer than `count` vectors come back where the Krylov space is exhausted
    (small boxes have few distinct eigenvalues).

    Parameters
    ----------
    shape : cells along each axis.
    count : Lanczos steps `m`, at least 2 and less than the number of cells.
    seed : of the random start, which is orthogonal to the constants.

    Raises
    ------
    ValueError : where `count` does not fit the box.
    """
    cells = int(np.prod(shape))
    if not 2 <= count < cells:
        raise ValueError(f"count must be at least 2 and less than the {cells} cells, got {count}")
    operator = PoissonGrid(np.zeros(shape, np.uint8)).operator(np.float32)
    basis = np.empty((count, cells), np.float32)
    diagonal, beside = np.zeros(count), np.zeros(count)
    v = np.random.default_rng(seed).standard_normal(cells).astype(np.float32)
    v -= v.mean()
    basis[0] = v / np.linalg.norm(v)
    w = np.empty(shape, np.float32)
    for step in range(count):
        flat = operator.apply(basis[step].reshape(shape), w).reshape(-1)
        diagonal[step] = float(flat @ basis[step])
        known = basis[: step + 1]
        for _ in range(2):  # once leaves float32 rounding behind, twice is enough (Kahan, Parlett)
            flat -= (known @ flat) @ known
            flat -= flat.mean()
        beside[step] = float(np.linalg.norm(flat))
        if step + 1 == count:
            break
        if beside[step] < BREAKDOWN:
            count = step + 1
            break
        basis[step + 1] = flat / beside[step]
    from scipy.linalg import eigh_tridiagonal

    values, weights = eigh_tridiagonal(diagonal[:count], beside[: count - 1])
    return RitzBasis(shape, basis[:count], values, weights)
