"""A learned prior compared with Tikhonov regularisation and total variation, each at its best weight."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.proximal import ForwardOperator, ProximalModel
from relaxon.neuromorphic.proximal.classical import ClassicalMethods

Array = NDArray[np.float64]
STEP = math.sqrt(10.0)
TOLERANCE = 1e-6
"""Of the plug-and-play residual."""
SEARCH_TOLERANCE, CLASSICAL_TOLERANCE = 1e-4, 1e-6
"""Of ADMM's two residuals, while the weight is searched and at the best one; for the learned prior both are 1e-6."""


@dataclass(frozen=True)
class Entry:
    """A method at its best weight."""

    method: str
    weight: float
    psnr: float
    """Mean over the images, in decibels, for values from 0 to 1."""
    residual: float
    """The largest of all images."""
    converged: bool
    """Whether all of them did."""
    iterations: float
    """Mean over the images."""
    images: Array
    seconds: float
    """For all weights and images."""


@dataclass(frozen=True)
class Tried:
    """What a method gave at one weight: reconstructions, largest residual, mean iterations."""

    images: Array
    residual: float
    converged: bool
    iterations: float


def measure_psnr(x: Array, truth: Array) -> float:
    """Return the mean over images of `−10 log₁₀` of the mean square error."""
    errors = ((x - truth) ** 2).reshape(len(truth), -1).mean(1)
    return float((-10 * np.log10(errors)).mean())


def find_best(
    method: str, solve: Callable[[float, float], Tried], truth: Array, start: float, halves: int = 1
) -> Entry:
    """Return the method at the weight with the best PSNR, on a grid of factor √10 that grows until it is inside."""
    began = time.perf_counter()
    tried: dict[int, tuple[float, Tried]] = {}

    def attempt(place: int) -> None:
        if place not in tried:
            found = solve(start * STEP**place, SEARCH_TOLERANCE)
            tried[place] = (measure_psnr(found.images, truth), found)

    for place in range(-halves, halves + 1):
        attempt(place)
    while True:
        best = max(tried, key=lambda place: tried[place][0])
        if min(tried) < best < max(tried):
            break
        attempt(best - 1 if best == min(tried) else best + 1)
    found = solve(start * STEP**best, CLASSICAL_TOLERANCE)
    return Entry(
        method,
        start * STEP**best,
        measure_psnr(found.images, truth),
        found.residual,
        found.converged,
        found.iterations,
        found.images,
        time.perf_counter() - began,
    )


def compare(
    model: ProximalModel, operator: ForwardOperator, truth: Array, observations: Array, noise: float
) -> list[Entry]:
    """Return Tikhonov's two orders, total variation without and with x ≥ 0, and the learned prior, in this order."""
    classical = ClassicalMethods(operator)

    def tikhonov(order: int) -> Callable[[float, float], Tried]:
        def solve(weight: float, tolerance: float) -> Tried:
            found = classical.solve_tikhonov(observations, weight, order)
            return Tried(found.x, found.residual, found.converged, found.iterations)

        return solve

    def total_variation(lower: float | None) -> Callable[[float, float], Tried]:
        def solve(weight: float, tolerance: float) -> Tried:
            found = classical.solve_total_variation(observations, weight, lower=lower, tolerance=tolerance)
            return Tried(found.x, found.residual, found.converged, found.iterations)

        return solve

    def learned(weight: float, tolerance: float) -> Tried:
        found = [
            model.solve(b, operator, data_weight=weight, method="mirror", tolerance=TOLERANCE) for b in observations
        ]
        return Tried(
            np.stack([one.x for one in found]),
            max(one.residual for one in found),
            all(one.converged for one in found),
            float(np.mean([one.iterations for one in found])),
        )

    unit = 1 / noise**2
    return [
        find_best("Tikhonov, ‖x‖²", tikhonov(0), truth, 0.1 * unit),
        find_best("Tikhonov, ‖∇x‖²", tikhonov(1), truth, 0.1 * unit),
        find_best("total variation", total_variation(None), truth, 0.3 * unit),
        find_best("total variation, x ≥ 0", total_variation(0.0), truth, 0.3 * unit),
        find_best("learned prior", learned, truth, model.noise**2 * unit),
    ]


def format_table(entries: list[Entry]) -> str:
    """Return a table of methods, PSNR, best weights and convergence, for people."""
    lines = [f"{'method':24}{'PSNR dB':>9}{'weight':>11}{'iterations':>12}{'residual':>10}{'seconds':>9}"]
    for entry in entries:
        mark = "" if entry.converged else "  not all converged"
        lines.append(
            f"{entry.method:24}{entry.psnr:9.2f}{entry.weight:11.3g}{entry.iterations:12.0f}{entry.residual:10.1e}"
            f"{entry.seconds:9.1f}{mark}"
        )
    return "\n".join(lines)
