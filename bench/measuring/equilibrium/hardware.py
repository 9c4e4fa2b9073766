"""The hardware part of `bench/equilibrium.py`: what a device's limits cost in gradient angle, and in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from relaxon.neuromorphic.equilibrium import (
    Alternating,
    Cauchy,
    FixedStep,
    Hardware,
    LayeredNetwork,
    Phases,
    TrainingSettings,
    hardware_costs,
    train,
)
from relaxon.neuromorphic.equilibrium.datasets import Dataset

DEVICE = Hardware(
    weight_bound=1.0,
    weight_bits=6,
    weight_noise=0.02,
    rate_bound=1.0,
    rate_bits=8,
    rate_noise=0.002,
    state_noise=0.005,
    free_steps=20,
    nudged_steps=10,
)
TIGHTER = Hardware(
    weight_bound=0.5,
    weight_bits=4,
    weight_noise=0.05,
    rate_bound=1.0,
    rate_bits=6,
    rate_noise=0.01,
    state_noise=0.02,
    free_steps=8,
    nudged_steps=4,
)
ESTIMATORS = (Cauchy(1, 0.5), Cauchy(2, 0.5), Cauchy(6, 0.5))
BOUNDS = (0.9, 2.0)
"""Of the coupling and of the readout."""


def _network() -> LayeredNetwork:
    return LayeredNetwork((64, 64, 32, 10), gain=1.0, input_gain=2.0)


def _settings(epochs: int, estimator: Cauchy, hardware: Hardware | None) -> TrainingSettings:
    return TrainingSettings(
        epochs=epochs,
        batch=32,
        rate=0.1,
        schedule="cosine",
        estimator=estimator,
        phases=Phases(Alternating(100, tolerance=1e-4), Alternating(60, tolerance=1e-3)),
        contraction=BOUNDS[0],
        readout_bound=BOUNDS[1],
        hardware=hardware,
        probe=False,
    )


def cost_of_limits_rows(data: Dataset, samples: int = 50) -> Iterator[dict[str, Any]]:
    """Digits, a network trained for five epochs: the angle of each limit alone, and of all together."""
    network = _network()
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    train(network, (x, y), _settings(5, Cauchy(2, 0.5), None))
    phases = Phases(FixedStep(300, tolerance=1e-5))
    for name, device in (("wide", DEVICE), ("tight", TIGHTER)):
        for estimator in ESTIMATORS:
            report = hardware_costs(network, (x[:samples], y[:samples]), estimator, device, phases=phases)
            for row in report.rows:
                yield {
                    "device": name,
                    "estimator": report.estimator,
                    "limit": row.limit,
                    "cosine": row.cosine,
                    "angle": row.angle,
                    "error": row.relative_error,
                    "verdict": row.verdict.value,
                }


def device_training_rows(data: Dataset, epochs: int) -> Iterator[dict[str, Any]]:
    """Digits trained with the device in the loop: test accuracy, the device's own."""
    parts = [torch.from_numpy(part) for part in (data.x, data.y, data.test_x, data.test_y)]
    for name, device in (("none", None), ("wide", DEVICE), ("tight", TIGHTER)):
        for estimator in ESTIMATORS[:2]:
            report = train(
                _network(), (parts[0], parts[1]), _settings(epochs, estimator, device), test=(parts[2], parts[3])
            )
            yield {
                "device": name,
                "estimator": estimator.label,
                "epochs": epochs,
                "test_accuracy": report.epochs[-1].test_accuracy,
            }
