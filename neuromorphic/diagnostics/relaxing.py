"""Networks trained by equilibrium propagation as subjects: the loss of a row at its free equilibrium.

At a free equilibrium `F(u, x, θ) = 0` with the adjoint `Jᵀδ = −∂L/∂u`, the gradient of a row's loss is that of
`δᵀ P(r, x, θ) + L(r, y, θ)` for fixed r and δ, which depends explicitly on parameters and inputs.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.func import functional_call

from relaxon.neuromorphic.diagnostics.losses import LossKind
from relaxon.neuromorphic.diagnostics.subjects import Parameters, Subject, read_finite_rows
from relaxon.neuromorphic.equilibrium.classifier.estimator import EquilibriumClassifier, image_shape
from relaxon.neuromorphic.equilibrium.estimators.exact import Implicit
from relaxon.neuromorphic.equilibrium.estimators.gradients import free_phase
from relaxon.neuromorphic.equilibrium.estimators.nudged import FreePhase
from relaxon.neuromorphic.equilibrium.networks.convolutional import ConvolutionalNetwork
from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.network import Network
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import FixedStep, Outcome

STEPS = 5000
CLOSEST = {torch.float32: 1e-6, torch.float64: 1e-10}
"""Residual at which a state has converged, by dtype: close to the level of rounding."""


class _Explicit(nn.Module):
    """`δᵀ P(r, x) + L(r, y)` of rows, as a function of the parameters and x."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)

    def forward(self, x: Tensor, target: Tensor, rates: Tensor, adjoint: Tensor) -> Tensor:
        self.network.bind_parameters()
        pull = self.network.pull(rates, self.network.drive(x))
        return (pull * adjoint).sum(-1) + self.network.loss(rates, target)


class RelaxingSubject(Subject):
    """A network that relaxes; `standard` are mean and scale of the rows of `X`, and `image` is the shape of a row."""

    def __init__(
        self,
        network: Network,
        name: str,
        classes: NDArray[Any] | None = None,
        standard: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
        image: tuple[int, ...] | None = None,
    ) -> None:
        if not network.classes:
            raise ValueError("model must be a network with classes, got one whose targets are arrays")
        self.network, self.name, self.classes = network, name, classes
        self.loss: LossKind = "squared" if getattr(network, "loss_name", "") == "squared" else "cross-entropy"
        self._standard, self._image = standard, image
        self._explicit = _Explicit(network)
        self._parameters = {
            name: parameter.detach() for name, parameter in network.named_parameters() if parameter.requires_grad
        }
        if not self._parameters:
            raise ValueError("model must have parameters that require gradients, got frozen ones only")

    @property
    def classifies(self) -> bool:
        return True

    def parameters(self) -> Parameters:
        return self._parameters

    def rows(self, X: ArrayLike) -> Tensor:
        x = read_finite_rows(X, torch.float64)
        if self._standard is not None:
            mean, scale = (torch.from_numpy(part) for part in self._standard)
            if x.shape[1:] != mean.shape:
                raise ValueError(f"X must be (rows, {len(mean)}) as in the fit, got shape {tuple(x.shape)}")
            x = (x - mean) / scale
        x = x.to(self.network.dtype).to(self.network.device)
        if self._image is not None and x.ndim == 2:
            x = x.reshape(len(x), *self._image)
        try:
            return self.network.validate_input(x)
        except ValueError as error:
            raise ValueError(
                f"X must have rows that the network accepts, got shape {tuple(x.shape)}: {error}"
            ) from None

    def outputs(self, x: Tensor) -> Tensor:
        free = self._free(x, None)
        with torch.no_grad():
            return self.network.scores(free.rates)

    def constants(self, x: Tensor, target: Tensor) -> tuple[Tensor, ...]:
        free = self._free(x, target)
        with torch.no_grad():
            return free.rates, Implicit().read(free).adjoint

    def row_loss(self, parameters: Parameters, x: Tensor, target: Tensor, *constants: Tensor) -> Tensor:
        named = {f"network.{name}": value for name, value in parameters.items()}
        rates, adjoint = constants
        value: Tensor = functional_call(self._explicit, named, (x[None], target[None], rates[None], adjoint[None]))[0]
        return value

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(f"layer {number + 1}" for number in range(len(self._sizes())))

    def activations(self, x: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        parts = torch.split(self._free(x, None).rates, self._sizes(), -1)
        found = dict(zip(self.layers, parts, strict=True))
        return {name: found[name] for name in layers}

    def _sizes(self) -> list[int]:
        if isinstance(self.network, LayeredNetwork):
            return list(self.network.layers)
        return list(self.network.sizes) if isinstance(self.network, ConvolutionalNetwork) else [self.network.units]

    def _free(self, x: Tensor, target: Tensor | None) -> FreePhase:
        phases = Phases(FixedStep(STEPS, tolerance=CLOSEST[self.network.dtype]))
        if target is None:
            target = torch.zeros(len(x), self.network.classes, dtype=x.dtype, device=x.device)
        with torch.no_grad():
            free = free_phase(self.network, x, target, phases)
        relaxed = free.relaxation
        if relaxed.outcome is not Outcome.CONVERGED:
            warnings.warn(
                f"the free phase did not come to rest: residual {relaxed.residual:.1e} after {relaxed.steps} steps",
                ConvergenceWarning,
                stacklevel=2,
            )
        return free


def find_relaxing_subject(model: Any) -> RelaxingSubject | None:
    """Return the subject of a network that relaxes, or of its fitted classifier; None for any other model."""
    if isinstance(model, EquilibriumClassifier):
        check_is_fitted(model)
        image = None if model.channels is None else image_shape(model, len(model.mean_))
        return RelaxingSubject(model.network_, type(model).__name__, model.classes_, (model.mean_, model.scale_), image)
    if isinstance(model, Network):
        shape: tuple[int, ...] | None = tuple(model.image) if isinstance(model, ConvolutionalNetwork) else None
        return RelaxingSubject(model, type(model).__name__, image=shape)
    return None
