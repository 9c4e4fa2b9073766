"""Polishing of a trained proximal operator: proximal matching on a fixed set of noisy signals, by L-BFGS-B.

`Σ_i w_i(y) ℓ(x_i, f(y))` is a separate loss for each noisy signal y: the best value f(y) does not depend on how often y
is drawn. So the signals y may be spaced evenly, as dense in the tails as in the middle, where drawn signals are rare in
the tails and leave f inaccurate there. On a fixed set the loss has no noise, and a quasi-Newton method makes progress
where Adam stagnates at small γ. Weights that must be ≥ 0 are bounds of that method, SciPy's L-BFGS-B (Byrd, Lu,
Nocedal, Zhu 1995).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.proximal.model import ProximalModel
from relaxon.neuromorphic.proximal.potentials import Potential, build_potential
from relaxon.neuromorphic.proximal.training.matching import LARGEST_PAIRS, check_gammas, matching_loss

Array = NDArray[np.float64]
OUTER_SHARE = 0.01
"""Fraction of the samples on each side, entry by entry, outside the box of noisy signals before it is widened."""
MEMORY = 30
"""Number of correction pairs of L-BFGS-B."""
FLAT = 1e-12
"""Relative decrease of the loss in one step below which a stage ends."""
STEEPNESS = 1e-9
"""Largest entry of the projected gradient below which a stage ends."""


@dataclass(frozen=True, slots=True)
class PolishSettings:
    """Settings of polishing; the same settings on the same machine give the same weights.

    Parameters
    ----------
    gammas : decreasing widths of the matching loss, one for each stage, in the units of `MatchingSettings.gammas`.
    iterations : maximum number of L-BFGS-B iterations in each stage.
    points : number of noisy signals at which f is fitted, for signals of few entries. They are evenly spread over the
        box of the middle 98 % of the samples, entry by entry, widened by the noise's standard deviation on each side:
        a regular line for one entry, Sobol points for more.

    Raises `TypeError` or `ValueError` naming the argument.
    """

    gammas: tuple[float, ...] = (0.1, 0.05, 0.03)
    iterations: int = 150
    points: int = 160

    def __post_init__(self) -> None:
        object.__setattr__(self, "gammas", check_gammas(self.gammas))
        if not self.gammas:
            raise ValueError("gammas must have at least one entry, got none")
        validation.positive_int("iterations", self.iterations)
        validation.positive_int("points", self.points)


@dataclass(frozen=True, slots=True)
class PolishProgress:
    """The argument of a watcher after each iteration."""

    iteration: int
    """Number of the iteration in all stages together, from 1."""
    iterations: int
    """Maximum number of iterations in all stages together."""
    stage: int
    """1, 2, … for each of `gammas`."""
    loss: float
    """Mean of the stage's matching loss over the noisy signals."""


PolishWatcher = Callable[[PolishProgress], object]
"""A function called after each iteration; returning True ends polishing with the current weights."""


def polish_proximal(
    model: ProximalModel, data: ArrayLike, settings: PolishSettings, *, watcher: PolishWatcher | None = None
) -> ProximalModel:
    """Refine a trained model on samples of its prior, and return a new model; `model` is not changed.

    f(y) is compared with all samples, weighted by their probability given y (as with
    `MatchingSettings(pairing="posterior")`), at fixed, evenly spread noisy signals y. The computation is in double
    precision; the final weights are rounded to float32, in which models are stored.

    Parameters
    ----------
    model : a trained model; f should already be close, since the loss is flat far from its minimum.
    data : samples `(n, *model.shape)`, finite.
    settings : how the model is polished.
    watcher : called after each iteration; returning True ends the run.

    Raises `TypeError` or `ValueError` naming the argument, before any work.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.proximal import (
    ...     MatchingSettings, NetworkSettings, PolishSettings, polish_proximal, train_proximal
    ... )
    >>> data = np.random.default_rng(0).laplace(size=(200, 1))
    >>> settings = MatchingSettings(noise=1.0, start_steps=20, gammas=(), pairing="posterior")
    >>> model = train_proximal(data, NetworkSettings((1,), hidden=(8,)), settings)
    >>> polish_proximal(model, data, PolishSettings(gammas=(0.5,), iterations=5)).shape
    (1,)
    """
    if not isinstance(model, ProximalModel):
        raise TypeError(f"model must be a ProximalModel, got {type(model).__name__}")
    if not isinstance(settings, PolishSettings):
        raise TypeError(f"settings must be PolishSettings, got {type(settings).__name__}")
    if watcher is not None and not callable(watcher):
        raise TypeError(f"watcher must be callable, got {type(watcher).__name__}")
    array = validation.real_array("data", data)
    if array.shape[1:] != model.shape or not len(array):
        shape = ", ".join(map(str, model.shape))
        raise ValueError(f"data must have shape (n, {shape}) with n ≥ 1, got {array.shape}")
    if settings.points * array.size > LARGEST_PAIRS:
        raise ValueError(
            f"settings must have few enough points that points × entries of data are at most {LARGEST_PAIRS}, got "
            f"{settings.points} × {array.size}"
        )
    potential = build_potential(model.settings).double()
    potential.load_state_dict(model.potential.state_dict())
    samples = torch.from_numpy(np.array(array, np.float64).reshape(len(array), -1))
    run = _PolishRun(potential, samples, model.noise, settings, watcher)
    run.go()
    return ProximalModel(potential.float(), model.noise, model.training, model.card)


class _PolishRun:
    def __init__(
        self,
        potential: Potential,
        samples: Tensor,
        noise: float,
        settings: PolishSettings,
        watcher: PolishWatcher | None,
    ) -> None:
        self.potential, self.samples, self.noise = potential, samples, noise
        self.settings, self.watcher = settings, watcher
        self.parameters = list(potential.parameters())
        noisy = spread_noisy_signals(samples, noise, settings.points)
        distances = (noisy[:, None] - samples[None]).square().sum(2)
        self.weights = torch.softmax(-0.5 * distances / noise**2, 1)
        self.noisy = noisy.reshape(-1, *potential.settings.shape)
        self.iteration, self.stopped = 0, False

    def go(self) -> None:
        positive = {id(weight) for weight in self.potential.positive_weights()}
        bounds = [(0.0 if id(p) in positive else None, None) for p in self.parameters for _ in range(p.numel())]
        options = {"maxiter": self.settings.iterations, "maxcor": MEMORY, "ftol": FLAT, "gtol": STEEPNESS}
        for stage, gamma in enumerate(self.settings.gammas, 1):
            start = torch.nn.utils.parameters_to_vector(self.parameters).detach().numpy()
            report = self._make_report(stage, gamma)
            found = minimize(
                self.evaluate, start, (gamma,), "L-BFGS-B", jac=True, bounds=bounds, callback=report, options=options
            )
            self._load(found.x)
            if self.stopped:
                return

    def evaluate(self, vector: Array, gamma: float) -> tuple[float, Array]:
        """Return the loss divided by γ, so that its size does not depend on γ, and its gradient in the parameters."""
        self._load(vector)
        found = self.potential.proximal(self.noisy.detach().requires_grad_(), differentiable=True)
        error = found.flatten(1)[:, None] - self.samples[None]
        each = matching_loss(error.square().mean(2), gamma * self.noise)
        loss = (self.weights * each).sum(1).mean() / gamma
        gradients = torch.autograd.grad(loss, self.parameters)
        return float(loss.detach()), torch.cat([gradient.flatten() for gradient in gradients]).numpy()

    def _make_report(self, stage: int, gamma: float) -> Callable[[Any], None]:
        """Return what passes each iteration of a stage to the watcher; raising StopIteration makes SciPy stop."""
        total = self.settings.iterations * len(self.settings.gammas)

        def report(intermediate_result: Any) -> None:  # SciPy goes by the name of the parameter
            self.iteration += 1
            progress = PolishProgress(self.iteration, total, stage, float(intermediate_result.fun) * gamma)
            if self.watcher is not None and self.watcher(progress) is True:
                self.stopped = True
                raise StopIteration

        return report

    @torch.no_grad()
    def _load(self, vector: Array) -> None:
        torch.nn.utils.vector_to_parameters(torch.from_numpy(np.array(vector)), self.parameters)


def spread_noisy_signals(samples: Tensor, noise: float, points: int) -> Tensor:
    """Return `points` signals spread evenly over the box of noisy samples, `(points, entries)`.

    The box contains the middle 98 % of the samples `(n, entries)` in each entry, widened by `noise` on each side.
    """
    array = samples.numpy()
    low = torch.from_numpy(np.quantile(array, OUTER_SHARE, axis=0)) - noise
    high = torch.from_numpy(np.quantile(array, 1 - OUTER_SHARE, axis=0)) + noise
    if len(low) == 1:
        places = ((torch.arange(points, dtype=torch.float64) + 0.5) / points)[:, None]
    else:
        places = torch.quasirandom.SobolEngine(len(low)).draw(points, dtype=torch.float64)  # type: ignore[no-untyped-call]
    return low + places * (high - low)
