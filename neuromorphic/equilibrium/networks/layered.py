"""Layered networks with feedback: `du_n/dt = W_n r_{n−1} + b_n + B_{n+1}ᵀ r_{n+1} − u_n`, `B = W` or independent B."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.networks.activations import find_activation
from relaxon.neuromorphic.equilibrium.networks.chain import ChainField, Push
from relaxon.neuromorphic.equilibrium.networks.chain_kernels import softmax_errors
from relaxon.neuromorphic.equilibrium.networks.network import Drive, Feedback, LossName, readout_error, readout_loss
from relaxon.neuromorphic.equilibrium.networks.readout_network import FeedbackNetwork, check_choices, check_loss
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Field
from relaxon.solvers.kernels.compiled import threads_for
from relaxon.solvers.kernels.threads import divide


class LayeredNetwork(FeedbackNetwork):
    """A multi-layer perceptron with feedback from each layer to the one below.

    Parameters
    ----------
    sizes : numbers of units of the input, of each hidden layer and of the output; at least three.
    activation : a name of `ACTIVATIONS`.
    feedback : "tied" for `B = W`; "independent" for separate feedback weights, trained by their own gradient.
    angle : initial angle between `B` and `W` in degrees, 0 to 180, where they are independent.
    loss : "squared" makes the output a layer of relaxing units with `L = ½‖r − y‖²`. "cross-entropy" and "comp-sum"
        make it a softmax readout outside the dynamics (see `relaxon.neuromorphic.losses`).
    tau : τ of the comp-sum loss; 1 for the other losses.
    gain, input_gain : spread of the initial weights, `N(0, gain²/fan-in)`; `input_gain` is that of the first layer.
    seed, dtype : seed of the initial weights, which are drawn in float64 and rounded to the dtype.

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
            raise ValueError(f"sizes must have entries for input, hidden layers and output, got {tuple(sizes)}")
        check_choices(feedback, angle, loss, dtype)
        self.activation = find_activation(activation)
        self.declared_holomorphic = self.activation.holomorphic
        self.symmetric = feedback == "tied"
        self.feedback, self.loss_name, self.angle = feedback, loss, float(angle)
        self.tau = check_loss(loss, tau)
        validation.non_negative_float("gain", gain)
        validation.positive_float("input_gain", input_gain)
        self.classes = self.sizes[-1]
        relaxing = self.sizes[1:] if loss == "squared" else self.sizes[1:-1]
        self.layers = list(relaxing)
        self.input_shape, self.read_units = self.sizes[:1], relaxing[-1]
        self.units = sum(relaxing)
        generator = torch.Generator().manual_seed(seed)
        gains = [input_gain, *[gain] * (len(self.sizes) - 2)]
        shapes = zip(self.sizes[1:], self.sizes[:-1], gains, strict=True)
        drawn = [
            torch.randn(rows, columns, generator=generator, dtype=torch.float64) * scale / math.sqrt(columns)
            for rows, columns, scale in shapes
        ]
        self.weights = nn.ParameterList([nn.Parameter(weight.to(dtype)) for weight in drawn])
        # A sigmoid is steepest at ½: hidden units start there.
        middle = 0.5 if activation == "sigmoid" else 0.0
        starts = [middle] * (len(drawn) - 1) + [0.0]
        self.biases = nn.ParameterList(
            [nn.Parameter(torch.full((len(weight),), b, dtype=dtype)) for weight, b in zip(drawn, starts, strict=True)]
        )
        self.draw_feedback(drawn[1 : len(relaxing)], angle, generator, dtype)
        self.bind_parameters()

    def bind_parameters(self) -> None:
        # Plain lists beside the registered ones: slicing a ParameterList would register its parameters again at each
        # step.
        self._forward_weights = list(self.weights)[1 : len(self.layers)]
        self._feedback_weights = self._forward_weights if self.feedback == "tied" else list(self.backward_weights)
        self._inner_biases = list(self.biases)[1 : len(self.layers)]
        self._readout = (self.weights[-1], self.biases[-1])
        self._named = list(self.named_parameters())

    def readout_parameters(self) -> tuple[Tensor, Tensor]:
        return self._readout

    def config(self) -> dict[str, Any]:
        """Return the arguments that build a network of this form, as JSON values."""
        return {
            "sizes": list(self.sizes),
            "activation": self.activation.name,
            "feedback": self.feedback,
            "angle": self.angle,
            "loss": self.loss_name,
            **({} if self.tau is None else {"tau": self.tau}),
        }

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
            # The weights are read backwards, as in `adjoint_pull`.
            up, down = down, up
            drives = list(torch.split(self._adjoint_constant(anchor, drive), self.layers, -1))

        return ChainField(
            whole, self.activation, self.layers, up, down, drives, self._push(target.detach(), beta.detach())
        )

    def _push(self, encoded: Tensor, amplitude: Tensor) -> Push:
        """Return the push of the last layer by a nudge of `amplitude` towards the encoded target."""
        readout, bias = (parameter.detach() for parameter in self._readout)
        squared, tau = self.loss_name == "squared", self.tau
        arrays: tuple[Any, ...] | None = None
        if not squared and tau is None and encoded.device.type == "cpu":
            wide = amplitude.reshape(-1).numpy()
            betas = np.empty((len(encoded), 2), wide.real.dtype)
            betas[:, 0], betas[:, 1] = wide.real, wide.imag
            arrays = (bias.numpy(), encoded.numpy(), betas)

        def push(rates: Tensor, planes: bool, factor: float, total: Tensor) -> None:
            z = rates if squared else rates @ readout.T
            if arrays is not None:
                divide(softmax_errors, len(encoded), z.numpy(), *arrays, chunks=threads_for(z.numel()))
                total.addmm_(z, readout, alpha=factor)
                return
            whole = torch.complex(*z.chunk(2)) if planes else z
            error = amplitude * (whole - encoded if squared else readout_error(whole + bias, encoded, tau))
            error = torch.cat([error.real, error.imag]) if planes else error
            if squared:
                total.add_(error, alpha=factor)
            else:
                total.addmm_(error, readout, alpha=factor)

        return push

    def adjoint_pull(self, anchor: Tensor, drive: Drive) -> Callable[[Tensor], Tensor]:
        # The pull is affine, P(r) = P(a) + J(r − a), so P(r) − (J − Jᵀ)(r − a) = P(a) − Jᵀa + Jᵀr at no extra cost.
        constant = self._adjoint_constant(anchor, drive)
        return lambda r: constant + self.couple_transpose(r, anchor, drive)

    def _adjoint_constant(self, anchor: Tensor, drive: Drive) -> Tensor:
        return self.pull(anchor, drive) - self.couple_transpose(anchor, anchor, drive)

    def _chain(
        self, r: Tensor, up: Sequence[Tensor], down: Sequence[Tensor], biases: Sequence[Tensor] | None
    ) -> Tensor:
        """Return `up_n r_{n−1} + down_{n+1}ᵀ r_{n+1} (+ b_n)` for every layer."""
        if r.is_complex():
            # Real weights act on the real and the imaginary part separately: half the work of a complex product.
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

    def gradients(
        self, rates: Tensor, x: Tensor, drive: Drive, target: Tensor, adjoint: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        # In closed form: automatic differentiation would multiply the input by its weights once more.
        r, delta = torch.split(rates, self.layers, -1), torch.split(adjoint / len(x), self.layers, -1)
        found = {"weights.0": delta[0].T @ x}
        for n, part in enumerate(delta):
            found[f"biases.{n}"] = part.sum(0)
            if n:
                found[f"weights.{n}"] = part.T @ r[n - 1]
                if self.feedback == "tied":
                    found[f"weights.{n}"].addmm_(r[n].T, delta[n - 1])
                else:
                    found[f"backward_weights.{n - 1}"] = r[n].T @ delta[n - 1]
        if self.loss_name != "squared":
            logits = self.logits(rates)
            error = readout_error(logits, target, self.tau) / len(x)
            last = len(self.sizes) - 2
            found[f"weights.{last}"], found[f"biases.{last}"] = error.T @ r[-1], error.sum(0)
            loss = readout_loss(logits, target, self.tau).mean()
        else:
            loss = self.loss(rates, target).mean()
        return loss, {name: found[name] for name, parameter in self._named if parameter.requires_grad}
