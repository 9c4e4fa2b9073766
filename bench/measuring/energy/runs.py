"""The parts of `bench/energy.py` that train energies where the truth is known: rows of plain values."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from relaxon.neuromorphic.energy import (
    ENCE,
    MECO,
    NCE,
    PCD,
    SNL,
    ULA,
    AdaptiveNoise,
    EnergyDensity,
    ExactMLE,
    ExponentialFamilyEnergy,
    GaussianNoise,
    ImportanceSampling,
    LogPartition,
    Objective,
    PolynomialStatistics,
    Quadrature,
    ScoreMatching,
    TrainingSettings,
    log_partition,
    planar,
    train,
)
from relaxon.neuromorphic.energy.datasets import NODES, PLANAR, PlanarDensity
from relaxon.neuromorphic.energy.objectives.noise_contrastive import log_mean_exp

Row = dict[str, Any]
THETA = 16.0
ROWS_1D = 100_000
BATCH_1D = 128
NEAR = 0.02


@dataclass(frozen=True)
class Arm:
    """One way to train the mean of a Gaussian."""

    name: str
    objective: Objective
    adaptive: bool
    settings: dict[str, Any] = field(default_factory=dict)


COVERAGE_DRAWS = (1000, 10_000)
WIDE = 4
"""A model's tails reach beyond the box that holds the density."""
WIDE_BOX = Quadrature((-10.0,), (30.0,), 200)
ARMS = (
    Arm("exact", ExactMLE(WIDE_BOX), False),
    Arm("MECO", MECO(), True),
    Arm("MECO, γ = 0.1", MECO(0.1), True),
    Arm("MECO, without drift correction", MECO(drift=False), True),
    Arm("MECO, without centring", MECO(centred=False), True),
    Arm("MECO, fixed noise", MECO(), False),
    Arm("MECO as published", MECO.published(), False, {"optimiser": "momentum"}),
    Arm("MECO as published, adaptive noise", MECO.published(), True, {"optimiser": "momentum"}),
    Arm("NCE", NCE(), False, {"optimiser": "adam"}),
    Arm("NCE, adaptive noise", NCE(), True, {"optimiser": "adam"}),
    Arm("eNCE, normalised gradient", ENCE(), False),
    Arm("eNCE, adaptive noise", ENCE(), True),
    Arm("SNL", SNL(), False, {"optimiser": "adam"}),
    Arm("SNL, adaptive noise", SNL(), True, {"optimiser": "adam"}),
    Arm("PCD", PCD(ULA(0.3)), False),
    Arm("score matching", ScoreMatching(), False),
)
RATE = 0.1
DOUBLE = torch.float64


def gaussian_run(arm: Arm, seed: int, steps: int) -> tuple[float, Any, int | None]:
    """θ at the end, the result, and the first step from which θ stayed within 0.02 of 16."""
    data = THETA + torch.randn(ROWS_1D, 1, generator=torch.Generator().manual_seed(1000 + seed), dtype=DOUBLE)
    energy = ExponentialFamilyEnergy(PolynomialStatistics(1), 1, confinement=0.5, dtype=DOUBLE)
    start = GaussianNoise(torch.zeros(1, dtype=DOUBLE), torch.eye(1, dtype=DOUBLE))
    noise = AdaptiveNoise.from_gaussian(start) if arm.adaptive else start
    options = {"optimiser": "sgd", "rate": RATE} | arm.settings
    settings = TrainingSettings(steps=steps, batch=BATCH_1D, seed=seed, **options)
    thetas: list[float] = []
    result = train(
        energy, data, noise, arm.objective, settings, watcher=lambda _: thetas.append(energy.theta[0].item())
    )
    away = [step for step, theta in enumerate(thetas, 1) if not abs(theta - THETA) <= NEAR]
    reached = (away[-1] if away else 0) + 1
    return energy.theta[0].item(), result, reached if reached <= len(thetas) else None


def one_d_rows(most: int, steps: int, rivals: int) -> Iterator[Row]:
    """θ* = 16 from 0, noise N(0, 1) at first: MECO with `most` seeds, all others with `rivals`."""
    for arm in ARMS:
        seeds = most if arm.name == "MECO" else rivals
        began = time.perf_counter()
        runs = [gaussian_run(arm, seed, steps) for seed in range(seeds)]
        errors = [abs(theta - THETA) for theta, _, _ in runs]
        reached = [step for _, _, step in runs if step is not None]
        wrong = [abs(result.log_partition - 0.5 * math.log(2 * math.pi) - theta**2 / 2) for theta, result, _ in runs]
        yield {
            "objective": arm.name,
            "noise": ("adaptive" if arm.adaptive else "fixed") if arm.objective.needs_noise else "none",
            "seeds": seeds,
            "within_0.02": sum(error <= NEAR for error in errors),
            "worst_error": max(errors),
            "median_error": float(np.median(errors)),
            "median_step": float(np.median(reached)) if len(reached) == seeds else None,
            "log_z_error": float(np.median(wrong)),
            "ended": ", ".join(sorted({result.ended.value for _, result, _ in runs})),
            "trusted": sum(result.trusted for _, result, _ in runs),
            "seconds": (time.perf_counter() - began) / seeds,
        }


def bias_rows(repeats: int, steps: int) -> Iterator[Row]:
    """Bias of the gradient of log Z against the noise batch: of the minibatch's logarithm, and with MECO's tracker.

    The model is N(0.4, 2/3) by the statistics x and x², the noise N(−0.6, 0.8): the exact gradient is known. The
    tracker has run for `steps` steps at these parameters before it is read.
    """
    theta = torch.tensor([0.6, 0.25], dtype=DOUBLE)
    # Model exp(0.6 x + 0.25 x² − x²): precision 1.5, mean 0.4.
    precision = 2 * (1.0 - float(theta[1]))
    mean = float(theta[0]) / precision
    exact = torch.tensor([mean, mean**2 + 1 / precision], dtype=DOUBLE)
    noise = GaussianNoise(torch.tensor([-0.6], dtype=DOUBLE), 0.8 * torch.eye(1, dtype=DOUBLE))
    for batch in (4, 8, 16, 32, 64, 128, 256):
        generator = torch.Generator().manual_seed(batch)
        plain, tracked = torch.zeros(repeats, 2, dtype=DOUBLE), torch.zeros(repeats, 2, dtype=DOUBLE)
        log_u = None
        gamma = 0.01
        for index in range(-steps, repeats):
            z = noise.sample(batch, generator)
            statistics = torch.cat([z, z**2], 1)
            log_w = statistics @ theta - z[:, 0] ** 2 - noise.log_prob(z)
            log_g = log_mean_exp(log_w)
            log_u = log_g if log_u is None else torch.logaddexp(log_u + math.log1p(-gamma), log_g + math.log(gamma))
            if index >= 0:
                plain[index] = torch.softmax(log_w, 0) @ statistics
                tracked[index] = (log_w - log_u).exp() @ statistics / batch
        found = {"minibatch log": plain, "MECO": tracked}
        row: Row = {"noise_batch": batch}
        for name, values in found.items():
            row[f"bias, {name}"] = float((values.mean(0) - exact).norm())
            row[f"standard error, {name}"] = float(values.std(0).norm() / math.sqrt(repeats))
        yield row


def planar_rows(names: list[str], rows: int, steps: int, arms: list[str], seed: int = 0) -> Iterator[Row]:
    """NLL of `EnergyDensity` on 2-D densities against their entropy, both by quadrature."""
    for name in names:
        density = planar(name)
        x = density.sample(rows, seed + 1)
        nodes, cell = density.nodes()
        entropy = density.entropy()
        for arm in arms:
            began = time.perf_counter()
            model = fitted_planar(arm, x, steps, seed)
            seconds = time.perf_counter() - began
            log_model = model.score_samples(nodes)
            found = model.log_partition_
            yield {
                "set": name,
                "objective": arm,
                "rows": rows,
                "entropy": entropy,
                "nll": density.cross_entropy(log_model - log_mass(log_model, cell)),
                "gap": density.cross_entropy(log_model - log_mass(log_model, cell)) - entropy,
                "log_z_error": log_mass(log_model, cell),
                "standard_error": found.standard_error,
                "trusted": model.verdict_.trusted,
                "noise": type(model.noise_.inner).__name__,
                "noise_nll": density.cross_entropy(noise_log_density(model, nodes)),
                "seconds": seconds,
            }


def coverage_rows(names: list[str], repeats: int, rows: int, steps: int, seed: int = 0) -> Iterator[Row]:
    """How often the 95 % interval of log Z, from fresh draws each time, holds the value by quadrature."""
    for name in names:
        density = planar(name)
        model = fitted_planar("meco", density.sample(rows, seed + 1), steps, seed)
        truth, near = quadrature_log_z(model, density, WIDE), quadrature_log_z(model, density, 1)
        for draws in COVERAGE_DRAWS:
            # Neither probe changes a value or an interval; they cost more than both.
            method = ImportanceSampling(model.noise_, draws, probe=None, far_modes=False)
            found = [log_partition(model.energy_, method, 1000 + number) for number in range(repeats)]
            errors = np.array([one.value - truth for one in found])
            yield {
                "set": name,
                "draws": draws,
                "repeats": repeats,
                "covered": sum(one.interval[0] <= truth <= one.interval[1] for one in found),
                "trusted": sum(one.trusted for one in found),
                "mean_error": float(errors.mean()),
                "deviation": float(errors.std()),
                "standard_error": float(np.mean([one.standard_error for one in found])),
                "outside_the_box": truth - near,
            }


def far_rows(seeds: int) -> Iterator[Row]:
    """How often a Gaussian of the data's width, planted far from the noise, is found; and how often where none is."""
    for features in (2, 3, 5, 10):
        for distance in (10.0, 20.0, 30.0):
            for share in (0.0, 0.1, 0.3, 0.5):
                if share == 0.0 and distance > 10.0:
                    continue
                began = time.process_time()
                found = [planted_log_z(features, distance, share, seed) for seed in range(seeds)]
                yield {
                    "features": features,
                    "distance": distance,
                    "share": share,
                    "seeds": seeds,
                    "not_trusted": sum(not one.trusted for one in found),
                    "far_mode_named": sum("deviations away" in one.reason for one in found),
                    "cpu_seconds": (time.process_time() - began) / seeds,
                }


def planted_log_z(features: int, distance: float, share: float, seed: int) -> LogPartition:
    """log Z of a standard normal density and a second one with that share of the mass; the noise knows the first."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(features, generator=generator, dtype=DOUBLE)
    centre = distance * direction / direction.norm()
    x = torch.randn(2000, features, generator=generator, dtype=DOUBLE)

    def energy(x: torch.Tensor) -> torch.Tensor:
        near = math.log(1 - share) - 0.5 * x.square().sum(1)
        if not share:
            return -near
        return -torch.logaddexp(near, math.log(share) - 0.5 * (x - centre).square().sum(1))

    return log_partition(energy, ImportanceSampling(GaussianNoise.fit(x, widen=1.2), reference=x), seed)


def quadrature_log_z(model: EnergyDensity, density: PlanarDensity, wide: int) -> float:
    """log Z of the model in its standardised units, on a box so many times as wide as the density's."""
    count = NODES * wide // 2 if wide > 1 else NODES  # a network is smoother than the density's edges
    axis = (np.arange(count) + 0.5) / count * 2 - 1
    half = density.half_width * wide
    cell = (2 * half / len(axis)) ** 2
    found = []
    for x in half * axis:
        line = np.stack([np.full(len(axis), x), half * axis], 1)
        z = torch.from_numpy((line - model.mean_) / model.scale_)
        with torch.no_grad():
            found.append(-model.energy_(z).numpy() - np.log(model.scale_).sum())
    return log_mass(np.concatenate(found), cell)


def fitted_planar(objective: str, x: Any, steps: int, seed: int) -> EnergyDensity:
    """A density for many rows in the plane."""
    return EnergyDensity(
        (128, 128),
        noise="mixture",
        objective=objective,
        steps=steps,
        batch_size=1024,
        noise_batch_size=2048,
        learning_rate=5e-3,
        average=0.998,
        validation_fraction=0.05,
        patience=10**6,
        partition_draws=100_000,
        random_state=seed,
    ).fit(x)


def log_mass(log_model: Any, cell: float) -> float:
    """Logarithm of what a log-density integrates to: 0 where its log Z is right (and the box holds it)."""
    top = float(log_model.max())
    return top + math.log(float(np.exp(log_model - top).sum()) * cell)


def noise_log_density(model: EnergyDensity, nodes: Any) -> Any:
    """Of the noise distribution alone, in the units of the data."""
    z = torch.from_numpy((nodes - model.mean_) / model.scale_)
    return torch.cat([model.noise_.log_prob(part) for part in z.split(50_000)]).numpy() - np.log(model.scale_).sum()


PLANAR_NAMES = list(PLANAR)
