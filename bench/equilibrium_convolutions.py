"""The convolutional part of `bench/equilibrium.py`: which bounds let two layers come to rest, and what they learn."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from typing import Any

from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from relaxon.neuromorphic.equilibrium import EquilibriumClassifier

BOUNDS: tuple[tuple[float | None, float | None], ...] = ((None, None), (0.9, 4.0), (3.0, 4.0), (3.0, 8.0))
"""Of the coupling and of the readout."""
RADIUS = 0.03


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
