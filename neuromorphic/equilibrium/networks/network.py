"""Networks of relaxing units, `du/dt = P(φ(u), x) − λu − β ∂L/∂r`: the base class and networks given as functions.

The estimators measure the rate `r = φ(u)` and nudge with `∂L/∂r`. In this coordinate the Jacobian is `∂P/∂r − λ/φ'`.
Its antisymmetric part is that of the coupling `∂P/∂r` alone, so tied weights make it exactly symmetric.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from relaxon.neuromorphic.equilibrium.networks.activations import ACTIVATIONS, Activation, find_activation
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Field, Relaxation
from relaxon.neuromorphic.losses import comp_sum, comp_sum_weight

Drive = Tensor
"""The contribution of the input, `(batch, …)` and real; computed once for each batch."""
Loss = Callable[[Tensor, Tensor], Tensor]
"""A loss `(rates (batch, units), target (batch, …)) → (batch,)`; it must be holomorphic in the rates for complex
nudges."""


def all_finite(tensor: Tensor) -> bool:
    """Return whether all entries are finite, in one pass and without a mask of the tensor's size."""
    return not tensor.numel() or all(math.isfinite(end) for end in tensor.detach().aminmax())


def pull_back(function: Callable[[Tensor], Tensor], r: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return a function's value at `r` and the map `v ↦ Jᴴ v`."""
    value, pullback = torch.func.vjp(function, r)[:2]
    return value, lambda v: pullback(v)[0]


class Network(nn.Module, ABC):
    """A network of units with states `u` `(batch, units)`, real or complex; subclasses define the coupling.

    `leak` is λ: 1 for leaky units and 0 for a plain vector field. `classes` is the number of classes of a classifier,
    and 0 where targets are arrays. `declared_holomorphic` is None where this has to be tested numerically.
    """

    units: int
    leak: float = 1.0
    classes: int = 0
    activation: Activation = ACTIVATIONS["sigmoid"]
    declared_holomorphic: bool | None = None
    symmetric: bool = False
    """Whether the coupling is symmetric by construction; False where this has to be tested numerically."""

    @abstractmethod
    def drive(self, x: Tensor) -> Drive:
        """Return the contribution of the input."""

    @abstractmethod
    def pull(self, r: Tensor, drive: Drive) -> Tensor:
        """Return `P(r, x)`, `(batch, units)`: the action of the rates and the input on each unit."""

    @abstractmethod
    def loss(self, r: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each sample, `(batch,)`."""

    @abstractmethod
    def scores(self, r: Tensor) -> Tensor:
        """Return the outputs at rates `r`, `(batch, outputs)`; the largest one is that of the predicted class."""

    def bind_parameters(self) -> None:
        """Read the parameters from the module's registry again, where a network keeps them in its own lists.

        Call this after `torch.func.functional_call` has replaced them by other tensors.
        """

    def nudge(self, r: Tensor, target: Tensor) -> Tensor:
        """Return `∂L/∂r`, `(batch, units)`, which is holomorphic where the loss is."""
        losses, pullback = pull_back(lambda rates: self.loss(rates, target), r)
        # torch's pullback of a holomorphic function is the conjugate of its derivative.
        return torch.conj_physical(pullback(torch.ones_like(losses)))

    def field(self, u: Tensor, drive: Drive) -> Tensor:
        """Return `F(u, x) = P(φ(u), x) − λu`."""
        return self.leaked(self.pull(self.activation(u), drive), u)

    def free_field(self, drive: Drive) -> Field:
        """Return `u ↦ F(u, x)`, the field that a free phase relaxes."""
        return lambda u: self.field(u, drive)

    def nudged_field(self, drive: Drive, target: Tensor, beta: Tensor, anchor: Tensor | None) -> Field:
        """Return the field `u ↦ P(r) − λu − β ∂L/∂r`, plus `−2A(r − anchor)` where an anchor is given.

        `beta` has the shape `()` or `(batch, 1)`.
        """
        pull = (lambda r: self.pull(r, drive)) if anchor is None else self.adjoint_pull(anchor, drive)

        def field(u: Tensor) -> Tensor:
            r = self.activation(u)
            return self.leaked(torch.addcmul(pull(r), beta, self.nudge(r, target), value=-1), u)

        return field

    def read(self, relaxed: Relaxation) -> Tensor:
        """Return the rates of a relaxation's reading."""
        known = relaxed.rates if relaxed.average is None else None
        return self.activation(relaxed.reading) if known is None else known

    def leaked(self, pull: Tensor, u: Tensor) -> Tensor:
        """Return `pull − λu`."""
        if self.leak == 1.0:
            return pull - u
        return pull - self.leak * u if self.leak else pull

    def start(self, drive: Drive) -> Tensor:
        """Return the state from which a free phase starts."""
        return torch.zeros(len(drive), self.units, dtype=drive.dtype, device=drive.device)

    def gradients(
        self, rates: Tensor, x: Tensor, drive: Drive, target: Tensor, adjoint: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss and its gradient `(∂F/∂θ)ᵀ δ + ∂L/∂θ` by parameter, for free rates and adjoint δ."""
        # A caller's no_grad must not turn the gradient into zeros.
        with torch.enable_grad():
            pull = self.pull(rates, self.drive(x))
            loss = self.loss(rates, target).mean()
            found = parameter_gradients(self, (pull * adjoint).sum() / len(x) + loss)
        return loss.detach(), found

    def couple(self, v: Tensor, r: Tensor, drive: Drive) -> Tensor:
        """Return `∂P/∂r · v` at rates `r`; everything is real."""
        image: Tensor = torch.func.jvp(lambda rates: self.pull(rates, drive), (r,), (v,))[1]
        return image

    def couple_transpose(self, v: Tensor, r: Tensor, drive: Drive) -> Tensor:
        """Return `(∂P/∂r)ᵀ · v` at rates `r`; everything is real."""
        return pull_back(lambda rates: self.pull(rates, drive), r)[1](v)

    def adjoint_pull(self, anchor: Tensor, drive: Drive) -> Callable[[Tensor], Tensor]:
        """Return `r ↦ P(r) − (J − Jᵀ)(r − anchor)` for real or complex r, J the coupling at the rates `anchor`."""

        def corrected(r: Tensor) -> Tensor:
            v = r - anchor
            if not v.is_complex():
                twist = self.couple(v, anchor, drive) - self.couple_transpose(v, anchor, drive)
                return self.pull(r, drive) - twist
            # J is real: it acts on the real and the imaginary part apart.
            parts = [
                self.couple(part, anchor, drive) - self.couple_transpose(part, anchor, drive)
                for part in (v.real.contiguous(), v.imag.contiguous())
            ]
            return self.pull(r, drive) - torch.complex(*parts)

        return corrected

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def validate(self, x: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return input and encoded target; TypeError or ValueError naming an argument that the network rejects."""
        return self.validate_input(x), self.validate_target(target, len(x))

    def validate_input(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a torch tensor, got {type(x).__name__}")
        like = next(self.parameters())
        if x.dtype != like.dtype:
            raise TypeError(f"x must have the network's dtype {like.dtype}, got {x.dtype}")
        if x.device != like.device:
            raise ValueError(f"x must be on the network's device {like.device}, got {x.device}")
        if x.ndim < 2 or len(x) == 0:
            raise ValueError(f"x must be (batch, …) with at least one sample, got shape {tuple(x.shape)}")
        if not all_finite(x):
            bad = int((~torch.isfinite(x)).sum())
            raise ValueError(f"x must be finite, got {bad} NaN or infinite of {x.numel()} entries")
        return x

    def validate_target(self, target: Tensor, batch: int) -> Tensor:
        if not isinstance(target, Tensor):
            raise TypeError(f"target must be a torch tensor, got {type(target).__name__}")
        if target.ndim == 0 or len(target) != batch:
            raise ValueError(f"target must hold one entry for each of {batch} samples, got shape {tuple(target.shape)}")
        like = next(self.parameters())
        if target.device != like.device:
            raise ValueError(f"target must be on the network's device {like.device}, got {target.device}")
        if not self.classes:
            if target.is_floating_point() and not bool(torch.isfinite(target).all()):
                raise ValueError("target must be finite, got NaN or infinite entries")
            return target
        if target.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8) or target.ndim != 1:
            raise TypeError(
                f"target must be class indices (batch,) of integers, got {target.dtype} {tuple(target.shape)}"
            )
        low, high = (int(end) for end in target.aminmax())
        if low < 0 or high >= self.classes:
            raise ValueError(f"target must be between 0 and {self.classes - 1}, got {low if low < 0 else high}")
        encoded = torch.zeros(batch, self.classes, dtype=like.dtype, device=like.device)
        return encoded.scatter_(1, target.long()[:, None], 1.0)


def holomorphic(network: Network, u: Tensor, drive: Drive, target: Tensor) -> bool:
    """Return whether field and nudge are holomorphic at `u` and real for real states, by a numerical test.

    A function is holomorphic where its derivative along `iv` is `i` times that along `v` (Cauchy and Riemann).
    """
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(2, *u.shape, dtype=u.dtype, generator=generator).to(u.device)
    small = torch.finfo(u.dtype).eps ** 0.25
    z = torch.complex(u + small * v[0], small * v[1])

    def both(state: Tensor) -> Tensor:
        r = network.activation(state)
        return torch.cat([network.field(state, drive), network.nudge(r, target)], -1)

    try:
        value = both(z)
        if not value.is_complex():
            return False
        along = torch.func.jvp(both, (z,), (torch.complex(v[0], torch.zeros_like(v[0])),))[1]
        across = torch.func.jvp(both, (z,), (torch.complex(torch.zeros_like(v[0]), v[0]),))[1]
        mirrored = both(z.conj().resolve_conj())
    except (RuntimeError, ValueError, NotImplementedError, TypeError):
        # torch raises an error for max, relu, comparisons and similar functions of complex numbers.
        return False
    tolerance = torch.finfo(u.dtype).eps ** 0.5
    scale = float(along.abs().max()) + tolerance
    straight: bool = float((across - 1j * along).abs().max()) <= tolerance * scale
    size = float(value.abs().max()) + tolerance
    real: bool = float((mirrored - value.conj()).abs().max()) <= tolerance * size
    return straight and real


def parameter_gradients(network: Network, scalar: Tensor) -> dict[str, Tensor]:
    """Return `∂ scalar/∂θ` for every parameter that requires a gradient, zero for one without influence."""
    named = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    if not scalar.requires_grad:
        return {name: torch.zeros_like(parameter) for name, parameter in named.items()}
    found = torch.autograd.grad(scalar, list(named.values()), allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for (name, parameter), gradient in zip(named.items(), found, strict=True)
    }


class _GivenNetwork(Network):
    """A network whose dynamics, loss and scores are given as functions."""

    def __init__(self, units: int, loss: Loss, scores: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        self.units, self._loss, self._scores = units, loss, scores

    def drive(self, x: Tensor) -> Drive:
        return x

    def start(self, drive: Drive) -> Tensor:
        return torch.zeros(len(drive), self.units, dtype=self.dtype, device=drive.device)

    def loss(self, r: Tensor, target: Tensor) -> Tensor:
        return self._loss(r, target)

    def scores(self, r: Tensor) -> Tensor:
        return r if self._scores is None else self._scores(r)


class VectorField(_GivenNetwork):
    """A vector field given as a torch function: `du/dt = field(u, x) − β ∂L/∂u`; states and rates are the same.

    `field` is a module `(u (batch, units), x) → (batch, units)`, whose parameters are the network's. For complex nudges
    `field` and `loss` must be holomorphic in `u`, which is tested before any are used.

    >>> import torch
    >>> from relaxon.neuromorphic.equilibrium import Cauchy, Phases, VectorField, gradient
    >>> class Pendulums(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = torch.nn.Parameter(torch.eye(3, dtype=torch.float64) * 0.3)
    ...     def forward(self, u, x):
    ...         return x - u - 0.5 * torch.sin(u @ self.weight.to(u.dtype).T)
    >>> network = VectorField(Pendulums(), 3, loss=lambda u, y: 0.5 * (u - y).square().sum(-1))
    >>> x = torch.full((2, 3), 0.4, dtype=torch.float64)
    >>> found = gradient(network, x, torch.zeros_like(x), Cauchy(6, 0.2))
    >>> found.verdict.name, tuple(found.gradients)
    ('OK', ('function.weight',))
    """

    leak = 0.0
    activation = ACTIVATIONS["identity"]

    def __init__(
        self, field: nn.Module, units: int, loss: Loss, scores: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__(units, loss, scores)
        if not isinstance(field, nn.Module):
            raise TypeError(f"field must be a torch module, got {type(field).__name__}")
        if not any(True for _ in field.parameters()):
            raise ValueError("field must have parameters, got a module without any")
        self.function = field

    def pull(self, r: Tensor, drive: Drive) -> Tensor:
        pull: Tensor = self.function(r, drive)
        return pull


class EnergyNetwork(_GivenNetwork):
    """A network with a Hopfield energy `E = Σ∫φ⁻¹ − Φ(r, x)`: the pull is `∂Φ/∂r`, so the coupling is symmetric.

    `potential` is a module `(r (batch, units), x) → (batch,)`; it must be holomorphic in `r` for complex nudges.
    Source: Scellier and Bengio 2017.
    """

    def __init__(
        self,
        potential: nn.Module,
        units: int,
        loss: Loss,
        scores: Callable[[Tensor], Tensor] | None = None,
        activation: str = "sigmoid",
    ) -> None:
        super().__init__(units, loss, scores)
        if not isinstance(potential, nn.Module):
            raise TypeError(f"potential must be a torch module, got {type(potential).__name__}")
        self.potential = potential
        self.activation = find_activation(activation)

    def pull(self, r: Tensor, drive: Drive) -> Tensor:
        values, pullback = pull_back(lambda rates: self.potential(rates, drive), r)
        return torch.conj_physical(pullback(torch.ones_like(values)))


class HopfieldPotential(nn.Module):
    """The potential `Φ = ½ rᵀ W r + rᵀ (V x + b)` of a recurrent network; W is symmetrised, without its diagonal."""

    def __init__(
        self, inputs: int, units: int, *, gain: float = 0.5, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def draw(rows: int, columns: int, scale: float) -> nn.Parameter:
            values = torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale / columns**0.5
            return nn.Parameter(values.to(dtype))

        self.recurrent = draw(units, units, gain)
        self.input = draw(units, inputs, 1.0)
        self.bias = nn.Parameter(torch.zeros(units, dtype=dtype))

    def forward(self, r: Tensor, x: Tensor) -> Tensor:
        weight = 0.5 * (self.recurrent + self.recurrent.T)
        weight = (weight - torch.diag(torch.diagonal(weight))).to(r.dtype)
        drive = (x @ self.input.T + self.bias).to(r.dtype)
        return 0.5 * (r * (r @ weight)).sum(-1) + (r * drive).sum(-1)


Feedback = Literal["tied", "independent"]
LossName = Literal["squared", "cross-entropy", "comp-sum"]


def squared_loss(r: Tensor, target: Tensor) -> Tensor:
    """Return `½ Σ (r − y)²`, without a conjugate, so that it is holomorphic."""
    return 0.5 * (r - target).square().sum(-1)


def soft_max(z: Tensor) -> Tensor:
    """Return the softmax of real or complex numbers (shifted by the largest real part)."""
    if not z.is_complex():
        return torch.softmax(z, -1)
    e = torch.exp(z - z.real.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def cross_entropy(z: Tensor, target: Tensor) -> Tensor:
    """Return `log Σ e^z − zᵀy` for real logits and one-hot targets."""
    return torch.logsumexp(z, -1) - (z * target).sum(-1)


def readout_loss(z: Tensor, target: Tensor, tau: float | None) -> Tensor:
    """Return each sample's loss from logits and one-hot targets: the cross-entropy or, with τ, the comp-sum loss."""
    return cross_entropy(z, target) if tau is None else comp_sum(z, target, tau)


def readout_error(z: Tensor, target: Tensor, tau: float | None) -> Tensor:
    """Return `∂L/∂z` of `readout_loss`, real or complex: `softmax − y`, times `p_y^{τ−1}` where τ is given."""
    error = soft_max(z) - target
    return error if tau is None else error * comp_sum_weight(z, target, tau)
