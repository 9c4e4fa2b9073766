"""The digits network that the accuracy numbers are stated for, and phases that relax to rounding."""

import torch

from relaxon.neuromorphic.equilibrium import FixedStep, LayeredNetwork, Phases

EXACT = Phases(FixedStep(steps=3000, tolerance=1e-14))


def network(**options):
    options.setdefault("dtype", torch.float64)
    return LayeredNetwork((64, 64, 32, 10), **options)


def asymmetric(angle=90.0, **options):
    return network(feedback="independent", angle=angle, **options)
