"""Training of the learned cycle: the residual after a few steps of the method, on small random geometries, in torch."""

# Imported on first use, for their weight: torch, `torch_cycle`.

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers.dcdm import problems
from relaxon.solvers.grid.poisson_grid import CellType, PoissonGrid
from relaxon.solvers.multigrid.constants import LearnedConstants, chebyshev, from_record
from relaxon.solvers.multigrid.fused import FusedCycle

GEOMETRIES = ("mixed", "porous")
POROUS_SHARE = 0.25
WORST_SHARE = 0.3
"""How much the worst problem of a batch counts beside the mean."""


@dataclass(frozen=True, slots=True)
class CycleTraining:
    """Settings of a training run.

    Parameters
    ----------
    ndim : 2 or 3.
    size : cells a side of the training boxes.
    geometries : "mixed" (boxes, obstacles, walls, surfaces, and a quarter of "porous") or "porous" (10 to 35 % of the
        cells SOLID, at random).
    count : geometries drawn before training begins; batches are drawn from them, with new right-hand sides.
    steps, batch : Adam's steps and the problems in each.
    iterations : steps of the method that the loss goes through.
    rate : Adam's learning rate at the start; it falls linearly to a hundredth.
    levels, hidden, visits : of `LearnedCycle`.
    """

    ndim: int = 3
    size: int = 32
    geometries: str = "mixed"
    count: int = 120
    steps: int = 1000
    batch: int = 3
    iterations: int = 4
    rate: float = 1e-2
    levels: int = 2
    hidden: int = 8
    visits: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.ndim not in (2, 3):
            raise ValueError(f"ndim must be 2 or 3, got {self.ndim!r}")
        if self.geometries not in GEOMETRIES:
            raise ValueError(f"geometries must be one of {', '.join(GEOMETRIES)}, got {self.geometries!r}")
        for name in ("size", "count", "steps", "batch", "iterations", "levels", "hidden", "visits"):
            validation.positive_int(name, getattr(self, name))
        validation.positive_float("rate", self.rate)


def train_cycle(
    settings: CycleTraining,
    progress: Callable[[int, float], object] | None = None,
    start: LearnedConstants | None = None,
) -> dict[str, Any]:
    """Train; returns a record: the constants, the settings, the loss before and after (mean decades), the seconds.

    `progress(step, decades)` is called after each step; returning True ends the training there. The same settings give
    the same bits on one machine with one number of torch threads.
    """
    import torch

    from relaxon.solvers.dcdm.torch_cycle import LearnedCycle, residual_norms, stack

    began = time.perf_counter()
    rng = np.random.default_rng(settings.seed)
    with torch.random.fork_rng(devices=[]):  # the caller's global stream is put back
        torch.manual_seed(settings.seed)
        module = LearnedCycle(settings.ndim, settings.levels, settings.hidden, settings.visits)
        if start is not None:
            module = LearnedCycle.of(start)
    grids = [_geometry(settings, rng) for _ in range(settings.count)]
    plain = {settings.ndim: chebyshev(settings.ndim)}
    by_depth: dict[int, list[tuple[PoissonGrid, FusedCycle]]] = {}
    for grid in grids:
        cycle = FusedCycle(grid.operator(), plain)
        by_depth.setdefault(len(cycle.levels), []).append((grid, cycle))
    module.trained_levels = max(by_depth)
    groups = list(by_depth.values())
    weights = np.array([len(group) for group in groups]) / len(grids)
    optimiser = torch.optim.Adam(module.parameters(), lr=settings.rate)
    decades: list[float] = []
    for step in range(settings.steps):
        for group_ in optimiser.param_groups:
            group_["lr"] = settings.rate * max(1 - step / settings.steps, 0.01)
        group = groups[rng.choice(len(groups), p=weights)]
        chosen = [group[i] for i in rng.integers(0, len(group), settings.batch)]
        levels = stack([cycle for _, cycle in chosen])
        b = torch.from_numpy(np.stack([_source(grid, cycle, rng) for grid, cycle in chosen]))
        norms = residual_norms(module, levels, b, settings.iterations)
        reduction = torch.log10(norms[-1] / norms[0])
        loss = reduction.mean() + WORST_SHARE * reduction.max()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        decades.append(float(reduction.detach().mean()))
        if progress is not None and progress(step + 1, decades[-1]) is True:
            break
    few = max(len(decades) // 20, 1)
    return {
        **module.constants().as_dict(),
        "settings": asdict(settings),
        "constants": module.constants().count,
        "decades_first": float(np.mean(decades[:few])),
        "decades_last": float(np.mean(decades[-few:])),
        "iterations_of_loss": settings.iterations,
        "steps": len(decades),
        "threads": torch.get_num_threads(),
        "seconds": round(time.perf_counter() - began, 1),
    }


def write_model(path: Path, name: str, trained: dict[str, Any]) -> None:
    """Put a record into a file of models under `name`, keeping the others."""
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"models": {}}
    found["models"][name] = trained
    path.write_text(json.dumps(found, indent=1) + "\n")


def read_model(path: Path, name: str) -> LearnedConstants:
    """Return the constants that `write_model` wrote."""
    return from_record(json.loads(path.read_text())["models"][name])


def _geometry(settings: CycleTraining, rng: np.random.Generator) -> PoissonGrid:
    shape = (settings.size,) * settings.ndim
    if settings.geometries == "mixed" and rng.random() >= POROUS_SHARE:
        return problems.random_grid(shape, rng)
    cells = np.where(rng.random(shape) < rng.uniform(0.1, 0.35), CellType.SOLID, CellType.FLUID).astype(np.uint8)
    cells[(0,) * settings.ndim] = CellType.FLUID
    open_side = [["neumann", "dirichlet"][int(rng.random() < 0.5)] for _ in range(settings.ndim)]
    return PoissonGrid(cells, boundary=open_side)


def _source(grid: PoissonGrid, cycle: FusedCycle, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a random right-hand side in the operator's range, of norm 1, in the cycle's shape."""
    while True:
        kind = problems.SOURCES[rng.integers(len(problems.SOURCES))]
        b = np.where(grid.fluid, kind(grid, rng), 0.0).reshape(grid.shape3)
        b *= grid.operator().code != 0
        grid.nullspace.project(b)
        norm = float(np.linalg.norm(b))
        if norm > 1e-12:
            return (b / norm).astype(np.float32).reshape(cycle.shape)
