"""Score matching, which fits the gradient of the log-density, so that log Z cancels (Hyvärinen 2005).

The trace of the Hessian is exact or estimated along random slices (Song et al. 2019). Denoising score matching
(Vincent 2011) needs no second derivative and fits the density of the data blurred by `sigma`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.neuromorphic.energy.energies.derivatives import has_hand_gradient
from relaxon.neuromorphic.energy.energies.jets import gradient_and_laplacian
from relaxon.neuromorphic.energy.noise.distributions import standard_normal
from relaxon.neuromorphic.energy.objectives.noise_contrastive import Objective, ObjectiveState, StepReading

Form = Literal["exact", "sliced", "denoising"]


@dataclass(frozen=True)
class ScoreMatching(Objective):
    """`E[½‖s‖² + tr ∂s/∂x]` with `s = −∂E/∂x`; `form="denoising"` uses `½‖s(x + σε) + ε/σ‖²` instead.

    `slices` is the number of random directions of a sliced trace, and `sigma` is in the units of the data.
    """

    form: Form = "exact"
    slices: int = 1
    sigma: float = 0.1
    name: ClassVar[str] = "score-matching"
    needs_noise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise ValueError(f"form must be one of {', '.join(map(repr, get_args(Form)))}, got {self.form!r}")
        validation.positive_int("slices", self.slices)
        validation.positive_float("sigma", self.sigma)

    def begin(self, energy: nn.Module, noise: Any, data: Tensor, noise_batch: int, seed: int) -> ObjectiveState:
        return _Score(energy, noise, self)


class _Score(ObjectiveState):
    def read(self, x: Tensor, generator: torch.Generator) -> StepReading:
        settings = self.settings
        if settings.form == "denoising":
            epsilon = standard_normal(tuple(x.shape), generator, x)
            score = self._score((x + settings.sigma * epsilon).requires_grad_(True)).flatten(1)
            loss = 0.5 * (score + epsilon.flatten(1) / settings.sigma).square().sum(1).mean()
            return StepReading(loss, value=float(loss.detach()))
        if settings.form == "exact" and has_hand_gradient(self.energy):
            slope, curve = gradient_and_laplacian(self.energy, x.detach())
            loss = (0.5 * slope.square().sum(0) - curve).mean()
            return StepReading(loss, value=float(loss.detach()))
        x = x.detach().requires_grad_(True)
        score = self._score(x)
        trace = torch.zeros_like(x.flatten(1)[:, 0])
        if settings.form == "exact":
            flat = score.flatten(1)
            for axis in range(flat.shape[1]):
                slope = torch.autograd.grad(flat[:, axis].sum(), x, create_graph=True)[0]
                trace = trace + slope.flatten(1)[:, axis]
        else:
            for _ in range(settings.slices):
                # Random signs have the smallest variance among the directions with E[vvᵀ] = 1.
                v = torch.sign(standard_normal(tuple(x.shape), generator, x))
                slope = torch.autograd.grad((score * v).sum(), x, create_graph=True)[0]
                trace = trace + (slope * v).flatten(1).sum(1) / settings.slices
        loss = (0.5 * score.flatten(1).square().sum(1) + trace).mean()
        return StepReading(loss, value=float(loss.detach()))

    def _score(self, x: Tensor) -> Tensor:
        return -torch.autograd.grad(self.energy(x).sum(), x, create_graph=True)[0]
