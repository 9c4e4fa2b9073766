"""Training of the choice of a cycle for any couplings: a search for candidates, and a network fitted to their costs."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers import solve
from relaxon.solvers.dcdm.coupling_choice import FEATURES, Candidate, CouplingChoice, measure_couplings
from relaxon.solvers.dcdm.coupling_systems import random_system
from relaxon.solvers.dcdm.outer import ConjugateDirections
from relaxon.solvers.grid.nullspace import closes_faces
from relaxon.solvers.grid.operator import PoissonOperator
from relaxon.solvers.grid.poisson_grid import PoissonGrid
from relaxon.solvers.interface.engine import Prepared, Solver
from relaxon.solvers.multigrid.cycle import SingleCycle
from relaxon.solvers.multigrid.parted import GraphLevel, PartedCycle, Parting

Array = NDArray[np.float64]
RTOL, MOST = 1e-6, 80
OUTER = 9.0
"""The cost of an iteration without the cycle, in sweeps over the finest level."""
TRANSFERS, PARTED_TRANSFERS = 4.4, 5.0
"""The cost of a level's residual and transfers in the same unit, where they follow the couplings and to parts."""
GRAPH = 4.0
"""The cost of an entry of a graph relative to one of a grid."""
SET_UP, REACHING_SET_UP, PARTED_SET_UP = 80.0, 85.0, 120.0
"""What setting up costs: transfers that follow the couplings, the same with closed faces or a reaction, and parts. All
these are as two threads took in 128³ cells; training itself times nothing."""
TEMPERATURE, FORETOLD, FIT_STEPS, FIT_RATE = 0.1, 0.3, 1000, 0.02
PLAIN = Candidate(2)
"""The cycle of `mg-cg`, to compare with."""
FOLDS = 4
"""Each system is kept from one of so many fits, which say what the network gains on systems that it has not seen."""
DECAYS = (1e-3, 1e-2, 1e-1, 1.0)
"""Of the network's weights; the one that gains most there is taken. With the last all systems get one candidate."""


@dataclass(frozen=True, slots=True)
class CouplingTraining:
    """Settings of a training run.

    Parameters
    ----------
    tried : candidates drawn beside the three that follow the couplings with 2, 3 and 4 sweeps.
    searched : systems on which all are tried.
    kept : candidates that together cost least there: those that the network chooses among.
    systems : on which these are tried, for the network.
    price : what work counts beside iterations: 1 for work with set-up alone, 0 for iterations alone.
    hidden : units of the network.
    """

    tried: int = 30
    searched: int = 48
    kept: int = 7
    systems: int = 320
    price: float = 1.0
    hidden: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tried", "searched", "kept", "systems", "hidden"):
            validation.positive_int(name, getattr(self, name))
        if not 0 <= validation.finite_float("price", self.price) <= 1:
            raise ValueError(f"price must be from 0 to 1, got {self.price!r}")


class FixedCycle(Solver):
    """The method with one candidate's cycle, without a second method."""

    name, summary = "fixed-cycle", "conjugate directions from one candidate's cycle"

    def __init__(self, candidate: Candidate) -> None:
        self._candidate = candidate

    def prepare(self, operator: PoissonOperator) -> Prepared:
        cycle = self._candidate.cycle(operator)
        found = ConjugateDirections(operator, cycle.direction, 1, MOST)
        found.info |= {"work": OUTER + cycle_work(cycle), "set_up": self._set_up_work(operator.grid)}
        return found

    def _set_up_work(self, grid: PoissonGrid) -> float:
        if self._candidate.parting is not None:
            return PARTED_SET_UP
        return REACHING_SET_UP if grid.reaction is not None or closes_faces(grid) else SET_UP


def cycle_work(cycle: SingleCycle) -> float:
    """Return what a cycle costs, in sweeps over the finest level; it is counted, not timed."""
    inner = getattr(cycle, "_cycle", cycle)
    if not isinstance(inner, PartedCycle):
        return inner.info["grid_complexity"] * (2 * inner.info["sweeps"] + TRANSFERS)
    parting, cells = inner.parting, inner.levels[0].diagonal.size
    total, visits = 2.0 * parting.sweeps + PARTED_TRANSFERS, 1.0
    for level in inner.levels[1:]:
        assert isinstance(level, GraphLevel)
        visits *= 2
        graph = (level.rows.others.size + len(level.diagonal)) / 7
        total += visits * GRAPH * (2 * parting.coarse_sweeps + 1) * graph / cells
    return total


def cost_of(candidate: Candidate, grid: PoissonGrid, b: Array, price: float) -> float:
    """Return the mean of two logarithms: of the iterations for six decades, and, weighed by `price`, of the work.

    The iterations include the fraction of the last one, and are extrapolated where `MOST` were not enough. The work is
    that of the iterations and of the set-up.
    """
    found = solve(grid, b, solver=FixedCycle(candidate), rtol=RTOL, max_iterations=MOST, inconsistent="project")
    history = np.maximum(np.asarray(found.residuals, np.float64), 1e-300)
    decades = math.log10(history[0] / history[-1]) if len(history) > 1 and history[0] > 0 else 0.0
    iterations = max((len(history) - 1) * -math.log10(RTOL) / max(decades, 0.5), 1.0)
    work = found.info["set_up"] + iterations * found.info["work"]
    return (1 - price) * math.log(iterations) + price * math.log(work)


def draw_candidates(count: int, rng: np.random.Generator) -> list[Candidate]:
    """Draw three candidates that follow the couplings, and `count` with parts of blocks."""
    found = [Candidate(sweeps) for sweeps in (2, 3, 4)]
    for _ in range(count):
        sweeps, coarse = int(rng.integers(2, 5)), int(rng.integers(2, 4))
        least, factor = 10.0 ** rng.uniform(-1.7, -0.8), rng.uniform(0.505, 0.66)
        found.append(Candidate(sweeps, Parting(round(float(least), 4), round(float(factor), 3), sweeps, coarse)))
    return found


def keep_best(costs: Array, count: int) -> list[int]:
    """Select greedily the columns whose least is least in the mean; `costs` is (systems, candidates)."""
    kept: list[int] = []
    least = np.full(len(costs), np.inf)
    for _ in range(min(count, costs.shape[1])):
        gains = np.minimum(least[:, None], costs).mean(0)
        gains[kept] = np.inf
        kept.append(int(np.argmin(gains)))
        least = np.minimum(least, costs[:, kept[-1]])
    return kept


def fit_network(
    features: Array, costs: Array, candidates: tuple[Candidate, ...], hidden: int, decay: float, seed: int
) -> CouplingChoice:
    """Fit by Adam to the cost of the network's choices and to the error of its predictions, all systems at once."""
    rng = np.random.default_rng(seed)
    count = costs.shape[1]
    target = costs - costs.mean(1, keepdims=True)
    weights = [rng.standard_normal((hidden, FEATURES)) / math.sqrt(FEATURES), np.zeros(hidden)]
    weights += [rng.standard_normal((count, hidden)) * 0.1, target.mean(0)]
    first, second = ([np.zeros_like(w) for w in weights] for _ in range(2))
    for step in range(1, FIT_STEPS + 1):
        inner = features @ weights[0].T + weights[1]
        active = np.maximum(inner, 0)
        output = active @ weights[2].T + weights[3]
        share = np.exp(-(output - output.min(1, keepdims=True)) / TEMPERATURE)
        share /= share.sum(1, keepdims=True)
        slope = -share * (target - (share * target).sum(1, keepdims=True)) / TEMPERATURE
        slope = (slope + FORETOLD * 2 * (output - target)) / len(features)
        back = slope @ weights[2] * (inner > 0)
        gradients = [back.T @ features, back.sum(0), slope.T @ active, slope.sum(0)]
        rate = FIT_RATE * (1 - step / (FIT_STEPS + 1))
        for weight, gradient, one, two in zip(weights, gradients, first, second, strict=True):
            gradient = gradient + decay * weight * (weight.ndim == 2)
            one += 0.1 * (gradient - one)
            two += 0.001 * (gradient**2 - two)
            weight -= rate * (one / (1 - 0.9**step)) / (np.sqrt(two / (1 - 0.999**step)) + 1e-8)
    return CouplingChoice(candidates, *(weight.round(6) for weight in weights))


def taken_unseen(
    features: Array, costs: Array, kept: list[Candidate], settings: CouplingTraining, decay: float
) -> float:
    """Return the mean cost of what a network takes on hold-out systems."""
    total = 0.0
    for fold in range(FOLDS):
        out = np.arange(len(costs)) % FOLDS == fold
        args = (tuple(kept), settings.hidden, decay, settings.seed)
        choice = fit_network(features[~out], costs[~out], *args)
        total += float(costs[out][np.arange(int(out.sum())), np.argmin(choice.costs(features[out]), 1)].sum())
    return total / len(costs)


def train_choice(settings: CouplingTraining, progress: Callable[[int, int], object] | None = None) -> dict[str, Any]:
    """Train; return a record: the choice, the settings, what is gained, the seconds. Costs are counted, not timed, so
    that the same settings give the same bits on one machine. `progress(done, of)` is called after each system.
    """
    began = time.perf_counter()
    rng = np.random.default_rng(settings.seed)
    total, done = settings.searched + settings.systems, 0

    def table(candidates: list[Candidate], systems: int) -> tuple[Array, Array]:
        nonlocal done
        features, costs = [], []
        for number in range(systems):
            grid, b = random_system(rng, 2 + number % 2)
            features.append(measure_couplings(grid.operator()))
            costs.append([cost_of(candidate, grid, b, settings.price) for candidate in candidates])
            done += 1
            if progress is not None:
                progress(done, total)
        return np.array(features), np.array(costs)

    tried = draw_candidates(settings.tried, rng)
    _, costs = table(tried, settings.searched)
    kept = [tried[index] for index in keep_best(costs, settings.kept)]
    features, costs = table([*kept, PLAIN], settings.systems)
    costs, plain = costs[:, :-1], costs[:, -1]
    taken = {decay: taken_unseen(features, costs, kept, settings, decay) for decay in DECAYS}
    decay = min(DECAYS, key=lambda one: (taken[one], -one))
    choice = fit_network(features, costs, tuple(kept), settings.hidden, decay, settings.seed)
    return {
        "choice": choice.as_dict(),
        "settings": asdict(settings),
        "numbers": choice.count,
        "unseen": {
            "taken": taken[decay],
            "by_decay": {str(one): value for one, value in taken.items()},
            "best_single": float(costs.mean(0).min()),
            "oracle": float(costs.min(1).mean()),
            "plain": float(plain.mean()),
        },
        "seconds": round(time.perf_counter() - began, 1),
    }


def write_choice(path: Path, trained: dict[str, Any]) -> None:
    """Write a record as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(trained, indent=1) + "\n")
