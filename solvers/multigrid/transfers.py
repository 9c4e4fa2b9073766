"""How an axis is coarsened and interpolated, and the exact solution on the coarsest level."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
COARSEST_UNKNOWNS = 80
"""A level with at most so many unknowns is solved by its pseudo-inverse."""
STRONG = 0.3
"""Axes whose coupling reaches this part of that along the strongest axis are coarsened; the others wait."""
TILE = 64
"""The largest matrices that are multiplied or inverted at once: OpenBLAS gives larger ones to its own threads, which
spin for tenths of a second where other threads have the processors."""
NEGLIGIBLE_BOUNDARY = 1e-5
"""A row sum of the coarsest level below this part of the diagonal is rounding error of float32 couplings."""


def is_coarsest(diagonal: Single) -> bool:
    """Return whether a level has few enough unknowns; they are only counted where its cells are few."""
    return diagonal.size < 64 * COARSEST_UNKNOWNS and int(np.count_nonzero(diagonal)) <= COARSEST_UNKNOWNS


def axes_to_halve(shape: tuple[int, ...], strength: Sequence[float]) -> list[bool]:
    """Return the axes longer than a cell that couple nearly as strongly as the strongest; all such if none couples."""
    long = [s if n > 1 else 0.0 for n, s in zip(shape, strength, strict=True)]
    if max(long) == 0.0:
        return [n > 1 for n in shape]
    return [s >= STRONG * max(long) for s in long]


def coarsen_shape(shape: tuple[int, ...], halved: Sequence[bool]) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    """Return how many cells a coarse one takes of each axis, and the coarse shape."""
    steps = np.array([2 if h else 1 for h in halved])
    return steps, tuple((n + s - 1) // s for n, s in zip(shape, steps.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class TransferTables:
    """The transfer along an axis of `n` fine cells, in the forms that the two passes take."""

    own: NDArray[np.int64]
    other: NDArray[np.int64]
    near: Single
    far: Single
    beyond: Single
    base: NDArray[np.int64]
    """First of the fine cells that a coarse one gathers, `(m,)`."""
    weights: Single
    """Weights of four cells from `base` on, `(m, 4)`."""
    pads: Single
    """What the cells before the first and after the last are worth, in those of the last and the first, `(2,)`."""

    @property
    def spread(self) -> tuple[NDArray[np.int64], Single]:
        """For each fine cell the two coarse ones that it takes from, `(2, n)`, and what it takes of each, `(2, n)`."""
        return np.stack([self.own, self.other]), np.stack([self.near, self.far])

    def matrix(self) -> Single:
        """Return the interpolation along the axis as a dense matrix, `(n, m)` float32."""
        matrix = np.zeros((len(self.own), len(self.base)), np.float32)
        np.add.at(matrix, (np.arange(len(self.own)), self.own), self.near)
        np.add.at(matrix, (np.arange(len(self.own)), self.other), self.far)
        return matrix


@lru_cache(maxsize=256)
def transfer_tables(n: int, halved: bool, periodic: bool, dirichlet: tuple[bool, bool]) -> TransferTables:
    """Return the tables of one axis; they are made once."""
    axis = axis_weights(n, halved, periodic, dirichlet)
    m = (n + 1) // 2 if halved else n
    base = 2 * np.arange(m) - 1 if halved else np.arange(m)
    weights = np.zeros((m, 4), np.float32)
    for position in range(4 if halved else 1):
        fine = base + position
        inside = (fine >= 0) & (fine < n) if not periodic else np.ones(m, bool)
        # Around a short axis one cell may stand at two of the four positions: it counts at the first.
        for earlier in range(position if periodic else 0):
            inside &= (fine % n) != ((base + earlier) % n)
        for weight, target in ((axis.near, axis.own), (axis.far, axis.other)):
            here = inside & (target[fine % n] == np.arange(m))
            weights[here, position] += weight[fine[here] % n]
    odd = n % 2 == 1
    pads = np.array([0.0 if odd else 1.0, 1 / 3 if odd else 1.0], np.float32) * (periodic and halved)
    return TransferTables(
        axis.own.astype(np.int64),
        axis.other.astype(np.int64),
        axis.near,
        axis.far,
        axis.beyond,
        base,
        weights,
        pads.astype(np.float32),
    )


@dataclass(frozen=True, slots=True)
class AxisWeights:
    """Fine cell `i` takes `near` of coarse cell `own` and `far` of `other`; `beyond` falls beyond a Dirichlet side."""

    own: NDArray[np.int32]
    other: NDArray[np.int32]
    near: Single
    far: Single
    beyond: Single


def axis_weights(n: int, halved: bool, periodic: bool, dirichlet: tuple[bool, bool]) -> AxisWeights:
    """Return linear interpolation between the centres of pairs of `n` fine cells; without `halved` the identity."""
    fine = np.arange(n)
    if not halved:
        zero, same = np.zeros(n, np.float32), fine.astype(np.int32)
        return AxisWeights(same, same, zero + 1, zero, zero)
    m = (n + 1) // 2
    own = fine // 2
    other: Any = np.where(fine % 2 == 0, own - 1, own + 1)
    far, beyond = np.full(n, 0.25), np.zeros(n)
    if periodic:
        other = other % m
    for outside, side in ((other < 0, 0), (other >= m, 1)):
        far[outside] = 0.0
        # The side is as far from the cell's centre as that is from the coarse cell's: half of the weight is the side's.
        beyond[outside] = 0.5 if dirichlet[side] else 0.0
    other = np.clip(other, 0, m - 1)
    near = np.full(n, 0.75, np.float32)
    return AxisWeights(
        own.astype(np.int32), other.astype(np.int32), near, far.astype(np.float32), beyond.astype(np.float32)
    )


def coarsest_inverse(
    diagonal: NDArray[np.float64], couplings: tuple[Single, Single, Single], unknown: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], Single]:
    """Return the flat indices of the unknowns `(m,)` and their matrix's pseudo-inverse `(m, m)`, made in float64."""
    index = np.flatnonzero(unknown)
    flat = np.full(unknown.size, -1)
    flat[index] = np.arange(len(index))
    number = flat.reshape(unknown.shape)
    matrix = np.zeros((len(index), len(index)))
    for axis, lower in enumerate(couplings):
        i, j, c = number[lower != 0], np.roll(number, 1, axis)[lower != 0], lower[lower != 0].astype(np.float64)
        for a, b, sign in ((i, j, -1), (j, i, -1), (i, i, 1), (j, j, 1)):
            np.add.at(matrix, (a, b), sign * c)
    d = diagonal.reshape(-1)[index]
    boundary = d - matrix.diagonal()
    # A row sum that is only rounding is made zero, so that a level without Dirichlet faces is exactly singular.
    boundary[boundary < NEGLIGIBLE_BOUNDARY * d] = 0.0
    return index, pseudo_inverse(matrix, boundary).astype(np.float32)


def pseudo_inverse(matrix: NDArray[np.float64], boundary: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the pseudo-inverse of a graph Laplacian plus a diagonal `boundary` ≥ 0: `(n, n)` float64.

    `matrix` holds the Laplacian. A connected part without boundary is singular; its constant vector is shifted by a
    rank-one term before the inversion by Cholesky's method and taken out again after it.
    """
    part = _find_connected_parts(matrix != 0)
    full = matrix + np.diag(boundary)
    strength, held, size = np.zeros(len(part)), np.zeros(len(part)), np.bincount(part, minlength=len(part))
    np.maximum.at(strength, part, full.diagonal())
    np.add.at(held, part, boundary)
    singular = (part[:, None] == part) & (held[part] == 0)
    shift = np.where(singular, (np.maximum(strength, 1.0) / np.maximum(size, 1))[part], 0.0)
    try:
        root = _invert_root(full + shift)
    except np.linalg.LinAlgError:
        root = _root_of_rounded(full + shift)
    # On a part's constant vector the shift is its strength.
    back = np.where(singular, (1.0 / (np.maximum(strength, 1.0) * np.maximum(size, 1)))[part], 0.0)
    return _multiply(root.T, root) - back


def _invert_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse of a definite matrix's Cholesky factor, block by block; LinAlgError if it is not definite."""
    if len(matrix) <= TILE:
        return np.linalg.inv(np.linalg.cholesky(matrix))
    half, found = len(matrix) // 2, np.zeros_like(matrix)
    first = found[:half, :half] = _invert_root(matrix[:half, :half])
    beside = _multiply(matrix[half:, :half], first.T)
    second = found[half:, half:] = _invert_root(matrix[half:, half:] - _multiply(beside, beside.T))
    found[half:, :half] = -_multiply(second, _multiply(beside, first))
    return found


def _multiply(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return `a @ b` by tiles."""
    found, starts = np.zeros((len(a), b.shape[1])), range(0, a.shape[1], TILE)
    for i in range(0, len(a), TILE):
        for j in range(0, b.shape[1], TILE):
            tiles = (a[i : i + TILE, k : k + TILE] @ b[k : k + TILE, j : j + TILE] for k in starts)
            found[i : i + TILE, j : j + TILE] = sum(tiles)
    return found


def _root_of_rounded(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """`R` with `RᵀR` near the inverse of a matrix that rounding has left indefinite: of κ over more decades than
    float64 has digits. Its eigenvalues, scaled by the diagonal, are raised to rounding's size."""
    scale = 1.0 / np.sqrt(matrix.diagonal())
    values, vectors = np.linalg.eigh(scale[:, None] * matrix * scale)
    values = np.maximum(values, np.finfo(np.float64).eps * len(values) * values.max())
    root: NDArray[np.float64] = (vectors / np.sqrt(values)).T * scale
    return root


def _find_connected_parts(joined: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the least index that each index is connected with, `(n,)`, by a symmetric adjacency `(n, n)`."""
    part = np.arange(len(joined))
    while True:
        beside = np.where(joined, part, len(part)).min(1, initial=len(part))
        least = np.minimum(part, beside)
        least = least[least]
        if np.array_equal(least, part):
            return part
        part = least
