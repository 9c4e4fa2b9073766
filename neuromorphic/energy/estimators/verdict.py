"""The verdict on whether the log-densities of a fitted density are reliable."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relaxon.neuromorphic.energy.partition.log_partition import LogPartition
from relaxon.neuromorphic.energy.training.loop import Ended, TrainingResult

LEAST_UNIQUE = 0.5
"""Share of distinct rows below which the data have atoms, so that there is no density."""
FEWEST_ROWS = 20
"""Number of rows below which a density is hardly supported by data."""


@dataclass(frozen=True, slots=True)
class DensityVerdict:
    """Whether the log-densities are reliable, and if not, why."""

    trusted: bool
    reason: str = ""


def judge_density(z: Tensor, partition: LogPartition, training: TrainingResult | None, against: str) -> DensityVerdict:
    """Return the verdict on a density of the rows `z`, `(n, d)`.

    `against` is the objection of the hold-out rows, or an empty string.
    """
    reasons = [against] if against else []
    if not partition.trusted:
        reasons.append(partition.reason)
    if training is not None and training.ended in (Ended.NON_FINITE, Ended.DIVERGED):
        reasons.append(f"training ended early: {training.reason}")
    share = len(torch.unique(z, dim=0)) / len(z)
    if share < LEAST_UNIQUE:
        reasons.append(f"only {share:.0%} of the rows are distinct: the data have atoms, which have no density")
    if len(z) < FEWEST_ROWS:
        reasons.append(f"{len(z)} rows are too few for a density (at least {FEWEST_ROWS} are needed)")
    return DensityVerdict(not reasons, "; ".join(reasons))
