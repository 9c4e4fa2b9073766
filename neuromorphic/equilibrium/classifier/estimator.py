"""A scikit-learn classifier trained by equilibrium propagation."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from relaxon.neuromorphic.binary.layered import BinaryLayeredNetwork
from relaxon.neuromorphic.binary.packed import MOST_SWEEPS, PackedEquilibrium, pack_network
from relaxon.neuromorphic.checkpoints import Checkpoints, check_hooks
from relaxon.neuromorphic.equilibrium.estimators.comparison import Comparison, compare_gradients
from relaxon.neuromorphic.equilibrium.estimators.gradients import predict
from relaxon.neuromorphic.equilibrium.estimators.nudged import Estimator, is_nudged
from relaxon.neuromorphic.equilibrium.estimators.registry import build_estimator
from relaxon.neuromorphic.equilibrium.hardware.limits import Hardware
from relaxon.neuromorphic.equilibrium.networks.form import DEFAULT_BOUNDS, NetworkForm
from relaxon.neuromorphic.equilibrium.networks.storage import StoredNetwork
from relaxon.neuromorphic.equilibrium.relaxation.phases import Phases, keep_phases
from relaxon.neuromorphic.equilibrium.relaxation.relaxers import Alternating, Anderson, FixedStep, Outcome, Relaxation
from relaxon.neuromorphic.equilibrium.training.homeostasis import JacobianHomeostasis
from relaxon.neuromorphic.equilibrium.training.loop import refuse_hardware, train
from relaxon.neuromorphic.equilibrium.training.report import TrainingOutcome, Watcher
from relaxon.neuromorphic.equilibrium.training.settings import TrainingSettings
from relaxon.neuromorphic.losses import calibrated_scale
from relaxon.neuromorphic.parameters import store_arguments
from relaxon.neuromorphic.table_estimators import draw_seed, find_classes, read_rows, read_table
from relaxon.neuromorphic.torch_checkpoints import read_record

UNBOUNDED_FREE = FixedStep(300, tolerance=1e-4)
"""The free phase of convolutional networks from before bounds were introduced."""
TIGHT = Phases(Alternating(100, tolerance=1e-5), Alternating(60, tolerance=1e-4))
"""Phases of layered networks for gradients without nudges, and once the default for all."""
BOUNDED = ("contraction", "readout_bound")
PREDICTION = Phases(FixedStep(steps=5000, tolerance=1e-12))
"""Phases of predictions: so accurate that predictions do not depend on the other rows of the batch."""


class EquilibriumClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A layered or convolutional network with feedback and a softmax readout, in double precision.

    Parameters
    ----------
    hidden_sizes : numbers of units of the relaxing layers; ignored where `channels` is given.
    image, channels, kernel : for a convolutional network: the channels, height and width of the image in each row of X
        (in this order); the numbers of channels of the relaxing layers; the side of the kernels.
    residual : with `channels`, a `ResidualNetwork` whose blocks have these channels, with tied feedback and kernels of
        side 3. With its clipped activations ("relu6", "hard-sigmoid") `n` must be at most 2.
    activation, feedback, angle, gain : as for `LayeredNetwork`.
    estimator : "cauchy", "asymmetric-cauchy", "centred", "one-sided", "continuous", "implicit", "recurrent-backprop",
        "unrolled", or an `Estimator`.
    n, radius : number of points and radius of the contour of an estimator given by name.
    homeostasis : weight λ of the Jacobian homeostasis; 0 for none.
    shift : with `channels`, each training image is shifted at random by up to this many pixels (see
        `TrainingSettings`).
    epochs, batch_size, learning_rate, momentum : parameters of the training; the learning rate decays along a cosine.
    contraction, readout_bound : bounds on the weights that keep the equilibrium unique and the nudges inside the radius
        of analyticity; None for no bounds (see `TrainingSettings`). "auto" means 0.9 and 4 for layers, 0.95 and 8 for
        residual networks, and 3 and 4 for convolutions, whose bound on the coupling covers the worst of all states:
        the states met in training are far from it.
    noise : standard deviation of the noise on the states during training.
    weight_decay, nesterov : of the optimisers "sgd" and "adam", and of "sgd" (see `TrainingSettings`).
    hardware : the `Hardware` on which gradients are measured in training, None for none; predictions are those of the
        network in full precision.
    loss, tau : "cross-entropy", or "comp-sum" with its τ above 0 and below 2 (see `relaxon.neuromorphic.losses`).
    optimizer : "sgd", "adam", "diffgrad", "normalized", "adadagrad" or "adadagrad-norm" (see
        `relaxon.neuromorphic.optimizers`); with the last two, batches start with `batch_size` rows and grow.
    binary : weights of −1 and 1 with one scale for each matrix; predictions count bits, with rates of 16 levels.
        Requires tied feedback, the activation "sigmoid" and no `channels`.
    binarizer : "reste" or "biper", the surrogate gradient of the sign for binary weights.
    standardise : whether to scale each feature (of images: each channel) to mean 0 and standard deviation 1.
    random_state : seed or generator.
    device : torch device on which to compute.

    Attributes
    ----------
    classes_, n_features_in_, network_ (LayeredNetwork, BinaryLayeredNetwork, ConvolutionalNetwork or ResidualNetwork),
    report_ (TrainingReport), mean_, scale_

    >>> from sklearn.datasets import load_iris
    >>> from relaxon.neuromorphic.equilibrium import EquilibriumClassifier
    >>> x, y = load_iris(return_X_y=True)
    >>> EquilibriumClassifier(random_state=0).fit(x, y).score(x, y) > 0.95
    True
    """

    image: tuple[int, int, int] | None
    channels: tuple[int, ...] | None

    def __init__(
        self,
        hidden_sizes: tuple[int, ...] = (64, 32),
        *,
        image: tuple[int, int, int] | None = None,
        channels: tuple[int, ...] | None = None,
        kernel: int = 3,
        activation: str = "sigmoid",
        feedback: str = "tied",
        angle: float = 0.0,
        gain: float = 1.0,
        estimator: str | Estimator = "cauchy",
        n: int = 4,
        radius: float = 0.1,
        homeostasis: float = 0.0,
        epochs: int = 30,
        batch_size: int = 32,
        learning_rate: float = 0.15,
        momentum: float = 0.9,
        contraction: float | Literal["auto"] | None = "auto",
        readout_bound: float | Literal["auto"] | None = "auto",
        noise: float = 0.0,
        loss: str = "cross-entropy",
        tau: float = 1.0,
        optimizer: str = "sgd",
        binary: bool = False,
        binarizer: str = "reste",
        residual: bool = False,
        shift: int = 0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        hardware: Hardware | None = None,
        standardise: bool = True,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        store_arguments(self, locals())

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        watcher: Watcher | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """Train on `X (samples, features)` and labels `y (samples,)`; warn where a run ends before its last epoch.

        `watcher` is called with a `TrainingProgress` after each step; training ends where it returns True. With
        `checkpoints`, an interrupted fit resumes where it stopped and gives the same bits.
        """
        check_hooks(watcher, checkpoints)
        x: NDArray[np.float64]
        x, y = read_table(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = find_classes(y)
        with np.errstate(over="ignore"):
            self.mean_, spread = self._measure_location(x)
        if not np.isfinite(spread).all():
            raise ValueError(f"X must have a finite standard deviation in float64, got entries up to {x.max():.1e}")
        # A constant feature carries no information; dividing it by its rounding error would amplify noise.
        self.scale_ = np.where(spread > 1e-12 * np.abs(self.mean_).clip(1), spread, 1.0)
        record = None if checkpoints is None else read_record(checkpoints.folder)
        seed = draw_seed(self.random_state, record["settings"]["seed"] if record else None)
        network = build_network(self, x.shape[1], len(self.classes_), seed).to(self.device)
        target = torch.from_numpy(np.ascontiguousarray(labels)).to(self.device)
        self.network_ = network
        self._packed: PackedEquilibrium | None = None
        settings = self._settings(seed)
        if self.channels is None:
            settings = replace(settings, phases=keep_phases(settings.phases, replace(TIGHT, noise=self.noise), record))
        if checkpoints is not None:
            settings = replace(settings, out=checkpoints.folder, checkpoint_seconds=checkpoints.seconds)
            bounded = self.contraction != "auto" or record is None or record["settings"]["contraction"] is not None
            if self.channels is not None and not bounded:
                # Runs of convolutional networks that began before bounds were introduced resume without, with the same
                # bits.
                free = replace(settings.phases, free=UNBOUNDED_FREE)
                settings = replace(settings, contraction=None, readout_bound=None, phases=free)
        self.report_ = train(network, (self._make_tensor(x), target), settings, watcher=watcher)
        if self.report_.ended is not TrainingOutcome.FINISHED:
            why = self.report_.message or self.report_.ended.value
            warnings.warn(f"training ended early: {why}", ConvergenceWarning, stacklevel=2)
        return self

    def check_parameters(self) -> None:
        """Raise `ValueError` or `TypeError` for a parameter that `fit` would refuse whatever the data."""
        settings = self._settings(0)
        network = build_network(self, 1 if self.image is None else math.prod(self.image), 2, 0)
        settings.estimator.refuse(network)
        refuse_hardware(network, settings)

    def _measure_location(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation by feature."""
        columns = x.shape[1]
        if not self.standardise:
            return np.zeros(columns), np.ones(columns)
        if self.channels is None:
            return x.mean(0), x.std(0)
        # By channel, since the deviation of a single pixel says little: a corner that is nearly always black would
        # dominate.
        colours = x.reshape(len(x), image_shape(self, columns)[0], -1)
        each = columns // colours.shape[1]
        return colours.mean((0, 2)).repeat(each), colours.std((0, 2)).repeat(each)

    def _settings(self, seed: int) -> TrainingSettings:
        contraction, readout = self._choose_bounds()
        return TrainingSettings(
            epochs=self.epochs,
            batch=self.batch_size,
            rate=self.learning_rate,
            momentum=self.momentum,
            optimiser=self.optimizer,
            schedule="cosine",
            estimator=self._choose_estimator(),
            phases=self._choose_phases(),
            homeostasis=JacobianHomeostasis(self.homeostasis) if self.homeostasis else None,
            seed=seed,
            contraction=contraction,
            readout_bound=readout,
            shift=self.shift,
            weight_decay=self.weight_decay,
            nesterov=bool(self.nesterov),
            hardware=self.hardware,
            probe=False,
        )

    def _choose_bounds(self) -> tuple[float | None, float | None]:
        """Return the bounds on the coupling and on the readout; without the first there is no second."""
        coupling, readout = DEFAULT_BOUNDS[describe_form(self).kind]
        given = (self.contraction, self.readout_bound)
        for name, value in zip(BOUNDED, given, strict=True):
            if isinstance(value, str) and value != "auto":
                raise ValueError(f"{name} must be a number above 0, 'auto' or None, got {value!r}")
        first = coupling if given[0] == "auto" else given[0]
        second = (readout if first is not None else None) if given[1] == "auto" else given[1]
        return first, second

    def _choose_phases(self) -> Phases:
        if self.channels is None and is_nudged(self._choose_estimator()):
            # The largest tolerances at which finite nudges give gradients as exact as tighter ones do.
            return Phases(Alternating(100, tolerance=1e-3), Alternating(60, tolerance=4e-4), noise=self.noise)
        if self.channels is None:
            return replace(TIGHT, noise=self.noise)
        if self.residual:
            return Phases(
                Anderson(200, tolerance=1e-6, history=2), Anderson(100, tolerance=1e-3, history=2), noise=self.noise
            )
        return Phases(FixedStep(300, tolerance=1e-6), FixedStep(100, tolerance=1e-3), noise=self.noise)

    def _choose_estimator(self) -> Estimator:
        if isinstance(self.estimator, Estimator):
            return self.estimator
        return build_estimator(self.estimator, self.n, self.radius)

    def _make_tensor(self, x: NDArray[np.float64]) -> torch.Tensor:
        rows = torch.from_numpy((x - self.mean_) / self.scale_).to(self.device)
        return rows if self.channels is None else rows.view(-1, *image_shape(self, x.shape[1]))

    def relaxed(self, X: ArrayLike) -> tuple[NDArray[np.float64], Relaxation]:
        """Return logits at the free equilibrium, `(samples, classes)`, and how the free phase went."""
        x = read_rows(self, X)
        if self.binary:
            return self._relax_levels((x - self.mean_) / self.scale_)
        scores, relaxed = predict(self.network_, self._make_tensor(x), PREDICTION)
        return scores.cpu().numpy(), relaxed

    def packed(self) -> PackedEquilibrium:
        """Return the bits, scales and biases of a binary network; ValueError for any other network."""
        check_is_fitted(self)
        if not self.binary:
            raise ValueError("binary must be True for a packed network")
        packed: PackedEquilibrium | None = getattr(self, "_packed", None)
        if packed is None:
            assert isinstance(self.network_, BinaryLayeredNetwork)
            packed = self._packed = pack_network(self.network_)
        return packed

    def _relax_levels(self, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], Relaxation]:
        """Return what `relaxed` does by counting bits; the residual is 0 where no level changes any more."""
        rest = self.packed().relax(x)
        steps = int(np.abs(rest.sweeps).max())
        done = bool((rest.sweeps > 0).all())
        state = torch.from_numpy(rest.levels.astype(np.float64) / 15)
        outcome = Outcome.CONVERGED if done else Outcome.MAX_STEPS
        return rest.scores, Relaxation(state, 0.0 if done else 1.0, 0.0, min(steps, MOST_SWEEPS), outcome)

    def compare_gradients(self, X: ArrayLike, y: ArrayLike, estimators: Sequence[Estimator]) -> Comparison:
        """Compare each estimator's gradient of a batch with the exact one; `y` are labels among `classes_`."""
        check_is_fitted(self)
        x: NDArray[np.float64]
        x, y = read_table(self, X, y, dtype=np.float64, reset=False)
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ValueError(f"y must have labels of the fit, got {unknown[0]!r}")
        target = torch.from_numpy(np.searchsorted(self.classes_, y)).to(self.device)
        return compare_gradients(self.network_, (self._make_tensor(x), target), estimators)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return logits at the free equilibrium: `(samples, classes)`, or `(samples,)` for two classes."""
        return decision(self._logits(X))

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        logits, relaxed = self.relaxed(X)
        if relaxed.outcome is not Outcome.CONVERGED:
            why = f"residual {relaxed.residual:.1e} after {relaxed.steps} steps"
            warnings.warn(f"the free phase did not come to rest: {why}", ConvergenceWarning, stacklevel=3)
        return logits

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the softmax of the logits, `(samples, classes)`; of the logits times `2 − τ` for the comp-sum loss."""
        return self.to_probabilities(self._logits(X))

    def to_probabilities(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probabilities for logits `(samples, classes)` from `relaxed`, given the loss."""
        return probabilities(logits if self.loss != "comp-sum" else calibrated_scale(self.tau) * logits)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the class with the largest probability."""
        # _logits checks that the estimator is fitted before `classes_` is looked up.
        best = self._logits(X).argmax(1)
        return np.asarray(self.classes_[best])


def decision(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return logits `(samples, classes)`; for two classes, their difference `(samples,)`."""
    return np.asarray(logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits)


def probabilities(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the softmax of logits, `(samples, classes)`."""
    e = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(e / e.sum(1, keepdims=True))


def describe_form(classifier: EquilibriumClassifier) -> NetworkForm:
    """Return the form of the network that a classifier's parameters describe, unchecked."""
    names = [field.name for field in fields(NetworkForm) if field.name != "input_gain"]
    return NetworkForm(**{name: getattr(classifier, name) for name in names})


def build_network(classifier: EquilibriumClassifier, features: int, classes: int, seed: int) -> StoredNetwork:
    """Return the network of a classifier; TypeError or ValueError naming a parameter that it cannot have."""
    if classifier.loss == "squared":
        raise ValueError("loss must be 'cross-entropy' or 'comp-sum' for a classifier, got 'squared'")
    form = describe_form(classifier)
    form.check(shift=classifier.shift, homeostasis=classifier.homeostasis)
    image = None if form.channels is None else image_shape(classifier, features)
    return form.build(features, image, classes, seed, torch.float64)


def image_shape(classifier: EquilibriumClassifier, features: int) -> tuple[int, int, int]:
    """Return the shape of the image that a row holds; ValueError where it does not have that many features."""
    if classifier.image is None or len(classifier.image) != 3:
        raise ValueError(f"image must be (channels, height, width) where channels is given, got {classifier.image!r}")
    if math.prod(classifier.image) != features:
        raise ValueError(f"image must have as many pixels as X has features, {features}, got {classifier.image!r}")
    return classifier.image
