"""Input-convex potentials ψ with smooth activations; their gradient `f = ∇ψ` is a proximal operator by construction.

A map is the proximal operator of some function, convex or not, if and only if it is the gradient of a convex function
(Gribonval, Nikolova 2020). ψ is the input-convex network of Amos, Xu and Kolter (2017) with softplus units, plus
`α‖x‖²` (Fang, Buchanan, Sulam 2024): weights between hidden layers are ≥ 0, weights from the input are free.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from relaxon.core import validation
from relaxon.neuromorphic.torch_runs import check_seed

PotentialKind = Literal["dense", "convolutional"]
IMAGE_AXES = (2, 3)
"""A convolutional potential accepts `(height, width)` or `(channels, height, width)`."""
HALF = 0.5
LINEAR_ABOVE = 50.0
"""`βt` above which torch replaces softplus by t. Its default of 20 makes f jump by 2e-9 there, more than an inversion's
tolerance; e⁻⁵⁰ is below the rounding of double precision, and e⁵⁰ within the range of single precision."""


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The form of a potential; the same settings give the same initial weights.

    Parameters
    ----------
    shape : shape of one signal, without the axis of samples. For "convolutional" it is `(height, width)` or
        `(channels, height, width)`; such a network also accepts images of other heights and widths.
    kind : "dense" treats the signal as a vector; "convolutional" sums the same potential over all pixels.
    hidden : numbers of units of the hidden layers; for "convolutional", of channels.
    kernel : side of the convolutions' kernels, an odd number; not used by "dense".
    beta : sharpness of the softplus units `log(1 + e^{βt})/β`. f bends over a width of about 1/β (times `scale`).
    alpha : weight of `‖x‖²`, > 0: f is strongly monotone with modulus 2α, so it is invertible.
    scale, offset : the network acts on `(x − offset)/scale`.
    seed : seed of the initial weights.

    Raises `TypeError` or `ValueError` naming the argument.
    """

    shape: tuple[int, ...]
    kind: PotentialKind = "dense"
    hidden: tuple[int, ...] = (64, 64)
    kernel: int = 3
    beta: float = 10.0
    alpha: float = 0.01
    scale: float = 1.0
    offset: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", _check_sides("shape", self.shape))
        object.__setattr__(self, "hidden", _check_sides("hidden", self.hidden))
        if self.kind not in get_args(PotentialKind):
            raise ValueError(f"kind must be 'dense' or 'convolutional', got {self.kind!r}")
        if self.kind == "convolutional" and len(self.shape) not in IMAGE_AXES:
            raise ValueError(f"shape must have 2 or 3 axes where kind is 'convolutional', got {self.shape}")
        if validation.positive_int("kernel", self.kernel) % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel!r}")
        for name in ("beta", "alpha", "scale"):
            validation.positive_float(name, getattr(self, name))
        if self.alpha > HALF:
            raise ValueError(f"alpha must be at most ½, where f is at least the identity, got {self.alpha!r}")
        validation.finite_float("offset", self.offset)
        check_seed(self.seed)

    def describe(self) -> dict[str, Any]:
        """Return the settings as JSON values, from which `NetworkSettings(**values)` restores them."""
        return asdict(self) | {"shape": list(self.shape), "hidden": list(self.hidden)}


class Potential(nn.Module):
    """A convex function ψ of signals `(n, *shape)` with values `(n,)`; `proximal` is its gradient."""

    settings: NetworkSettings
    reads: nn.ModuleList
    carries: nn.ModuleList
    last: nn.Module

    def core(self, z: Tensor) -> Tensor:
        """Return the network's value for scaled signals, without `α‖z‖²`; it is convex in `z`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return ψ(x), `(n,)`, for `x (n, *shape)` in the dtype of the weights."""
        settings = self.settings
        z = (x - settings.offset) / settings.scale
        value = self.core(z) + settings.alpha * z.flatten(1).square().sum(1)
        return settings.scale**2 * value + settings.offset * x.flatten(1).sum(1)

    def proximal(self, y: Tensor, *, differentiable: bool = False) -> Tensor:
        """Return `f(y) = ∇ψ(y)` in the shape of `y (n, *shape)`; torch can differentiate it where `differentiable`."""
        with torch.enable_grad():
            x = y if differentiable and y.requires_grad else y.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self(x).sum(), x, create_graph=differentiable)
        return gradient

    def value_and_proximal(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return ψ(y) and f(y), detached."""
        with torch.enable_grad():
            x = y.detach().requires_grad_()
            value = self(x)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    def positive_weights(self) -> list[nn.Parameter]:
        """Return the weights that must be ≥ 0 for ψ to be convex."""
        return [layer.weight for layer in (*self.carries, self.last)]

    def hidden(self, inputs: Tensor) -> Tensor:
        """Return the units of the last hidden layer."""
        beta = self.settings.beta
        hidden = softplus(self.reads[0](inputs), beta)
        for read, carry in zip(list(self.reads)[1:], self.carries, strict=True):
            hidden = softplus(carry(hidden) + read(inputs), beta)
        return hidden

    @torch.no_grad()
    def project(self) -> None:
        """Set negative entries of the weights that must be ≥ 0 to zero, in place."""
        for weight in self.positive_weights():
            weight.clamp_(min=0.0)


class DensePotential(Potential):
    """A potential of fully connected layers over the signal as a vector.

    `z₁ = s(V₀ x + b₀)`, `z_{k+1} = s(W_k z_k + V_k x + b_k)`, `ψ = w·z + v·x + α‖x‖²` with `W_k, w ≥ 0`.

    >>> import torch
    >>> potential = DensePotential(NetworkSettings((3,), hidden=(8, 8)))
    >>> potential.proximal(torch.zeros(5, 3)).shape
    torch.Size([5, 3])
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        inputs, hidden = math.prod(settings.shape), settings.hidden
        self.reads = nn.ModuleList(_make_blank(nn.Linear, inputs, width) for width in hidden)
        self.carries = nn.ModuleList(
            _make_blank(nn.Linear, before, after, bias=False) for before, after in pairwise(hidden)
        )
        self.last = _make_blank(nn.Linear, hidden[-1], 1, bias=False)
        self.slope = _make_blank(nn.Linear, inputs, 1, bias=False)
        _initialise(self, settings.seed)

    def core(self, z: Tensor) -> Tensor:
        rows = z.flatten(1)
        value: Tensor = self.last(self.hidden(rows)) + self.slope(rows)
        return value.squeeze(1)


class ConvolutionalPotential(Potential):
    """A potential of convolutions with zero padding, summed over the pixels: the same prior at each pixel.

    >>> import torch
    >>> potential = ConvolutionalPotential(NetworkSettings((8, 8), "convolutional", hidden=(4, 4)))
    >>> potential.proximal(torch.zeros(2, 12, 10)).shape
    torch.Size([2, 12, 10])
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        self.channels = settings.shape[0] if len(settings.shape) == IMAGE_AXES[1] else 1
        hidden, kernel = settings.hidden, settings.kernel
        self.reads = nn.ModuleList(_make_blank_convolution(self.channels, width, kernel) for width in hidden)
        self.carries = nn.ModuleList(
            _make_blank_convolution(before, after, kernel, bias=False) for before, after in pairwise(hidden)
        )
        self.last = _make_blank_convolution(hidden[-1], 1, 1, bias=False)
        _initialise(self, settings.seed)

    def core(self, z: Tensor) -> Tensor:
        image = z.reshape(len(z), self.channels, *z.shape[-2:])
        return self.last(self.hidden(image)).sum((1, 2, 3))  # type: ignore[no-any-return]


def softplus(t: Tensor, beta: float) -> Tensor:
    """Return `log(1 + e^{βt})/β`."""
    return functional.softplus(t, beta, LINEAR_ABOVE)


def build_potential(settings: NetworkSettings) -> Potential:
    """Return the potential of these settings with its initial weights, in float32."""
    if not isinstance(settings, NetworkSettings):
        raise TypeError(f"settings must be NetworkSettings, got {type(settings).__name__}")
    return DensePotential(settings) if settings.kind == "dense" else ConvolutionalPotential(settings)


def _make_blank(layer: Any, *sizes: int, **options: Any) -> Any:
    """Return a layer without drawing its weights, so that torch's global generator is not used."""
    return torch.nn.utils.skip_init(layer, *sizes, **options)  # type: ignore[no-untyped-call]


def _make_blank_convolution(before: int, after: int, kernel: int, *, bias: bool = True) -> Any:
    return _make_blank(nn.Conv2d, before, after, kernel, padding=kernel // 2, bias=bias)


@torch.no_grad()
def _initialise(potential: Potential, seed: int) -> None:
    """Draw the weights: those from the input as in He et al., those that are ≥ 0 so that means are preserved."""
    generator = torch.Generator().manual_seed(seed)
    positive = {id(weight) for weight in potential.positive_weights()}
    for parameter in potential.parameters():
        if parameter.ndim == 1:
            parameter.zero_()
            continue
        inputs = math.prod(parameter.shape[1:])
        drawn = torch.randn(parameter.shape, generator=generator)
        parameter.copy_((drawn * HALF).exp() / inputs if id(parameter) in positive else drawn / math.sqrt(inputs))


def _check_sides(name: str, value: Any) -> tuple[int, ...]:
    sides = (value,) if isinstance(value, int) else value
    if isinstance(sides, str) or not hasattr(sides, "__iter__"):
        raise TypeError(f"{name} must be integers, got {type(value).__name__}")
    found = tuple(validation.positive_int(name, side) for side in sides)
    if not found:
        raise ValueError(f"{name} must have at least one entry, got none")
    return found
