"""Networks and settings of published records, as far as they are public."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from relaxon.core import validation
from relaxon.neuromorphic.equilibrium.estimators.nudged import Centred
from relaxon.neuromorphic.equilibrium.networks.residual import ResidualNetwork
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Anderson
from relaxon.neuromorphic.equilibrium.training.settings import TrainingSettings

RESNET13_CHANNELS = (128, 256, 512, 512)


def hopfield_resnet13(
    image: tuple[int, int, int] = (3, 32, 32),
    classes: int = 10,
    *,
    width: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> ResidualNetwork:
    """Return the network that reached 93.92 % on CIFAR-10: four blocks, 13 weight tensors, squared loss.

    `width` multiplies the numbers of channels (128, 256, 512, 512), which are at least 1. Each layer's rates are
    clipped at 6 ("relu6"); the output is linear. Initial weights are uniform with the published gains: 0.6, for skips
    0.7, for the head 0.8. Initial biases are 0, where the published ones are uniform within half of those gains.

    Source: E P and Srinivasan 2025, and their published program.

    >>> from relaxon.neuromorphic.equilibrium import hopfield_resnet13
    >>> network = hopfield_resnet13((1, 8, 8), width=1 / 32)
    >>> network.channels, len(network.weights) + 1
    ((4, 8, 16, 16), 13)
    """
    validation.positive_float("width", width)
    channels = [max(1, round(width * count)) for count in RESNET13_CHANNELS]
    return ResidualNetwork(image, channels, classes, gain=0.6, seed=seed, dtype=dtype)


def hopfield_resnet13_settings(**changes: Any) -> TrainingSettings:
    """Return the record's training settings; `changes` replace fields of them, as in `dataclasses.replace`.

    Two nudges of 0.1; 120 free and 50 nudged steps; stochastic gradient descent with a rate of 0.03, decaying along a
    cosine, Nesterov's momentum of 0.9 and weight decay 2.5e-4; batches of 128 images shifted by up to 4 pixels; 300
    epochs. Three details differ from the publication: all layers are relaxed at once with Anderson's mixing and early
    stopping, instead of every second layer in turn; the cosine ends at 0 instead of 2e-6; images are not mirrored.

    >>> from relaxon.neuromorphic.equilibrium import hopfield_resnet13_settings
    >>> hopfield_resnet13_settings(epochs=2).weight_decay
    0.00025
    """
    return replace(
        TrainingSettings(
            epochs=300,
            batch=128,
            rate=0.03,
            momentum=0.9,
            nesterov=True,
            weight_decay=2.5e-4,
            schedule="cosine",
            estimator=Centred(0.1),
            phases=Phases(Anderson(120, history=2), Anderson(50, tolerance=1e-3, history=2)),
            shift=4,
            probe=False,
        ),
        **changes,
    )
