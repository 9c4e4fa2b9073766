"""Layered networks with feedback: `du_n/dt = W_n r_{n−1} + b_n + B_{n+1}ᵀ r_{n+1} − u_n`, tied (`B = W`) or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.networks.activations import activation_named
from relaxon.neuromorphic.equilibrium.networks.chain import ChainField
from relaxon.neuromorphic.equilibrium.networks.network import (
    Drive,
    Feedback,
    LossName,
    Network,
    readout_error,
    readout_loss,
    squared_loss,
)
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Field
from relaxon.neuromorphic.losses import CALIBRATED, check_tau


class LayeredNetwork(Network):
    """A multi-layer perceptron whose layers also feed back.

    Parameters
    ----------
    sizes : units of the input, of each hidden layer and of the output, at least three numbers.
    activation : a name of `ACTIVATIONS`.
    feedback : "tied" for `B = W`, "independent" for feedback weights of their own, trained by their own gradient.
    angle : degrees between `B` and `W` at the start, 0 to 180, where they are independent.
    loss : "squared" makes the output a layer of relaxing units with `L = ½‖r − y‖²`; "cross-entropy" makes it a
        softmax readout outside the dynamics, as does "comp-sum" with its loss (see `relaxon.neuromorphic.losses`).
    tau : τ of the comp-sum loss; 1 for the others.
    gain : spread of the initial weights: `N(0, gain²/fan-in)`; those from the input have `input_gain`.
    seed, dtype : the weights are drawn in float64 and rounded.

    Source: Laborieux and Zenke 2022 and 2024.

    >>> import torch
    >>> from relaxon.neuromorphic.equilibrium import LayeredNetwork
    >>> network = LayeredNetwork((64, 32, 16, 10), feedback="independent", angle=90.0)
    >>> network.units, [round(angle) for angle in network.feedback_angles()]
    (48, [90])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: str = "sigmoid",
        feedback: Feedback = "tied",
        angle: float = 0.0,
        loss: LossName = "cross-entropy",
        tau: float = 1.0,
        gain: float = 0.3,
        input_gain: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        self.sizes = tuple(validation.positive_int(f"sizes[{i}]", size) for i, size in enumerate(sizes))
        if len(self.sizes) < 3:
            raise ValueError(f"sizes must name input, hidden layers and output, got {tuple(sizes)}")
        check_choices(feedback, angle, loss, dtype)
        self.activation = activation_named(activation)
        self.declared_holomorphic = self.activation.holomorphic
        self.symmetric = feedback == "tied"
        self.feedback, self.loss_name, self.angle = feedback, loss, float(angle)
        self.tau = check_loss(loss, tau)
        validation.non_negative_float("gain", gain)
        validation.positive_float("input_gain", input_gain)
        self.classes = self.sizes[-1]
        relaxing = self.sizes[1:] if loss == "squared" else self.sizes[1:-1]
        self.layers = list(relaxing)
        self.units = sum(relaxing)
        generator = torch.Generator().manual_seed(seed)
        gains = [input_gain, *[gain] * (len(self.sizes) - 2)]
        shapes = zip(self.sizes[1:], self.sizes[:-1], gains, strict=True)
        drawn = [
            torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale / math.sqrt(columns)
            for rows, columns, scale in shapes
        ]
        self.weights = nn.ParameterList([nn.Parameter(weight.to(dtype)) for weight in drawn])
        # A sigmoid's steepest point is at ½: hidden units start there.
        middle = 0.5 if activation == "sigmoid" else 0.0
        starts = [middle] * (len(drawn) - 1) + [0.0]
        self.biases = nn.ParameterList(
            [nn.Parameter(torch.full((len(weight),), b, dtype=dtype)) for weight, b in zip(drawn, starts, strict=True)]
        )
        self.backward_weights = nn.ParameterList()
        if feedback == "independent":
            for weight in drawn[1 : len(relaxing)]:
                self.backward_weights.append(nn.Parameter(turned(weight, angle, generator).to(dtype)))

        self.bind_parameters()

    def bind_parameters(self) -> None:
        # Plain lists beside the registered ones: slicing a ParameterList registers its parameters anew, at each step.
        self._forward_weights = list(self.weights)[1 : len(self.layers)]
        self._feedback_weights = self._forward_weights if self.feedback == "tied" else list(self.backward_weights)
        self._inner_biases = list(self.biases)[1 : len(self.layers)]
        self._readout, self._readout_bias = [self.weights[-1]], [self.biases[-1]]

    def config(self) -> dict[str, Any]:
        """The arguments that make a network of this form, as JSON values."""
        return {
            "sizes": list(self.sizes),
            "activation": self.activation.name,
            "feedback": self.feedback,
            "angle": self.angle,
            "loss": self.loss_name,
            **({} if self.tau is None else {"tau": self.tau}),
        }

    def feedback_angles(self) -> list[float]:
        """Degrees between `B` and `W`, for each pair of relaxing layers."""
        pairs = zip(self._forward_weights, self._feedback_weights, strict=True)
        return [angle_between(w.detach(), b.detach()) for w, b in pairs]

    def checked_input(self, x: Tensor) -> Tensor:
        x = super().checked_input(x)
        if x.shape[1:] != (self.sizes[0],):
            raise ValueError(f"x must be (batch, {self.sizes[0]}), got shape {tuple(x.shape)}")
        return x

    def drive(self, x: Tensor) -> Drive:
        return linear(x, self.weights[0], self.biases[0])

    def pull(self, r: Tensor, drive: Drive) -> Tensor:
        return self._chain(r, self._forward_weights, self._feedback_weights, [drive, *self._inner_biases])

    def couple(self, v: Tensor, r: Tensor, drive: Drive) -> Tensor:
        return self._chain(v, self._forward_weights, self._feedback_weights, None)

    def couple_transpose(self, v: Tensor, r: Tensor, drive: Drive) -> Tensor:
        return self._chain(v, self._feedback_weights, self._forward_weights, None)

    def free_field(self, drive: Drive) -> Field:
        biases = [drive, *self._inner_biases]
        return ChainField(
            super().free_field(drive),
            self.activation,
            self.layers,
            self._forward_weights,
            self._feedback_weights,
            biases,
            None,
        )

    def nudged_field(self, drive: Drive, target: Tensor, beta: Tensor, anchor: Tensor | None) -> Field:
        whole = super().nudged_field(drive, target, beta, anchor)
        up, down, drives = self._forward_weights, self._feedback_weights, [drive, *self._inner_biases]
        if anchor is not None:
            # The weights read backwards, as in `adjoint_pull`.
            up, down = down, up
            drives = list(torch.split(self._adjoint_constant(anchor, drive), self.layers, -1))

        encoded, amplitude = target.detach(), beta.detach()
        readout, bias = self._readout[0].detach(), self._readout_bias[0].detach()

        def push(rates: Tensor, planes: bool, factor: float, total: Tensor) -> None:
            if self.loss_name == "squared":
                r = torch.complex(*rates.chunk(2)) if planes else rates
                error = amplitude * (r - encoded)
                total.add_(torch.cat([error.real, error.imag]) if planes else error, alpha=factor)
                return
            logits = rates @ readout.T
            if planes:
                real, imaginary = logits.chunk(2)
                difference = readout_error(torch.complex(real + bias, imaginary), encoded, self.tau) * amplitude
                difference = torch.cat([difference.real, difference.imag])
            else:
                difference = readout_error(logits.add_(bias), encoded, self.tau) * amplitude
            total.addmm_(difference, readout, alpha=factor)

        return ChainField(whole, self.activation, self.layers, up, down, drives, push)

    def adjoint_pull(self, anchor: Tensor, drive: Drive) -> Callable[[Tensor], Tensor]:
        # The pull is affine, P(r) = P(a) + J(r − a), so that P(r) − (J − Jᵀ)(r − a) = P(a) − Jᵀa + Jᵀr: no dearer.
        constant = self._adjoint_constant(anchor, drive)
        return lambda r: constant + self.couple_transpose(r, anchor, drive)

    def _adjoint_constant(self, anchor: Tensor, drive: Drive) -> Tensor:
        return self.pull(anchor, drive) - self.couple_transpose(anchor, anchor, drive)

    def _chain(
        self, r: Tensor, up: Sequence[Tensor], down: Sequence[Tensor], biases: Sequence[Tensor] | None
    ) -> Tensor:
        """`up_n r_{n−1} + down_{n+1}ᵀ r_{n+1} (+ b_n)` for every layer."""
        if r.is_complex():
            # Real weights act on real and imaginary parts apart: half the work of a complex product.
            batch = len(r)
            image = self._chain(torch.cat([r.real, r.imag]), up, down, None)
            real, imaginary = image[:batch], image[batch:]
            if biases is not None:
                real = real + torch.cat([biases[0], *(b.expand(batch, -1) for b in biases[1:])], -1)
            return torch.complex(real, imaginary)
        rates = torch.split(r, self.layers, -1)
        pulled = []
        for n in range(len(self.layers)):
            bias = None if biases is None else biases[n]
            total = bias if n == 0 else linear(rates[n - 1], up[n - 1], bias)
            if n + 1 < len(self.layers):
                back = rates[n + 1] @ down[n]
                total = back if total is None else total + back
            pulled.append(torch.zeros_like(rates[n]) if total is None else total)
        return torch.cat(pulled, -1)

    def _logits(self, r: Tensor) -> Tensor:
        last = r[..., -self.layers[-1] :]
        readout, bias = self._readout[0], self._readout_bias[0]
        if last.is_complex():
            return torch.complex(linear(last.real, readout, bias), linear(last.imag, readout))
        return linear(last, readout, bias)

    def loss(self, r: Tensor, target: Tensor) -> Tensor:
        if self.loss_name == "squared":
            return squared_loss(r[..., -self.layers[-1] :], target)
        return readout_loss(self._logits(r), target, self.tau)

    def nudge(self, r: Tensor, target: Tensor) -> Tensor:
        return nn.functional.pad(self._error(r, target), (self.units - self.layers[-1], 0))

    def _error(self, r: Tensor, target: Tensor) -> Tensor:
        """`∂L/∂r` of the last layer."""
        error: Tensor
        if self.loss_name == "squared":
            error = r[..., -self.layers[-1] :] - target
            return error
        difference = readout_error(self._logits(r), target, self.tau)
        if difference.is_complex():
            return torch.complex(difference.real @ self._readout[0], difference.imag @ self._readout[0])
        error = difference @ self._readout[0]
        return error

    def gradients(
        self, rates: Tensor, x: Tensor, drive: Drive, target: Tensor, adjoint: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        # In closed form: a graph would multiply the input by its weights once more.
        r, delta = torch.split(rates, self.layers, -1), torch.split(adjoint / len(x), self.layers, -1)
        found = {"weights.0": delta[0].T @ x}
        for n, part in enumerate(delta):
            found[f"biases.{n}"] = part.sum(0)
            if n:
                found[f"weights.{n}"] = part.T @ r[n - 1]
                back = r[n].T @ delta[n - 1]
                if self.feedback == "tied":
                    found[f"weights.{n}"] += back
                else:
                    found[f"backward_weights.{n - 1}"] = back
        if self.loss_name != "squared":
            logits = self._logits(rates)
            error = readout_error(logits, target, self.tau) / len(x)
            last = len(self.sizes) - 2
            found[f"weights.{last}"], found[f"biases.{last}"] = error.T @ r[-1], error.sum(0)
            loss = readout_loss(logits, target, self.tau).mean()
        else:
            loss = self.loss(rates, target).mean()
        return loss, {name: found[name] for name, parameter in self.named_parameters() if parameter.requires_grad}

    def scores(self, r: Tensor) -> Tensor:
        return r[..., -self.layers[-1] :] if self.loss_name == "squared" else self._logits(r)


def turned(weight: Tensor, angle: float, generator: torch.Generator) -> Tensor:
    """A matrix as long as `weight`, `angle` degrees from it, otherwise random."""
    other = torch.randn(weight.shape, generator=generator, dtype=weight.dtype)
    other -= weight * ((other * weight).sum() / weight.square().sum())
    other *= weight.norm() / other.norm()
    radians = math.radians(angle)
    return math.cos(radians) * weight + math.sin(radians) * other


def angle_between(a: Tensor, b: Tensor) -> float:
    """Degrees between two tensors, as vectors."""
    a, b = a.double(), b.double()
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    return math.degrees(math.acos(min(1.0, max(-1.0, cosine))))


def check_choices(feedback: str, angle: float, loss: str, dtype: torch.dtype) -> None:
    """Refuse what no network takes."""
    if feedback not in get_args(Feedback):
        raise ValueError(f"feedback must be 'tied' or 'independent', got {feedback!r}")
    if loss not in get_args(LossName):
        raise ValueError(f"loss must be 'squared', 'cross-entropy' or 'comp-sum', got {loss!r}")
    if not 0 <= validation.finite_float("angle", angle) <= 180:
        raise ValueError(f"angle must be between 0 and 180 degrees, got {angle!r}")
    if feedback == "tied" and angle:
        raise ValueError(f"angle must be 0 where feedback is tied, got {angle!r}")
    if dtype not in (torch.float32, torch.float64):
        raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")


def check_loss(loss: str, tau: float) -> float | None:
    """Return τ for the comp-sum loss and None for the others, whose `tau` must be 1."""
    number = check_tau(tau, CALIBRATED)
    if loss == "comp-sum":
        return number
    if number != 1.0:
        raise ValueError(f"tau must be 1 unless loss is 'comp-sum', got {tau!r} with loss {loss!r}")
    return None
