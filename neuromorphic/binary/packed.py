"""Prediction of a binary equilibrium network by counting bits: rates of 16 levels, stored as four bit planes.

The rate of a unit is the level `q/15` nearest to `σ(4u − 2)`; level `q` begins at the state `u` where `σ(4u − 2) =
(q − ½)/15`. Layers are relaxed one after another. As the feedback is tied, each such step lowers

    E(q) = Σ_i Σ_{k≤q_i} t_k / 15 − Σ_n q_nᵀ W_n q_{n−1} / 15² − Σ_i q_i d_i / 15,

with `t_k` the threshold states and `d` the drive, or leaves the levels unchanged. Relaxation thus ends after finitely
many steps at an exact equilibrium, without a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.core.cached import cached_property
from relaxon.neuromorphic.binary import kernels
from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork
from relaxon.neuromorphic.binary.packing import SignMatrix

Array = NDArray[np.float64]
SLOPE, OFFSET = 4.0, 2.0
"""Parameters of the activation `σ(4u − 2)`."""
STEP = 2.0**-6
"""Quantisation step of the inputs, in standard deviations."""
MIDDLE = 2**11
"""Code of the input 0; inputs have twelve bits, from −32 to 32 standard deviations."""
MOST_SWEEPS = 10_000
"""Maximum number of passes over the layers."""


@dataclass(frozen=True)
class Rest:
    """The equilibria of rows: `scores (rows, classes)`, `levels (rows, units)` from 0 to 15, and `sweeps (rows,)`."""

    scores: Array
    levels: NDArray[np.uint64]
    sweeps: NDArray[np.int64]
    """Number of passes over the layers; negative if the last one still changed a level."""


@dataclass(frozen=True)
class PackedEquilibrium:
    """A binary equilibrium network ready for prediction: packed matrices, their scales and real biases.

    `matrices` lead from the input to the first relaxing layer, from each to the next, and to the classes. For
    prediction each recurrent matrix is also stored transposed, as its feedback runs along the other axis.
    """

    matrices: tuple[SignMatrix, ...]
    scales: tuple[float, ...]
    biases: tuple[Array, ...]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Numbers of input columns, of units of each relaxing layer, and of classes."""
        return np.array([self.matrices[0].columns, *[len(matrix.packed) for matrix in self.matrices]], np.int64)

    @property
    def nbytes(self) -> int:
        """Size of the stored weights in bytes: the bits, and a scale of eight bytes for each matrix."""
        return sum(matrix.nbytes for matrix in self.matrices) + 8 * len(self.scales)

    @cached_property
    def thresholds(self) -> Array:
        """States from which a unit has level 1 … 15, `(15,)`."""
        share = (np.arange(1, kernels.HIGHEST + 1) - 0.5) / kernels.HIGHEST
        return np.asarray((np.log(share) - np.log1p(-share) + OFFSET) / SLOPE)

    @cached_property
    def weights(self) -> Array:
        """Factor of the integer sums of each matrix."""
        return np.array([self.scales[0] * STEP, *[scale / kernels.HIGHEST for scale in self.scales[1:]]])

    @property
    def first_level(self) -> int:
        """Level of the state 0, at which relaxation starts."""
        return int((self.thresholds <= 0.0).sum())

    def quantise(self, x: Array) -> NDArray[np.uint64]:
        """Return inputs `(rows, columns)` as integers from 0 to 4095, where `MIDDLE` stands for 0."""
        steps = np.clip(np.rint(x / STEP), -MIDDLE, MIDDLE - 1) + MIDDLE
        return np.ascontiguousarray(steps.astype(np.uint64))

    def relax(self, x: Array, sweeps: int = MOST_SWEEPS) -> Rest:
        """Relax rows `x (rows, columns)` float64, standardised as in training."""
        if x.ndim != 2 or x.shape[1] != self.sizes[0] or not np.isfinite(x).all():
            raise ValueError(f"x must be finite and (rows, {self.sizes[0]}), got shape {x.shape}")
        rows, sizes = len(x), self.sizes
        scores = np.empty((rows, int(sizes[-1])))
        levels = np.empty((rows, int(sizes[1:-1].sum())), np.uint64)
        taken = np.empty(rows, np.int64)
        words, ones, biases = self._laid_out
        kernels.relax_packed(
            self.quantise(x), words, ones, sizes, self._terms, self.weights, biases, self.thresholds,
            np.uint64(self.first_level), sweeps, scores, levels, taken,
        )  # fmt: skip
        return Rest(scores, levels, taken)

    def energy(self, x: Array, levels: NDArray[np.uint64]) -> Array:
        """Return `E` of each row at those levels, `(rows,)`, in float64."""
        sizes, top = self.sizes, kernels.HIGHEST
        rates = np.split(levels.astype(np.float64) / top, np.cumsum(sizes[1:-2]), axis=1)
        below = (self.quantise(x).astype(np.float64) - MIDDLE) * STEP
        cost = np.concatenate([[0.0], np.cumsum(self.thresholds)]) / top
        total = cost[levels.astype(np.int64)].sum(axis=1)
        for n, rate in enumerate(rates):
            W = self.scales[n] * self.matrices[n].unpack()
            total -= ((below @ W.T + self.biases[n]) * rate).sum(axis=1)
            below = rate
        return np.asarray(total)

    @cached_property
    def _ordered(self) -> list[SignMatrix]:
        """The matrices in memory order: the input's, each recurrent one with its transpose, the readout's."""
        order = [self.matrices[0]]
        for matrix in self.matrices[1:-1]:
            order += [matrix, matrix.transposed()]
        return [*order, self.matrices[-1]]

    @cached_property
    def _laid_out(self) -> tuple[NDArray[np.uint64], NDArray[np.int64], Array]:
        words = np.concatenate([matrix.words.ravel() for matrix in self._ordered])
        return words, np.concatenate([matrix.ones for matrix in self._ordered]), np.concatenate(self.biases)

    @cached_property
    def _terms(self) -> NDArray[np.int64]:
        """The table that `kernels.add_terms` reads, for the drive, each relaxing layer and the readout."""
        layers = len(self.matrices) - 1
        terms = np.zeros((layers + 2, 2, 8), np.int64)
        word = one = 0
        for place, matrix in enumerate(self._ordered):
            rows, columns = matrix.shape
            # In each pair, matrix n leads to layer n and its transpose back to layer n − 1.
            n, back = (place + 1) // 2, place > 0 and place % 2 == 0
            if n == 0:
                terms[0, 0] = word, one, len(matrix.words), layers, kernels.INPUT_CHUNKS, MIDDLE, columns, 0
            elif back:
                terms[n, 1] = word, one, len(matrix.words), n, 1, 0, columns, n
            else:
                terms[n + 1, 0] = word, one, len(matrix.words), n - 1, 1, 0, columns, n
            word, one = word + matrix.words.size, one + rows
        return terms


def pack_network(network: BinaryLayeredNetwork) -> PackedEquilibrium:
    """Pack a binarized network for prediction; raise `TypeError` or `ValueError` for any other network."""
    if not isinstance(network, BinaryLayeredNetwork):
        raise TypeError(f"network must be a BinaryLayeredNetwork, got {type(network).__name__}")
    scales = tuple(network.scales())
    biases = tuple(np.asarray(bias.detach().cpu().double().numpy()) for bias in network.biases)
    return PackedEquilibrium(tuple(network.sign_matrices()), scales, biases)


def relax_unpacked(packed: PackedEquilibrium, x: Array, sweeps: int = MOST_SWEEPS) -> Rest:
    """Relax row by row with integers instead of bits: the slow, plain twin of the kernel."""
    signs = [matrix.unpack().astype(np.int64) for matrix in packed.matrices]
    weights, layers = packed.weights, len(signs) - 1
    inputs = packed.quantise(x).astype(np.int64) - MIDDLE
    found = []
    for row in inputs:
        q = [np.full(len(signs[n]), packed.first_level, np.int64) for n in range(layers)]
        taken, changed = 0, True
        while changed and taken < sweeps:
            changed = False
            for n in range(layers):
                u = packed.biases[n].copy()
                u = u + weights[n] * (signs[n] @ (row if n == 0 else q[n - 1]))
                if n + 1 < layers:
                    u = u + weights[n + 1] * (signs[n + 1].T @ q[n + 1])
                level = (u[:, None] >= packed.thresholds).sum(axis=1)
                changed = changed or bool((level != q[n]).any())
                q[n] = level
            taken += 1
        scores = packed.biases[-1] + weights[-1] * (signs[-1] @ q[-1])
        found.append((scores, np.concatenate(q).astype(np.uint64), -taken if changed else taken))
    return Rest(*(np.array(part) for part in zip(*found, strict=True)))
