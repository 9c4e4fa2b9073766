"""The tilt of a density: trained against its noise with rows held out, and judged by those rows in the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relaxon.neuromorphic.energy.energies.families import TiltedEnergy
from relaxon.neuromorphic.energy.estimators.verdict import FEWEST_ROWS
from relaxon.neuromorphic.energy.noise.choice import fit_noise
from relaxon.neuromorphic.energy.noise.fitted import KernelDensityNoise
from relaxon.neuromorphic.energy.noise.rank import explain_generalisation_gap, explain_rank_deficiency
from relaxon.neuromorphic.energy.objectives.noise_contrastive import Objective
from relaxon.neuromorphic.energy.training.held_out import HoldOutJudge, ensure_variation
from relaxon.neuromorphic.energy.training.loop import Ended, TrainingResult, Watcher, train
from relaxon.neuromorphic.energy.training.settings import TrainingSettings

JUDGING_DRAWS = 4096
"""Of the noise, for log Z at the looks at rows held out."""
REFERENCE_ROWS = 2000
LARGEST_GAP = 0.5
"""Nats for each feature by which training rows may be likelier than rows held out."""
LARGEST_KERNEL_GAP = 1.0
"""The same for kernels, where a training row has its own."""
JUDGED_PARTS = 3
"""One in so many rows is set aside to judge the noise by, where too few are there to hold any out."""


def train_tilt(
    energy: TiltedEnergy,
    rest: Tensor,
    held: Tensor,
    objective: Objective,
    settings: TrainingSettings,
    patience: int,
    watcher: Watcher | None,
    fit: dict[str, Any],
) -> tuple[TrainingResult, NDArray[np.float64]]:
    """Train on `rest (n, d)` until `held` gains nothing more, and leave the energy at the weights that are best for it.

    In single precision where the noise is a module. Returns how the run went and the mean log-likelihood of the rows
    held out at each look. `fit` is what a checkpoint must agree with, in JSON values.
    """
    noise, device = energy.base, settings.device
    draws = noise.sample(JUDGING_DRAWS, torch.Generator().manual_seed(settings.seed))
    single = torch.float32 if isinstance(noise, torch.nn.Module) else draws.dtype
    energy.to(device, single)
    judge = HoldOutJudge(energy, draws.to(device, single), held.to(device, single), patience, settings.steps, fit)
    judge.look_now()
    result = train(energy, rest.to(single), noise, objective, settings, watcher=watcher, judge=judge)
    if result.ended is Ended.FINISHED:
        judge.look_now()
    energy.load_state_dict(judge.best, strict=False)
    return result, judge.found


@torch.no_grad()
def explain_overfitting(energy: TiltedEnergy, log_z: float, rest: Tensor, held: Tensor) -> str:
    """Return why rows held out speak against the density; empty where they do not."""
    found = [-energy(part).double().cpu().numpy() - log_z for part in (rest[:REFERENCE_ROWS], held)]
    return explain_generalisation_gap(found[0], found[1], rest.shape[1], _largest_allowed_gap(energy.base))


@torch.no_grad()
def explain_poor_fit(name: str, noise: Any, rest: Tensor, seed: int, device: str) -> str:
    """Return why the noise of that name, fitted to a part of the rows, does not hold for the others; or nothing."""
    if len(rest) < FEWEST_ROWS:
        return ""
    cut = len(rest) // JUDGED_PARTS
    order = ensure_variation(rest, torch.arange(len(rest)), cut)
    aside, part = rest[order[:cut]], rest[order[cut:]]
    largest = _largest_allowed_gap(noise)
    if largest != LARGEST_KERNEL_GAP and explain_rank_deficiency(part.numpy()):
        return f"{len(rest)} rows are too few to judge a density of {rest.shape[1]} features by"
    fitted = fit_noise(name, part, aside[:0], seed).to(device).double()
    found = [fitted.log_prob(rows.to(device)).cpu().numpy() for rows in (part, aside)]
    return explain_generalisation_gap(found[0], found[1], rest.shape[1], largest)


def _largest_allowed_gap(noise: Any) -> float:
    kernels = isinstance(getattr(noise, "inner", noise), KernelDensityNoise)
    return LARGEST_KERNEL_GAP if kernels else LARGEST_GAP
