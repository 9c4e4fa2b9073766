"""Settings of published records, as far as they are public."""

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
    """Return the network of the 93.92 % on CIFAR-10: four blocks, 13 weight tensors, rates clipped at 6, squared loss.

    `width` multiplies the channels (128, 256, 512, 512), which become at least 1. Each layer's rates are clipped at 6
    ("relu6"); the output is linear. First weights are uniform with the published gains: 0.6, of skips 0.7, of the head
    0.8. First biases are 0 here, uniform within half of that there.

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
    """Return the record's training settings; `changes` replace fields of them, as `dataclasses.replace` does.

    Two nudges of 0.1, 120 free and 50 nudged steps, stochastic gradient descent at 0.03 with Nesterov's momentum of 0.9
    and weight decay 2.5e-4, falling along a cosine, batches of 128 images shifted by up to 4 pixels, 300 epochs. Three
    things differ: there every second layer is relaxed in turn, here all at once with Anderson's mixing, until they are
    at rest if that is sooner; the cosine ends at 0, there at 2e-6; and images are not mirrored.

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
