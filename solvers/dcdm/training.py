"""Training of the direction network: unsupervised, on the residual that a step along its direction leaves."""

# Imported on first use, for its weight: safetensors.

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from relaxon.core import validation
from relaxon.core.tensor_files import write_tensors
from relaxon.solvers.dcdm.network import ARCHITECTURES, DirectionNetwork
from relaxon.solvers.dcdm.outer import WINDOW
from relaxon.solvers.dcdm.problems import random_problem
from relaxon.solvers.dcdm.ritz import RitzBasis, lanczos_basis
from relaxon.solvers.dcdm.two_grid_start import start_as_two_grid_cycle
from relaxon.solvers.grid.poisson_grid import PoissonGrid

CHOICES = {"data": ("ritz", "mixed"), "objective": ("residual", "decades"), "initial": ("random", "two-grid")}
"""The settings that are words, and the words they take."""
MAX_WINDOW = 8


@dataclass(frozen=True, slots=True)
class DirectionTraining:
    """What a training run is; the same settings on the same machine give the same weights.

    `data` is "ritz" for the paper's right-hand sides alone (one empty Neumann box), or "mixed" for those and random
    geometries. Each problem stays in the batch for `rounds` steps, its right-hand side replaced by the residual that
    the method's own step left, made with the network's direction A-orthogonal to the problem's last `window`
    directions: what the method asks the network for later on. The gradient goes through `unroll` such steps at a
    time: one step alone would be trained to be greedy, which spoils the conjugacy that later steps live on. `objective`
    is the mean of `‖r‖²/‖b‖²` after them ("residual"; with one step the paper's) or of its logarithm ("decades"), which
    counts a problem that is already easy as much as a hard one. `initial` is torch's own random start or the one of
    `relaxon.solvers.dcdm.two_grid_start`, a two-grid cycle. The learning rate falls from `rate` to a hundredth of it
    along a cosine. The weights kept are those of the checkpoint with the best validation: decades of the residual after
    `VALIDATION_STEPS` steps, on problems outside the training's and on boxes half as large again. The paper: rate 1e-4,
    batch 10, rounds 1, unroll 1, data "ritz", objective "residual", initial "random", size 64.
    """

    out: Path
    network: int = 64
    size: int = 24
    steps: int = 150
    batch: int = 4
    rate: float = 2e-5
    rounds: int = 40
    unroll: int = 10
    window: int = WINDOW
    data: Literal["ritz", "mixed"] = "mixed"
    objective: Literal["residual", "decades"] = "decades"
    initial: Literal["random", "two-grid"] = "two-grid"
    ritz_vectors: int = 600
    seed: int = 0
    start: Path | None = None
    """Weights to start from (an earlier stage's); those that `initial` names where None."""
    checkpoint_every: int = 30
    bfloat16: bool = False
    """Convolutions in bfloat16: about twice as fast where the processor computes in it, less exactly repeatable
    across machines."""

    def __post_init__(self) -> None:
        if self.network not in ARCHITECTURES:
            raise ValueError(f"network must be one of {sorted(ARCHITECTURES)}, got {self.network!r}")
        for name in ("size", "steps", "batch", "rounds", "unroll", "ritz_vectors", "checkpoint_every"):
            validation.positive_int(name, getattr(self, name))
        validation.positive_float("rate", self.rate)
        if self.size < 4:
            raise ValueError(f"size must be at least 4, got {self.size}")
        if self.window not in range(MAX_WINDOW + 1):
            raise ValueError(f"window must be between 0 and {MAX_WINDOW}, got {self.window!r}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be {' or '.join(map(repr, choices))}, got {getattr(self, name)!r}")

    def described(self) -> dict[str, Any]:
        """Return the settings that decide the outcome, for the JSON beside the weights."""
        values = asdict(self)
        values["start"] = self.start.name if self.start else None
        del values["out"], values["checkpoint_every"]
        return values


@dataclass(slots=True)
class DirectionTrainingReport:
    """How a run went; `loss` holds the mean over every 10 steps of `‖b − αAf(b)‖²/‖b‖²`."""

    steps: int = 0
    seconds: float = 0.0
    loss: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    """log₁₀ of the residual's reduction at each checkpoint, the first before training."""
    threads: int = 0
    stopped: bool = False


LOSS_EVERY = 10
LEAST_LOSS = 1e-12
"""A loss below this is as good as none; its logarithm stays finite."""
VALIDATION_STEPS = 40
VALIDATION_SCALE = 1.5
VALIDATION_PROBLEMS = 8
VALIDATION_SEED = 2**31
FINAL_RATE = 0.01
WARM_UP_STEPS = 100
"""Steps over which the rate rises linearly: without it the first large steps kill the rectified units for good."""
Watcher = Callable[[int, float], object]
"""Called with the step and its loss; returning True stops the run after a checkpoint."""


def stencil_image(x: Tensor, diagonal: Tensor, fluid: Tensor) -> Tensor:
    """`A x` for a batch of grids with spacing 1: all `(batch, n0, n1, n2)`, `x` zero outside the fluid."""
    y = diagonal * x
    for axis in (1, 2, 3):
        n = x.shape[axis]
        low, high = x.narrow(axis, 0, n - 1), x.narrow(axis, 1, n - 1)
        edge = torch.zeros_like(x.narrow(axis, 0, 1))
        y = y - torch.cat([high, edge], axis) - torch.cat([edge, low], axis)
    return y * fluid


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """What a step of the method did to each problem of a batch; fields have the batch's shape but for `loss`."""

    loss: Tensor
    """`‖b − αAd‖²/‖b‖²`, `(batch,)`."""
    residual: Tensor
    """`b − αAd`, in the scale in which `b` has a root mean square of 1."""
    direction: Tensor
    image: Tensor


def method_step(
    network: DirectionNetwork, b: Tensor, diagonal: Tensor, fluid: Tensor, past: list[Past]
) -> TrainingStep:
    """A step of the method with `d = f(b)`, made A-orthogonal to the directions in `past`.

    Source: Kaneda et al. 2023, algorithm 1 and the loss of section 4 (there without past directions); with the
    root mean square of `b` scaled to 1.
    """
    scaled = b / _total(b * b).sqrt().clamp(min=1e-30) * math.sqrt(b[0].numel())
    d = network(scaled[:, None].contiguous(memory_format=torch.channels_last_3d))[:, 0].float() * fluid
    for other, its_image in past:
        d = d - other * (_total(d * its_image) / _total(other * its_image).clamp(min=1e-20))
    image = stencil_image(d, diagonal, fluid)
    residual = scaled - _total(d * scaled) / _total(d * image).clamp(min=1e-20) * image
    return TrainingStep((residual * residual).mean((1, 2, 3)), residual, d, image)


def _total(v: Tensor) -> Tensor:
    return v.sum((1, 2, 3), keepdim=True)


Past = tuple[Tensor, Tensor]
"""Directions of earlier steps and their images under `A`; zero where a problem has not had that step."""


class Batch:
    """Problems in training at one time, each replaced after `rounds` steps, staggered."""

    KEPT = ("b", "diagonal", "fluid", "directions", "images", "age", "drawn")

    def __init__(self, settings: DirectionTraining) -> None:
        self.settings = settings
        self.ritz = _ritz(settings)
        n = settings.size
        self.b = torch.zeros(settings.batch, n, n, n)
        self.diagonal, self.fluid = torch.zeros_like(self.b), torch.zeros_like(self.b)
        self.directions = torch.zeros(settings.window, *self.b.shape)
        self.images = torch.zeros_like(self.directions)
        self.age = torch.arange(settings.batch) % settings.rounds
        self.drawn = torch.zeros(1, dtype=torch.int64)
        for slot in range(settings.batch):
            self._draw(slot)

    @property
    def past(self) -> list[Past]:
        return list(zip(self.directions, self.images, strict=True))

    def advance(self, residual: Tensor, past: list[Past]) -> None:
        """Continue from what a step left; problems that are due, solved or not finite are replaced."""
        self.b = residual
        for slot, (direction, image) in enumerate(past):
            self.directions[slot], self.images[slot] = direction, image
        self.age += self.settings.unroll
        size = residual.square().mean((1, 2, 3))
        for slot in range(self.settings.batch):
            if self.age[slot] >= self.settings.rounds or not 1e-12 < float(size[slot]) < math.inf:
                self._draw(slot)
                self.age[slot] = 0

    def _draw(self, slot: int) -> None:
        shape = (self.settings.size,) * 3
        index = int(self.drawn)
        self.drawn += 1
        if self.settings.data == "mixed":
            problem = random_problem(shape, self.settings.seed, index, self.ritz)
            grid, b = problem.grid, problem.b
        else:
            grid, b = (
                PoissonGrid(np.zeros(shape, np.uint8)),
                self.ritz.combinations(self.settings.seed, [index])[0],
            )
        operator = grid.operator(np.float32)
        self.directions[:, slot], self.images[:, slot] = 0.0, 0.0
        self.b[slot] = torch.from_numpy(b)
        self.diagonal[slot] = torch.from_numpy(operator.diagonal)
        self.fluid[slot] = torch.from_numpy(grid.fluid.astype(np.float32))

    def state(self) -> dict[str, Tensor]:
        return {f"batch.{name}": getattr(self, name).clone() for name in self.KEPT}

    def restore(self, state: dict[str, Tensor]) -> None:
        for name in self.KEPT:
            setattr(self, name, state[f"batch.{name}"].clone())


@torch.random.fork_rng(devices=[])  # the caller's global stream is put back
def train(settings: DirectionTraining, watcher: Watcher | None = None) -> DirectionTrainingReport:
    """Train and write `weights.safetensors`, `training.json` and `checkpoint.safetensors` into `settings.out`.

    Where a checkpoint of the same settings lies there, the run goes on from it and ends as if never interrupted.
    ValueError where it is of other settings.
    """
    torch.manual_seed(settings.seed)
    network = DirectionNetwork(ARCHITECTURES[settings.network])
    if settings.initial == "two-grid":
        start_as_two_grid_cycle(network, torch.Generator().manual_seed(settings.seed))
    if settings.start is not None:
        network.load_state_dict(load_file(settings.start))
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate)
    batch, report = Batch(settings), DirectionTrainingReport(threads=torch.get_num_threads())
    settings.out.mkdir(parents=True, exist_ok=True)
    # Larger boxes and longer runs than the training's: what fits those alone is not worth keeping.
    size, seed = round(VALIDATION_SCALE * settings.size), VALIDATION_SEED + settings.seed
    validation = Batch(replace(settings, batch=VALIDATION_PROBLEMS, size=size, seed=seed))
    best = Best()
    if not _resume(settings, network, optimiser, batch, report, best):
        best.compare(network, validation, report)
    recent: list[float] = []
    began = time.perf_counter() - report.seconds
    while report.steps < settings.steps and not report.stopped:
        for group in optimiser.param_groups:
            group["lr"] = _rate(settings, report.steps)
        loss = _step(settings, network, optimiser, batch)
        report.steps += 1
        recent.append(loss)
        if report.steps % LOSS_EVERY == 0:
            report.loss.append(float(np.mean(recent)))
            recent = []
        report.seconds = time.perf_counter() - began
        report.stopped = watcher is not None and watcher(report.steps, loss) is True
        # A checkpoint falls on a multiple of LOSS_EVERY steps, so that no part of a mean is lost.
        due = report.steps % settings.checkpoint_every == 0 and report.steps % LOSS_EVERY == 0
        if due or report.steps == settings.steps:
            best.compare(network, validation, report)
            _save(settings, network, optimiser, batch, report, best)
    return report


@dataclass(slots=True)
class Best:
    """The weights with the best validation so far."""

    decades: float = math.inf
    weights: dict[str, Tensor] = field(default_factory=dict)

    def compare(self, network: DirectionNetwork, validation: Batch, report: DirectionTrainingReport) -> None:
        """Validate the network as it is, and keep its weights where it is the best so far."""
        decades = _validate(network, validation)
        report.validation.append(decades)
        if decades < self.decades:
            self.decades = decades
            self.weights = {name: tensor.detach().clone().contiguous() for name, tensor in network.state_dict().items()}


@torch.no_grad()
def _validate(network: DirectionNetwork, problems: Batch) -> float:
    """Return the mean log₁₀ of ‖r‖/‖b‖ after the steps; `problems` stay as they are."""
    losses, _, _ = _roll_out(network, problems, VALIDATION_STEPS)
    return float((0.5 * losses.clamp(min=LEAST_LOSS).log10()).sum(0).mean())


def _roll_out(network: DirectionNetwork, problems: Batch, steps: int) -> tuple[Tensor, Tensor, list[Past]]:
    """Take steps of the method from where the problems stand.

    Returns the losses `(steps, batch)`, and the residuals and the window that they end with."""
    residual, past, losses = problems.b, problems.past, []
    for _ in range(steps):
        step = method_step(network, residual, problems.diagonal, problems.fluid, past)
        past, residual = _shift(past, step, problems.settings.window), step.residual
        losses.append(step.loss)
    return torch.stack(losses), residual, past


def _shift(past: list[Past], step: TrainingStep, window: int) -> list[Past]:
    """Return the window after a step. Directions have length 1: only where they point matters."""
    length = _total(step.direction.square()).sqrt().clamp(min=1e-30)
    return [*past, (step.direction / length, step.image / length)][-window:] if window else []


def _rate(settings: DirectionTraining, step: int) -> float:
    cosine = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
    return settings.rate * min(1.0, (step + 1) / WARM_UP_STEPS) * (FINAL_RATE + (1 - FINAL_RATE) * cosine)


def _step(settings: DirectionTraining, network: DirectionNetwork, optimiser: torch.optim.Adam, batch: Batch) -> float:
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        loss, residual, past = _roll_out(network, batch, settings.unroll)
    # What is left after all steps is the product of what each leaves.
    left = loss.clamp(min=LEAST_LOSS).log10().mean() if settings.objective == "decades" else loss.prod(0).mean()
    optimiser.zero_grad()
    left.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimiser.step()
    batch.advance(residual.detach(), [(d.detach(), image.detach()) for d, image in past])
    return float(loss.detach().mean())


def _ritz(settings: DirectionTraining) -> RitzBasis:
    shape = (settings.size,) * 3
    return lanczos_basis(shape, min(settings.ritz_vectors, settings.size**3 - 1), settings.seed)


def _save(
    settings: DirectionTraining,
    network: DirectionNetwork,
    optimiser: torch.optim.Adam,
    batch: Batch,
    report: DirectionTrainingReport,
    best: Best,
) -> None:
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()} | batch.state()
    state |= {f"best.{name}": tensor for name, tensor in best.weights.items()}
    for index, values in optimiser.state_dict()["state"].items():
        state |= {f"adam.{index}.{name}": tensor for name, tensor in values.items()}
    record = {"settings": settings.described(), "report": asdict(report)}
    # The checkpoint carries its record, so that one rename replaces both or neither.
    _replace(settings.out / "checkpoint.safetensors", state, {"record": json.dumps(record)})
    _replace(settings.out / "weights.safetensors", best.weights, {})
    (settings.out / "training.json").write_text(json.dumps(record, indent=1))


def _replace(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    partial = path.with_suffix(".partial")
    write_tensors(partial, tensors, metadata)
    partial.replace(path)


def _resume(
    settings: DirectionTraining,
    network: DirectionNetwork,
    optimiser: torch.optim.Adam,
    batch: Batch,
    report: DirectionTrainingReport,
    best: Best,
) -> bool:
    """Resume from a checkpoint, and return whether there was one."""
    from safetensors import safe_open

    path = settings.out / "checkpoint.safetensors"
    if not path.exists():
        return False
    with safe_open(path, "pt") as file:
        record = json.loads(file.metadata()["record"])
    if record["settings"] != json.loads(json.dumps(settings.described())):
        raise ValueError(f"out must be empty or hold a run of the same settings, got {path} of {record['settings']}")
    state = load_file(path)
    network.load_state_dict(_part(state, "network."))
    best.weights = _part(state, "best.")
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if key.startswith("adam."):
            _, index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = tensor
    full = optimiser.state_dict()
    full["state"] = moments
    optimiser.load_state_dict(full)
    batch.restore(state)
    report.steps, report.seconds = record["report"]["steps"], record["report"]["seconds"]
    report.loss, report.validation = record["report"]["loss"], record["report"]["validation"]
    best.decades = min(report.validation)
    return True


def _part(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
