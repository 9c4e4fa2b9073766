"""The tilt of a density: its training against the noise, controlled and finally judged by hold-out rows."""

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
from relaxon.neuromorphic.energy.noise.flow import FEWEST_ROWS as FEWEST_FLOW_ROWS
from relaxon.neuromorphic.energy.noise.rank import explain_generalisation_gap, explain_rank_deficiency
from relaxon.neuromorphic.energy.objectives.noise_contrastive import Objective
from relaxon.neuromorphic.energy.training.held_out import HoldOutJudge, ensure_variation
from relaxon.neuromorphic.energy.training.loop import Ended, TrainingResult, Watcher, train
from relaxon.neuromorphic.energy.training.settings import TrainingSettings

JUDGING_DRAWS = 4096
"""Number of noise samples for log Z in the evaluations on hold-out rows."""
REFERENCE_ROWS = 2000
"""Maximum number of rows that serve as the reference of a log Z estimate or of a verdict."""
LARGEST_GAP = 0.5
"""Nats per feature by which training rows may be more likely than hold-out rows."""
LARGEST_KERNEL_GAP = 1.0
"""The same for kernel densities, in which every training row has its own kernel."""
JUDGED_PARTS = 3
"""One row in so many is set aside to judge the noise by, if there are too few rows for a hold-out set."""


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
    """Train on `rest (n, d)` until `held` no longer gains, and leave the energy at the best weights for `held`.

    Training is in single precision if the noise is a module. Returns the result of the run and the mean log-likelihood
    of the hold-out rows at each evaluation. `fit` contains JSON values that a checkpoint must match.
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
    """Return why the hold-out rows contradict the density, or an empty string if they do not."""
    found = [-energy(part).double().cpu().numpy() - log_z for part in (rest[:REFERENCE_ROWS], held)]
    return explain_generalisation_gap(found[0], found[1], rest.shape[1], _allow_gap(energy.base))


@torch.no_grad()
def explain_poor_fit(name: str, noise: Any, rest: Tensor, seed: int, device: str) -> str:
    """Return why the named noise, fitted to a part of the rows, does not fit the others, or an empty string."""
    if len(rest) < FEWEST_ROWS:
        return ""
    cut = len(rest) // JUDGED_PARTS
    order = ensure_variation(rest, torch.arange(len(rest)), cut)
    aside, part = rest[order[:cut]], rest[order[cut:]]
    largest = _allow_gap(noise)
    lacking = name == "flow" and len(part) < FEWEST_FLOW_ROWS
    if lacking or (largest != LARGEST_KERNEL_GAP and explain_rank_deficiency(part.numpy())):
        return f"{len(rest)} rows are too few to judge a density of {rest.shape[1]} features by"
    fitted = fit_noise(name, part, aside[:0], seed).to(device).double()
    found = [fitted.log_prob(rows.to(device)).cpu().numpy() for rows in (part, aside)]
    return explain_generalisation_gap(found[0], found[1], rest.shape[1], largest)


def _allow_gap(noise: Any) -> float:
    kernels = isinstance(getattr(noise, "inner", noise), KernelDensityNoise)
    return LARGEST_KERNEL_GAP if kernels else LARGEST_GAP
