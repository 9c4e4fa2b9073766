"""Estimators of the gradient at an equilibrium by nudges on a contour; `exact` has their references.

Let `J` be the Jacobian in the rates and `g = ∂L/∂r` at the free equilibrium. The gradient of the loss is `(∂F/∂θ)ᵀ δ`
with `δ = −J⁻ᵀ g`. A nudged equilibrium moves by `dr/dβ = J⁻¹ g`, so `−dr/dβ` equals δ where J is symmetric.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.estimators.contour import (
    NEAREST,
    add_point,
    half_contour,
    on_polynomial,
    to_complex,
)
from relaxon.neuromorphic.equilibrium.estimators.result import AdjointReading
from relaxon.neuromorphic.equilibrium.networks.network import Network, holomorphic
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import (
    RUNAWAY,
    Outcome,
    Relaxation,
    StateNoise,
    largest,
)


def read_exactly(rates: Tensor) -> Tensor:
    """Return the rates unchanged."""
    return rates


@dataclass(frozen=True, slots=True)
class FreePhase:
    """A free equilibrium and what a nudge requires; all tensors are real and detached."""

    network: Network
    drive: Tensor
    target: Tensor
    phases: Phases
    relaxation: Relaxation
    rates: Tensor
    noise: StateNoise | None
    read: Callable[[Tensor], Tensor] = read_exactly
    """The readout of the rates."""

    @property
    def state(self) -> Tensor:
        return self.relaxation.reading


class Estimator(ABC):
    """An estimator of the gradient.

    Relaxers multiply their tolerance by `scale`, because small nudges require accurate states.
    """

    __slots__ = ()
    name: ClassVar[str]

    @property
    def scale(self) -> float:
        return 1.0

    def refuse(self, network: Network) -> None:  # noqa: B027  most refuse nothing
        """Raise `ValueError` where the estimator is not applicable to the network."""

    @abstractmethod
    def read(self, free: FreePhase) -> AdjointReading:
        """Return the measured adjoint δ."""

    @property
    def label(self) -> str:
        return self.name


class _Contour(Estimator):
    """What the nudging estimators share: `n` points of radius `|β|`, of which one half follows by conjugation."""

    __slots__ = ()
    asymmetric: ClassVar[bool] = False

    @abstractmethod
    def contour(self) -> tuple[int, float]:
        """Return the number of points and the signed radius."""

    @property
    def scale(self) -> float:
        return min(1.0, abs(self.contour()[1]))

    def refuse(self, network: Network) -> None:
        if self.contour()[0] > 2:
            refuse_non_holomorphic(network)

    def read(self, free: FreePhase) -> AdjointReading:
        n, radius = self.contour()
        if n > 2:
            refuse_unless_probed(free)
        # The real points relax in real arithmetic, at a fraction of the cost of complex arithmetic.
        parts: list[tuple[Sequence[complex], Relaxation]] = []
        for points in half_contour(n, radius, free.rates):
            start = _extrapolate(free, points, parts)
            parts.append((points, _relax_nudged(free, points, start, self.scale, self.asymmetric)))
        slope, mean = torch.zeros_like(free.rates), torch.zeros_like(free.rates)
        for points, relaxed in parts:
            rates = free.read(free.network.read(relaxed))
            for beta, there in zip(points, rates.view(len(points), *free.rates.shape), strict=True):
                add_point(slope, mean, beta, there, free.rates, n)
        relaxed = _combine([relaxed for _, relaxed in parts])
        truncation = None
        if n > 1:
            miss, size = float(mean.norm()), abs(radius) * float(slope.norm())
            # A miss as small as the relaxation's own error says nothing about the contour.
            floor = relaxed.tolerance * math.sqrt(slope.numel())
            truncation = 0.0 if miss <= floor and size <= floor else miss / size if size > 0 else math.inf
        rows = sum(part.steps * len(part.state) * (2 if part.state.is_complex() else 1) for _, part in parts)
        return AdjointReading(-slope, relaxed, truncation, rows, n, None if self.asymmetric else asymmetry(free))


def is_nudged(estimator: Estimator) -> bool:
    """Return whether an estimator takes differences between nudged equilibria and the free one."""
    return isinstance(estimator, _Contour)


def _relax_nudged(
    free: FreePhase, points: Sequence[complex], start: Tensor, scale: float, asymmetric: bool
) -> Relaxation:
    """Relax all samples at all points as one batch."""
    copies, network = len(points), free.network
    anchor = repeat_batch(free.rates, copies) if asymmetric else None
    beta = torch.tensor(points, dtype=start.dtype, device=start.device)
    beta = beta[0] if copies == 1 else beta.repeat_interleave(len(free.rates))[:, None]
    field = network.nudged_field(repeat_batch(free.drive, copies), repeat_batch(free.target, copies), beta, anchor)
    return free.phases.nudge.relax(field, start, scale=scale, noise=free.noise)


def _extrapolate(
    free: FreePhase, points: Sequence[complex], known: list[tuple[Sequence[complex], Relaxation]]
) -> Tensor:
    """Return initial states at the points: the polynomial in β through the free state and the states known so far.

    Initial states do not change the result. Given the two real points, the complex ones are off by a term in β³ only;
    a point above the axis also gives the one below it. The first ones are a step of leaky units from the free state,
    at which all else is at rest.
    """
    if free.noise is not None or (not known and free.network.leak != 1.0):
        kind = free.rates.dtype if isinstance(points[0], float) else to_complex(free.rates.dtype)
        return repeat_batch(free.state, len(points)).to(kind)
    if known:
        # Extrapolation from an arc of many points is unstable: the last ones and the real ones predict best.
        real = [part for part in known if not part[1].state.is_complex()]
        nodes: list[complex] = [0.0]
        states = [free.state]
        for at, relaxed in real + [part for part in known if part[1].state.is_complex()][-NEAREST:]:
            nodes += at
            states += relaxed.state.view(len(at), *free.state.shape)
        starts = [on_polynomial(beta, nodes, states) for beta in points]
    else:
        push = free.network.nudge(free.rates, free.target)
        starts = [free.state - beta * push for beta in points]
    return starts[0] if len(starts) == 1 else torch.cat(starts)


def _combine(parts: list[Relaxation]) -> Relaxation:
    """Combine separate relaxations: the worst outcome, the largest residual, the largest number of steps."""
    if len(parts) == 1:
        return parts[0]
    order = (Outcome.NON_FINITE, Outcome.MAX_STEPS, Outcome.NOISY, Outcome.CONVERGED)
    outcome = min((part.outcome for part in parts), key=order.index)
    # NaN counts as the largest residual here, unlike for `max`.
    residual = max((part.residual for part in parts), key=lambda value: math.inf if math.isnan(value) else value)
    state = torch.cat([part.state.to(parts[-1].state.dtype) for part in parts])
    return Relaxation(state, residual, parts[0].tolerance, max(part.steps for part in parts), outcome)


@dataclass(frozen=True, slots=True)
class _RealNudges(_Contour):
    """What the estimators with real nudges share: their number is fixed."""

    beta: float = 0.1
    points: ClassVar[int]

    def __post_init__(self) -> None:
        if validation.finite_float("beta", self.beta) == 0:
            raise ValueError("beta must not be 0")

    def contour(self) -> tuple[int, float]:
        return self.points, self.beta

    @property
    def label(self) -> str:
        return f"{type(self).__name__}({self.beta:g})"


@dataclass(frozen=True, slots=True)
class OneSided(_RealNudges):
    """The one-sided difference `(r(β) − r(0)) / β`, of first order in β. Source: Scellier and Bengio 2017."""

    name: ClassVar[str] = "one-sided"
    points: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Centred(_RealNudges):
    """The centred difference `(r(β) − r(−β)) / 2β`, of second order in β. Source: Laborieux et al. 2021."""

    name: ClassVar[str] = "centred"
    points: ClassVar[int] = 2


@dataclass(frozen=True, slots=True)
class _Circle(_Contour):
    """What the two Cauchy estimators share: `n` points on a circle of this radius."""

    n: int = 6
    radius: float = 0.5

    def __post_init__(self) -> None:
        validation.positive_int("n", self.n)
        validation.positive_float("radius", self.radius)

    def contour(self) -> tuple[int, float]:
        return self.n, self.radius

    @property
    def label(self) -> str:
        return f"{type(self).__name__}({self.n}, {self.radius:g})"


@dataclass(frozen=True, slots=True)
class Cauchy(_Circle):
    """Cauchy's integral over `n` nudges `|β| e^{2πit/n}`, with the error `(|β|/ρ)^n`, ρ the radius of analyticity.

    As n grows, it is exact for symmetric Jacobians at any radius below ρ. With n = 1 and n = 2 it is the one-sided and
    the centred estimate. n > 2 requires a holomorphic network. Source: Laborieux and Zenke 2022.
    """

    name: ClassVar[str] = "cauchy"


@dataclass(frozen=True, slots=True)
class AsymmetricCauchy(_Circle):
    """Cauchy's integral without the assumption of symmetric weights.

    The nudged dynamics have the additional term `−2A(r − r₀)`, where A is the antisymmetric part of the Jacobian at the
    free rates `r₀`. With `J = S + A`, the response to the nudge is then that of `S − A = Jᵀ`.

    This needs products with Jᵀ (in layered networks: the weights read backwards), so it serves as a reference as much
    as a rule for hardware. On layered networks it costs no more than `Cauchy`.
    """

    name: ClassVar[str] = "asymmetric-cauchy"
    asymmetric: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class ContinuousOscillation(Estimator):
    """A nudge that rotates continuously: `β(t) = |β| e^{2πit/T}` and `dr/dβ ≈ ⟨r(t)/β(t)⟩` over the turns.

    A turn takes `period` steps; the first `settling` turns are discarded. The states lag behind the nudge, which biases
    the estimate by about the ratio of relaxation time to period. Source: Laborieux and Zenke 2022.
    """

    radius: float = 0.5
    period: int = 200
    turns: int = 1
    settling: int = 1
    step: float = 1.0
    name: ClassVar[str] = "continuous"

    def __post_init__(self) -> None:
        validation.positive_float("radius", self.radius)
        validation.positive_int("period", self.period)
        validation.positive_int("turns", self.turns)
        validation.positive_float("step", self.step)
        if self.period < 3:
            raise ValueError(f"period must be at least 3 steps, got {self.period}")
        if isinstance(self.settling, bool) or not isinstance(self.settling, int) or self.settling < 0:
            raise ValueError(f"settling must be a number of turns, at least 0, got {self.settling!r}")

    @property
    def scale(self) -> float:
        return min(1.0, self.radius)

    @property
    def label(self) -> str:
        return f"ContinuousOscillation({self.radius:g}, {self.period})"

    def refuse(self, network: Network) -> None:
        refuse_non_holomorphic(network)

    def read(self, free: FreePhase) -> AdjointReading:
        refuse_unless_probed(free)
        network, complex_type = free.network, to_complex(free.rates.dtype)
        u = free.state.to(complex_type)
        slope, mean = torch.zeros_like(u), torch.zeros_like(u)
        steps, residual = self.period * (self.settling + self.turns), 0.0
        for taken in range(steps):
            angle = 2 * math.pi * (taken % self.period) / self.period
            beta = torch.tensor(
                complex(self.radius * math.cos(angle), self.radius * math.sin(angle)), dtype=complex_type
            )
            g = network.nudged_field(free.drive, free.target, beta.to(u.device), None)(u)
            u = u + self.step * g
            if free.noise is not None:
                u = u + free.noise.draw(u)
            if taken >= self.period * self.settling:
                moved = free.read(network.activation(u)) - free.rates
                slope, mean = slope + moved / beta.to(u.device), mean + moved
        residual = largest(u)
        outcome = Outcome.CONVERGED if residual < RUNAWAY else Outcome.NON_FINITE
        if free.noise is not None and outcome is Outcome.CONVERGED:
            outcome = Outcome.NOISY
        count = self.period * self.turns
        slope_real = slope.real / count
        size = self.radius * float(slope_real.norm())
        truncation = float(mean.real.norm()) / count / size if size > 0 else None
        # The state keeps rotating: there is no residual, so the only check is that it stays finite.
        relaxed = Relaxation(u, residual, RUNAWAY, steps, outcome)
        return AdjointReading(-slope_real, relaxed, truncation, 2 * steps * len(u), self.period, asymmetry(free))


def asymmetry(free: FreePhase) -> float:
    """Return `‖Jv − Jᵀv‖ / ‖Jv‖` of the coupling at the free rates, for a random v (the same in each call)."""
    if free.network.symmetric:
        return 0.0
    generator = torch.Generator().manual_seed(0)
    rates, drive = free.rates[:ASYMMETRY_SAMPLES], free.drive[:ASYMMETRY_SAMPLES]
    v = torch.randn(1, rates.shape[1], generator=generator, dtype=rates.dtype).to(rates.device)
    v = v.expand_as(rates).contiguous()
    image = free.network.couple(v, rates, drive)
    size = float(image.norm())
    return float((image - free.network.couple_transpose(v, rates, drive)).norm()) / size if size > 0 else 0.0


ASYMMETRY_SAMPLES = 8
"""Samples used to test the Jacobian's symmetry: enough to detect an asymmetry, and cheap beside the relaxation."""


def repeat_batch(tensor: Tensor, copies: int) -> Tensor:
    """Return `copies` of a batch, one after the other."""
    return tensor if copies == 1 else tensor.repeat(copies, *[1] * (tensor.ndim - 1))


def refuse_non_holomorphic(network: Network) -> None:
    """Raise `ValueError` for a network that is known not to be holomorphic."""
    if not network.activation.holomorphic or network.declared_holomorphic is False:
        raise ValueError(
            "estimator must not use complex nudges (n > 2, ContinuousOscillation): the network is not holomorphic "
            f"(activation {network.activation.name!r}); use n ≤ 2 or an activation such as 'sigmoid'"
        )


def refuse_unless_probed(free: FreePhase) -> None:
    """Raise `ValueError` for a network that is not declared holomorphic and fails the test at its free state."""
    network = free.network
    if network.declared_holomorphic is None and not holomorphic(network, free.state, free.drive, free.target):
        raise ValueError(
            "estimator must not use complex nudges: the network's field or loss is not holomorphic at the free state "
            "(abs, max, relu, comparisons and conjugates are not); use OneSided or Centred"
        )
