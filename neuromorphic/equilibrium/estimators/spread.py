"""The gradient of a batch and the variance of its samples' gradients, for optimisers that choose the batch size."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from relaxon.neuromorphic.equilibrium.estimators.gradients import gradient
from relaxon.neuromorphic.equilibrium.estimators.nudged import Estimator
from relaxon.neuromorphic.equilibrium.estimators.result import Gradient, Verdict
from relaxon.neuromorphic.equilibrium.networks.network import Network
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases

GROUPS = 4
"""Parts of a batch whose gradients are compared: the estimate of the variance has a relative error of about √(2/3) for
one parameter, and far less when summed over many."""


def gradient_with_spread(
    network: Network,
    x: Tensor,
    target: Tensor,
    estimator: Estimator,
    phases: Phases,
    generator: torch.Generator | None = None,
) -> tuple[Gradient, float | None]:
    """Return a batch's gradient, measured in `GROUPS` parts, and an estimate of `Σ Var(g_i)` over its samples.

    For parts of `s_k` samples with mean gradients `g_k`, the estimate is `Σ s_k ‖g_k − ḡ‖² / (parts − 1)`, which is
    unbiased. It is None for a batch of one sample and where a gradient is not finite.
    """
    parts = torch.arange(len(x)).chunk(min(GROUPS, len(x)))
    found = [gradient(network, x[rows], target[rows], estimator, phases, generator) for rows in parts]
    pooled = pool_gradients(found, [len(rows) for rows in parts])
    if len(found) == 1 or pooled.verdict is Verdict.NON_FINITE:
        return pooled, None
    variance = 0.0
    for part, rows in zip(found, parts, strict=True):
        apart = sum(float((g - pooled.gradients[name]).square().sum()) for name, g in part.gradients.items())
        variance += len(rows) * apart
    return pooled, variance / (len(found) - 1)


def pool_gradients(found: list[Gradient], sizes: list[int]) -> Gradient:
    """Return the gradient of a batch from those of its parts: means, and the worst of everything else."""
    total = sum(sizes)
    shares = [size / total for size in sizes]
    names = found[0].gradients
    mean = {name: _weigh(shares, [one.gradients[name] for one in found]) for name in names}
    worst = max(found, key=lambda one: (one.verdict is Verdict.NON_FINITE, one.verdict is not Verdict.OK))
    slowest = max(found, key=lambda one: one.free.steps)
    nudged = [one.nudged for one in found if one.nudged is not None]
    return replace(
        worst,
        gradients=mean,
        loss=sum(s * g.loss for s, g in zip(shares, found, strict=True)),
        scores=torch.cat([one.scores for one in found]),
        free=slowest.free,
        nudged=max(nudged, key=lambda one: one.steps) if nudged else None,
        evaluations=sum(one.evaluations for one in found),
    )


def _weigh(shares: list[float], parts: list[Tensor]) -> Tensor:
    total = torch.zeros_like(parts[0])
    for share, part in zip(shares, parts, strict=True):
        total += share * part
    return total
