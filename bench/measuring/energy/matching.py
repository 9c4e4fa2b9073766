"""The part of `bench/energy.py` on matched energies and on chains in a metric, beside torchebm's on the same model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import torch

from relaxon.neuromorphic.energy import (
    EnergyMatching,
    EquilibriumMatching,
    MLPEnergy,
    Objective,
    RiemannianHMC,
    TrainingSettings,
    planar,
    train,
)
from relaxon.neuromorphic.energy.energies.derivatives import energy_gradient

Row = dict[str, Any]
Train = Callable[[torch.Tensor, int], MLPEnergy]
BATCH, RATE = 256, 5e-3
DESCENT = 200
"""Moves from noise to samples."""
EQUILIBRIUM_RATE = 0.01
DRAWN = 2000
TEMPERATURE, MOVES = 0.15, 50
CHAINS, STEP, LEAPS = 1000, 0.5, 3


def matching_rows(steps: int, seeds: int) -> Iterator[Row]:
    """Distance of what was drawn to the data (energy distance; 0 is equal) and processor milliseconds a step."""
    data = torch.from_numpy(planar("eight-gaussians").sample(20_000, 1)).float()
    data = (data - data.mean(0)) / data.std(0)
    energy = EnergyMatching(TEMPERATURE, warm_up=steps // 2, moves=MOVES)
    arms: dict[str, tuple[Objective, Train, float]] = {
        "equilibrium matching": (EquilibriumMatching(), _their_equilibrium, EQUILIBRIUM_RATE),
        "energy matching": (energy, _their_energy, TEMPERATURE / DESCENT),
    }
    for name, (objective, theirs, rate) in arms.items():
        both: dict[str, Train] = {"relaxon": _ours(objective)}
        if find_spec("torchebm") is not None:
            both["torchebm"] = theirs
        for run in both.values():  # the first steps of a process import and warm up
            run(data, 10)
        found: dict[str, list[tuple[float, float]]] = {library: [] for library in both}
        for seed in range(seeds):
            for library, run in both.items():
                began = time.thread_time()
                trained = _seeded(run, data, steps, seed)
                milliseconds = 1e3 * (time.thread_time() - began) / steps
                found[library].append((_distance(_drawn(trained, rate, seed), data[:DRAWN]), milliseconds))
        row: Row = {"objective": name, "steps": steps, "seeds": seeds}
        for library, values in found.items():
            row[f"{library}, distance"] = statistics.median(distance for distance, _ in values)
            row[f"{library}, ms"] = statistics.median(cost for _, cost in values)
        yield row


def riemannian_rows(moves: int) -> Iterator[Row]:
    """Neal's funnel from draws of it: what its first coordinate's deviation of 1.5 has become, and the cost."""
    generator = torch.Generator().manual_seed(0)
    first = 1.5 * torch.randn(CHAINS, 1, generator=generator)
    start = torch.cat([first, torch.exp(0.5 * first) * torch.randn(CHAINS, 2, generator=generator)], 1)
    runs: dict[str, Callable[[], torch.Tensor]] = {"relaxon": lambda: _our_chains(start, moves)}
    if find_spec("torchebm") is not None:
        runs["torchebm"] = lambda: _their_chains(start, moves)
    for library, run in runs.items():
        began = time.thread_time()
        ends = run()
        yield {
            "library": library,
            "moves": moves,
            "deviation": float(ends[:, 0].std()),
            "mean move": float((ends - start).abs().mean()),
            "cpu_seconds": time.thread_time() - began,
        }


def funnel(x: torch.Tensor) -> torch.Tensor:
    """`x₀ ~ N(0, 1.5²)`, the others `N(0, e^{x₀})`."""
    others = 0.5 * x[:, 1:].square().sum(1) * torch.exp(-x[:, 0])
    return x[:, 0].square() / 4.5 + others + 0.5 * x[:, 0] * (x.shape[1] - 1)


def funnel_metric(x: torch.Tensor) -> torch.Tensor:
    """Its expected curvature."""
    wide = torch.exp(-x[:, :1]).expand(-1, x.shape[1] - 1)
    first = torch.full_like(x[:, :1], 1 / 2.25 + 0.5 * (x.shape[1] - 1))
    return torch.diag_embed(torch.cat([first, wide], 1))


def _ours(objective: Objective) -> Train:
    def run(data: torch.Tensor, steps: int) -> MLPEnergy:
        energy = MLPEnergy(2, confinement=0.0)
        train(energy, data, None, objective, TrainingSettings(steps=steps, batch=BATCH, rate=RATE))
        return energy

    return run


def _seeded(run: Train, data: torch.Tensor, steps: int, seed: int) -> MLPEnergy:
    torch.manual_seed(seed)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    return run(data[order], steps)


def _stepped(energy: MLPEnergy, data: torch.Tensor, steps: int, loss: Callable[[torch.Tensor, int], Any]) -> MLPEnergy:
    """Adam with the rate falling along a cosine, as ours."""
    optimiser = torch.optim.Adam(energy.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        batch = data[torch.randint(len(data), (BATCH,))]
        optimiser.zero_grad()
        loss(batch, step).backward()
        optimiser.step()
        schedule.step()
    return energy


def _their_equilibrium(data: torch.Tensor, steps: int) -> MLPEnergy:
    from torchebm.losses import EquilibriumMatchingLoss

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = MLPEnergy(2, confinement=0.0)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            x = x.detach().requires_grad_(True)
            return torch.autograd.grad(self.inner(x).sum(), x, create_graph=True)[0]

    field = Field()
    loss: Any = EquilibriumMatchingLoss(model=field)
    return _stepped(field.inner, data, steps, lambda batch, step: loss(batch))


def _their_energy(data: torch.Tensor, steps: int) -> MLPEnergy:
    from torchebm.core import BaseModel
    from torchebm.losses import EnergyMatchingLoss

    class Potential(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.inner = MLPEnergy(2, confinement=0.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = TEMPERATURE * self.inner(x)
            return found

    model = Potential()
    loss: Any = EnergyMatchingLoss(model, lambda_cd=0.0, epsilon_max=TEMPERATURE, n_langevin_steps=MOVES)

    def both(batch: torch.Tensor, step: int) -> Any:
        loss.lambda_cd = 2.0 if step >= steps // 2 else 0.0
        return loss(batch)

    return _stepped(model.inner, data, steps, both)


def _drawn(energy: MLPEnergy, rate: float, seed: int) -> torch.Tensor:
    x = torch.randn(DRAWN, 2, generator=torch.Generator().manual_seed(seed))
    for _ in range(DESCENT):
        x = x - rate * energy_gradient(energy, x)
    return x


def _distance(x: torch.Tensor, y: torch.Tensor) -> float:
    """Energy distance of Székely: `2 E‖x − y‖ − E‖x − x'‖ − E‖y − y'‖`."""
    return float(2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean())


def _our_chains(start: torch.Tensor, moves: int) -> torch.Tensor:
    sampler = RiemannianHMC(funnel_metric, STEP, leapfrog_steps=LEAPS)
    return sampler.run(funnel, start, moves, torch.Generator().manual_seed(1), thin=moves).samples[-1]


def _their_chains(start: torch.Tensor, moves: int) -> torch.Tensor:
    from torchebm.core import BaseModel
    from torchebm.samplers import RiemannianManifoldHMC

    class Funnel(BaseModel):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return funnel(x)

    sampler: Any = RiemannianManifoldHMC(Funnel(), funnel_metric, step_size=STEP, n_leapfrog_steps=LEAPS)
    found: torch.Tensor = sampler.sample(x=start, n_steps=moves)
    return found
