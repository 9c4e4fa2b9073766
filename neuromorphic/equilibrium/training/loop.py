"""Training by measured gradients: a plain loop with checkpoints, cancellation and metrics."""

from __future__ import annotations

import math
import time
from dataclasses import asdict

import numpy as np
import torch
from torch import Tensor

from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork, LatentWeights
from relaxon.neuromorphic.checkpoints import Pace
from relaxon.neuromorphic.equilibrium.estimators.comparison import compare_pair
from relaxon.neuromorphic.equilibrium.estimators.exact import Implicit
from relaxon.neuromorphic.equilibrium.estimators.gradients import gradient, gradient_with_spread
from relaxon.neuromorphic.equilibrium.estimators.result import Gradient, Verdict
from relaxon.neuromorphic.equilibrium.hardware.limits import hardware_gradient, program
from relaxon.neuromorphic.equilibrium.networks.contraction import Contraction
from relaxon.neuromorphic.equilibrium.networks.network import Network, parameter_gradients
from relaxon.neuromorphic.equilibrium.networks.readout_network import angle_of
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Outcome
from relaxon.neuromorphic.equilibrium.training.homeostasis import JacobianHomeostasis
from relaxon.neuromorphic.equilibrium.training.report import (
    EpochMetrics,
    Sums,
    TrainingOutcome,
    TrainingProgress,
    TrainingReport,
    Watcher,
)
from relaxon.neuromorphic.equilibrium.training.settings import TrainingSettings
from relaxon.neuromorphic.optimizers import ADAPTIVE, AdaptiveBatchAdaGrad, build_optimizer
from relaxon.neuromorphic.torch_checkpoints import restore_checkpoint, write_checkpoint

PROBE = 64
"""Number of samples on which the angle to the exact gradient and ‖A‖ are measured after each epoch."""
EVALUATION_BATCH = 2000
LOST_STEPS = 20
"""Consecutive gradients that are not finite, after which a run ends: the network will not recover."""
FIRST_ITERATIONS = 50
"""Iterations of the power method before the first step."""


def train(
    network: Network,
    data: tuple[Tensor, Tensor],
    settings: TrainingSettings | None = None,
    *,
    test: tuple[Tensor, Tensor] | None = None,
    watcher: Watcher | None = None,
) -> TrainingReport:
    """Train a network in place on `data = (x (samples, …), target (samples, …))`.

    Batches whose gradient is not finite are skipped; twenty in a row end the run as `NON_FINITE`. Gradients with any
    other verdict are used. The report counts all verdicts.

    With `settings.out`, a checkpoint is written every `checkpoint_every` epochs (or `checkpoint_seconds`) and where the
    watcher stops the run. A run with the same settings resumes from a checkpoint found there and gives the same bits as
    an uninterrupted run. ValueError where the checkpoint has other settings.

    >>> import torch
    >>> from relaxon.neuromorphic.equilibrium import LayeredNetwork, TrainingSettings, train
    >>> x = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    >>> report = train(LayeredNetwork((4, 8, 2)), (x, (x[:, 0] > 0.5).long()), TrainingSettings(epochs=2, batch=20))
    >>> report.ended.name, len(report.epochs), report.epochs[0].verdicts
    ('FINISHED', 2, {'ok': 3})
    """
    settings = settings or TrainingSettings()
    x, target = _validate_data(network, data, "data")
    held_out = None if test is None else _validate_data(network, test, "test")
    settings.estimator.refuse(network)
    refuse_hardware(network, settings)
    if settings.shift and x.ndim != len(("batch", "channels", "height", "width")):
        raise ValueError(f"shift must be 0 where the data are not images, got {settings.shift} for x {tuple(x.shape)}")
    run = _TrainingRun(network, x, target, settings, held_out)
    return run.go(watcher)


class _TrainingRun:
    def __init__(
        self,
        network: Network,
        x: Tensor,
        target: Tensor,
        settings: TrainingSettings,
        test: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.network, self.x, self.target, self.settings, self.test = network, x, target, settings, test
        self.named = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self.latent = None
        if isinstance(network, BinaryLayeredNetwork):
            self.latent = LatentWeights(network, settings.contraction, settings.readout_bound)
            self.latent.apply(0.0, FIRST_ITERATIONS)
        self.optimiser = _optimiser(settings, self._list_trained_parameters(), len(x))
        self.contraction = None
        if settings.contraction is not None and self.latent is None:
            self.contraction = Contraction(network, settings.contraction, settings.readout_bound)
            self.contraction.apply(FIRST_ITERATIONS)
        self.per_epoch = math.ceil(len(x) / settings.batch)
        self.steps = self.per_epoch * settings.epochs
        self.step, self.lost, self.seconds, self.place = 0, 0, 0.0, 0
        self.sums, self.epochs = Sums(), list[EpochMetrics]()
        self.order, self.order_of = torch.empty(0, dtype=torch.int64), -1
        self.pace = Pace(settings.checkpoint_seconds or 0.0)

    def go(self, watcher: Watcher | None) -> TrainingReport:
        self._resume()
        while len(self.epochs) < self.settings.epochs:
            epoch = len(self.epochs)
            began = time.perf_counter()
            found = self._take_step()
            self.sums.seconds += time.perf_counter() - began
            self.seconds += time.perf_counter() - began
            metrics = None
            if self.place >= len(self.x):
                metrics = self._end_epoch()
            last = len(self.epochs) == self.settings.epochs
            if self.lost >= LOST_STEPS:
                self._save()
                return self._report(
                    TrainingOutcome.NON_FINITE, f"{self.lost} gradients in a row were not finite: {found.message}"
                )
            progress = TrainingProgress(self.step, self.steps, epoch, found.loss, found.verdict, metrics)
            stopped = watcher is not None and watcher(progress) is True
            if self._due(metrics is not None) or stopped or last:
                self._save()
            if stopped and not last:
                return self._report(TrainingOutcome.CANCELLED)
        return self._report(TrainingOutcome.FINISHED)

    def _due(self, epoch_ended: bool) -> bool:
        if self.settings.checkpoint_seconds is not None:
            return self.pace.due
        return epoch_ended and len(self.epochs) % self.settings.checkpoint_every == 0

    def _report(self, ended: TrainingOutcome, message: str = "") -> TrainingReport:
        if self.latent is not None:
            self.latent.harden()
        return TrainingReport(ended, tuple(self.epochs), self.step, self.seconds, message)

    def _take_step(self) -> Gradient:
        settings, network = self.settings, self.network
        epoch, place = len(self.epochs), self.place
        # Drawn from the seed and the epoch (or step), so that a resumed run does not need the generator's state.
        if epoch != self.order_of:
            order = torch.randperm(len(self.x), generator=_seed_generator(settings.seed, 0, epoch))
            self.order, self.order_of = order.to(self.x.device), epoch
        chosen = self.order[place : place + self._batch()]
        x, target = self.x[chosen], self.target[chosen]
        generator = _seed_generator(settings.seed, 1, self.step)
        if settings.shift:
            x = shift_randomly(x, settings.shift, generator)
        found = self._gradient(x, target, generator)
        gradients = found.gradients
        if settings.homeostasis is not None and settings.homeostasis.weight:
            with torch.no_grad():
                drive = network.drive(x)
            with torch.enable_grad():
                loss, _ = settings.homeostasis.loss(network, found.free.reading, drive, generator)
                extra = parameter_gradients(network, loss)
            gradients = {name: value + extra[name] for name, value in gradients.items()}
        self._apply(gradients, found.verdict is not Verdict.NON_FINITE)
        self.sums.add(found, target, network.classes)
        self.step += 1
        self.place += len(chosen)
        if self.latent is not None:
            self.latent.apply(min(1.0, self._share()))
        return found

    def _batch(self) -> int:
        """Return the size of the next batch."""
        if isinstance(self.optimiser, AdaptiveBatchAdaGrad):
            return self.optimiser.batch_size
        return self.settings.batch

    def _gradient(self, x: Tensor, target: Tensor, generator: torch.Generator) -> Gradient:
        """Return a batch's gradient; pass the variance over its samples to an optimiser that chooses batch sizes."""
        if not isinstance(self.optimiser, AdaptiveBatchAdaGrad):
            return self._measure(x, target, generator)
        settings = self.settings
        found, variance = gradient_with_spread(self.network, x, target, settings.estimator, settings.phases, generator)
        if variance is not None:
            self.optimiser.adapt(variance, float(sum(g.square().sum() for g in found.gradients.values())))
        return found

    def _measure(self, x: Tensor, target: Tensor, generator: torch.Generator) -> Gradient:
        """Return the gradient of a batch, measured on the device where there is one."""
        settings = self.settings
        if settings.hardware is None:
            return gradient(self.network, x, target, settings.estimator, settings.phases, generator)
        return hardware_gradient(
            self.network, x, target, settings.estimator, settings.hardware, settings.phases, generator
        )

    def _list_trained_parameters(self) -> list[torch.nn.Parameter]:
        """Return what the optimiser changes: the network's parameters; for a binary one, latent weights and biases."""
        if self.latent is None:
            return list(self.named.values())
        weights = {id(weight) for weight in self.latent.weights}
        return [*self.latent.latent, *[one for one in self.named.values() if id(one) not in weights]]

    def _share(self) -> float:
        """Return the completed fraction of the training."""
        if isinstance(self.optimiser, AdaptiveBatchAdaGrad):
            return (len(self.epochs) + self.place / len(self.x)) / self.settings.epochs
        return self.step / self.steps

    def _angle(self) -> float:
        """Return the argument of the learning rate's cosine, from 0 to π."""
        if isinstance(self.optimiser, AdaptiveBatchAdaGrad):
            return math.pi * self._share()
        return math.pi * self.step / self.steps

    def _apply(self, gradients: dict[str, Tensor], finite: bool) -> None:
        total = float(torch.stack([g.norm() for g in gradients.values()]).norm())
        if not finite or not math.isfinite(total):
            self.lost += 1
            return
        self.lost = 0
        clip = self.settings.clip
        for name, parameter in self.named.items():
            parameter.grad = gradients[name] if clip is None or total <= clip else gradients[name] * (clip / total)
        if self.settings.schedule == "cosine":
            for group in self.optimiser.param_groups:
                group["lr"] = self.settings.rate * 0.5 * (1 + math.cos(self._angle()))
        if self.latent is not None:
            self.latent.set_gradients()
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.contraction is not None:
            self.contraction.apply()

    def _end_epoch(self) -> EpochMetrics:
        began = time.perf_counter()
        sums, network = self.sums, self.network
        test_loss = test_accuracy = None
        if self.test is not None:
            device = self.settings.hardware
            shown = network
            if device is not None:
                shown = program(network, device, _seed_generator(self.settings.seed, 3, len(self.epochs)))
            scale = self.settings.estimator.scale
            test_loss, test_accuracy = evaluate(shown, *self.test, self.settings.phases, scale=scale)
        angle, antisymmetry = self._probe() if self.settings.probe else (None, None)
        metrics = EpochMetrics(
            epoch=len(self.epochs),
            loss=sums.loss / sums.batches,
            accuracy=sums.correct / sums.samples if network.classes else None,
            test_accuracy=test_accuracy,
            test_loss=test_loss,
            free_steps=sums.free_steps / sums.batches,
            nudged_steps=sums.nudged_steps / sums.batches,
            verdicts=dict(sorted(sums.verdicts.items())),
            angle=angle,
            antisymmetry=antisymmetry,
            feedback_angles=getattr(network, "feedback_angles", list)(),
            seconds=sums.seconds,
        )
        self.epochs.append(metrics)
        self.sums, self.place = Sums(), 0
        self.seconds += time.perf_counter() - began
        return metrics

    def _probe(self) -> tuple[float | None, float | None]:
        """Return the angle to the exact gradient in degrees, and ‖A‖_F."""
        settings, network = self.settings, self.network
        x, target = self.x[:PROBE], self.target[:PROBE]
        generator = _seed_generator(settings.seed, 2, len(self.epochs))
        found = self._measure(x, target, generator)
        exact = gradient(network, x, target, Implicit(), Phases(settings.phases.free))
        cosine, _ = compare_pair(found, exact)
        with torch.no_grad():
            penalty = JacobianHomeostasis().estimate(network, exact.free.state, network.drive(x), generator)
        norm = float(penalty.mean / 2) ** 0.5
        angle = angle_of(cosine) if math.isfinite(cosine) else None
        return angle, norm if math.isfinite(norm) else None

    def _save(self) -> None:
        if self.settings.out is not None:
            record = {
                "settings": self.settings.describe(),
                "data": [list(self.x.shape), list(self.target.shape)],
                "step": self.step,
                "lost": self.lost,
                "seconds": self.seconds,
                "sums": asdict(self.sums),
                "epochs": [asdict(epoch) for epoch in self.epochs],
            }
            if self.settings.optimiser in ADAPTIVE:
                record |= {"place": self.place, "batch": self._batch()}
            with self.pace.writing():
                write_checkpoint(self.settings.out, self.network, self.optimiser, self._vectors(), record)

    def _vectors(self) -> list[Tensor]:
        """Return further state for the checkpoint, besides the network and the optimiser."""
        if self.latent is not None:
            return self.latent.vectors
        return [] if self.contraction is None else self.contraction.vectors

    def _resume(self) -> None:
        if self.settings.out is None:
            return
        same = {"settings": self.settings.describe(), "data": [list(self.x.shape), list(self.target.shape)]}
        record = restore_checkpoint(self.settings.out, self.network, self.optimiser, self._vectors(), same)
        if record is not None:
            self.step, self.lost, self.seconds = record["step"], record["lost"], record["seconds"]
            self.sums = Sums(**record["sums"])
            self.epochs = [EpochMetrics(**epoch) for epoch in record["epochs"]]
            self.place = record.get("place", self.step % self.per_epoch * self.settings.batch)
            for group in self.optimiser.param_groups if "batch" in record else []:
                group["batch_size"] = record["batch"]
            if self.latent is not None:
                self.latent.resume(min(1.0, self._share()))


def _validate_data(network: Network, data: tuple[Tensor, Tensor], name: str) -> tuple[Tensor, Tensor]:
    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(f"{name} must be a pair of tensors (x, target), got {type(data).__name__}")
    try:
        network.validate(*data)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{name}: {error}") from None
    return data


def refuse_hardware(network: Network, settings: TrainingSettings) -> None:
    """Raise `ValueError` for a device on which the network cannot be trained."""
    if settings.hardware is None:
        return
    if isinstance(network, BinaryLayeredNetwork):
        raise ValueError("hardware must be None for a binary network, whose weights have two values already")
    if settings.optimiser in ADAPTIVE:
        raise ValueError(
            f"hardware must be None for optimiser {settings.optimiser!r}, which requires the variance over samples"
        )


def _optimiser(settings: TrainingSettings, parameters: list[torch.nn.Parameter], rows: int) -> torch.optim.Optimizer:
    name, rate, momentum = settings.optimiser, settings.rate, settings.momentum
    if name not in ("sgd", "adam"):
        return build_optimizer(name, parameters, rate, momentum=momentum, batch=settings.batch, most=rows)
    if name == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=momentum,
        weight_decay=settings.weight_decay,
        nesterov=settings.nesterov,
    )


def shift_randomly(x: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Return images `(batch, channels, height, width)`, each shifted by up to `most` pixels in both directions."""
    height, width = x.shape[2:]
    moves = torch.randint(-most, most + 1, (2, len(x)), generator=generator)
    # Pixels beyond an edge repeat those at the edge.
    rows = (torch.arange(height) + moves[0][:, None]).clamp(0, height - 1).to(x.device)
    columns = (torch.arange(width) + moves[1][:, None]).clamp(0, width - 1).to(x.device)
    x = x.gather(2, rows[:, None, :, None].expand_as(x))
    return x.gather(3, columns[:, None, None, :].expand_as(x))


def _seed_generator(seed: int, stream: int, index: int) -> torch.Generator:
    """Return a separate generator for each use and step of a run."""
    number = (seed * 4 + stream) * 2**28 + index  # of four streams
    if number >= 2**32:
        # torch's generator uses the last 32 bits only: larger numbers are hashed to them.
        number = int(np.random.SeedSequence((seed, stream, index)).generate_state(1)[0])
    return torch.Generator().manual_seed(number)


@torch.no_grad()
def evaluate(
    network: Network, x: Tensor, target: Tensor, phases: Phases | None = None, *, scale: float = 1.0
) -> tuple[float, float | None]:
    """Return mean loss and accuracy (None without classes) at the free equilibria, without noise.

    `scale` multiplies the tolerance, as `Estimator.scale` does in the free phase of a gradient. The loss is NaN where a
    free phase diverged.
    """
    quiet = Phases((phases or Phases()).free)
    loss, correct = 0.0, 0
    for first in range(0, len(x), EVALUATION_BATCH):
        part, labels = x[first : first + EVALUATION_BATCH], target[first : first + EVALUATION_BATCH]
        part, encoded = network.validate(part, labels)
        drive = network.drive(part)
        relaxed = quiet.free.relax(network.free_field(drive), network.start(drive), scale=scale)
        rates = network.read(relaxed)
        loss += float(network.loss(rates, encoded).sum())
        if relaxed.outcome is Outcome.NON_FINITE:
            loss = math.nan
        if network.classes:
            correct += int((network.scores(rates).argmax(-1) == labels).sum())
    return loss / len(x), correct / len(x) if network.classes else None
