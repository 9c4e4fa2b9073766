"""The merged network of sign units: binary inputs and hidden units, real outputs, predicted by counting bits."""
# Imported on first use, for their weight: the kernels of `binary`.

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from relaxon.core.cached import cached_property
from relaxon.neuromorphic.binary.packing import SignMatrix, pack_signs
from relaxon.neuromorphic.boosting.networks.merged import MergedNetwork
from relaxon.neuromorphic.boosting.stages.sign_units import encode, unit_signs

Array = NDArray[np.float64]
OUTPUT_BITS = 12
"""Precision of the output weights: integer multiples of a step, which is the largest weight over 2¹¹ − 1."""
WORD = 64
"""Bits of a machine word."""


@dataclass(frozen=True)
class SignNetwork(MergedNetwork):
    """`gain · (F₀ + Σ_t intercept_t + sign(W c + b) @ output)`, `c` the code of a row by `thresholds`.

    `layers` holds one layer with `W` of −1 and 1 and integer `b`, of the parity that keeps every sum from being 0.
    Predictions round the output weights to 12-bit integers times a step. They are then sums of counted bits, which are
    exact in any order. Training and `staged_raw` use the unrounded weights.
    """

    thresholds: Array
    """Thresholds of the code, `(bits, d)`, in the units of the inputs."""

    def raw(self, x: Array, single: bool = False) -> Array:
        """Return the outputs before the link, `(n, K)` for inputs `(n, d)`, by bits; `single` has no effect."""
        out = np.empty((len(x), self.outputs))
        if not self.layers:
            out[:] = self.biases[-1]
            return out
        from relaxon.neuromorphic.binary import kernels

        kernels.predict_packed(
            np.ascontiguousarray(x), self.shift, self._limits_of_bits, self._words, self._limits_of_units, self._planes,
            self.units, self.steps, self.biases[-1], out,
        )  # fmt: skip
        return out

    def raw_unpacked(self, x: Array) -> Array:
        """Return the same bits as `raw`, computed from signs and integers."""
        return np.asarray(self.biases[-1] + self.steps * (self.activations(x).astype(np.int64) @ self.whole_outputs))

    def standardised(self, x: Array) -> Array:
        """Return the code of the rows that the units see, `(n, bits·d)`."""
        return encode(x, self.thresholds, self.shift)

    def activations(self, x: Array) -> Array:
        """Return the signs of all units, `(n, U)`."""
        if not self.layers:
            return np.empty((len(x), 0))
        layer = self.layers[0]
        return unit_signs(self.standardised(x) @ layer.weights.T + layer.bias)

    def input_gradient(self, x: Array, output: int, hidden: Array | None = None) -> Array:
        """Return a substitute for the gradient, `(1, d)`, as signs have none: how far each column moves the output.

        A column that passes from below all of its thresholds to above them adds `2 |Σ_k s_kj|` to the sum of a unit.
        The unit is weighted by its absolute output weight over the square root of the number of bits.
        """
        d = len(self.shift)
        if not self.layers:
            return np.zeros((1, d))
        moved = np.abs(self.layers[0].weights.reshape(self.units, -1, d).sum(axis=1))
        share = np.abs(self.output_weights[:, output]) @ moved
        return np.asarray(share[None] / np.sqrt(self.thresholds.size))

    @cached_property
    def signs(self) -> SignMatrix:
        """Packed weights of the units, `(U, bits·d)`."""
        return pack_signs(self.layers[0].weights)

    @cached_property
    def limits(self) -> NDArray[np.uint64]:
        """Number of differing bits from which each unit is −1 instead of 1, `(U,)`."""
        features = self.thresholds.size
        # D − 2 pop + b > 0 where pop < (D + b)/2.
        most = np.ceil(0.5 * (features + self.layers[0].bias))
        return np.clip(most, 0, features + 1).astype(np.uint64)

    @cached_property
    def steps(self) -> Array:
        """Quantisation step of each output's weights, `(K,)`."""
        largest = np.abs(self.output_weights).max(axis=0, initial=0.0)
        return np.asarray(np.where(largest > 0.0, largest, 1.0) / (2 ** (OUTPUT_BITS - 1) - 1))

    @cached_property
    def whole_outputs(self) -> NDArray[np.int64]:
        """Output weights as integer multiples of their steps, `(U, K)`, from −2047 to 2047."""
        return np.rint(self.output_weights / self.steps).astype(np.int64)

    # Inputs of the kernel: the units are padded to whole words with bits of 0.

    @cached_property
    def _words(self) -> NDArray[np.uint64]:
        words = self.signs.words
        return np.ascontiguousarray(np.pad(words, ((0, 0), (0, -self.units % WORD))))

    @cached_property
    def _limits_of_bits(self) -> Array:
        return np.pad(np.ravel(self.thresholds), (0, -self.thresholds.size % WORD), constant_values=np.inf)

    @cached_property
    def _limits_of_units(self) -> NDArray[np.uint64]:
        return np.pad(self.limits, (0, -self.units % WORD))

    @cached_property
    def _planes(self) -> NDArray[np.uint64]:
        shifted = self.whole_outputs + 2 ** (OUTPUT_BITS - 1)
        bits = (shifted[None] >> np.arange(OUTPUT_BITS)[:, None, None]) & 1
        flat = bits.transpose(2, 0, 1).reshape(-1, self.units)
        return pack_signs(2 * flat - 1).words


def build_sign_network(network: MergedNetwork, thresholds: Array) -> SignNetwork:
    """Return the network with the same stages and sign units."""
    return SignNetwork(**{field.name: getattr(network, field.name) for field in fields(network)}, thresholds=thresholds)
