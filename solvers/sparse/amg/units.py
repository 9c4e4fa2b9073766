"""The units of unknowns: weights in which the neighbouring entries of a smooth error are about equal.

Aggregation assumes that sweeps leave constants. In `S A S`, with a diagonal `S` that varies or has both signs, they
leave `S⁻¹` instead. It is computed as in adaptive methods, by sweeps on `A w = 0`, and the hierarchy is built from `W A
W`: sweeps are the same in any units, aggregates and interpolation are not.

Source: M. Brezina, R. Falgout, S. MacLachlan, T. Manteuffel, S. McCormick, J. Ruge, "Adaptive smoothed aggregation",
SIAM J. Sci. Comput. 25 (2004), for the sweeps; the weights are powers of the diagonal to begin with.
"""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.scaling import mean_scale
from relaxon.solvers.sparse.amg.units_kernels import mean_unevenness
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

Array = NDArray[np.float64]
SAMPLE = 500
"""Number of rows from whose sums it is judged whether constants suit a matrix."""
UNEVEN = 0.05
"""Unevenness of a matrix above which weights are computed."""
BETTER = 0.5
"""Weights are used where they leave at most this fraction of the unevenness."""
POSITIVE = 0.05
"""Positive fraction of the off-diagonal weight above which signs are computed."""
SWEEPS = 16
"""Chebyshev steps that smooth the weights between strongly coupled rows."""
LEAST_DAMPED, TOP = 0.05, 2.0
"""Range of the eigenvalues that are damped, of the matrix over half of its rows' sums of magnitudes."""
DOMINATED = 0.4
"""Rows whose couplings sum to less than this fraction of the diagonal keep the units in which the diagonal is 1."""
LEAST = 0.05
"""Smallest fraction of its initial magnitude to which a weight may shrink."""


def find_weights(system: MatrixSystem) -> Array | None:
    """Return weights `w`, `(n,)` float64, nowhere 0, such that `W A W` is less uneven than `A`.

    None where the rows of `A` sum to little, where their diagonal dominates as in M-matrices, or where no such weights
    are found. They are 1 on components that are singular by constants.
    """
    before = unevenness(system.matrix, system.diagonal)
    if before <= UNEVEN:
        return None
    weights = np.where(system.diagonal > 0, 1.0 / np.sqrt(np.where(system.diagonal > 0, system.diagonal, 1.0)), 1.0)
    singular = None if system.null.labels is None else system.null.labels.reshape(-1) > 0
    if singular is not None:
        weights[singular] = 1.0
    scaled = scale_entries(system.matrix, weights)
    signs = _find_signs(scaled)
    if singular is not None:
        signs[singular] = 1.0
    if (signs < 0).any():  # perhaps signs are enough
        turned = scale_entries(system.matrix, signs)
        if unevenness(turned, system.diagonal) <= UNEVEN:
            return signs
    weights = _relax_weights(scaled, weights, signs, singular)
    scaled = scale_entries(system.matrix, weights)
    after = unevenness(scaled, system.diagonal * weights**2)
    return weights * mean_scale(weights) if after <= BETTER * before else None


def renew_weights(weights: Array | None, old: MatrixSystem, system: MatrixSystem) -> Array | None:
    """Return weights for new values on the pattern of `old`, for which `weights` were computed; None for none.

    They are kept where rows stay about as even. Where units have changed, the diagonal shows by how much.
    """
    kept = scale_unknowns(system, weights)
    before = unevenness(kept.matrix, kept.diagonal)
    both = (old.diagonal > 0) & (system.diagonal > 0)
    if before <= UNEVEN or not both.all():
        return weights
    changed = np.sqrt(old.diagonal / system.diagonal)
    changed *= mean_scale(changed)
    if system.null.labels is not None:
        changed[system.null.labels.reshape(-1) > 0] = 1.0
    found = changed if weights is None else weights * changed
    even = scale_unknowns(system, found)
    return found if unevenness(even.matrix, even.diagonal) <= BETTER * before else weights


def unevenness(matrix: Any, diagonal: Array) -> float:
    """Return how far the rows are from those of M-matrices or elements, whose sums vanish or whose diagonal dominates.

    This is the mean over a sample of rows of `min(|Σ_j a_ij|, what positive couplings add to the sum) / a_ii`, or of
    `−Σ_j a_ij / a_ii` where that is positive, at most 1.
    """
    return float(mean_unevenness(max(1, len(diagonal) // SAMPLE), matrix.indptr, matrix.data, diagonal))


def scale_entries(matrix: Any, weights: Array) -> Any:
    """Return `W A W` for a CSR matrix `A`, whose pattern is shared."""
    from scipy.sparse import csr_array

    data = matrix.data * np.repeat(weights, np.diff(matrix.indptr))
    data *= weights[matrix.indices]
    return csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)


def scale_unknowns(system: MatrixSystem, weights: Array | None) -> MatrixSystem:
    """Return the system of `W A W`; the system itself where there are no weights."""
    if weights is None:
        return system
    scaled = scale_entries(system.matrix, weights)
    return replace(system, matrix=scaled, diagonal=system.diagonal * weights**2, state=None)


def _relax_weights(scaled: Any, weights: Array, signs: Array, singular: NDArray[np.bool_] | None) -> Array:
    """Return the weights after some sweeps on `A w = 0`, from magnitudes that make the diagonal 1 and these signs."""
    diagonal = np.asarray(scaled.diagonal())
    size = np.asarray(abs(scaled).sum(axis=1)).ravel() - diagonal
    kept = size <= DOMINATED * diagonal
    if singular is not None:
        kept |= singular
    whole = size + diagonal  # twice the diagonal of a Laplacian
    step = np.where(kept, 0.0, TOP / np.where(whole > 0, whole, 1.0))
    found, change = signs.copy(), np.zeros_like(signs)
    centre, half = (TOP + LEAST_DAMPED) / 2, (TOP - LEAST_DAMPED) / 2
    rho = half / centre
    for sweep in range(SWEEPS):  # Chebyshev's semi-iteration
        following = 1.0 / (2 * centre / half - rho)
        along = step * (scaled @ found)
        change = -along / centre if sweep == 0 else following * rho * change - 2 * following / half * along
        rho = following if sweep else rho
        found = found + change
    found = np.where(found * signs > LEAST, found, LEAST * signs)
    return np.asarray(weights * found)


def _find_signs(scaled: Any) -> Array:
    """Return signs of the unknowns that make all couplings of a spanning forest of the strongest couplings negative.

    In a graph with each unknown twice, once for either sign, a negative coupling connects equal signs and a positive
    one different signs; for a forest the two halves are not connected.
    """
    from scipy.sparse import block_array, csr_array
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    n = scaled.shape[0]
    entries = scaled.tocoo()
    off = entries.row < entries.col
    row, column, value = entries.row[off], entries.col[off], entries.data[off]
    if not np.maximum(value, 0.0).sum() > POSITIVE * np.abs(value).sum():
        return np.ones(n)
    largest = float(np.abs(value).max())
    length = 1.0 + np.log(largest) - np.log(np.maximum(np.abs(value), np.finfo(float).tiny * largest))
    forest = minimum_spanning_tree(csr_array((length, (row, column)), shape=scaled.shape)).tocoo()
    along = csr_array((value, (row, column)), shape=scaled.shape)
    coupling = np.asarray(along[forest.row, forest.col]).ravel()
    ends = (forest.row, forest.col)
    equal = csr_array((np.where(coupling < 0, 1.0, 0.0), ends), shape=scaled.shape)
    other = csr_array((np.where(coupling < 0, 0.0, 1.0), ends), shape=scaled.shape)
    other = csr_array(other + other.T)
    equal.eliminate_zeros()
    other.eliminate_zeros()
    _, part = connected_components(block_array([[equal, other], [other, equal]]), directed=False)
    return np.where(part[:n] < part[n:], 1.0, -1.0)
