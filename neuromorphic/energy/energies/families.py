"""Energies E with `log p⁰(x) = −E(x)`: perceptron, convolutional, quadratic, exponential family, and a tilted base.

An energy is any torch module `(n, *event_shape) → (n,)` in float32 or float64. Those defined here can be stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations_with_replacement, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.events import flatten_events, parse_event_shape
from relaxon.neuromorphic.parameters import check_widths

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
}
"""Smooth activations, as samplers and score matching differentiate the energy in x, the exact trace twice."""
CONFINEMENT = 0.01
"""Default weight of ‖x‖²; a perceptron grows at most linearly, so that any positive weight makes it normalisable."""


class MLPEnergy(nn.Module):
    """A perceptron plus `confinement·‖x‖²` over `features` numbers per event.

    `fourier` octaves of sines and cosines of `π 2^k x / reach` are appended to the inputs, for densities with sharp
    edges. `bound` b squashes the output of the perceptron to (−b, b). The initial weights depend on the seed only.

    >>> import torch
    >>> MLPEnergy(3, hidden=(8,))(torch.zeros(5, 3)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        features: int,
        hidden: Sequence[int] = (128, 128),
        *,
        activation: str = "silu",
        fourier: int = 0,
        reach: float = 4.0,
        confinement: float = CONFINEMENT,
        bound: float | None = None,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.features = validation.positive_int("features", features)
        self.event_shape = (self.features,)
        check_widths("hidden", hidden)
        self.hidden = tuple(map(int, hidden))
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
        self.activation = activation
        self.fourier = int(validation.non_negative_float("fourier", fourier))
        self.reach = validation.positive_float("reach", reach)
        self.confinement = validation.non_negative_float("confinement", confinement)
        self.bound = None if bound is None else validation.positive_float("bound", bound)
        widths = (self.features * (1 + 2 * self.fourier), *self.hidden, 1)
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(widths)):
            layers += [blank_layer(nn.Linear, before, after, dtype=dtype)]
            layers += [ACTIVATIONS[activation]()] if index < len(self.hidden) else []
        self.net = nn.Sequential(*layers)
        initialise(self, seed)

    def config(self) -> dict[str, Any]:
        names = ("features", "activation", "fourier", "reach", "confinement", "bound")
        return {"hidden": list(self.hidden)} | {name: getattr(self, name) for name in names}

    def octaves(self, x: Tensor) -> list[tuple[float, Tensor]]:
        """Return rate and angle `(n, features)` of each octave."""
        rates = [math.pi * 2**octave / self.reach for octave in range(self.fourier)]
        return [(rate, x * rate) for rate in rates]

    def inputs(self, x: Tensor) -> Tensor:
        """Return the inputs of the perceptron: `x` and the sines and cosines of its octaves."""
        parts = [part for _, angle in self.octaves(x) for part in (angle.sin(), angle.cos())]
        return torch.cat([x, *parts], 1) if parts else x

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(self.inputs(x))[:, 0]
        if self.bound is not None:
            out = self.bound * torch.tanh(out / self.bound)
        return out + self.confinement * x.square().sum(1) if self.confinement else out


class ConvolutionalEnergy(nn.Module):
    """Strided 3×3 convolutions over images `(n, channels, height, width)`, a linear layer, and confinement."""

    def __init__(
        self,
        image: tuple[int, int, int],
        channels: Sequence[int] = (32, 64, 64),
        *,
        activation: str = "silu",
        confinement: float = CONFINEMENT,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        shape = parse_event_shape(image)
        if len(shape) != 3:
            raise ValueError(f"image must be (channels, height, width), got {image!r}")
        self.event_shape = shape
        self.channels = tuple(validation.positive_int("channels", width) for width in channels)
        if not self.channels:
            raise ValueError("channels must name at least one convolution, got none")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(map(repr, ACTIVATIONS))}, got {activation!r}")
        self.activation = activation
        self.confinement = validation.non_negative_float("confinement", confinement)
        layers: list[nn.Module] = []
        before, height, width = shape
        for index, after in enumerate(self.channels):
            stride = 1 if index == 0 else 2
            layers += [blank_layer(nn.Conv2d, before, after, 3, stride, 1, dtype=dtype), ACTIVATIONS[activation]()]
            before, height, width = after, -(-height // stride), -(-width // stride)
        self.net = nn.Sequential(*layers, nn.Flatten(), blank_layer(nn.Linear, before * height * width, 1, dtype=dtype))
        initialise(self, seed)

    def config(self) -> dict[str, Any]:
        return {
            "image": list(self.event_shape),
            "channels": list(self.channels),
            "activation": self.activation,
            "confinement": self.confinement,
        }

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)[:, 0]
        return out + self.confinement * flatten_events(x).square().sum(1) if self.confinement else out


class QuadraticEnergy(nn.Module):
    """`½‖Lᵀ(x − μ)‖²`: an unnormalised Gaussian, whose log Z is `exact_log_partition()`.

    `L` is lower triangular with the exponential of a parameter on its diagonal. Initially L is the identity and μ is 0.
    """

    def __init__(self, features: int, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.features = validation.positive_int("features", features)
        self.event_shape = (self.features,)
        self.mean = nn.Parameter(torch.zeros(self.features, dtype=dtype))
        self.log_diagonal = nn.Parameter(torch.zeros(self.features, dtype=dtype))
        self.lower = nn.Parameter(torch.zeros(self.features, self.features, dtype=dtype))

    def config(self) -> dict[str, Any]:
        return {"features": self.features}

    def forward(self, x: Tensor) -> Tensor:
        factor = self.lower.tril(-1) + torch.diag(self.log_diagonal.exp())
        return 0.5 * ((x - self.mean) @ factor).square().sum(1)

    def exact_log_partition(self) -> Tensor:
        """Return `log Z = d/2 log 2π − Σ log L_ii`."""
        return self.features / 2 * math.log(2 * math.pi) - self.log_diagonal.sum()


class PolynomialStatistics(nn.Module):
    """All monomials of degrees 1 to `degree` of the features, in the order of `itertools`: `(n, d) → (n, k)`."""

    def __init__(self, features: int, degree: int = 1) -> None:
        super().__init__()
        self.features = validation.positive_int("features", features)
        self.degree = validation.positive_int("degree", degree)
        places = range(self.features)
        self.powers = [p for order in range(1, self.degree + 1) for p in combinations_with_replacement(places, order)]

    @property
    def count(self) -> int:
        return len(self.powers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x[:, list(power)].prod(1) for power in self.powers], 1)


class ExponentialFamilyEnergy(nn.Module):
    """`E(x) = −θ·T(x) + confinement·‖x‖²` with the caller's or polynomial statistics `T: (n, d) → (n, k)`.

    With `confinement=0.5` and statistics of degree 1, it is the Gaussian of unit variance and mean θ.

    >>> import torch
    >>> energy = ExponentialFamilyEnergy(PolynomialStatistics(1), 1, confinement=0.5)
    >>> energy(torch.tensor([[2.0]])).item()
    2.0
    """

    def __init__(
        self,
        statistics: Callable[[Tensor], Tensor],
        features: int,
        *,
        start: Sequence[float] | None = None,
        confinement: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.features = validation.positive_int("features", features)
        self.event_shape = (self.features,)
        if not callable(statistics):
            raise TypeError(f"statistics must be callable, got {type(statistics).__name__}")
        self.statistics = statistics
        found = statistics(torch.zeros(2, self.features, dtype=dtype))
        if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != 2:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"statistics must give (n, k) for (n, {self.features}), got {got} for n = 2")
        k = found.shape[1]
        if start is not None and len(start) != k:
            raise ValueError(f"start must have a number for each of the {k} statistics, got {len(start)}")
        self.confinement = validation.non_negative_float("confinement", confinement)
        theta = torch.zeros(k, dtype=dtype) if start is None else torch.tensor(list(start), dtype=dtype)
        self.theta = nn.Parameter(theta)

    def config(self) -> dict[str, Any]:
        if not isinstance(self.statistics, PolynomialStatistics):
            raise TypeError("statistics must be PolynomialStatistics to be stored, got a callable of your own")
        return {"features": self.features, "degree": self.statistics.degree, "confinement": self.confinement}

    def forward(self, x: Tensor) -> Tensor:
        out = -(self.statistics(x) @ self.theta)
        return out + self.confinement * x.square().sum(1) if self.confinement else out


class TiltedEnergy(nn.Module):
    """`E(x) = −log q(x) + tilt(x)`: a fixed base distribution q, tilted by a module.

    If the tilt grows at most linearly and q has Gaussian tails, the density is normalisable and the importance weights
    against q have all moments. The base is a module, as the noise distributions here are, or any other noise.
    """

    def __init__(self, base: Any, tilt: nn.Module) -> None:
        super().__init__()
        self.base, self.tilt = base, tilt
        self.event_shape = tuple(base.event_shape)
        if isinstance(base, nn.Module):
            base.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.tilt(x) - self.base.log_prob(x)
        return out


def blank_layer(kind: type[nn.Module], *sizes: int, dtype: torch.dtype) -> Any:
    """Create an uninitialised layer for `initialise`, as torch's own would consume the caller's random numbers."""
    return skip_init(kind, *sizes, dtype=dtype)  # type: ignore[no-untyped-call]


def initialise(module: nn.Module, seed: int) -> None:
    """Draw uniform weights of torch's default size from the seed; the last layer starts small, for a flat energy."""
    generator = torch.Generator().manual_seed(seed)
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    with torch.no_grad():
        for layer in layers:
            span = 1 / math.sqrt(layer.weight[0].numel())
            for parameter in (layer.weight, layer.bias):
                if parameter is not None:
                    drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                    parameter.copy_((2 * drawn - 1) * span)
        layers[-1].weight.mul_(SMALL_START)
        if layers[-1].bias is not None:
            layers[-1].bias.zero_()


SMALL_START = 0.1
"""Factor of the initial weights of the last layer."""
