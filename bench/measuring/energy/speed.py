"""The part of `bench/energy.py` on cost: a step beside torchebm's, and the compiled reference beside two others."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch

from relaxon.neuromorphic.energy import (
    ENCE,
    MECO,
    NCE,
    PCD,
    SNL,
    ULA,
    ExponentialFamilyEnergy,
    GaussianNoise,
    MLPEnergy,
    Objective,
    PolynomialStatistics,
    ScoreMatching,
    TrainingSettings,
    train,
)
from relaxon.neuromorphic.energy.reference import FamilyReference, HiddenReference, MECOReference

Row = dict[str, Any]
BATCH, MOVES, STEPS = 1024, 10, 20
FEATURES = 2
REFERENCE_BATCH, REFERENCE_STEPS = 256, 200
DOUBLE = torch.float64


def cost_rows(repeats: int) -> Iterator[Row]:
    """Processor milliseconds a step, medians: both take turns in one process, on one model, batch and optimiser."""
    x = torch.randn(20_000, FEATURES, generator=torch.Generator().manual_seed(0))
    yield from _beside_torchebm(x, repeats)
    yield from _reference(repeats)


def _ours(x: torch.Tensor, objective: Objective) -> Callable[[], object]:
    noise = GaussianNoise.fit(x) if objective.needs_noise else None
    settings = TrainingSettings(steps=STEPS, batch=BATCH, rate=1e-3, schedule="constant")
    return lambda: train(MLPEnergy(FEATURES, confinement=0.0), x, noise, objective, settings)


def _theirs(x: torch.Tensor, name: str) -> Callable[[], object]:
    from torchebm.core import BaseModel
    from torchebm.losses import ContrastiveDivergence, ScoreMatching
    from torchebm.samplers import LangevinDynamics

    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.inner = MLPEnergy(FEATURES, confinement=0.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(x)
            return found

    def run() -> None:
        model = Model()
        if name == "PCD":
            sampler = LangevinDynamics(model, step_size=0.1)
            loss: Any = ContrastiveDivergence(model, sampler, k_steps=MOVES, persistent=True, init_steps=0)
        else:
            loss = ScoreMatching(model, hessian_method="exact")
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        generator = torch.Generator().manual_seed(0)
        for _ in range(STEPS):
            batch = x[torch.randint(len(x), (BATCH,), generator=generator)]
            optimiser.zero_grad()
            value = loss(batch)
            (value[0] if isinstance(value, tuple) else value).backward()
            optimiser.step()

    return run


def _beside_torchebm(x: torch.Tensor, repeats: int) -> Iterator[Row]:
    arms: dict[str, tuple[Objective, bool]] = {
        f"PCD, {MOVES} Langevin moves": (PCD(ULA(0.1), moves=MOVES), True),
        "score matching, exact trace": (ScoreMatching(), True),
        "MECO": (MECO(), False),
        "MECO as published": (MECO.published(), False),
        "NCE": (NCE(), False),
        "eNCE": (ENCE(), False),
        "SNL": (SNL(), False),
    }
    there = find_spec("torchebm") is not None
    if not there:
        print("torchebm is not installed (pip install -e '.[energy-bench]'): its column is left out")
    for name, (objective, has_rival) in arms.items():
        rival = has_rival and there
        ours, theirs = _ours(x, objective), _theirs(x, name.partition(",")[0]) if rival else None
        mine, others = [], []
        for repeat in range(repeats + 1):
            mine.append(_seconds(ours))
            if theirs is not None:
                others.append(_seconds(theirs))
            if repeat == 0:  # the first of each warms up
                mine.clear(), others.clear()
        row: Row = {"step": name, "batch": BATCH, "relaxon_ms": 1e3 * statistics.median(mine) / STEPS}
        if others:
            row["torchebm_ms"] = 1e3 * statistics.median(others) / STEPS
            row["torchebm / relaxon"] = row["torchebm_ms"] / row["relaxon_ms"]
        else:
            row |= {"torchebm_ms": None, "torchebm / relaxon": None}
        yield row


def _reference(repeats: int) -> Iterator[Row]:
    energies: dict[str, tuple[Any, Any]] = {
        "MECO, exponential family, 5 statistics": (
            ExponentialFamilyEnergy(PolynomialStatistics(2, 2), 2, confinement=1.0, dtype=DOUBLE),
            FamilyReference,
        ),
        "MECO, 32 hidden units": (
            MLPEnergy(2, (32,), activation="tanh", confinement=0.5, dtype=DOUBLE),
            HiddenReference,
        ),
    }
    noise = GaussianNoise(torch.zeros(2, dtype=DOUBLE), torch.eye(2, dtype=DOUBLE))
    generator = torch.Generator().manual_seed(0)
    x, z = (torch.randn(REFERENCE_BATCH, 2, generator=generator, dtype=DOUBLE) for _ in range(2))
    log_q = noise.log_prob(z)
    for name, (energy, kind) in energies.items():
        reference, theta = kind.of(energy)

        runs = {
            "numba": partial(_compiled, reference, theta, "numba", x, z, log_q),
            "numpy": partial(_compiled, reference, theta, "numpy", x, z, log_q),
            "torch": partial(_torched, energy, x, noise),
        }
        times: dict[str, list[float]] = {backend: [] for backend in runs}
        for repeat in range(repeats + 1):
            for backend, run in runs.items():
                seconds = _seconds(run)
                if repeat:
                    times[backend].append(seconds)
        row: Row = {"step": name, "batch": REFERENCE_BATCH}
        row |= {f"{backend}_ms": 1e3 * statistics.median(found) / REFERENCE_STEPS for backend, found in times.items()}
        yield row


def _compiled(reference: Any, theta: Any, backend: Any, x: torch.Tensor, z: torch.Tensor, log_q: torch.Tensor) -> None:
    made = MECOReference(reference, theta, 0.01, momentum=0.9, backend=backend)
    for _ in range(REFERENCE_STEPS):
        made.step(x.numpy(), z.numpy(), log_q.numpy())


def _torched(energy: Any, x: torch.Tensor, noise: Any) -> None:
    settings = TrainingSettings(steps=REFERENCE_STEPS, batch=REFERENCE_BATCH, optimiser="momentum", rate=0.01)
    train(energy, x, noise, MECO(0.1, warm_up=1), settings)


def _seconds(run: Callable[[], object]) -> float:
    """Of this thread on a processor: other work on the machine counts less than on the clock."""
    began = time.thread_time()
    run()
    return time.thread_time() - began
