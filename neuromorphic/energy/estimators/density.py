"""A scikit-learn density estimator: a fitted noise distribution, tilted by an energy, with an error estimate of log Z.

`p(x) = q(x) e^{−tilt(x)} / Z`. For few data the tilt stops growing as soon as the hold-out rows no longer gain from it,
possibly at zero; the estimate is then the noise distribution itself.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, replace
from typing import Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.checkpoints import Checkpoints, check_hooks
from relaxon.neuromorphic.energy.energies.families import MLPEnergy, TiltedEnergy
from relaxon.neuromorphic.energy.estimators.distribution import EnergyDistribution
from relaxon.neuromorphic.energy.estimators.stored import StoredEstimator
from relaxon.neuromorphic.energy.estimators.tilting import (
    REFERENCE_ROWS,
    explain_overfitting,
    explain_poor_fit,
    train_tilt,
)
from relaxon.neuromorphic.energy.estimators.verdict import DensityVerdict, judge_density
from relaxon.neuromorphic.energy.noise.choice import NOISES, NoiseName, fit_noise
from relaxon.neuromorphic.energy.noise.rank import explain_rank_deficiency
from relaxon.neuromorphic.energy.objectives.meco import MECO
from relaxon.neuromorphic.energy.objectives.noise_contrastive import ENCE, NCE, SNL, Objective
from relaxon.neuromorphic.energy.objectives.score_matching import ScoreMatching
from relaxon.neuromorphic.energy.partition.importance_sampling import ImportanceSampling
from relaxon.neuromorphic.energy.partition.log_partition import LogPartition, log_partition
from relaxon.neuromorphic.energy.samplers.euclidean import MALA
from relaxon.neuromorphic.energy.storage import decode_json, describe_training, restore_training
from relaxon.neuromorphic.energy.training.held_out import ensure_variation
from relaxon.neuromorphic.energy.training.loop import TrainingResult, Watcher
from relaxon.neuromorphic.energy.training.settings import TrainingSettings, check_optimizer
from relaxon.neuromorphic.parameters import check_real, check_widths, store_arguments
from relaxon.neuromorphic.table_estimators import draw_seed, read_rows, read_table
from relaxon.neuromorphic.torch_checkpoints import read_record

Array = NDArray[np.float64]
OBJECTIVES = {"meco": MECO, "nce": NCE, "ence": ENCE, "snl": SNL, "score-matching": ScoreMatching}
FEWEST_HELD_OUT = 10
"""Number of hold-out rows below which nothing can be judged by them, so that the tilt is not trained."""
NOISE_PARTS = ("sample", "log_prob", "event_shape")
OCTAVES = {1: 5, 2: 5}
"""Octaves of sines and cosines appended to the inputs, by the number of features; none for more features."""
REACH = 3.0
"""Half a period of the lowest octave, in standard deviations."""
POOL = 20
"""Number of candidates per requested sample."""
LEAST_POOL = 5000
"""Minimum number of candidates."""
POLISH = 20
"""Number of Metropolis-adjusted Langevin moves after resampling."""


class UntrustedDensityWarning(UserWarning):
    """The returned log-density is unreliable because of its log Z or its training."""


class EnergyDensity(DensityMixin, StoredEstimator):  # type: ignore[misc]
    """Density estimation by an energy-based model with a normalised log-density and a verdict on its reliability.

    Parameters
    ----------
    hidden_sizes : units of the tilt's perceptron; () for a linear tilt.
    noise : the distribution that is tilted and that training contrasts with: "gaussian", "mixture" (number of
        components by BIC), "kernel" (bandwidth by leave-one-out), "flow" (requires zuko), or "auto", the one of the
        first three with the highest likelihood of the hold-out rows; or your own noise distribution over the
        standardised features. The named ones are mixed with a wide Gaussian (kernels with wide kernels).
    objective : "meco", "nce", "ence", "snl", "score-matching", or an `Objective`.
    steps, batch_size, noise_batch_size, learning_rate : parameters of the optimiser; the learning rate follows a cosine
        schedule to 0.
    average : decay of the exponential moving average of the weights.
    weight_decay : that of AdamW; the other optimisers add it to the gradient.
    optimizer : "adam", "sgd", "momentum", "diffgrad" or "normalized" (see `relaxon.neuromorphic.optimizers`).
    octaves : octaves of sines and cosines appended to the inputs, for densities with sharp edges; "auto" means 5 in one
        or two dimensions and otherwise none.
    validation_fraction, patience : fraction of hold-out rows, and number of evaluations on them (one every 50 steps)
        without a higher likelihood after which training stops.
    partition_draws : number of noise samples for log Z.
    random_state : seed; the same seed gives the same bits.
    device : torch device.

    Attributes
    ----------
    energy_ : the trained energy over the standardised features, in double precision.
    noise_ : the noise distribution.
    log_partition_ : its `LogPartition`: value, 95 % interval, effective sample size, Pareto k, trusted, reason.
    verdict_ : whether the results of `score_samples` are reliable, judged by log Z, the training and the data.
    training_ : the `TrainingResult`, or None if the tilt was not trained.
    mean_, scale_ : mean and scale of the standardisation.
    validation_ : mean log-likelihood of the hold-out rows at each evaluation.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.energy import EnergyDensity
    >>> x = np.random.default_rng(0).standard_normal((500, 2))
    >>> density = EnergyDensity(steps=100, random_state=0).fit(x)
    >>> density.score_samples(x).shape, density.verdict_.trusted
    ((500,), True)
    """

    _columns: Any
    """Names of the features for messages, if X itself has none."""

    def __init__(
        self,
        hidden_sizes: tuple[int, ...] = (96, 96),
        *,
        noise: NoiseName | Any = "auto",
        objective: str | Objective = "meco",
        steps: int = 2000,
        batch_size: int = 512,
        noise_batch_size: int = 1024,
        learning_rate: float = 3e-3,
        average: float = 0.99,
        weight_decay: float = 0.0,
        optimizer: str = "adam",
        octaves: int | Literal["auto"] = "auto",
        validation_fraction: float = 0.15,
        patience: int = 8,
        partition_draws: int = 20_000,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        store_arguments(self, locals())

    # ---- fitting -------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        watcher: Watcher | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """Fit to `X (samples, features)`; `y` is ignored.

        Raises `ValueError` for constant features, and for linearly dependent ones (or as many features as rows), as
        there is no density then. With `noise="kernel"` or your own noise the latter only affects the verdict.
        `watcher` receives a `Progress` after each step; if it returns True, training stops and keeps its weights. With
        `checkpoints`, an interrupted fit is resumed and gives the same bits as an uninterrupted one.
        """
        check_hooks(watcher, checkpoints)
        x: Array = read_table(self, X, dtype=np.float64, ensure_min_samples=2)
        self.check_parameters()
        record = None if checkpoints is None else read_record(checkpoints.folder)
        seed = draw_seed(self.random_state, record["settings"]["seed"] if record else None)
        with np.errstate(over="ignore"):
            self.mean_, self.scale_ = x.mean(0), x.std(0)
        flat = np.flatnonzero(~(self.scale_ > 1e-12 * np.abs(self.mean_).clip(1e-300)))
        if flat.size:
            names = getattr(self, "_columns", getattr(self, "feature_names_in_", None))
            said = flat[:5].tolist() if names is None else [names[place] for place in flat[:5]]
            which = ", ".join(map(str, said)) + (", …" if flat.size > 5 else "")
            raise ValueError(
                "X must vary in each feature, and by more than the rounding of double precision, to have a density; "
                f"constant over {len(x)} sample(s) are features {which}"
            )
        if not np.isfinite(self.scale_).all():
            raise ValueError("X must have a finite variance in double precision; rescale its features")
        z = torch.from_numpy((x - self.mean_) / self.scale_)
        order = torch.randperm(len(z), generator=torch.Generator().manual_seed(seed))
        count = round(self.validation_fraction * len(z))
        count = count if count >= FEWEST_HELD_OUT else 0
        order = ensure_variation(z, order, count)
        held, rest = z[order[:count]], z[order[count:]]
        lacking = self._check_rank(z, rest)
        self.noise_ = self._fit_noise(rest, held, seed)
        octaves = OCTAVES.get(z.shape[1], 0) if self.octaves == "auto" else int(self.octaves)
        # The noise confines the density already; the perceptron's confinement would distort its tails.
        tilt = MLPEnergy(z.shape[1], self.hidden_sizes, fourier=octaves, reach=REACH, confinement=0.0, seed=seed)
        with torch.no_grad():
            list(tilt.parameters())[-2].zero_()
        self.energy_ = TiltedEnergy(self.noise_, tilt).to(self.device)
        self.training_: TrainingResult | None = None
        self.validation_: Array = np.empty(0)
        if count:
            self._train(rest, held, seed, watcher, checkpoints)
        self.energy_.double()
        if isinstance(self.noise_, torch.nn.Module):
            self.noise_.double()
        reference = z[order[: min(len(z), REFERENCE_ROWS)]].to(self.device)
        method = ImportanceSampling(self.noise_, self.partition_draws, reference=reference)
        self.log_partition_: LogPartition = log_partition(self.energy_, method, seed)
        self.verdict_ = judge_density(
            z, self.log_partition_, self.training_, lacking or self._explain_overfitting(rest, held, seed)
        )
        if not self.verdict_.trusted:
            warnings.warn(f"the density is unreliable: {self.verdict_.reason}", ConvergenceWarning, stacklevel=2)
        return self

    def check_parameters(self) -> None:
        """Raise `ValueError` or `TypeError` for a parameter that `fit` would refuse for any data."""
        check_optimizer("optimizer", self.optimizer, self.weight_decay)
        for name in ("batch_size", "noise_batch_size", "patience", "partition_draws"):
            validation.positive_int(name, getattr(self, name))
        validation.positive_float("learning_rate", self.learning_rate)
        self._build_settings(0)
        self._build_objective()
        check_widths("hidden_sizes", self.hidden_sizes)
        known = self.noise in NOISES if isinstance(self.noise, str) else not isinstance(self.noise, type)
        if not known or not (isinstance(self.noise, str) or all(hasattr(self.noise, part) for part in NOISE_PARTS)):
            raise ValueError(
                f"noise must be a noise distribution or one of {', '.join(map(repr, NOISES))}, got {self.noise!r}"
            )
        check_real("validation_fraction", self.validation_fraction, least=0.0, below=1.0)
        octaves = self.octaves
        if octaves != "auto" and (isinstance(octaves, bool) or not isinstance(octaves, int) or octaves < 0):
            raise ValueError(f"octaves must be 'auto' or an integer of at least 0, got {octaves!r}")

    def _build_settings(self, seed: int) -> TrainingSettings:
        return TrainingSettings(
            steps=self.steps,
            batch=self.batch_size,
            noise_batch=self.noise_batch_size,
            rate=self.learning_rate,
            average=self.average,
            weight_decay=self.weight_decay,
            optimiser=self.optimizer,
            seed=seed,
            device=self.device,
        )

    def _build_objective(self) -> Objective:
        if isinstance(self.objective, Objective):
            return self.objective
        if not isinstance(self.objective, str) or self.objective not in OBJECTIVES:
            names = ", ".join(map(repr, OBJECTIVES))
            raise ValueError(f"objective must be an Objective or one of {names}, got {self.objective!r}")
        made: Objective = OBJECTIVES[self.objective]()
        return made

    def _fit_noise(self, rest: Tensor, held: Tensor, seed: int) -> Any:
        """Return the noise distribution over the standardised features, in double precision."""
        if not isinstance(self.noise, str):
            if tuple(self.noise.event_shape) != rest.shape[1:]:
                shape = tuple(self.noise.event_shape)
                raise ValueError(f"noise must have the event_shape ({rest.shape[1]},) of a row of X, got {shape}")
            return self.noise.to(self.device) if isinstance(self.noise, torch.nn.Module) else self.noise
        return fit_noise(self.noise, rest, held, seed).to(self.device)

    def _train(
        self, rest: Tensor, held: Tensor, seed: int, watcher: Watcher | None, checkpoints: Checkpoints | None
    ) -> None:
        settings = self._build_settings(seed)
        if checkpoints is not None:
            settings = replace(settings, out=checkpoints.folder, checkpoint_seconds=checkpoints.seconds)
        noise = self.noise if isinstance(self.noise, str) else type(self.noise).__name__
        fit = {"noise": noise, "hidden_sizes": [int(width) for width in self.hidden_sizes]}
        objective = self._build_objective()
        self.training_, self.validation_ = train_tilt(
            self.energy_, rest, held, objective, settings, self.patience, watcher, fit
        )

    def _check_rank(self, z: Tensor, rest: Tensor) -> str:
        """Return why the rows have no density, if kernels or the caller's noise provide one; else raise ValueError."""
        names = getattr(self, "_columns", getattr(self, "feature_names_in_", None))
        lacking = explain_rank_deficiency(z.numpy(), names)
        if not lacking:
            lacking = explain_rank_deficiency(rest.numpy(), names)
            lacking = lacking and f"without the {len(z) - len(rest)} hold-out rows, {lacking}"
        if lacking and isinstance(self.noise, str) and self.noise != "kernel":
            raise ValueError(f"X must have a covariance of full rank to have a density; {lacking}")
        return lacking and f"the covariance does not have full rank: {lacking}"

    def _explain_overfitting(self, rest: Tensor, held: Tensor, seed: int) -> str:
        """Return why hold-out rows contradict the density or, without such rows, its noise fitted to a part of them."""
        if len(held):
            parts = (rest.to(self.device), held.to(self.device))
            return explain_overfitting(self.energy_, self.log_partition_.value, *parts)
        if not isinstance(self.noise, str):
            return ""
        return explain_poor_fit(self.noise, self.noise_, rest, seed, self.device)

    # ---- the fitted density --------------------------------------------------------------------------------------

    @overload
    def score_samples(self, X: ArrayLike, return_std: Literal[False] = False) -> Array: ...

    @overload
    def score_samples(self, X: ArrayLike, return_std: Literal[True]) -> tuple[Array, Array]: ...

    def score_samples(self, X: ArrayLike, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Return the normalised log-density of each row, `(samples,)`, in the units of X.

        With `return_std`, also return their standard errors, `(samples,)`: that of log Z, which all rows share, so that
        differences between rows have no error. It does not include the misfit between energy and data, and is NaN if
        log Z has no error estimate. Warns if the log-densities are unreliable.
        """
        x = read_rows(self, X)
        if not self.verdict_.trusted:
            why = f"the log-densities are unreliable: {self.verdict_.reason}"
            warnings.warn(why, UntrustedDensityWarning, stacklevel=2)
        found = self._evaluate_log_density(x)
        if not return_std:
            return found
        return found, np.full(len(x), self.log_partition_.standard_error)

    def _evaluate_log_density(self, x: Array) -> Array:
        z = torch.from_numpy((x - self.mean_) / self.scale_).to(self.device)
        with torch.no_grad():
            found = torch.cat([-self.energy_(part) for part in torch.split(z, ROWS_AT_ONCE)]).cpu().numpy()
        return np.asarray(found - self.log_partition_.value - np.log(self.scale_).sum())

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Return the mean log-density of the rows."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> Array:
        """Draw samples of the model, `(n_samples, features)`.

        They are noise samples, resampled by their weights and then moved by Metropolis-adjusted Langevin steps.
        """
        check_is_fitted(self)
        count = validation.positive_int("n_samples", n_samples)
        seed = draw_seed(self.random_state if random_state is None else random_state)
        generator = torch.Generator().manual_seed(seed)
        pool = self.noise_.sample(max(LEAST_POOL, POOL * count), generator).double()
        with torch.no_grad():
            weights = -self.energy_(pool) - self.noise_.log_prob(pool)
        chosen = torch.multinomial(torch.softmax(weights, 0).cpu(), count, replacement=True, generator=generator)
        start = pool[chosen.to(pool.device)]
        moved = MALA().run(self.energy_, start, 1, generator, warm_up=POLISH) if POLISH else None
        z = start if moved is None else moved.samples[-1]
        return np.asarray(z.cpu().numpy() * self.scale_ + self.mean_)

    def distribution(self) -> EnergyDistribution:
        """Return the model as a `torch.distributions.Distribution` in the units of X."""
        check_is_fitted(self)
        return EnergyDistribution(self)

    def _parts(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
        """Return the modules, values and tensors of the fitted estimator, from which `_restore` rebuilds it."""
        card = {
            "log_partition": asdict(self.log_partition_),
            "verdict": asdict(self.verdict_),
            "training": describe_training(self.training_),
        }
        arrays = {"mean": self.mean_, "scale": self.scale_, "validation": self.validation_}
        return {"energy": self.energy_}, card, {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _restore(self, modules: dict[str, Any], card: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        card = decode_json(card)
        self.energy_ = modules["energy"]
        self.noise_ = self.energy_.base
        found = card["log_partition"]
        self.log_partition_ = LogPartition(**{**found, "interval": tuple(found["interval"])})
        self.verdict_ = DensityVerdict(**card["verdict"])
        self.training_ = restore_training(card["training"])
        self.mean_, self.scale_ = tensors["mean"].numpy(), tensors["scale"].numpy()
        self.validation_ = tensors["validation"].numpy()
        d = math.prod(self.energy_.event_shape)
        if not len(self.mean_) == len(self.scale_) == self.n_features_in_ == d or not (self.scale_ > 0).all():
            raise ValueError(f"mean and scale must be of the energy's {d} features, the scale above 0")


ROWS_AT_ONCE = 20_000
"""Number of rows whose log-densities are computed at a time."""
