"""The merged network of sign units: bits in, bits inside, real outputs, predicted by counting bits."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.binary.packing import SignMatrix, pack_signs
from relaxon.neuromorphic.boosting.network import MergedNetwork
from relaxon.neuromorphic.boosting.sign_units import encode, unit_signs
from relaxon.solvers.cached import cached_property

Array = NDArray[np.float64]
GROUP = 4
"""Units whose outputs are looked up together: a table of 16 sums each."""


@dataclass(frozen=True)
class SignNetwork(MergedNetwork):
    """`gain · (F₀ + Σ_t intercept_t + sign(W c + b) @ output)`, `c` the code of a row by `thresholds`.

    `layers` holds one layer of `W` of −1 and 1 and odd or even whole `b`, so that no sum is 0. Outputs are added group
    by group of four units, each group's sum from left to right: that order is the model's, in bits and in NumPy.
    """

    thresholds: Array
    """`(bits, d)`, in the inputs' units."""

    def raw(self, x: Array) -> Array:
        """Return the outputs before any link: `(n, K)` for inputs `(n, d)`."""
        out = np.empty((len(x), self.outputs))
        if not self.layers:
            out[:] = self.biases[-1]
            return out
        from relaxon.neuromorphic.binary import kernels

        kernels.predict_packed(
            np.ascontiguousarray(x), self.shift, np.ravel(self.thresholds), self.signs.words, self.limits, self.tables,
            self.biases[-1], out,
        )  # fmt: skip
        return out

    def raw_unpacked(self, x: Array) -> Array:
        """Return what `raw` does, to the last bit, from the signs themselves."""
        return add_groups(self.biases[-1], self._tables_of(self.activations(x)))

    def standardised(self, x: Array) -> Array:
        """Return the code of the rows, `(n, bits·d)`: what the units see."""
        return encode(x, self.thresholds, self.shift)

    def activations(self, x: Array) -> Array:
        """Return the signs of all units, `(n, U)`."""
        if not self.layers:
            return np.empty((len(x), 0))
        layer = self.layers[0]
        return unit_signs(self.standardised(x) @ layer.weights.T + layer.bias)

    def input_gradient(self, x: Array, output: int) -> Array:
        """Return by how much each column moves units of the output, `(1, d)`; signs have no gradient.

        A column that goes from below all of its thresholds to above them adds `2 |Σ_k s_kj|` to a unit's sum; the unit
        counts with the size of its output over the root of the number of bits.
        """
        d = len(self.shift)
        if not self.layers:
            return np.zeros((1, d))
        moved = np.abs(self.layers[0].weights.reshape(self.units, -1, d).sum(axis=1))
        share = np.abs(self.output_weights[:, output]) @ moved
        return np.asarray(share[None] / np.sqrt(self.thresholds.size))

    @cached_property
    def signs(self) -> SignMatrix:
        """The units' weights in bits, `(U, bits·d)`."""
        return pack_signs(self.layers[0].weights)

    @cached_property
    def limits(self) -> NDArray[np.uint64]:
        """The most bits that may differ from a unit's for it to be 1, plus one, `(U,)`."""
        features = self.thresholds.size
        # D − 2 pop + b > 0 where pop < (D + b)/2.
        most = np.ceil(0.5 * (features + self.layers[0].bias))
        return np.clip(most, 0, features + 1).astype(np.uint64)

    @cached_property
    def tables(self) -> Array:
        """What each group of units adds for each of its 16 signs, `(⌈U/4⌉, 16, K)`."""
        signs = np.where(np.arange(2**GROUP)[:, None] >> np.arange(GROUP) & 1, 1.0, -1.0)
        groups = -(-self.units // GROUP)
        return np.ascontiguousarray(self._tables_of(np.tile(signs, (1, groups))[:, : self.units]))

    def _tables_of(self, signs: Array) -> Array:
        """The groups' sums at signs `(n, U)`: `(⌈U/4⌉, n, K)`."""
        weights = self.output_weights
        sums = []
        for low in range(0, self.units, GROUP):
            total = np.zeros((len(signs), self.outputs))
            for unit in range(low, min(low + GROUP, self.units)):
                total = total + signs[:, unit, None] * weights[unit]
            sums.append(total)
        return np.array(sums).reshape(len(sums), len(signs), self.outputs)


def add_groups(bias: Array, sums: Array) -> Array:
    """Return the bias with the groups' sums added in order, `(n, K)`."""
    out = np.tile(bias, (sums.shape[1], 1))
    for part in sums:
        out = out + part
    return out


def of_signs(network: MergedNetwork, thresholds: Array) -> SignNetwork:
    """Return the network of the same stages with sign units."""
    return SignNetwork(**{field.name: getattr(network, field.name) for field in fields(network)}, thresholds=thresholds)
