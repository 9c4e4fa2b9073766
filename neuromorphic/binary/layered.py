"""A layered network whose matrices are signs times a scale, and the real weights that train them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from relaxon.neuromorphic.binary.activations import (
    FREQUENCY,
    Binarizer,
    BiPer,
    biper_slope,
    build_binarizer,
    reste_slope,
    signs,
)
from relaxon.neuromorphic.binary.packing import SignMatrix, pack_signs
from relaxon.neuromorphic.equilibrium.networks.contraction import CHAIN_NORM, spectral_norm
from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.network import Network

FIRST_ITERATIONS, ITERATIONS = 50, 2
"""Iterations of the power method at the first step, and at each later one, which starts from the previous result."""


class BinaryLayeredNetwork(LayeredNetwork):
    """A `LayeredNetwork` with `W_n = α_n S_n` and `S_n` of −1 and 1 for input, recurrent and readout matrices.

    Biases stay real. The feedback is tied, the activation is the sigmoid and the readout a softmax, so that the network
    has an energy and its rates lie between 0 and 1. The network is created with the real weights of a `LayeredNetwork`;
    training turns them into signs, and `binarize` does so at once.

    Parameters
    ----------
    sizes, gain, input_gain, loss, tau, seed, dtype : as for `LayeredNetwork`.
    binarizer : "reste" or "biper", the surrogate gradient of the sign.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        binarizer: Binarizer = "reste",
        gain: float = 0.3,
        input_gain: float = 1.0,
        loss: str = "cross-entropy",
        tau: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if binarizer not in get_args(Binarizer):
            raise ValueError(f"binarizer must be 'reste' or 'biper', got {binarizer!r}")
        if loss == "squared":
            raise ValueError("loss must be 'cross-entropy' or 'comp-sum' for a binary network, got 'squared'")
        super().__init__(
            sizes,
            gain=gain,
            input_gain=input_gain,
            loss=loss,  # type: ignore[arg-type]
            tau=tau,
            seed=seed,
            dtype=dtype,
        )
        self.binarizer = binarizer

    def config(self) -> dict[str, Any]:
        """Return the constructor arguments as JSON values."""
        kept = {name: value for name, value in super().config().items() if name in ("sizes", "loss", "tau")}
        return {**kept, "binarizer": self.binarizer}

    @property
    def binarized(self) -> bool:
        """Whether each matrix consists of signs times a scale."""
        return all(bool((weight.abs() == weight[0, 0].abs()).all()) for weight in self.weights)

    @torch.no_grad()
    def binarize(self) -> None:
        """Replace each matrix by its signs times the mean absolute value of its entries."""
        for weight in self.weights:
            weight.copy_(signs(weight) * weight.abs().mean())

    def scales(self) -> list[float]:
        """Return `α_n` of each matrix; raise `ValueError` if the network is not binarized yet."""
        if not self.binarized:
            raise ValueError("network must be binarized: its matrices are not signs times a scale")
        return [float(weight.detach()[0, 0].abs()) for weight in self.weights]

    def sign_matrices(self) -> list[SignMatrix]:
        """Return `S_n` of each matrix, packed."""
        return [pack_signs(weight.detach().cpu().numpy()) for weight in self.weights]

    def packed_state(self) -> dict[str, Tensor]:
        """Return the tensors to store: the bits of the matrices, their scales, and the biases."""
        state = {f"signs.{n}": torch.from_numpy(matrix.packed) for n, matrix in enumerate(self.sign_matrices())}
        state["scales"] = torch.tensor(self.scales(), dtype=self.dtype)
        return state | {f"biases.{n}": bias.detach() for n, bias in enumerate(self.biases)}

    @torch.no_grad()
    def load_packed(self, state: dict[str, Tensor]) -> None:
        """Load what `packed_state` returned; raise `ValueError` naming tensors that do not match this network."""
        wanted: dict[str, tuple[int, ...]] = {
            f"signs.{n}": (len(w), -(-w.shape[1] // 8)) for n, w in enumerate(self.weights)
        }
        wanted |= {"scales": (len(self.weights),)} | {f"biases.{n}": (len(b),) for n, b in enumerate(self.biases)}
        held = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if held != wanted:
            wrong = sorted(name for name in held.keys() | wanted.keys() if held.get(name) != wanted.get(name))
            raise ValueError(f"state must hold the tensors of the network, got others for {', '.join(wrong)}")
        scales = state["scales"].double()
        if not bool(torch.isfinite(scales).all()) or not bool((scales > 0).all()):
            raise ValueError("scales must be finite and above 0")
        for n, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            matrix = SignMatrix(state[f"signs.{n}"].numpy().astype(np.uint8), weight.shape[1])
            weight.copy_(torch.from_numpy(matrix.unpack()) * state["scales"][n])
            bias.copy_(state[f"biases.{n}"])


class LatentWeights:
    """The real weights `v` of a binary network in training: `W = α sign(v/s)`, with the binarizer's surrogate gradient.

    `s` is the root mean square of the initial weights, so that ReSTE sees numbers of size 1; BiPer sees `v` itself, as
    in its paper. α is the mean of `|v|` (of the initial weights for BiPer, whose `v` have no scale). It is reduced if
    the norm of the coupling would exceed `contraction` or that of the readout `readout`.
    """

    def __init__(self, network: Network, contraction: float | None, readout: float | None) -> None:
        if not isinstance(network, BinaryLayeredNetwork):
            raise TypeError(f"network must be a BinaryLayeredNetwork, got {type(network).__name__}")
        self.activation = build_binarizer(network.binarizer)
        self.weights = list(network.weights)
        self.latent = [nn.Parameter(weight.detach().clone()) for weight in self.weights]
        self.spreads = [float(weight.detach().square().mean().sqrt()) for weight in self.weights]
        self.sizes = [float(weight.detach().abs().mean()) for weight in self.weights]
        recurrent = None if contraction is None else contraction / CHAIN_NORM.get(len(network.layers), 2.0)
        inner = len(self.weights) - 2
        self.bounds: list[float | None] = [None, *[recurrent] * inner, readout]
        self.images = [torch.ones_like(weight[0]) / weight.shape[1] ** 0.5 for weight in self.weights]
        self.scales = torch.tensor(self.sizes, dtype=torch.float64)

    @property
    def vectors(self) -> list[Tensor]:
        """The tensors that a checkpoint stores besides the network."""
        return [*[latent.detach() for latent in self.latent], *self.images, self.scales]

    def resume(self, share: float) -> None:
        """Resume training at a share, after weights and vectors were loaded from a checkpoint."""
        self.activation.progress(share)

    @torch.no_grad()
    def apply(self, share: float, iterations: int = ITERATIONS) -> None:
        """Set the weights of the network for this share of the training."""
        self.activation.progress(share)
        for n, (weight, latent) in enumerate(zip(self.weights, self.latent, strict=True)):
            weight.copy_(self.activation(self._scale_latent(latent, n)))
            scale = self.sizes[n] if isinstance(self.activation, BiPer) else float(latent.abs().mean())
            bound = self.bounds[n]
            if bound is not None:
                norm = spectral_norm(weight, self.images[n], iterations)
                scale = min(scale, bound / norm) if norm > 0 else scale
            self.scales[n] = scale
            weight.mul_(scale)

    @torch.no_grad()
    def set_gradients(self) -> None:
        """Convert the gradients of the network's weights to those of the latent weights."""
        for n, (weight, latent) in enumerate(zip(self.weights, self.latent, strict=True)):
            if weight.grad is None:
                continue
            seen = self._scale_latent(latent, n)
            if isinstance(self.activation, BiPer):
                slope = biper_slope(seen, FREQUENCY)
            else:
                slope = reste_slope(seen, self.activation.o) / self.spreads[n]
            latent.grad = weight.grad * slope * float(self.scales[n])
            weight.grad = None

    def harden(self) -> None:
        """Set the network's weights to signs, regardless of where training ended."""
        self.apply(1.0, FIRST_ITERATIONS)

    def _scale_latent(self, latent: Tensor, n: int) -> Tensor:
        return latent if isinstance(self.activation, BiPer) else latent / self.spreads[n]
