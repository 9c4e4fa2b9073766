"""Whether a density's log-densities can be taken at their word."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relaxon.neuromorphic.energy.partition.log_partition import LogPartition
from relaxon.neuromorphic.energy.training.loop import Ended, TrainingResult

LEAST_UNIQUE = 0.5
"""A smaller share of different rows means atoms, of which no density tells."""
FEWEST_ROWS = 20
"""Fewer rows give a density that hardly anything speaks for."""


@dataclass(frozen=True, slots=True)
class DensityVerdict:
    """Whether the log-densities can be taken at their word, and why not."""

    trusted: bool
    reason: str = ""


def judge_density(z: Tensor, partition: LogPartition, training: TrainingResult | None, against: str) -> DensityVerdict:
    """Return the verdict on a density of the rows `z`, `(n, d)`; `against` is what rows held out say, empty if
    nothing."""
    reasons = [against] if against else []
    if not partition.trusted:
        reasons.append(partition.reason)
    if training is not None and training.ended in (Ended.NON_FINITE, Ended.DIVERGED):
        reasons.append(f"training ended early: {training.reason}")
    share = len(torch.unique(z, dim=0)) / len(z)
    if share < LEAST_UNIQUE:
        reasons.append(f"only {share:.0%} of the rows differ: the data have atoms, which have no density")
    if len(z) < FEWEST_ROWS:
        reasons.append(f"{len(z)} rows are too few for a density (at least {FEWEST_ROWS} are taken)")
    return DensityVerdict(not reasons, "; ".join(reasons))
