"""The merged network: all units of the additive model in a single network that can be truncated at any stage."""
# Imported on first use, for their weight: scipy.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.cached import cached_property
from relaxon.neuromorphic.boosting.networks import prediction_kernels

Array = NDArray[np.float64]

CHUNK = 4096
"""Number of rows predicted at a time, which bounds the memory for long tables."""
FARTHEST = 1e6
"""Bound to which standardised inputs are clipped, in standard deviations, so that no input makes a prediction NaN."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of hidden units that see the same features: `weights` (u, d), `bias` (u,)."""

    weights: Array
    bias: Array


@dataclass(frozen=True, slots=True)
class Stage:
    """A boosting stage as part of the merged network: `η ρ f`, in the unit of the additive model.

    `layer` is the layer of its units; `output` (J, K) is `η ρ C` and `intercept` (K,) is `η ρ c`.
    """

    layer: int
    weights: Array
    bias: Array
    output: Array
    intercept: Array


@dataclass(frozen=True)
class MergedNetwork:
    """One network for the whole additive model: `gain · (F₀ + Σ_t intercept_t + σ(features) @ output)`.

    The features are the standardised inputs `(x − shift) · scale`, followed for higher layers by `2σ − 1` of all units
    of the layers below. Source: Emami & Martínez-Muñoz 2023, section III. Truncation at stage t restores the bias of
    that stage.
    """

    shift: Array
    """Mean of each input, `(d,)`, which also replaces a missing input."""
    scale: Array
    layers: tuple[Layer, ...]
    output: Array
    """Output weights `(U, K)`, with the units in the order of training."""
    initial: Array
    """`F₀`, `(K,)`."""
    intercepts: Array
    """Contribution of each stage to the bias, `(T, K)`."""
    sizes: NDArray[np.int64]
    """Number of units of each stage, `(T,)`."""
    gain: Array
    """`m` times the unit in which each target was trained, `(K,)`."""

    @property
    def units(self) -> int:
        return len(self.output)

    @property
    def stages(self) -> int:
        return len(self.sizes)

    @property
    def outputs(self) -> int:
        return len(self.initial)

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Number of units after 0, 1, …, T stages, `(T + 1,)`."""
        return np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)

    @cached_property
    def biases(self) -> Array:
        """Output bias `gain · (F₀ + Σ intercepts)` after 0, 1, …, T stages, `(T + 1, K)`."""
        return np.asarray(self.gain * np.cumsum(np.concatenate([self.initial[None], self.intercepts]), axis=0))

    @cached_property
    def output_weights(self) -> Array:
        """Output weights times the gain, `m η ρ w`, `(U, K)`."""
        return np.ascontiguousarray(self.output * self.gain)

    def raw(self, x: Array, single: bool = False) -> Array:
        """Return the outputs before the link (predictions, log-means, logits), `(n, K)` for inputs `(n, d)`.

        With `single`, a single hidden layer is evaluated in float32 and its outputs are summed in float64.
        """
        if len(self.layers) == 1:
            packed = self._packed_single if single else self._packed
            return prediction_kernels.predict_rows(x, self.shift, self.scale, FARTHEST, packed, self.biases[-1])
        out = np.empty((len(x), self.outputs))
        for low in range(0, len(x), CHUNK):
            rows = slice(low, low + CHUNK)
            out[rows] = self.activations(x[rows]) @ self.output_weights + self.biases[-1]
        return out

    def staged_raw(self, x: Array) -> Iterator[Array]:
        """Yield what `raw` returns after each stage."""
        hidden = self.activations(x)
        out = np.tile(self.gain * self.initial, (len(x), 1))
        for stage in range(self.stages):
            units = slice(self.ends[stage], self.ends[stage + 1])
            out = out + hidden[:, units] @ self.output_weights[units] + self.gain * self.intercepts[stage]
            yield out

    def standardised(self, x: Array) -> Array:
        """Return `(x − shift) · scale`, clipped, with missing inputs as 0."""
        with np.errstate(over="ignore"):
            z = (x - self.shift) * self.scale
        np.clip(z, -FARTHEST, FARTHEST, out=z)
        return np.nan_to_num(z, copy=False, nan=0.0)

    def activations(self, x: Array) -> Array:
        """Return `σ` of all units, `(n, U)`."""
        features = self.standardised(x)
        hidden = []
        for index, layer in enumerate(self.layers):
            h = logistic(features @ layer.weights.T + layer.bias)
            hidden.append(h)
            if index + 1 < len(self.layers):
                features = np.hstack([features, 2.0 * h - 1.0])
        return np.hstack(hidden) if hidden else np.empty((len(x), 0))

    def slopes(self, x: Array) -> Array:
        """Return `σ (1 − σ)` of all units, `(n, U)`."""
        hidden = self.activations(x)
        return hidden * (1.0 - hidden)

    def input_gradient(self, x: Array, output: int, slopes: Array | None = None) -> Array:
        """Return `∂ raw_k / ∂ standardised input`, `(n, d)`, by the chain rule through the layers.

        `slopes` are those of `x`, if they are known already.
        """
        slopes, d = self.slopes(x) if slopes is None else slopes, len(self.shift)
        inputs = [layer.weights.shape[1] for layer in self.layers]
        widths = [len(layer.bias) for layer in self.layers]
        grad = np.zeros((len(x), d + sum(widths[:-1])))
        for index in range(len(self.layers) - 1, -1, -1):
            start = sum(widths[:index])
            units = slice(start, start + widths[index])
            dh: Array = self.output_weights[units, output]
            if index + 1 < len(self.layers):
                dh = dh + 2.0 * grad[:, d + start : d + start + widths[index]]
            grad[:, : inputs[index]] += (dh * slopes[:, units]) @ self.layers[index].weights
        return grad[:, :d]

    @cached_property
    def _packed(self) -> tuple[NDArray[Any], ...]:
        return prediction_kernels.pack_units(
            self.layers[0].weights, self.layers[0].bias, self.output_weights, np.float64
        )

    @cached_property
    def _packed_single(self) -> tuple[NDArray[Any], ...]:
        return prediction_kernels.pack_units(
            self.layers[0].weights, self.layers[0].bias, self.output_weights, np.float32
        )

    def split(self) -> tuple[Stage, ...]:
        """Return the individual stages, as `merge` expects them."""
        return tuple(self._stages())

    def truncated(self, stages: int) -> MergedNetwork:
        """Return the network of the first `stages` stages, with the bias of that stage."""
        return replace(
            self,
            layers=stack_layers(self.split()[:stages]),
            output=self.output[: self.ends[stages]].copy(),
            intercepts=self.intercepts[:stages].copy(),
            sizes=self.sizes[:stages].copy(),
        )

    def _stages(self) -> Iterator[Stage]:
        layer, passed = 0, 0
        for t in range(self.stages):
            low, high = int(self.ends[t]), int(self.ends[t + 1])
            if low - passed >= len(self.layers[layer].bias):
                passed += len(self.layers[layer].bias)
                layer += 1
            own = slice(low - passed, high - passed)
            yield Stage(
                layer,
                self.layers[layer].weights[own],
                self.layers[layer].bias[own],
                self.output[low:high],
                self.intercepts[t],
            )


def merge(stages: tuple[Stage, ...], initial: Array, gain: Array, shift: Array, scale: Array) -> MergedNetwork:
    """Merge all stages into one network."""
    outputs = len(initial)
    return MergedNetwork(
        shift=shift,
        scale=scale,
        layers=stack_layers(stages),
        output=np.concatenate([np.empty((0, outputs)), *[stage.output for stage in stages]]),
        initial=initial,
        intercepts=np.concatenate([np.empty((0, outputs)), *[stage.intercept[None] for stage in stages]]),
        sizes=np.array([len(stage.bias) for stage in stages], np.int64),
        gain=gain,
    )


def stack_layers(stages: tuple[Stage, ...]) -> tuple[Layer, ...]:
    """Return the hidden layers of the stages."""
    layers = []
    for index in range(stages[-1].layer + 1 if stages else 0):
        own = [stage for stage in stages if stage.layer == index]
        layers.append(
            Layer(np.concatenate([stage.weights for stage in own]), np.concatenate([stage.bias for stage in own]))
        )
    return tuple(layers)


def logistic(z: Array) -> Array:
    """Return `1/(1 + e^{−z})`, computed in place."""
    from scipy.special import expit

    return np.asarray(expit(z, out=z))
