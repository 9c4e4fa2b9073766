"""The training command's defaults for each data set, and the network and settings that its options ask for."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch

from relaxon.neuromorphic.equilibrium.datasets import Dataset
from relaxon.neuromorphic.equilibrium.estimators.nudged import is_nudged
from relaxon.neuromorphic.equilibrium.estimators.registry import build_estimator
from relaxon.neuromorphic.equilibrium.networks.form import DEFAULT_BOUNDS, NetworkForm
from relaxon.neuromorphic.equilibrium.networks.residual import KERNEL
from relaxon.neuromorphic.equilibrium.networks.storage import StoredNetwork
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases, keep_phases
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Alternating, Anderson
from relaxon.neuromorphic.equilibrium.training.homeostasis import JacobianHomeostasis
from relaxon.neuromorphic.equilibrium.training.settings import TrainingSettings
from relaxon.neuromorphic.torch_checkpoints import read_record

POINTS, RADIUS = 4, 0.1
"""Default number of nudges and their size |β|."""


@dataclass(frozen=True, slots=True)
class DataDefaults:
    """Sizes of the hidden layers and settings of the training that suit a data set."""

    hidden: tuple[int, ...]
    epochs: int
    batch: int
    rate: float
    input_gain: float


DIGITS = DataDefaults((128, 64), 20, 32, 0.15, 2.0)
LARGE = DataDefaults((256, 256), 10, 50, 0.05, 1.0)
"""For Fashion-MNIST and for all data read from files."""


def build_run(data: Dataset, args: argparse.Namespace) -> tuple[StoredNetwork, TrainingSettings]:
    """Return the network and the settings of the training that the command's arguments describe."""
    defaults = DIGITS if data.name == "digits" else LARGE
    if args.channels and args.hidden:
        raise ValueError("hidden must not be given together with channels")
    form = NetworkForm(
        hidden_sizes=tuple(args.hidden or defaults.hidden),
        channels=args.channels,
        kernel=KERNEL,
        activation=args.activation,
        feedback=args.feedback,
        angle=args.angle,
        gain=1.0,
        loss=args.loss,
        tau=args.tau,
        binary=args.binary,
        binarizer=args.binarizer,
        residual=args.residual,
        input_gain=defaults.input_gain,
    )
    form.check(shift=args.shift, homeostasis=args.homeostasis)
    network = form.build(data.x[0].size, data.image, data.classes, args.seed, torch.float32)
    contraction, readout_bound = DEFAULT_BOUNDS[form.kind]
    estimator = build_estimator(
        args.estimator, POINTS if args.n is None else args.n, RADIUS if args.radius is None else args.radius
    )
    phases = residual_phases(args.noise) if args.residual else training_phases(args.noise, nudged=is_nudged(estimator))
    record = None if args.out is None else read_record(args.out)
    settings = TrainingSettings(
        epochs=defaults.epochs if args.epochs is None else args.epochs,
        batch=defaults.batch if args.batch is None else args.batch,
        rate=defaults.rate if args.rate is None else args.rate,
        optimiser=args.optimizer,
        schedule="cosine",
        estimator=estimator,
        phases=keep_phases(phases, training_phases(args.noise, nudged=False), record),
        homeostasis=JacobianHomeostasis(args.homeostasis) if args.homeostasis else None,
        contraction=contraction,
        readout_bound=readout_bound,
        shift=args.shift,
        seed=args.seed,
        out=args.out,
    )
    return network, settings


def training_phases(noise: float = 0.0, *, nudged: bool = True) -> Phases:
    """Return phases that are accurate enough for training in single precision.

    The tolerances are the largest at which finite nudges give gradients as exact as tighter ones do. Where the gradient
    is not that of nudges, the error of the free phase would not cancel in a difference, and it is tighter. A nudged
    phase that has not converged after 60 steps shows in the verdicts.
    """
    free, shifted = (8e-3, 4e-3) if nudged else (1e-4, 1e-3)
    return Phases(Alternating(steps=100, tolerance=free), Alternating(steps=60, tolerance=shifted), noise=noise)


def residual_phases(noise: float = 0.0) -> Phases:
    """Return the phases for residual networks, whose layers do not form a chain."""
    return Phases(Anderson(200, tolerance=1e-4, history=2), Anderson(100, tolerance=1e-3, history=2), noise=noise)
