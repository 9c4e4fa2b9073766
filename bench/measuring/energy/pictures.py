"""The picture of `bench/energy.py`: a density and its samples, log u against log Z, the bias of a minibatch's log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from measuring.energy.runs import fitted_planar, log_mass
from relaxon.neuromorphic.energy import (
    MECO,
    AdaptiveNoise,
    ExponentialFamilyEnergy,
    GaussianNoise,
    PolynomialStatistics,
    TrainingSettings,
    planar,
    train,
)

DOUBLE = torch.float64


def draw(record: dict[str, Any], path: Path, quick: bool) -> None:
    """Train a density of the two moons and draw it beside what the record holds of the other parts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 8), layout="constrained")
    _moons(axes[0], quick)
    _tracked(axes[1, 0])
    _bias(axes[1, 1], record.get("bias", []))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _moons(axes: Any, quick: bool) -> None:
    truth = planar("two-moons")
    model = fitted_planar("meco", truth.sample(20_000 if quick else 100_000, 1), 300 if quick else 5000, 0)
    nodes, cell = truth.nodes(200)
    log_model = model.score_samples(nodes)
    gap = truth.cross_entropy(log_model - log_mass(log_model, cell), 200) - truth.cross_entropy(
        truth.log_density(nodes), 200
    )
    side = (-truth.half_width, truth.half_width) * 2
    axes[0].imshow(np.exp(log_model).reshape(200, 200).T, origin="lower", extent=side, cmap="magma")
    axes[0].set_title(f"two moons: density of the model ({gap:.3f} nat above the entropy)", fontsize=10)
    x = model.sample(2000, random_state=0)
    axes[1].plot(*x.T, ".", markersize=2, color="#444444")
    axes[1].set_title("2000 samples of it", fontsize=10)
    axes[1].set_aspect("equal")
    for one in axes:
        one.set_xlim(-4, 4)
        one.set_ylim(-4, 4)


def _tracked(axis: Any) -> None:
    """`log u` against `log Z = θ²/2 + ½ log 2π` on the way to θ = 16."""
    data = 16 + torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)

    def truth(energy: Any) -> float:
        return 0.5 * float(energy.theta[0]) ** 2 + 0.5 * float(np.log(2 * np.pi))

    arms = {
        "as published": (MECO.published(), False, "momentum", "#c44e52"),
        "drift correction, adaptive noise": (MECO(), True, "sgd", "#4c72b0"),
    }
    for name, (objective, adaptive, optimiser, colour) in arms.items():
        energy = ExponentialFamilyEnergy(PolynomialStatistics(1), 1, confinement=0.5, dtype=DOUBLE)
        start = GaussianNoise(torch.zeros(1, dtype=DOUBLE), torch.eye(1, dtype=DOUBLE))
        noise = AdaptiveNoise.from_gaussian(start) if adaptive else start
        settings = TrainingSettings(steps=300, batch=128, rate=0.1, optimiser=optimiser, record_every=1)
        records = train(energy, data, noise, objective, settings, truth=truth).records
        steps = [one.step for one in records]
        axis.plot(steps, [one.log_partition for one in records], color=colour, label=f"log u, {name}")
        axis.plot(steps, [one.true_log_partition for one in records], ":", color=colour, label="log Z of the same run")
    axis.set_xlabel("step")
    axis.set_title("θ from 0 to 16: the tracker and the truth", fontsize=10)
    axis.set_ylim(-20, 180)
    axis.legend(fontsize=8)


def _bias(axis: Any, rows: list[dict[str, Any]]) -> None:
    if not rows:
        axis.set_axis_off()
        return
    batch = [row["noise_batch"] for row in rows]
    for name, colour in (("minibatch log", "#c44e52"), ("MECO", "#4c72b0")):
        values = np.array([row[f"bias, {name}"] for row in rows])
        error = np.array([row[f"standard error, {name}"] for row in rows])
        axis.errorbar(batch, values, 2 * error, marker="o", capsize=3, color=colour, label=name)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("noise samples in a batch")
    axis.set_title("bias of the gradient of log Z (bars: two standard errors)", fontsize=10)
    axis.legend(fontsize=8)
