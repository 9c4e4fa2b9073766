"""What the training command trains by default on each data set, and what its options make of that."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork
from relaxon.neuromorphic.equilibrium.datasets import Dataset
from relaxon.neuromorphic.equilibrium.estimators.registry import estimator_named
from relaxon.neuromorphic.equilibrium.networks.convolutional import ConvolutionalNetwork
from relaxon.neuromorphic.equilibrium.networks.layered import LayeredNetwork
from relaxon.neuromorphic.equilibrium.networks.residual import ResidualNetwork
from relaxon.neuromorphic.equilibrium.networks.storage import StoredNetwork
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Alternating, Anderson
from relaxon.neuromorphic.equilibrium.training.bounds import BOUNDS, INPUT_GAIN
from relaxon.neuromorphic.equilibrium.training.homeostasis import JacobianHomeostasis
from relaxon.neuromorphic.equilibrium.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class Recipe:
    """Defaults for a data set."""

    hidden: tuple[int, ...]
    epochs: int
    batch: int
    rate: float
    n: int
    radius: float
    contraction: float
    readout_bound: float
    input_gain: float


DIGITS = Recipe((128, 64), 20, 32, 0.15, 4, 0.1, 0.9, 4.0, 2.0)
LARGE = Recipe((256, 256), 10, 50, 0.05, 4, 0.1, 0.9, 4.0, 1.0)
"""Fashion-MNIST and whatever else comes as IDX files."""


def recipe(data: Dataset, args: argparse.Namespace) -> tuple[StoredNetwork, TrainingSettings]:
    """The network and the settings for the command's arguments."""
    plain = DIGITS if data.name == "digits" else LARGE
    network: StoredNetwork
    _refuse(args)
    if args.residual:
        network = ResidualNetwork(
            data.image, args.channels, data.classes, activation=args.activation, loss=args.loss, tau=args.tau,
            gain=1.0, seed=args.seed,
        )  # fmt: skip
    elif args.channels:
        network = ConvolutionalNetwork(
            data.image,
            args.channels,
            data.classes,
            activation=args.activation,
            feedback=args.feedback,
            angle=args.angle,
            loss=args.loss,
            tau=args.tau,
            gain=1.0,
            input_gain=INPUT_GAIN,
            draw="orthogonal",
            seed=args.seed,
        )
    elif args.binary:
        if args.feedback != "tied":
            raise ValueError(f"feedback must be 'tied' for a binary network, got {args.feedback!r}")
        if args.homeostasis:
            raise ValueError(f"homeostasis must be 0 for a binary network, which is symmetric, got {args.homeostasis}")
        network = BinaryLayeredNetwork(
            (data.x[0].size, *(args.hidden or plain.hidden), data.classes),
            binarizer=args.binarizer,
            input_gain=plain.input_gain,
            gain=1.0,
            loss=args.loss,
            tau=args.tau,
            seed=args.seed,
        )
    else:
        sizes = (data.x[0].size, *(args.hidden or plain.hidden), data.classes)
        network = LayeredNetwork(
            sizes,
            activation=args.activation,
            feedback=args.feedback,
            angle=args.angle,
            loss=args.loss,
            tau=args.tau,
            input_gain=plain.input_gain,
            gain=1.0,
            seed=args.seed,
        )
    n = plain.n if args.n is None else args.n
    radius = plain.radius if args.radius is None else args.radius
    contraction, readout = plain.contraction, plain.readout_bound
    if args.channels:
        contraction, readout = BOUNDS["residual" if args.residual else "convolutional"]
    settings = TrainingSettings(
        epochs=plain.epochs if args.epochs is None else args.epochs,
        batch=plain.batch if args.batch is None else args.batch,
        rate=plain.rate if args.rate is None else args.rate,
        optimiser=args.optimizer,
        schedule="cosine",
        estimator=estimator_named(args.estimator, n, radius),
        phases=residual_phases(args.noise) if args.residual else training_phases(args.noise),
        homeostasis=JacobianHomeostasis(args.homeostasis) if args.homeostasis else None,
        contraction=contraction,
        readout_bound=readout,
        shift=args.shift,
        seed=args.seed,
        out=args.out,
    )
    return network, settings


def _refuse(args: argparse.Namespace) -> None:
    """ValueError for arguments that do not go together."""
    if args.channels and args.hidden:
        raise ValueError("hidden must not be given together with channels")
    if args.channels and args.binary:
        raise ValueError("binary must not be given together with channels: only layered networks are packed")
    if args.residual and not args.channels:
        raise ValueError("residual must not be given without channels")
    if args.residual and args.feedback != "tied":
        raise ValueError(f"feedback must be 'tied' for a residual network, got {args.feedback!r}")
    if args.binary and args.activation != "sigmoid":
        raise ValueError(f"activation must be 'sigmoid' for a binary network, got {args.activation!r}")
    if args.shift and not args.channels:
        raise ValueError("shift must be 0 where channels are not given")


def residual_phases(noise: float = 0.0) -> Phases:
    """As `training_phases`, for networks whose layers are no chain."""
    return Phases(Anderson(200, tolerance=1e-4, history=2), Anderson(100, tolerance=1e-3, history=2), noise=noise)


def training_phases(noise: float = 0.0) -> Phases:
    """Exact enough for training in single precision; a nudged phase that is not done after 60 steps is told of."""
    return Phases(Alternating(steps=100, tolerance=1e-4), Alternating(steps=60, tolerance=1e-3), noise=noise)
