"""What `bench/equilibrium.py` measures: estimators' accuracy, training on Fashion-MNIST, noise, cost of an epoch."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from relaxon.neuromorphic.equilibrium import (
    Alternating,
    Anderson,
    AsymmetricCauchy,
    Cauchy,
    Estimator,
    FixedStep,
    Implicit,
    JacobianHomeostasis,
    LayeredNetwork,
    OneSided,
    Phases,
    RecurrentBackprop,
    TrainingSettings,
    antisymmetry,
    compare_gradients,
    gradient,
    train,
)
from relaxon.neuromorphic.equilibrium.datasets import Dataset
from relaxon.neuromorphic.equilibrium.reference import LayeredReference

Record = dict[str, Any]
EXACT = Phases(FixedStep(3000, tolerance=1e-14))
POINTS = (1, 2, 4, 6, 8, 12)
RADII = (0.125, 0.25, 0.5, 1.0)
PAPER_SIZES = (784, 256, 256, 10)
PAPER_FREE, PAPER_NUDGED, PAPER_BATCH, PAPER_RADIUS = 150, 20, 50, 0.5
CONTRACTION, READOUT_BOUND = 0.9, 2.0
"""Bounds of the recurrent coupling and of the readout under which |β| = 0.5 stays inside the radius of analyticity."""

IN_TURN = Phases(Alternating(PAPER_FREE // 2, tolerance=1e-4), Alternating(PAPER_NUDGED, tolerance=2e-3))
"""As exact as equal steps with the same tolerances; a step in turn does the work of two."""
LOOSER = Alternating(PAPER_FREE // 2, tolerance=5e-4)
"""A free phase no more exact than the nudged ones need."""


def accuracy_rows(data: Dataset, samples: int = 20) -> Iterator[Record]:
    """(a) Relative error of the contour estimates to the exact gradient, float64, digits 64-64-32-10."""
    x, y = torch.from_numpy(data.x[:samples]).double(), torch.from_numpy(data.y[:samples])
    forms: dict[str, dict[str, Any]] = {"tied": {}, "90°": {"feedback": "independent", "angle": 90.0}}
    for form, options in forms.items():
        network = LayeredNetwork((64, 64, 32, 10), dtype=torch.float64, **options)
        for radius in RADII:
            kinds = (Cauchy, AsymmetricCauchy) if form != "tied" else (Cauchy,)
            estimators: list[Estimator] = [kind(n, radius) for kind in kinds for n in POINTS]
            found = compare_gradients(network, (x, y), estimators, phases=EXACT, reference=Implicit(1e-14))
            for estimator, row in zip(estimators, found.rows, strict=True):
                yield {
                    "weights": form,
                    "estimator": estimator.name,
                    "n": getattr(estimator, "n", 1),
                    "radius": radius,
                    "error": row.relative_error,
                    "cosine": row.cosine,
                    "truncation": row.truncation,
                    "verdict": row.verdict.value,
                }


def homeostasis_rows(data: Dataset, samples: int = 20, seeds: int = 100) -> Iterator[Record]:
    """(a) The homeostasis estimate with 5 vectors a sample against 2‖A‖² from the dense Jacobian, over many seeds."""
    x, y = torch.from_numpy(data.x[:samples]).double(), torch.from_numpy(data.y[:samples])
    network = LayeredNetwork((64, 64, 32, 10), dtype=torch.float64, feedback="independent", angle=90.0)
    state = gradient(network, x, y, Implicit(), EXACT).free.state
    with torch.no_grad():
        drive = network.drive(x)
        for space in ("rate", "state"):
            exact = float(antisymmetry(network, state, drive, space).mean())  # type: ignore[arg-type]
            for form in ("product", "difference"):
                homeostasis = JacobianHomeostasis(form=form, space=space)  # type: ignore[arg-type]
                found = [
                    homeostasis.estimate(network, state, drive, torch.Generator().manual_seed(seed))
                    for seed in range(seeds)
                ]
                off = [(float(penalty.mean) - exact) / penalty.standard_error for penalty in found]
                yield {
                    "space": space,
                    "form": form,
                    "exact": exact,
                    "mean_estimate": statistics.mean(float(penalty.mean) for penalty in found),
                    "standard_error": statistics.mean(penalty.standard_error for penalty in found),
                    "mean_standard_errors_off": statistics.mean(off),
                    "within_three": sum(abs(value) < 3 for value in off) / seeds,
                }


Arm = tuple[str, dict[str, Any], Estimator, JacobianHomeostasis | None]
TURNED: dict[str, Any] = {"feedback": "independent", "angle": 90.0}


def arms(homeostasis: float) -> list[Arm]:
    """(b) Tied weights with one, two and six points, then weights at 90° without and with homeostasis."""
    adjoint = RecurrentBackprop(FixedStep(200, tolerance=1e-5))
    penalty = JacobianHomeostasis(homeostasis)
    return [
        ("tied, exact", {}, adjoint, None),
        ("tied, N = 1", {}, Cauchy(1, PAPER_RADIUS), None),
        ("tied, N = 2", {}, Cauchy(2, PAPER_RADIUS), None),
        ("tied, N = 6", {}, Cauchy(6, PAPER_RADIUS), None),
        ("90°, exact", TURNED, adjoint, None),
        ("90°, exact, homeostasis", TURNED, adjoint, penalty),
        ("90°, N = 2", TURNED, Cauchy(2, PAPER_RADIUS), None),
        ("90°, N = 2, homeostasis", TURNED, Cauchy(2, PAPER_RADIUS), penalty),
        ("90°, N = 6", TURNED, Cauchy(6, PAPER_RADIUS), None),
        ("90°, N = 6, homeostasis", TURNED, Cauchy(6, PAPER_RADIUS), penalty),
        ("90°, asymmetric Cauchy N = 2", TURNED, AsymmetricCauchy(2, PAPER_RADIUS), None),
        ("90°, asymmetric Cauchy N = 6", TURNED, AsymmetricCauchy(6, PAPER_RADIUS), None),
    ]


def training_row(
    arm: Arm, data: Dataset, samples: int, epochs: int, rate: float, seed: int, bound: bool, out: Path | None = None
) -> Record:
    """(b) One arm, one seed; with a folder `out` for its checkpoint, it goes on where it was stopped."""
    name, options, estimator, homeostasis = arm
    network = LayeredNetwork((data.x.shape[1], *PAPER_SIZES[1:]), gain=1.0, seed=seed, **options)
    settings = TrainingSettings(
        epochs=epochs,
        batch=PAPER_BATCH,
        rate=rate,
        schedule="cosine",
        estimator=estimator,
        homeostasis=homeostasis,
        phases=IN_TURN,
        contraction=CONTRACTION if bound else None,
        readout_bound=READOUT_BOUND if bound else None,
        seed=seed,
        out=out,
    )
    x, y = torch.from_numpy(data.x[:samples]), torch.from_numpy(data.y[:samples])
    report = train(network, (x, y), settings, test=(torch.from_numpy(data.test_x), torch.from_numpy(data.test_y)))
    last = report.epochs[-1] if report.epochs else None
    return {
        "arm": name,
        "seed": seed,
        "samples": len(x),
        "epochs": epochs,
        "bounded": bound,
        "ended": report.ended.value,
        "test_error": None if last is None or last.test_accuracy is None else 100 * (1 - last.test_accuracy),
        "angle": None if last is None else last.angle,
        "feedback_angles": None if last is None else last.feedback_angles,
        "antisymmetry": None if last is None else last.antisymmetry,
        "verdicts": None if last is None else last.verdicts,
        "seconds": report.seconds,
    }


def noise_rows(data: Dataset, samples: int = 50, seeds: int = 3) -> Iterator[Record]:
    """(c) Cosine to the exact gradient with 0.04 of noise on every state at every step."""
    x, y = torch.from_numpy(data.x[:samples]), torch.from_numpy(data.y[:samples])
    network = LayeredNetwork((64, 64, 32, 10))
    estimators: list[Estimator] = [
        *(OneSided(beta) for beta in (0.01, 0.05, 0.5)),
        *(Cauchy(n, 0.5) for n in (2, 6, 10)),
    ]
    for deviation in (0.0, 0.04):
        for estimator in estimators:
            phases = Phases(FixedStep(60), FixedStep(60), noise=deviation)
            cosines = [
                compare_gradients(network, (x, y), [estimator], phases=phases, seed=seed).rows[0].cosine
                for seed in range(seeds if deviation else 1)
            ]
            yield {"noise": deviation, "estimator": estimator.label, "cosine": statistics.mean(cosines)}


def noise_training_rows(data: Dataset, epochs: int) -> Iterator[Record]:
    """(c) Digits trained with that noise: test accuracy."""
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y)
    test = (torch.from_numpy(data.test_x), torch.from_numpy(data.test_y))
    for estimator in (OneSided(0.01), Cauchy(2, 0.5), Cauchy(10, 0.5)):
        network = LayeredNetwork((64, 64, 32, 10), gain=1.0, input_gain=2.0)
        settings = TrainingSettings(
            epochs=epochs,
            batch=32,
            rate=0.1,
            estimator=estimator,
            phases=Phases(FixedStep(30), FixedStep(30), noise=0.04),
            contraction=CONTRACTION,
            readout_bound=READOUT_BOUND,
            clip=1.0,
            probe=False,
        )
        report = train(network, (x, y), settings, test=test)
        accuracy = report.epochs[-1].test_accuracy if report.epochs else None
        yield {"estimator": estimator.label, "epochs": epochs, "ended": report.ended.value, "test_accuracy": accuracy}


def naive_gradient(network: LayeredNetwork, x: Tensor, y: Tensor, n: int, radius: float) -> dict[str, Tensor]:
    """The paper's setting as it is usually written: all 150 and 20 steps, one nudge after the other, torch's complex
    sigmoid and complex weights, the whole contour."""
    weights = [w.detach() for w in network.weights]
    biases = [b.detach() for b in network.biases]
    target = torch.nn.functional.one_hot(y, len(biases[-1])).to(x.dtype)
    drive = x @ weights[0].T + biases[0]

    def relax(u1: Tensor, u2: Tensor, beta: complex, steps: int) -> tuple[Tensor, Tensor]:
        w, v = weights[1].to(u1.dtype), weights[2].to(u1.dtype)
        for _ in range(steps):
            r1, r2 = torch.sigmoid(4 * u1 - 2), torch.sigmoid(4 * u2 - 2)
            push = 0.0
            if beta:
                e = torch.exp(r2 @ v.T + biases[2])
                push = beta * ((e / e.sum(-1, keepdim=True) - target) @ v)
            u1, u2 = drive + r2 @ w, r1 @ w.T + biases[1] - push
        return torch.sigmoid(4 * u1 - 2), torch.sigmoid(4 * u2 - 2)

    zero1, zero2 = torch.zeros_like(drive), torch.zeros(len(x), len(biases[1]))
    r1, r2 = relax(zero1, zero2, 0.0, PAPER_FREE)
    u1, u2 = (torch.logit(r) / 4 + 0.5 for r in (r1, r2))
    slope1, slope2 = torch.zeros_like(r1), torch.zeros_like(r2)
    for t in range(n):
        beta = radius * complex(np.exp(2j * np.pi * t / n))
        kind = torch.complex64 if n > 2 else torch.float32
        s1, s2 = relax(u1.to(kind), u2.to(kind), beta if n > 2 else beta.real, PAPER_NUDGED)
        slope1, slope2 = slope1 + ((s1 - r1) / beta).real / n, slope2 + ((s2 - r2) / beta).real / n
    batch = len(x)
    wrong = torch.softmax(r2 @ weights[2].T + biases[2], -1) - target
    return {
        "weights.0": -slope1.T @ x / batch,
        "weights.1": -(slope2.T @ r1 + r2.T @ slope1) / batch,
        "weights.2": wrong.T @ r2 / batch,
    }


def cost_rows(data: Dataset, repeats: int, n: int) -> Iterator[Record]:
    """(d) Seconds an epoch (of 60,000) for the gradients of the paper's setting, eight ways, interleaved, medians."""
    network = LayeredNetwork(PAPER_SIZES, gain=1.0)
    with torch.no_grad():
        for weight, bound in ((network.weights[1], CONTRACTION), (network.weights[2], READOUT_BOUND)):
            weight.mul_(bound / torch.linalg.matrix_norm(weight, 2))
    x, y = torch.from_numpy(data.x[:PAPER_BATCH]), torch.from_numpy(data.y[:PAPER_BATCH])
    reference = LayeredReference.of(network)
    xs, ys = data.x[:PAPER_BATCH], data.y[:PAPER_BATCH]
    early = Phases(FixedStep(PAPER_FREE, tolerance=1e-4), FixedStep(2 * PAPER_NUDGED, tolerance=2e-3))
    full = Phases(FixedStep(PAPER_FREE, early_stop=False), FixedStep(PAPER_NUDGED, early_stop=False))
    fast = Phases(
        Anderson(PAPER_FREE, tolerance=1e-4, history=2), Anderson(2 * PAPER_NUDGED, tolerance=2e-3, history=2)
    )
    estimator = Cauchy(n, PAPER_RADIUS)
    exact = gradient(network, x, y, Implicit(), Phases(FixedStep(tolerance=1e-6)))
    # What finite nudges leave is in every way; this is what stopping early leaves.
    settled = gradient(network, x, y, estimator, Phases(FixedStep(tolerance=1e-6)))

    def kernel(backend: str) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            found = reference.cauchy(xs, ys, n, PAPER_RADIUS, tolerance=1e-4, backend=backend)  # type: ignore[arg-type]
            return [torch.from_numpy(np.asarray(g)) for g in found.weights]

        return run

    def ours(phases: Phases) -> Callable[[], list[Any]]:
        def run() -> list[Any]:
            found = gradient(network, x, y, estimator, phases)
            return [found.gradients[f"weights.{i}"] for i in range(3)]

        return run

    ways: dict[str, Callable[[], list[Any]]] = {
        "torch, all steps, point by point": lambda: list(naive_gradient(network, x, y, n, PAPER_RADIUS).values()),
        "relaxon, all steps": ours(full),
        "relaxon, early stop": ours(early),
        "relaxon, Anderson": ours(fast),
        "relaxon, layers in turn": ours(IN_TURN),
        "relaxon, layers in turn, free tolerance 5e-4": ours(Phases(LOOSER, IN_TURN.nudged)),
        "numba kernel": kernel("numba"),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    errors: dict[str, float] = {}
    wanted, rested = (
        torch.cat([one.gradients[f"weights.{i}"].flatten() for i in range(3)]) for one in (exact, settled)
    )
    unsettled: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            found = way()
            if repeat:  # the first round compiles and warms up
                seconds[name].append(time.perf_counter() - began)
            got = torch.cat([g.flatten() for g in found])
            errors[name] = float((got - wanted).norm() / wanted.norm())
            unsettled[name] = float((got - rested).norm() / rested.norm())
    # The NumPy twin goes sample by sample: once is enough.
    began = time.perf_counter()
    kernel("numpy")()
    seconds["numpy twin"], errors["numpy twin"] = [time.perf_counter() - began], errors["numba kernel"]
    unsettled["numpy twin"] = unsettled["numba kernel"]
    batches = math.ceil(60_000 / PAPER_BATCH)
    slowest = statistics.median(seconds["torch, all steps, point by point"])
    for name, times in seconds.items():
        middle = statistics.median(times)
        yield {
            "way": name,
            "n": n,
            "ms_a_batch": 1e3 * middle,
            "epoch_seconds": middle * batches,
            "speedup": slowest / middle,
            "error": errors[name],
            "from_settled": unsettled[name],
        }
