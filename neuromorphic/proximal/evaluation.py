"""Evaluation of a learned proximal operator on held-out samples, for the training command's report.

Imported on first use, for its weight: torch.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.proximal.classical import soft_threshold

if TYPE_CHECKING:
    import torch

    from relaxon.neuromorphic.proximal.model import ProximalModel
    from relaxon.neuromorphic.proximal.training.recipes import Recipe

Array = NDArray[np.float64]
PROBED = 2
"""Held-out samples at which the Jacobian is examined."""
LARGEST_JACOBIAN = 512
"""Entries of a signal above which no Jacobian is computed."""


def evaluate_model(model: ProximalModel, recipe: Recipe) -> dict[str, Any]:
    """Return the results of a report as JSON values: errors, asymmetry of the Jacobian, residual of the prior."""
    assert model.training is not None
    noise = np.random.default_rng(1).standard_normal(recipe.test.shape)
    noisy = recipe.test + model.noise * noise
    clean = model.denoise(noisy)
    report: dict[str, Any] = {
        "data": recipe.name,
        "samples": len(recipe.train),
        "shape": list(model.shape),
        "noise": model.noise,
        "parameters": sum(parameter.numel() for parameter in model.potential.parameters()),
        "training": model.training.ended.value,
        "steps": model.training.steps,
        "seconds": model.training.seconds,
        "root_mean_square_error_noisy": float(np.sqrt(((noisy - recipe.test) ** 2).mean())),
        "root_mean_square_error_denoised": float(np.sqrt(((clean - recipe.test) ** 2).mean())),
    }
    if recipe.polish is not None:
        report["polish_gammas"] = list(recipe.polish.gammas)
    if math.prod(model.shape) <= LARGEST_JACOBIAN:
        report["jacobian_asymmetry"] = max(measure_asymmetry(model, one) for one in noisy[:PROBED])
    evaluation = model.prior(recipe.test[:PROBED])
    report["prior_inversion_residual"] = float(evaluation.preimage.residuals.max())
    if recipe.name == "laplace":
        report["largest_error_against_soft_thresholding"] = soft_threshold_error(model)
    return report


def measure_asymmetry(model: ProximalModel, y: Array) -> float:
    """Return `‖J − Jᵀ‖_F / ‖J‖_F` of f's Jacobian at one signal, by automatic differentiation."""
    import torch

    def proximal(row: torch.Tensor) -> torch.Tensor:
        return model.potential.proximal(row.reshape(1, *model.shape), differentiable=True).ravel()

    flat = torch.from_numpy(np.array(y, np.float64)).ravel()
    jacobian = torch.autograd.functional.jacobian(proximal, flat)  # type: ignore[no-untyped-call]
    return float((jacobian - jacobian.T).norm() / jacobian.norm())


def soft_threshold_error(model: ProximalModel, reach: float = 3.0, points: int = 601) -> float:
    """Return the largest `|f(y) − soft_{noise²}(y)|` over `[−reach, reach]`, the error for `p(x) = ½ e^{−|x|}`."""
    y = np.linspace(-reach, reach, points)
    return float(np.abs(model.denoise(y[:, None])[:, 0] - soft_threshold(y, model.noise**2)).max())
