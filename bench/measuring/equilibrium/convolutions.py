"""The convolutional part of `bench/equilibrium.py`: which bounds let two layers come to rest, and what they learn."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from relaxon.neuromorphic.equilibrium import (
    Anderson,
    Cauchy,
    ConvolutionalNetwork,
    EquilibriumClassifier,
    Phases,
    TrainingSettings,
    predict,
    train,
)

BOUNDS: tuple[tuple[float | None, float | None], ...] = ((None, None), (0.9, 4.0), (3.0, 4.0), (3.0, 8.0))
"""Of the coupling and of the readout."""
RADIUS = 0.03


def augmented_rows(epochs: int, seeds: int, channels: tuple[int, ...] = (32, 64)) -> Iterator[dict[str, Any]]:
    """The same with larger bounds and shifted images, in single precision, with Anderson's mixing and two nudges."""
    x, y = load_digits(return_X_y=True)
    for seed in range(seeds):
        parts = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=y)
        mean, deviation = parts[0].mean(), parts[0].std()
        images, test = (
            torch.tensor((part - mean) / deviation, dtype=torch.float32).view(-1, 1, 8, 8) for part in parts[:2]
        )
        network = ConvolutionalNetwork((1, 8, 8), channels, 10, gain=1.0, input_gain=4.0, draw="orthogonal", seed=seed)
        began = time.process_time()
        report = train(
            network,
            (images, torch.from_numpy(parts[2])),
            TrainingSettings(
                epochs=epochs,
                batch=64,
                rate=0.025,
                optimiser="adam",
                schedule="cosine",
                estimator=Cauchy(2, 0.008),
                phases=Phases(
                    Anderson(200, 0.7, tolerance=3e-4, history=2), Anderson(100, 0.7, tolerance=1e-3, history=2)
                ),
                contraction=6.0,
                readout_bound=16.0,
                shift=1,
                seed=seed,
                probe=False,
            ),
            watcher=lambda step: (
                None
                if step.metrics is None
                else print(f"epoch {step.metrics.epoch + 1}: loss {step.metrics.loss:.3f}", file=sys.stderr, flush=True)
            ),
        )
        found, relaxed = predict(network, test, Phases(Anderson(500, 0.7, tolerance=1e-6, history=2)))
        batches = [epoch.verdicts for epoch in report.epochs]
        yield {
            "seed": seed,
            "contraction": 6.0,
            "readout bound": 16.0,
            "shift": 1,
            "epochs": epochs,
            "test accuracy": float((found.argmax(1) == torch.from_numpy(parts[3])).float().mean()),
            "test states": relaxed.outcome.value,
            "batches ok": sum(b.get("ok", 0) for b in batches) / sum(sum(b.values()) for b in batches),
            "free steps": report.epochs[-1].free_steps,
            "processor seconds": time.process_time() - began,
        }


def convolutional_rows(epochs: int, seeds: int, channels: tuple[int, ...] = (32, 64)) -> Iterator[dict[str, Any]]:
    """Digits, a quarter held out: test accuracy, and the share of batches whose gradient was `OK`, by bound."""
    x, y = load_digits(return_X_y=True)
    for seed in range(seeds):
        parts = train_test_split(x, y, test_size=0.25, random_state=seed, stratify=y)
        for coupling, readout in BOUNDS:
            began = time.process_time()
            model = EquilibriumClassifier(
                image=(1, 8, 8), channels=channels, epochs=epochs, learning_rate=0.02, optimizer="adam",
                radius=RADIUS, contraction=coupling, readout_bound=readout, random_state=seed,
            )  # fmt: skip
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(parts[0], parts[2])
                accuracy = float(model.score(parts[1], parts[3]))
            batches = [epoch.verdicts for epoch in model.report_.epochs]
            ok = sum(count.get("ok", 0) for count in batches)
            yield {
                "seed": seed,
                "contraction": coupling,
                "readout bound": readout,
                "epochs": epochs,
                "test accuracy": accuracy,
                "batches ok": ok / sum(sum(count.values()) for count in batches),
                "free steps": model.report_.epochs[-1].free_steps,
                "processor seconds": time.process_time() - began,
            }
