"""Networks and trainings for the named data sets, with which the shipped weights were made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.proximal import datasets
from relaxon.neuromorphic.proximal.potentials import NetworkSettings
from relaxon.neuromorphic.proximal.training.matching import MatchingSettings
from relaxon.neuromorphic.proximal.training.polishing import PolishSettings

Array = NDArray[np.float64]
LAPLACE_ROWS = 4096
BLOCK_ROWS, BLOCK_SIDE, BLOCK_PATCH = 3000, 32, 20
DIGIT_SIDE = 16
HELD = 200
NAMES = ("laplace", "digits", "blocks")
FILE_NOISE = 0.2
"""Noise for samples from a file, as a fraction of their standard deviation."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Training and test samples, and how a model is trained on them."""

    name: str
    train: Array
    test: Array
    network: NetworkSettings
    matching: MatchingSettings
    polish: PolishSettings | None = None
    """Settings of the polishing after training; None for none."""


def choose_recipe(data: str, seed: int = 0) -> Recipe:
    """Return the recipe for "laplace", "digits" or "blocks"."""

    if data == "laplace":
        return Recipe(
            data,
            datasets.list_laplace_quantiles(LAPLACE_ROWS),
            datasets.draw_laplace(HELD, seed + 1),
            NetworkSettings((1,), hidden=(32,), beta=20.0, alpha=0.005, seed=seed),
            MatchingSettings(
                1.0,
                start_steps=500,
                gammas=(0.5, 0.2),
                stage_steps=250,
                rate=5e-3,
                matching_rate=3e-3,
                batch=64,
                pairing="posterior",
                average=0.99,
                seed=seed,
                record_every=100,
            ),
            PolishSettings((0.1, 0.05, 0.03, 0.02, 0.015)),
        )
    if data == "digits":
        images, held = datasets.load_digit_images(DIGIT_SIDE)
        network = NetworkSettings((DIGIT_SIDE, DIGIT_SIDE), "convolutional", hidden=(24, 24, 24), seed=seed)
        return Recipe(data, images, held[:HELD], network, _match_images(0.15, seed, gammas=(1.0, 0.7), rate=2e-3))
    if data == "blocks":
        sources = datasets.cut_patches(datasets.draw_blocks(BLOCK_ROWS, BLOCK_SIDE, seed + 1), BLOCK_PATCH, seed)
        network = NetworkSettings((BLOCK_PATCH, BLOCK_PATCH), "convolutional", hidden=(24, 24, 24), seed=seed)
        return Recipe(
            data, sources[HELD:], sources[:HELD], network, _match_images(0.25, seed, gammas=(0.6, 0.4), rate=3e-3)
        )
    raise ValueError(f"data must be one of {', '.join(map(repr, NAMES))} or a file, got {data!r}")


def _match_images(noise: float, seed: int, gammas: tuple[float, ...], rate: float) -> MatchingSettings:

    return MatchingSettings(
        noise,
        start_steps=1500,
        gammas=gammas,
        stage_steps=400,
        rate=rate,
        matching_rate=rate / 3,
        batch=16,
        seed=seed,
        record_every=100,
    )


def build_recipe(name: str, samples: Array, seed: int = 0) -> Recipe:
    """Return a recipe for samples `(n, *shape)`: a convolutional network for images, a dense one for vectors."""

    if len(samples) < 2:
        raise ValueError(f"data must have at least 2 samples, got {len(samples)}")
    spread = float(samples.std())
    if not spread > 0:
        raise ValueError("data must vary to have a prior, got samples that are all the same")
    order = np.random.default_rng(seed).permutation(len(samples))
    held = max(1, min(HELD, len(samples) // 5))
    shape = samples.shape[1:]
    network = NetworkSettings(
        shape,
        "convolutional" if len(shape) in (2, 3) else "dense",
        hidden=(24, 24, 24) if len(shape) in (2, 3) else (64, 64),
        scale=spread,
        offset=float(samples.mean()),
        seed=seed,
    )
    matching = MatchingSettings(FILE_NOISE * spread, seed=seed)
    return Recipe(name, samples[order[held:]], samples[order[:held]], network, matching)
