"""Training of the network of multigrid constants, on the costs of candidates on small random systems."""
# Imported on first use, for its weight: torch.

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import validation
from relaxon.solvers.kernels.threads import num_threads
from relaxon.solvers.sparse.amg.constants import DEFAULTS, Constants
from relaxon.solvers.sparse.amg.engine import MultigridDirections
from relaxon.solvers.sparse.amg.solver import AlgebraicMultigrid
from relaxon.solvers.sparse.learned.cost import solve_cost
from relaxon.solvers.sparse.learned.features import FEATURES, matrix_features
from relaxon.solvers.sparse.learned.network import CARD, FILE, ConstantsNetwork
from relaxon.solvers.sparse.learned.problems import PROBLEMS, random_matrix
from relaxon.solvers.sparse.prepared.prepared_matrix import prepare_system
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

Array = NDArray[np.float64]
Progress = Callable[[str, int, int], object]
MOST_ITERATIONS = 200
SLOWER, EXTRA = 2.0, 10
"""Candidates may take `SLOWER` times the iterations of the first one and `EXTRA` more."""
FAILED = 1.5
"""Factor of the cost of a candidate that has not converged by then."""
BOUNDS: dict[str, tuple[float, float]] = {
    "strength": (0.05, 0.9), "dominated": (0.2, 0.9), "correction": (0.8, 1.75), "relaxation": (0.7, 1.6),
    "twice": (0.3, 0.8), "budget": (1.5, 5.0), "enough": (0.02, 0.35),
}  # fmt: skip
"""Bounds of the candidates; `budget` and `enough` are drawn by their logarithms, `matchings` is 1, 2 or 3."""
BY_LOGARITHM = ("budget", "enough")
SPREAD, CHANGED = 0.12, 0.5
"""A candidate of a later round differs from a good one by `SPREAD` of the bounds, in the fraction `CHANGED` of its
constants."""
WORST_LOSS, BEST_GAIN = 1.0, -2.0
"""Bounds to which logarithms of costs over the first candidate's are clipped."""
TEMPERATURE = 0.05
"""Difference of two predicted logarithms at which the softmax of the loss is nearly sure of its choice."""
VALIDATION = 5
"""One system in this many is held out from a fit."""
SAVED_EVERY = 10
"""Rows of the table between two saves."""
PART, ACCURACY = 0.8, 2.0
"""Fraction of the systems to which each network is fitted, and the weight of its predictions beside its choices."""
CAUTIONS = (0.0, 0.5, 1.0, 1.5)
"""Candidates for `ConstantsNetwork.caution`."""


@dataclass(frozen=True, slots=True)
class ConstantsTraining:
    """Settings of a training run.

    Parameters
    ----------
    out : folder for the weights, their card and the cost table; a run in the same folder with the same settings resumes
        from its table.
    survey : number of small systems on which candidates are searched.
    pool, rounds : constants tried on each of them in a round; later rounds try the neighbourhood of good ones.
    candidates : number of constants that are kept, with those without learning first.
    systems : number of systems in the table from which the network learns.
    least, most : range of their unknowns, drawn by logarithm. The survey has none above twice the least.
    dense : largest number of rows of the last level, fewer than in solves, so that small systems have as many levels as
        large ones.
    members, hidden, steps, rate, decay, noise : settings of the networks and their fit by AdamW; `noise` is that of the
        features.
    """

    out: Path = Path("runs/sparse-constants")
    survey: int = 52
    pool: int = 128
    rounds: int = 2
    candidates: int = 16
    systems: int = 650
    least: int = 2_000
    most: int = 16_000
    dense: int = 8
    members: int = 4
    hidden: int = 24
    steps: int = 800
    rate: float = 5e-3
    decay: float = 1e-2
    noise: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        whole = ["survey", "pool", "rounds", "candidates", "systems", "least", "most", "dense"]
        whole += ["members", "hidden", "steps"]
        for name in whole:
            validation.positive_int(name, getattr(self, name))
        for name in ("rate", "decay", "noise"):
            validation.non_negative_float(name, getattr(self, name))
        if self.least > self.most:
            raise ValueError(f"least must be at most most, {self.most}, got {self.least}")
        if self.systems < 2 * VALIDATION:
            raise ValueError(f"systems must be at least {2 * VALIDATION}, got {self.systems}")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values, without the folder."""
        return {name: value for name, value in asdict(self).items() if name != "out"}


def train_constants(settings: ConstantsTraining, progress: Progress | None = None) -> dict[str, Any]:
    """Search candidates, fill the table and fit the network; write the weights and their card, and return the card.

    `progress(stage, done, total)` is called during the run. The same settings give the same bits on the same machine.
    """
    began = time.perf_counter()
    tell = progress if progress is not None else _silent
    settings.out.mkdir(parents=True, exist_ok=True)
    table = _Table(settings)
    with num_threads(1):
        pool = _survey(settings, table, tell)
        features, costs, families = _fill_table(settings, table, pool, tell)
    network, figures = fit(settings, pool, features, costs, tell)
    digest = network.save(settings.out / FILE)
    card = {
        "sha256": digest,
        "numbers": network.count,
        "settings": settings.as_dict(),
        "families": {name: families.count(name) for name in PROBLEMS},
        **figures,
        "seconds": round(table.seconds + time.perf_counter() - began, 1),
    }
    (settings.out / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    return card


def _silent(stage: str, done: int, total: int) -> None:
    pass


class _Table:
    """Rows of costs by name, on disk, so that a run with the same settings resumes from them."""

    def __init__(self, settings: ConstantsTraining) -> None:
        fitted = ("members", "hidden", "steps", "rate", "decay", "noise")
        self.key = {name: value for name, value in settings.as_dict().items() if name not in fitted}
        self.path = settings.out / "table.json"
        self.rows: dict[str, Any] = {}
        self.seconds = 0.0
        self._began = time.perf_counter()
        if self.path.exists():
            found = json.loads(self.path.read_text("utf-8"))
            if found["settings"] == self.key:
                self.rows, self.seconds = found["rows"], found["seconds"]

    def row(self, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in self.rows:
            self.rows[name] = make()
            if len(self.rows) % SAVED_EVERY == 0:
                self.save()
        found: dict[str, Any] = self.rows[name]
        return found

    def save(self) -> None:
        spent = self.seconds + time.perf_counter() - self._began
        draft = self.path.with_suffix(".part")
        draft.write_text(json.dumps({"settings": self.key, "seconds": spent, "rows": self.rows}), "utf-8")
        draft.replace(self.path)


def draw_system(settings: ConstantsTraining, index: int, survey: bool) -> tuple[str, MatrixSystem, Array]:
    """Draw a random system of the training; return its family, the system and a right-hand side in its range."""
    rng = np.random.default_rng([settings.seed, index, survey])
    family = list(PROBLEMS)[index % len(PROBLEMS)]
    most = min(settings.most, 2 * settings.least) if survey else settings.most
    n = int(np.exp(rng.uniform(np.log(settings.least), np.log(most))))
    system = MatrixSystem.of(random_matrix(family, n, rng))
    return family, system, system.project(rng.standard_normal(system.unknowns))


def measure_costs(system: MatrixSystem, b: Array, candidates: Iterable[Constants], dense: int) -> list[float]:
    """Measure the logarithms of the candidates' costs over that of the first one, which is never cut short."""
    found: list[float] = []
    limit, first = MOST_ITERATIONS, 1.0
    for constants in candidates:
        prepared = prepare_system(system, AlgebraicMultigrid(replace(constants, dense=dense)))
        solution = prepared.solve(b, max_iterations=limit)
        front = prepared if prepared.reduced is None else prepared.reduced
        engine = front.engine
        if not isinstance(engine, MultigridDirections):  # elimination has left nothing to solve
            found.append(0.0)
            continue
        cost = solve_cost(engine, solution) * (1.0 if solution.converged else FAILED)
        if not found:
            first = cost
            limit = min(MOST_ITERATIONS, int(SLOWER * solution.iterations) + EXTRA)
        found.append(math.log(cost / first))
    return found


def draw_constants(parts: Array) -> Constants:
    """Return the constants for eight numbers in [0, 1], the last of which decides `matchings`."""
    values: dict[str, Any] = {}
    for (name, (low, high)), part in zip(BOUNDS.items(), parts[:-1], strict=True):
        if name in BY_LOGARITHM:
            values[name] = round(float(low * (high / low) ** part), 4)
        else:
            values[name] = round(float(low + (high - low) * part), 4)
    return Constants(matchings=1 + min(2, int(3 * parts[-1])), **values)


def _survey(settings: ConstantsTraining, table: _Table, tell: Progress) -> list[Constants]:
    """Search the candidates, and return them with those without learning first."""
    rng = np.random.default_rng([settings.seed, 10**6])
    width = len(BOUNDS) + 1
    strata = np.stack([rng.permutation(settings.pool) for _ in range(width)], axis=1)
    parts: Array = (strata + rng.random(strata.shape)) / settings.pool  # a Latin hypercube
    tried, costs = np.empty((0, width)), np.empty((settings.survey, 0))
    chosen: list[int] = []
    for number in range(settings.rounds):
        if number:
            near = tried[[place - 1 for place in chosen if place]]
            parts = near[np.arange(settings.pool) % len(near)]
            moved = SPREAD * rng.standard_normal(parts.shape) * (rng.random(parts.shape) < CHANGED)
            parts = np.clip(parts + moved, 0.0, 1.0)
        pool = [DEFAULTS, *(draw_constants(one) for one in parts)]
        rows = []
        for index in range(settings.survey):
            rows.append(table.row(f"survey {number} {index}", _make_survey_row(settings, index, pool))["costs"])
            tell("survey", number * settings.survey + index + 1, settings.rounds * settings.survey)
        tried, costs = np.concatenate([tried, parts]), np.concatenate([costs, np.array(rows)[:, 1:]], axis=1)
        chosen = choose_greedily(np.concatenate([np.zeros((len(costs), 1)), costs], axis=1), settings.candidates)
    return [DEFAULTS, *(draw_constants(tried[place - 1]) for place in chosen if place)]


def _make_survey_row(settings: ConstantsTraining, index: int, pool: list[Constants]) -> Callable[[], dict[str, Any]]:
    def make() -> dict[str, Any]:
        _, system, b = draw_system(settings, index, survey=True)
        return {"costs": measure_costs(system, b, pool, settings.dense)}

    return make


def choose_greedily(costs: Array, count: int) -> list[int]:
    """Return `count` columns of `costs`, which has a row for each system: 0, then greedily those that lower the mean of
    the row minima most."""
    chosen = [0]
    least = costs[:, 0].copy()
    while len(chosen) < min(count, costs.shape[1]):
        means = np.minimum(costs, least[:, None]).mean(axis=0)
        means[chosen] = np.inf
        chosen.append(int(means.argmin()))
        least = np.minimum(least, costs[:, chosen[-1]])
    return chosen


def _fill_table(
    settings: ConstantsTraining, table: _Table, pool: list[Constants], tell: Progress
) -> tuple[Array, Array, list[str]]:
    """Fill the table; return features `(systems, 24)`, logarithms of costs `(systems, candidates)`, and families."""
    rows = []
    for index in range(settings.systems):

        def make(index: int = index) -> dict[str, Any]:
            family, system, b = draw_system(settings, index, survey=False)
            features = matrix_features(system, settings.dense)
            costs = measure_costs(system, b, pool, settings.dense)
            return {"features": features.tolist(), "costs": costs, "family": family}

        rows.append(table.row(f"system {index}", make))
        tell("table", index + 1, settings.systems)
    table.save()
    features, costs = (np.array([row[name] for row in rows]) for name in ("features", "costs"))
    return features, costs, [row["family"] for row in rows]


def fit(
    settings: ConstantsTraining, pool: list[Constants], features: Array, costs: Array, tell: Progress = _silent
) -> tuple[ConstantsNetwork, dict[str, Any]]:
    """Fit the networks to a table, and return them with figures of their gain on held-out systems.

    One system in five is held out from a first fit, and each family from one of its own; the last fit has all systems.
    The rows of the table have the families in turn.
    """
    costs = np.clip(costs, BEST_GAIN, WORST_LOSS)
    family = np.arange(len(costs)) % len(PROBLEMS)
    kept = np.arange(len(costs)) // len(PROBLEMS) % VALIDATION == VALIDATION - 1
    if kept.all() or not kept.any():  # a small table
        kept = np.arange(len(costs)) % VALIDATION == VALIDATION - 1
    unseen = [family == number for number in range(len(PROBLEMS)) if (family == number).any()]
    total = len(unseen) + 2
    taken = np.zeros((len(unseen) + 1, len(CAUTIONS), len(costs)))
    for number, left in enumerate([kept, *unseen]):
        network, _ = fit_members(settings, pool, features[~left], costs[~left])
        for place, caution in enumerate(CAUTIONS):
            taken[number, place, left] = costs_taken(replace(network, caution=caution), features[left], costs[left])
        tell("fit", number + 1, total)
    by_family = np.stack([taken[1:, place].sum(axis=0) for place in range(len(CAUTIONS))])
    # The best caution on unseen families: on those of the training any is good.
    caution = CAUTIONS[int(by_family.mean(axis=1).argmin())]
    network, losses = fit_members(settings, pool, features, costs)
    tell("fit", total, total)
    one = int(costs[~kept].mean(axis=0).argmin())
    place = CAUTIONS.index(caution)
    gains = {
        "seed_gain": taken[0, place, kept].mean(),
        "seed_gain_of_one_for_all": costs[kept, one].mean(),
        "seed_gain_of_the_best": costs[kept].min(axis=1).mean(),
        "family_gain": by_family[place].mean(),
        "family_gain_of_the_best": costs.min(axis=1).mean(),
    }
    figures = {"loss_first": losses[0], "loss_last": losses[-1], "caution": caution, "kept": int(kept.sum())}
    return replace(network, caution=caution), figures | {name: round(math.exp(-v), 4) for name, v in gains.items()}


def costs_taken(network: ConstantsNetwork, features: Array, costs: Array) -> Array:
    """Return the logarithms of the costs of the networks' choices, one for each system."""
    taken = [network.choose(np.asarray(row, np.float32)) for row in features]
    return np.asarray(costs[np.arange(len(costs)), taken])


def fit_members(
    settings: ConstantsTraining, pool: list[Constants], features: Array, costs: Array
) -> tuple[ConstantsNetwork, list[float]]:
    """Fit all networks at once, each to a random part of the systems; return them with the losses of all steps.

    The loss is the mean logarithm of the cost of a network's choice plus `ACCURACY` times the mean squared error of its
    predictions.
    """
    import torch

    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), 0.05)
    x = torch.from_numpy(((features - mean) / scale).astype(np.float32))
    y = torch.from_numpy(costs.astype(np.float32))
    generator = torch.Generator().manual_seed(settings.seed)
    count, hidden, outputs, inputs = settings.members, settings.hidden, costs.shape[1] - 1, len(FEATURES)
    part = (torch.rand(count, len(x), generator=generator) < PART).float()
    part /= part.sum(dim=1, keepdim=True).clamp(min=1.0)

    def start(*shape: int) -> torch.Tensor:
        values: torch.Tensor = torch.randn(*shape, generator=generator) / shape[-1] ** 0.5
        return values.requires_grad_()

    first, second = start(count, hidden, inputs), start(count, outputs, hidden)
    biases = [torch.zeros(count, 1, width, requires_grad=True) for width in (hidden, outputs)]
    optimiser = torch.optim.AdamW([first, second, *biases], lr=settings.rate, weight_decay=settings.decay)
    losses = []
    for step in range(settings.steps):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * max(1 - step / settings.steps, 0.01)
        noisy = x + settings.noise * torch.randn(count, *x.shape, generator=generator)
        others = torch.relu(noisy @ first.mT + biases[0]) @ second.mT + biases[1]
        foretold = torch.cat([torch.zeros(count, len(x), 1), others], dim=2)
        expected = (torch.softmax(-foretold / TEMPERATURE, dim=2) * y).sum(dim=2)
        loss = (part * (expected + ACCURACY * ((foretold - y) ** 2).mean(dim=2))).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
    weights = [first, biases[0][:, 0], second, biases[1][:, 0]]
    arrays = [mean, scale, features.min(axis=0), features.max(axis=0), *(one.detach().numpy() for one in weights)]
    return ConstantsNetwork(tuple(pool), 0.0, *(np.ascontiguousarray(one, np.float32) for one in arrays)), losses
