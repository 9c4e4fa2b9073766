"""Reference of the layered network without torch: compiled kernels, and the same in plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.equilibrium import kernels

Array = NDArray[Any]
Backend = Literal["numba", "numpy"]


@dataclass(frozen=True, slots=True)
class LayeredReference:
    """The arrays of a `LayeredNetwork` with activation "sigmoid" and a softmax readout, all float32 or all float64.

    `forward` and `backward` couple the relaxing layers, each `(h_{n+1}, h_n)`; `biases` are the concatenated biases of
    the relaxing layers.
    """

    input_weight: Array
    forward: tuple[Array, ...]
    backward: tuple[Array, ...]
    biases: Array
    readout: Array
    readout_bias: Array

    @classmethod
    def of(cls, network: Any) -> LayeredReference:
        """Copy the weights of a torch `LayeredNetwork`; ValueError for a form that the kernels do not support."""
        if network.activation.name != "sigmoid" or network.loss_name != "cross-entropy":
            got = f"{network.activation.name!r}, {network.loss_name!r}"
            raise ValueError(f"network must have activation 'sigmoid' and loss 'cross-entropy', got {got}")
        weights = [weight.detach().cpu().numpy().copy() for weight in network.weights]
        biases = [bias.detach().cpu().numpy().copy() for bias in network.biases]
        backward = [weight.detach().cpu().numpy().copy() for weight in network.backward_weights]
        forward = tuple(weights[1:-1])
        back = forward if network.feedback == "tied" else tuple(backward)
        return cls(weights[0], forward, back, np.concatenate(biases[:-1]), weights[-1], biases[-1])

    @property
    def sizes(self) -> NDArray[np.int64]:
        return np.array([len(self.input_weight), *(len(weight) for weight in self.forward)], np.int64)

    def drive(self, x: Array) -> Array:
        """Return the contribution of input and biases, `(samples, units)`."""
        drive = np.tile(self.biases, (len(x), 1))
        drive[:, : len(self.input_weight)] += x @ self.input_weight.T
        return drive

    def relax(
        self, start: Array, drive: Array, target: Array, beta: Array, tolerance: float, steps: int, backend: Backend
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """Relax `start (samples, points, units)` under the nudges `beta (points,)`, both real or both complex.

        Return the states, and for each sample and point the residual and the number of steps.
        """
        if backend == "numpy":
            return self._relax_slowly(start, drive, target, beta, tolerance, steps)
        dtype = self.readout.dtype
        planes = [start.real, start.imag] if np.iscomplexobj(start) else [start]
        u = np.ascontiguousarray(np.stack(planes, 2), dtype)
        nudges = np.ascontiguousarray(np.stack([np.real(beta), np.imag(beta)], -1), dtype)
        residual, taken = np.empty(u.shape[:2], dtype), np.empty(u.shape[:2], np.int64)
        flat = [
            np.concatenate([w.ravel() for w in side] or [np.empty(0, dtype)]) for side in (self.forward, self.backward)
        ]
        kernels.relax(
            *(u, drive, *flat, self.sizes, self.readout, self.readout_bias, target, nudges),
            *(dtype.type(tolerance), steps, residual, taken),
        )
        return u[:, :, 0] + 1j * u[:, :, 1] if len(planes) == 2 else u[:, :, 0], residual, taken

    def _relax_slowly(
        self, start: Array, drive: Array, target: Array, beta: Array, tolerance: float, steps: int
    ) -> tuple[Array, Array, NDArray[np.int64]]:
        """Relax one sample and one point at a time, with complex arithmetic and matrix products."""
        end = start.copy()
        residual = np.empty(start.shape[:2], self.readout.dtype)
        taken = np.empty(start.shape[:2], np.int64)
        for sample, point in np.ndindex(*start.shape[:2]):
            u, count = start[sample, point], 0
            while True:
                g = self._field(u, drive[sample], target[sample], beta[point].item())
                largest = max(np.abs(g.real).max(), np.abs(g.imag).max())
                if largest <= tolerance or count == steps:
                    break
                u, count = u + g, count + 1
            end[sample, point], residual[sample, point], taken[sample, point] = u, largest, count
        return end, residual, taken

    def _field(self, u: Array, drive: Array, target: Array, beta: complex) -> Array:
        places = np.cumsum(self.sizes)[:-1]
        layers = np.split(sigmoid(u), places)
        pulled = np.split(drive.astype(u.dtype), places)
        for n, (w, b) in enumerate(zip(self.forward, self.backward, strict=True)):
            pulled[n + 1] = pulled[n + 1] + w @ layers[n]
            pulled[n] = pulled[n] + b.T @ layers[n + 1]
        if beta != 0:
            logits = self.readout @ layers[-1] + self.readout_bias
            e = np.exp(logits - logits.real.max())
            pulled[-1] = pulled[-1] - beta * (self.readout.T @ (e / e.sum() - target))
        return np.asarray(np.concatenate(pulled) - u)

    def cauchy(
        self,
        x: Array,
        y: NDArray[np.integer[Any]],
        n: int,
        radius: float,
        *,
        tolerance: float,
        steps: int = 500,
        backend: Backend = "numba",
    ) -> ReferenceGradient:
        """Return Cauchy's estimate of the gradient of the mean cross-entropy, from `n` nudges of this radius."""
        target = np.eye(len(self.readout), dtype=self.readout.dtype)[y]
        drive = self.drive(x)
        none = np.zeros(1, drive.dtype)
        free, free_residual, free_steps = self.relax(
            np.zeros_like(drive)[:, None], drive, target, none, tolerance, steps, backend
        )
        points, counts = half_contour(n, radius)
        kind = drive.dtype if n <= 2 else np.result_type(drive.dtype, np.complex64)
        points = points.astype(kind)
        start = np.repeat(free, len(points), 1).astype(kind)
        nudged, residual, taken = self.relax(start, drive, target, points, tolerance * min(1.0, radius), steps, backend)
        r, moved = sigmoid(free[:, 0]), sigmoid(nudged) - sigmoid(free)
        slope = ((counts / points)[None, :, None] * moved).sum(1).real / n
        weights, biases, backward = self._gradients(x, r, -slope.astype(drive.dtype), target)
        return ReferenceGradient(
            weights=weights,
            biases=biases,
            backward=backward,
            residual=float(max(free_residual.max(), residual.max())),
            free_steps=float(free_steps.mean()),
            nudged_steps=float(taken.mean()),
        )

    def _gradients(
        self, x: Array, r: Array, delta: Array, target: Array
    ) -> tuple[tuple[Array, ...], tuple[Array, ...], tuple[Array, ...]]:
        places = np.cumsum(self.sizes)[:-1]
        rates, deltas = np.split(r, places, 1), np.split(delta, places, 1)
        forward = [d.T @ below / len(x) for d, below in zip(deltas[1:], rates[:-1], strict=True)]
        backward = [above.T @ d / len(x) for above, d in zip(rates[1:], deltas[:-1], strict=True)]
        logits = rates[-1] @ self.readout.T + self.readout_bias
        e = np.exp(logits - logits.max(1, keepdims=True))
        wrong = e / e.sum(1, keepdims=True) - target
        if self.backward is self.forward:
            forward = [f + b for f, b in zip(forward, backward, strict=True)]
            backward = []
        weights = (deltas[0].T @ x / len(x), *forward, wrong.T @ rates[-1] / len(x))
        return weights, (*(d.mean(0) for d in deltas), wrong.mean(0)), tuple(backward)


@dataclass(frozen=True, slots=True)
class ReferenceGradient:
    """A gradient in the order of the network's parameters; `backward` is empty for tied feedback."""

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    backward: tuple[Array, ...]
    residual: float
    free_steps: float
    nudged_steps: float


def sigmoid(u: Array) -> Array:
    """Return `σ(4u − 2)`."""
    return np.asarray(1 / (1 + np.exp(-(kernels.SLOPE * u - kernels.OFFSET))))


def half_contour(n: int, radius: float) -> tuple[Array, Array]:
    """Return the points of the contour with imaginary part ≥ 0, and the weight of each."""
    turn = np.arange(n // 2 + 1)
    weights = np.where((turn == 0) | (2 * turn == n), 1.0, 2.0)
    points = radius * np.exp(2j * np.pi * turn / n)
    return (points.real if n <= 2 else points), weights
