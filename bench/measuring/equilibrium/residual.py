"""The residual part of `bench/equilibrium.py`: skip connections and clipped rates, at sizes that a processor takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from relaxon.neuromorphic.equilibrium import (
    Anderson,
    Phases,
    ResidualNetwork,
    hopfield_resnet13,
    hopfield_resnet13_settings,
    train,
)
from relaxon.neuromorphic.equilibrium.datasets import Dataset

WIDTH = 1 / 16
"""Of Hopfield-ResNet13: 8, 16, 32 and 32 channels."""
PHASES = Phases(Anderson(120, tolerance=1e-4, history=2), Anderson(50, tolerance=1e-3, history=2))


def residual_rows(data: Dataset, samples: int, epochs: int, seeds: int) -> Iterator[dict[str, Any]]:
    """Test accuracy, and the share of batches whose gradient was `OK`: the preset, then two blocks with a bound."""
    x, y = torch.from_numpy(data.x[:samples]), torch.from_numpy(data.y[:samples])
    test = (torch.from_numpy(data.test_x) - 0.5, torch.from_numpy(data.test_y))
    published = hopfield_resnet13_settings(epochs=epochs, batch=32, shift=1, phases=PHASES)
    bounded = replace(published, contraction=0.95, readout_bound=8.0, rate=0.1)
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
        }
        for name, (network, settings) in ways.items():
            began = time.process_time()
            report = train(network, (x - 0.5, y), replace(settings, seed=seed), test=test)
            counts = [epoch.verdicts for epoch in report.epochs]
            yield {
                "network": name,
                "data": data.name,
                "samples": len(x),
                "epochs": epochs,
                "seed": seed,
                "contraction": settings.contraction,
                "test accuracy": report.epochs[-1].test_accuracy,
                "batches ok": sum(one.get("ok", 0) for one in counts) / sum(sum(one.values()) for one in counts),
                "free steps": report.epochs[-1].free_steps,
                "processor seconds": time.process_time() - began,
            }
