"""Random generators of torch for the uses and steps of a training run, each separate from the others."""

from __future__ import annotations

import numpy as np
import torch


def make_generator(seed: int, stream: int, index: int) -> torch.Generator:
    """Return a separate generator for each use (`stream`) and step (`index`) of a run."""
    # The numbers are hashed first, because torch's generator uses only the last 32 bits of a seed.
    mixed = np.random.SeedSequence((seed, stream, index)).generate_state(1)
    return torch.Generator().manual_seed(int(mixed[0]))
