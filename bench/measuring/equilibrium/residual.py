"""The residual part of `bench/equilibrium.py`: skip connections and clipped rates, at sizes that a processor takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from relaxon.neuromorphic.equilibrium import (
    Anderson,
    Centred,
    Phases,
    ResidualNetwork,
    hopfield_resnet13,
    hopfield_resnet13_settings,
    train,
)
from relaxon.neuromorphic.equilibrium.datasets import Dataset

WIDTH = 1 / 16
"""Of Hopfield-ResNet13: 8, 16, 32 and 32 channels."""
TEST = 1000
"""Test images, at most: each relaxes for as long as one of the training."""
PHASES = Phases(Anderson(120, tolerance=1e-4, history=2), Anderson(50, tolerance=1e-3, history=2))


def residual_rows(
    data: Dataset, samples: int, epochs: int, seeds: int, only: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Test accuracy and share of batches whose gradient was `OK`: the preset, then two and four blocks with a bound.

    The last two have what the others lack: a large readout with a nudge to match, Adam in place of one rate for all
    layers, and images of mean 0 and deviation 1. With four blocks the rates of the last layers are of 1e-3: the readout
    is larger, the nudge smaller, in double precision, and biases stay 0, since Adam's steps would exceed those rates.
    """
    y = torch.from_numpy(data.y[:samples])
    mean, spread = float(data.x[:samples].mean()), float(data.x[:samples].std())
    published = hopfield_resnet13_settings(epochs=epochs, batch=32, shift=1, phases=PHASES)
    bounded = replace(published, contraction=0.95, readout_bound=8.0, rate=0.1)
    # The tolerances are multiplied by the nudge: below 1e-5, single precision is no more exact.
    settling = replace(
        bounded,
        batch=64,
        rate=0.015,
        optimiser="adam",
        nesterov=False,
        weight_decay=0.0,
        estimator=Centred(0.002),
        phases=Phases(Anderson(200, tolerance=5e-3, history=2), Anderson(80, tolerance=1e-2, history=2)),
        readout_bound=32.0,
        shift=0,
    )
    deep = replace(
        settling,
        rate=0.004,
        estimator=Centred(1e-5),
        phases=Phases(Anderson(200, tolerance=1e-3, history=2), Anderson(80, tolerance=1e-4, history=2)),
        readout_bound=512.0,
    )
    for seed in range(seeds):
        ways = {
            "Hopfield-ResNet13, width 1/16": (
                hopfield_resnet13(data.image, data.classes, width=WIDTH, seed=seed),
                published,
            ),
            "two blocks, relu6, softmax": (
                ResidualNetwork(data.image, (16, 32), data.classes, loss="cross-entropy", seed=seed),
                bounded,
            ),
            "two blocks, hard-sigmoid, softmax": (
                ResidualNetwork(
                    data.image, (16, 32), data.classes, activation="hard-sigmoid", loss="cross-entropy", seed=seed
                ),
                bounded,
            ),
            "two blocks, relu6, large readout, Adam": (
                ResidualNetwork(data.image, (16, 32), data.classes, loss="cross-entropy", gain=1.5, seed=seed),
                settling,
            ),
            "four blocks, relu6, large readout, Adam": (_build_deep(data, seed), deep),
        }
        for name, (network, settings) in ways.items():
            if only and not any(part in name for part in only):
                continue
            began = time.process_time()
            middle, scale = (mean, spread) if settings.optimiser == "adam" else (0.5, 1.0)
            x, test_x = (
                ((torch.from_numpy(images) - middle) / scale).to(network.dtype)
                for images in (data.x[:samples], data.test_x[:TEST])
            )
            test = (test_x, torch.from_numpy(data.test_y[:TEST]))
            report = train(network, (x, y), replace(settings, seed=seed), test=test)
            counts = [epoch.verdicts for epoch in report.epochs]
            yield {
                "network": name,
                "data": data.name,
                "samples": len(y),
                "epochs": epochs,
                "seed": seed,
                "contraction": settings.contraction,
                "test accuracy": report.epochs[-1].test_accuracy,
                "batches ok": sum(one.get("ok", 0) for one in counts) / sum(sum(one.values()) for one in counts),
                "free steps": report.epochs[-1].free_steps,
                "processor seconds": time.process_time() - began,
            }


def _build_deep(data: Dataset, seed: int) -> ResidualNetwork:
    """The layers of Hopfield-ResNet13 at an eighth of its width, without biases, with a readout to match the bound."""
    network = ResidualNetwork(
        data.image, (16, 32, 64, 64), data.classes, loss="cross-entropy", gain=12.0, seed=seed, dtype=torch.float64
    )
    for bias in network.biases:
        bias.requires_grad_(False)
    with torch.no_grad():
        network.readout.mul_(40.0)
    return network
