"""The parts of `bench/diagnostics.py`: each returns its rows, whether its goals are met, and a figure or None."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from torch import nn

from relaxon.neuromorphic.diagnostics import (
    SnapshotSettings,
    block_digits,
    coherence,
    el2n,
    grand,
    input_gradient_roar,
    opposing_signals,
    per_sample_gradients,
    representation_geometry,
    train_snapshots,
    train_starts,
)
from relaxon.neuromorphic.diagnostics.gradients import MAX_BYTES, measure_moments
from relaxon.neuromorphic.diagnostics.models import as_subject
from relaxon.neuromorphic.diagnostics.snapshots import build_module
from relaxon.neuromorphic.diagnostics.subjects import validate_rows

Record = dict[str, Any]
Part = tuple[list[Record], dict[str, bool], Any]
STARTS = 10
"""Models that a score is averaged over, as in Paul et al."""
EARLY = 5
"""Epochs after which rows are scored."""
STEPS_EPOCHS = 40
"""Epochs of all rows that a network is trained for after pruning; on half of the rows, twice as many: equal steps."""
WRONG, LOOKED_AT, FOUND = 0.10, 0.15, 0.90
LOSS_OF_PRUNING = 0.3
"""Points of accuracy."""
PRUNING_TEST = 3
"""One row in so many tests what was pruned: few rows would round accuracies to the same number."""
SEPARATION, FASTER = 3.0, 20.0
FIRST_EPOCHS = 3
LOOP_ROWS, SPEED_REPEATS = 300, 3
GOAL_NETWORK = "64-64-10"
"""The network of the other parts."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is repeated."""

    splits: int
    seeds: int
    repeats: int
    roar_repeats: int


@dataclass(frozen=True, slots=True)
class Split:
    x: NDArray[np.float64]
    y: NDArray[np.int64]
    test_x: NDArray[np.float64]
    test_y: NDArray[np.int64]


def split_digits(seed: int, test: int = 5) -> Split:
    """Return the digits in [0, 1], one in so many for testing."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    x, y, cut = x[order] / 16.0, y[order], len(y) // test
    return Split(x[cut:], y[cut:], x[:cut], y[:cut])


def build(seed: int, hidden: int = 64, activation: type[nn.Module] = nn.ReLU, inputs: int = 64) -> nn.Module:
    """Return a network with one hidden layer; torch's random numbers are set by the caller."""
    del seed
    return nn.Sequential(nn.Linear(inputs, hidden), activation(), nn.Linear(hidden, 10))


def accuracy(module: nn.Module, x: NDArray[np.float64], y: NDArray[np.int64]) -> float:
    """Return the share of rows predicted right."""
    with torch.no_grad():
        return float((module(torch.tensor(x, dtype=torch.float32)).argmax(1).numpy() == y).mean())


def labels_part(scale: Scale) -> Part:
    """Wrong labels among the rows with the highest EL2N."""
    rows, figure = [], None
    for split in range(scale.splits):
        data, generator = split_digits(split), np.random.default_rng(1000 + split)
        count = round(WRONG * len(data.y))
        wrong = np.zeros(len(data.y), bool)
        wrong[generator.permutation(len(data.y))[:count]] = True
        y = data.y.copy()
        y[wrong] = (y[wrong] + generator.integers(1, 10, count)) % 10
        models = train_starts(build, data.x, y, SnapshotSettings(epochs=EARLY, seed=split), starts=STARTS)
        scores = el2n(models, data.x, y)
        looked_at = scores.highest(round(LOOKED_AT * len(y)))
        suspects = scores.suspects()
        figure = scores.plot()
        rows.append(
            {
                "split": split,
                "rows": len(y),
                "wrong labels": count,
                "found in the top 15 %": int(wrong[looked_at].sum()),
                "share found": float(wrong[looked_at].sum() / count),
                "suspects": len(suspects),
                "of them wrong": float(wrong[suspects].mean()),
            }
        )
    worst = min(row["share found"] for row in rows)
    goal = f"EL2N finds ≥ {FOUND:.0%} of {WRONG:.0%} wrong labels in its top {LOOKED_AT:.0%}: {worst:.1%} at worst"
    return rows, {goal: worst >= FOUND}, figure


def pruning_part(scale: Scale) -> Part:
    """Accuracy after training on half of the rows, chosen in several ways."""
    names = ("all rows", "EL2N", "GraNd, early", "GraNd, start", "input length", "random half")
    found: dict[str, list[float]] = {name: [] for name in names}
    overlap = []
    for split in range(scale.splits):
        data = split_digits(split, PRUNING_TEST)
        settings = SnapshotSettings(epochs=EARLY, seed=100 * split)
        trained = train_starts(build, data.x, data.y, settings, starts=STARTS)
        untrained = [build_module(build, settings.seed + start).eval() for start in range(STARTS)]
        at_start = grand(untrained, data.x, data.y)
        length = np.linalg.norm(data.x, axis=1)
        overlap.append(
            float(np.corrcoef(np.argsort(np.argsort(at_start.scores)), np.argsort(np.argsort(length)))[0, 1])
        )
        half = len(data.y) // 2
        kept = {
            "all rows": np.arange(len(data.y)),
            "EL2N": el2n(trained, data.x, data.y).keep(0.5),
            "GraNd, early": grand(trained, data.x, data.y).keep(0.5),
            "GraNd, start": at_start.keep(0.5),
            "input length": np.argsort(-length, kind="stable")[:half],
        }
        for seed in range(scale.seeds):
            kept["random half"] = np.random.default_rng(5000 + 100 * split + seed).permutation(len(data.y))[:half]
            for name, rows in kept.items():
                epochs = STEPS_EPOCHS * (1 if name == "all rows" else 2)
                plain = SnapshotSettings(epochs=epochs, seed=seed, every="end")
                module = train_snapshots(build_module(build, 7000 + seed), data.x[rows], data.y[rows], plain).final
                found[name].append(100.0 * accuracy(module, data.test_x, data.test_y))
    median = {name: statistics.median(values) for name, values in found.items()}
    mean = {name: statistics.fmean(values) for name, values in found.items()}
    table = [
        {
            "kept": name,
            "median accuracy, %": median[name],
            "mean, %": mean[name],
            "worst, %": min(found[name]),
            "paired with random": _paired(found[name], found["random half"]),
            "runs": len(found[name]),
        }
        for name in names
    ]
    lost = median["all rows"] - median["EL2N"]
    gained = median["EL2N"] - median["random half"]
    paired = _paired(found["EL2N"], found["random half"])
    at_start_gain = mean["GraNd, start"] - mean["random half"]
    rank = statistics.median(overlap)
    return (
        table,
        {
            f"half of the rows by EL2N ends ≤ {LOSS_OF_PRUNING} points below all rows: {lost:+.2f}": (
                lost <= LOSS_OF_PRUNING
            ),
            f"and above a random half: {gained:+.2f} points between medians, {paired:+.2f} run by run": (
                gained > 0 and paired > 0
            ),
            f"GraNd at the start chooses worse than EL2N: {at_start_gain:+.2f} points on a random half in the mean, "
            f"rank correlation with the input's length {rank:.2f}": mean["GraNd, start"] < mean["EL2N"],
        },
        None,
    )


def coherence_part(scale: Scale) -> Part:
    """m-coherence over the first epochs, real labels against random ones."""
    table, ratios, figure = [], [], None
    data = split_digits(0)
    for seed in range(scale.seeds):
        shuffled = np.random.default_rng(seed).permutation(data.y)
        module = build_module(build, seed)
        values = {}
        for name, y in (("real", data.y), ("random", shuffled)):
            states = train_snapshots(module, data.x, y, SnapshotSettings(epochs=10, seed=seed))
            found = coherence(states.models, data.x, y)
            values[name] = found.values
            figure = found.plot() if name == "real" else figure
        for epoch in (0, 1, 2, 3, 5, 10):
            real, random = float(values["real"][epoch]), float(values["random"][epoch])
            table.append({"seed": seed, "epoch": epoch, "real": real, "random": random, "ratio": real / random})
        ratios += [float(values["real"][epoch] / values["random"][epoch]) for epoch in range(1, FIRST_EPOCHS + 1)]
    least = min(ratios)
    goal = f"real labels ≥ {SEPARATION:g} × random ones in epochs 1 to {FIRST_EPOCHS}: {least:.1f} × at least"
    return table, {goal: least >= SEPARATION}, figure


def speed_part(scale: Scale) -> Part:
    """Per-sample gradients, and their norms, against a loop over the rows."""
    x, y = load_digits(return_X_y=True)
    x, table, reached = x / 16.0, [], 0.0
    networks: dict[str, nn.Module] = {
        "64-64-10": build_module(build, 0),
        "64-128-10": build_module(lambda seed: build(seed, 128), 0),
        "64-32-32-32-10": build_module(lambda seed: _deep(32, 3), 0),
        "convolution, 8 and 16 channels": build_module(lambda seed: _convolutional(), 0),
    }
    for name, module in networks.items():
        timed = _timed(module, x.reshape(-1, 1, 8, 8) if "convolution" in name else x, y, SPEED_REPEATS * scale.repeats)
        micro = {way: 1e6 * statistics.median(values) for way, values in timed.items()}
        factor = micro["loop"] / micro["gradients"]
        if name == GOAL_NETWORK:
            reached = factor
        table.append(
            {
                "network": name,
                "parameters": sum(parameter.numel() for parameter in module.parameters()),
                "loop, µs a row": micro["loop"],
                "gradients": micro["gradients"],
                "×": factor,
                "norms": micro["norms"],
                "× ": micro["loop"] / micro["norms"],
            }
        )
    goal = f"gradients of each row ≥ {FASTER:g} × faster than a loop, {GOAL_NETWORK}: {reached:.0f} ×"
    return table, {goal: reached >= FASTER}, None


def geometry_part(scale: Scale) -> Part:
    """Alignment of the hidden layer with inputs and targets, tanh against ReLU."""
    table, figure = [], None
    data = split_digits(0)
    for task, y in (("ten digits", data.y), ("odd or even", data.y % 2)):
        for name, activation in (("tanh", nn.Tanh), ("ReLU", nn.ReLU)):
            ends = []
            for seed in range(scale.seeds):
                module = build_module(lambda seed, kind=activation: build(seed, 128, kind), seed)
                states = train_snapshots(module, data.x, y, SnapshotSettings(epochs=30, seed=seed))
                found = representation_geometry(states.models, data.x, y)
                ends.append((found.inputs[[0, -1], 0], found.targets[[0, -1], 0]))
                if figure is None:
                    figure = found.plot()
            inputs, targets = np.mean([pair[0] for pair in ends], 0), np.mean([pair[1] for pair in ends], 0)
            table.append(
                {
                    "task": task,
                    "activation": name,
                    "inputs, start": float(inputs[0]),
                    "inputs, epoch 30": float(inputs[1]),
                    "targets, start": float(targets[0]),
                    "targets, epoch 30": float(targets[1]),
                    "seeds": scale.seeds,
                }
            )
    return table, {}, figure


def roar_part(scale: Scale) -> Part:
    """DiffROAR on digits beside an empty frame."""
    data = block_digits(0)

    def made(seed: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), build(seed, 64, inputs=128))

    settings = SnapshotSettings(epochs=20)
    model = train_snapshots(build_module(made, 0), data.x, data.y, SnapshotSettings(epochs=20, every="end")).final
    found = input_gradient_roar(
        model,
        data.x,
        data.y,
        data.test_x,
        data.test_y,
        build=made,
        settings=settings,
        repeats=scale.roar_repeats,
        signal=data.test_signal,
    )
    table = [
        {
            "pixels kept": float(share),
            "top, %": 100.0 * float(found.top[place].mean()),
            "bottom, %": 100.0 * float(found.bottom[place].mean()),
            "random, %": 100.0 * float(found.random[place].mean()),
            "DiffROAR": 100.0 * float(found.difference[place]),
            "top pixels in the digit": float(found.signal_share[place]),
        }
        for place, share in enumerate(found.fractions)
    ]
    return table, {}, found.plot()


def opposing_part(scale: Scale) -> Part:
    """The two groups of rows that a full-batch step moves furthest apart, by learning rate."""
    data, table, figure = split_digits(0), [], None
    for rate in (0.1, 0.5, 1.0):
        plain = SnapshotSettings(epochs=150, batch=0, rate=rate, optimiser="sgd", every="step")
        states = train_snapshots(build_module(build, 0), data.x, data.y, plain)
        found = opposing_signals(states.models, data.x, data.y, group=10)
        figure = found.plot()
        rising, falling = found.groups
        table.append(
            {
                "rate": rate,
                "step": found.step,
                "rise": float(found.changes[found.step][rising].mean()),
                "fall": float(found.changes[found.step][falling].mean()),
                "share of all changes": found.share(),
                "cosine": found.gradient_cosine,
                "digits that rise": _digits(data.y[rising]),
                "that fall": _digits(data.y[falling]),
            }
        )
    return table, {}, figure


def _timed(module: nn.Module, rows: NDArray[np.float64], y: NDArray[np.int64], repeats: int) -> dict[str, list[float]]:
    """Return seconds of CPU a row, in turn: of a loop, of all gradients, of their norms."""
    subject = as_subject(module, "auto", y)
    tensor, target = validate_rows(subject, rows, y)
    ways: dict[str, Callable[[], object]] = {
        "loop": lambda: [None for _ in looped_gradients(module, tensor[:LOOP_ROWS], y)],
        "gradients": lambda: [None for _ in per_sample_gradients(module, rows, y)],
        "norms": lambda: measure_moments(subject, tensor, target, MAX_BYTES),
    }
    timed: dict[str, list[float]] = {way: [] for way in ways}
    for repeat in range(repeats + 1):
        for way, call in ways.items():
            since = time.process_time()
            call()
            if repeat:  # the first run warms up
                timed[way].append((time.process_time() - since) / (LOOP_ROWS if way == "loop" else len(rows)))
    return timed


def _paired(left: list[float], right: list[float]) -> float:
    """Return the median difference between runs of the same split and seed."""
    return statistics.median([a - b for a, b in zip(left, right, strict=True)])


def _digits(values: NDArray[np.int64]) -> str:
    names, counts = np.unique(values, return_counts=True)
    return " ".join(
        f"{name}×{count}" for name, count in sorted(zip(names, counts, strict=True), key=lambda p: -p[1])[:3]
    )


def _deep(width: int, layers: int) -> nn.Module:
    parts: list[nn.Module] = [nn.Linear(64, width)]
    for _ in range(layers - 1):
        parts += [nn.ReLU(), nn.Linear(width, width)]
    return nn.Sequential(*parts, nn.ReLU(), nn.Linear(width, 10))


def _convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 16, 10),
    )


def looped_gradients(module: nn.Module, x: torch.Tensor, y: NDArray[np.int64]) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yield the gradients of one row after another, by one backward pass each."""
    parameters, labels = list(module.parameters()), torch.from_numpy(y)
    for row in range(len(x)):
        loss = nn.functional.cross_entropy(module(x[row : row + 1]), labels[row : row + 1])
        yield torch.autograd.grad(loss, parameters)


PARTS: dict[str, Callable[[Scale], Part]] = {
    "labels": labels_part,
    "pruning": pruning_part,
    "coherence": coherence_part,
    "speed": speed_part,
    "geometry": geometry_part,
    "roar": roar_part,
    "opposing": opposing_part,
}
