"""A scikit-learn density estimator: a fitted noise distribution that an energy tilts, with a log Z that has an error.

`p(x) = q(x) e^{−tilt(x)} / Z`. Where data are few the tilt stops growing when rows held out stop gaining from it, at
none at all if need be: the estimate is then the noise distribution's own.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from relaxon.core import validation
from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.checkpoints import Checkpoints
from relaxon.neuromorphic.energy.energies.families import MLPEnergy, TiltedEnergy
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
from relaxon.neuromorphic.energy.training.held_out import ensure_variation
from relaxon.neuromorphic.energy.training.loop import TrainingResult, Watcher
from relaxon.neuromorphic.energy.training.settings import TrainingSettings, check_optimizer
from relaxon.neuromorphic.parameters import check_real
from relaxon.neuromorphic.torch_checkpoints import read_record

if TYPE_CHECKING:
    from relaxon.neuromorphic.energy.estimators.distribution import EnergyDistribution

Array = NDArray[np.float64]
OBJECTIVES = {"meco": MECO, "nce": NCE, "ence": ENCE, "snl": SNL, "score-matching": ScoreMatching}
FEWEST_HELD_OUT = 10
"""With fewer rows held out, nothing can be judged by them: the tilt is not trained."""
OCTAVES = {1: 5, 2: 5}
"""Of sines and cosines beside the inputs, by the number of features; none for more."""
REACH = 3.0
"""Standard deviations that the lowest octave spans half a period of."""
POOL = 20
"""Candidates for each sample that is asked for."""
LEAST_POOL = 5000
POLISH = 20
"""Metropolis-adjusted Langevin moves after resampling."""


class UntrustedDensityWarning(UserWarning):
    """A log-density is given whose log Z, or whose training, is not to be trusted."""


class EnergyDensity(DensityMixin, BaseEstimator):  # type: ignore[misc]
    """Density estimation by an energy-based model whose log-density is normalised and says how well.

    Parameters
    ----------
    hidden_sizes : units of the tilt's perceptron; () for a linear tilt.
    noise : what is tilted, and what training contrasts with: "gaussian", "mixture" (components by BIC), "kernel"
        (bandwidth by leave-one-out), "flow" (needs zuko), or "auto", the likeliest of the first three on rows held out;
        or a noise distribution of your own, over the standardised features. Into the named, a wide Gaussian
        is mixed, and wide kernels into kernels.
    objective : "meco", "nce", "ence", "snl", "score-matching", or an `Objective`.
    steps, batch_size, noise_batch_size, learning_rate : of the optimiser, the rate falling along a cosine.
    average : decay of the exponential average of the weights.
    weight_decay : of AdamW, or added to the gradient by the other optimisers.
    optimizer : "adam", "sgd", "momentum", "diffgrad" or "normalized" (see `relaxon.neuromorphic.optimizers`).
    octaves : of sines and cosines beside the inputs (sharp edges); "auto": 5 in one or two dimensions, else none.
    validation_fraction, patience : share of the rows held out, and how many looks at them (one in 50 steps) without a
        better likelihood end the training.
    partition_draws : noise samples for log Z.
    random_state : seed; the same seed gives the same bits.
    device : where torch computes.

    Attributes
    ----------
    energy_ : the trained energy over the standardised features, in double precision.
    noise_ : the noise distribution.
    log_partition_ : `LogPartition` of it: value, 95 % interval, effective sample size, Pareto k, trusted, reason.
    verdict_ : whether `score_samples` can be taken at its word: of log Z, of the training and of the data.
    training_ : how the training ended; None where the tilt was not trained.
    mean_, scale_ : of the standardisation.
    validation_ : mean log-likelihood of the rows held out at each look.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.energy import EnergyDensity
    >>> x = np.random.default_rng(0).standard_normal((500, 2))
    >>> density = EnergyDensity(steps=100, random_state=0).fit(x)
    >>> density.score_samples(x).shape, density.verdict_.trusted
    ((500,), True)
    """

    _columns: Any
    """What a caller's features are called, where X itself does not say."""

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
        self.hidden_sizes = hidden_sizes
        self.noise = noise
        self.objective = objective
        self.steps = steps
        self.batch_size = batch_size
        self.noise_batch_size = noise_batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.weight_decay = weight_decay
        self.optimizer = optimizer
        self.octaves = octaves
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.partition_draws = partition_draws
        self.random_state = random_state
        self.device = device

    # ---- fitting -------------------------------------------------------------------------------------------------

    def fit(
        self,
        X: ArrayLike,
        y: Any = None,
        watcher: Watcher | None = None,
        checkpoints: Checkpoints | None = None,
    ) -> Self:
        """Fit to `X (samples, features)`; `y` is not looked at.

        ValueError for a feature without variation, and for features that are combinations of others (or as many as
        there are rows): there is no density then. With `noise="kernel"`, or a noise of your own, the latter is a
        verdict. `watcher` sees a `Progress` after each step; where it returns True, training ends with what it has.
        With `checkpoints`, a fit that was cut off goes on where it was, to the same bits.
        """
        refuse_masks(X=X)
        x: Array = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        self.check_parameters()
        seed = self._draw_seed(checkpoints)
        self.mean_ = x.mean(0)
        self.scale_ = x.std(0)
        flat = np.flatnonzero(~(self.scale_ > 1e-12 * np.abs(self.mean_).clip(1e-300)))
        if flat.size:
            names = getattr(self, "_columns", getattr(self, "feature_names_in_", None))
            said = flat[:5].tolist() if names is None else [names[place] for place in flat[:5]]
            which = ", ".join(map(str, said)) + (", …" if flat.size > 5 else "")
            raise ValueError(
                f"X must vary in each feature to have a density; constant over {len(x)} sample(s) are features {which}"
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
        # The perceptron's confinement would be a second tail beside the noise's own.
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
            warnings.warn(f"the density is not to be trusted: {self.verdict_.reason}", ConvergenceWarning, stacklevel=2)
        return self

    def check_parameters(self) -> None:
        """Raise `ValueError` or `TypeError` for a parameter that `fit` would refuse whatever the data."""
        check_optimizer("optimizer", self.optimizer, self.weight_decay)
        self._build_settings(0)
        self._build_objective()
        for width in self.hidden_sizes:
            validation.positive_int("hidden_sizes", width)
        if isinstance(self.noise, str) and self.noise not in NOISES:
            raise ValueError(
                f"noise must be a noise distribution or one of {', '.join(map(repr, NOISES))}, got {self.noise!r}"
            )
        check_real("validation_fraction", self.validation_fraction, least=0.0, below=1.0)
        validation.positive_int("patience", self.patience)
        validation.positive_int("partition_draws", self.partition_draws)
        if self.octaves != "auto" and (not isinstance(self.octaves, int) or self.octaves < 0):
            raise ValueError(f"octaves must be 'auto' or an integer of at least 0, got {self.octaves!r}")

    def _build_settings(self, seed: int) -> TrainingSettings:
        return TrainingSettings(
            steps=self.steps,
            batch=self.batch_size,
            noise_batch=self.noise_batch_size,
            rate=self.learning_rate,
            average=self.average,
            weight_decay=self.weight_decay,
            optimiser=self.optimizer,  # type: ignore[arg-type]
            seed=seed,
            device=self.device,
        )

    def _build_objective(self) -> Objective:
        if isinstance(self.objective, Objective):
            return self.objective
        if self.objective not in OBJECTIVES:
            names = ", ".join(map(repr, OBJECTIVES))
            raise ValueError(f"objective must be an Objective or one of {names}, got {self.objective!r}")
        made: Objective = OBJECTIVES[self.objective]()
        return made

    def _fit_noise(self, rest: Tensor, held: Tensor, seed: int) -> Any:
        """The noise distribution over the standardised features, in double precision."""
        if not isinstance(self.noise, str):
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

    def _draw_seed(self, checkpoints: Checkpoints | None) -> int:
        """The seed of this fit; where none is given, that of the fit that it goes on with."""
        if checkpoints is not None and self.random_state is None:
            record = read_record(checkpoints.folder)
            if record is not None:
                return int(record["settings"]["seed"])
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _check_rank(self, z: Tensor, rest: Tensor) -> str:
        """Why the rows have no density, where kernels or the caller's own noise give them one; ValueError elsewhere."""
        names = getattr(self, "_columns", getattr(self, "feature_names_in_", None))
        lacking = explain_rank_deficiency(z.numpy(), names)
        if not lacking:
            lacking = explain_rank_deficiency(rest.numpy(), names)
            lacking = lacking and f"without the {len(z) - len(rest)} rows held out, {lacking}"
        if lacking and isinstance(self.noise, str) and self.noise != "kernel":
            raise ValueError(f"X must have a covariance of full rank to have a density; {lacking}")
        return lacking and f"the covariance has no full rank: {lacking}"

    def _explain_overfitting(self, rest: Tensor, held: Tensor, seed: int) -> str:
        """Why rows held out speak against the density; where there are none, against its noise fitted to a part."""
        if len(held):
            parts = (rest.to(self.device), held.to(self.device))
            return explain_overfitting(self.energy_, self.log_partition_.value, *parts)
        if not isinstance(self.noise, str):
            return ""
        return explain_poor_fit(self.noise, self.noise_, rest, seed, self.device)

    # ---- answers -------------------------------------------------------------------------------------------------

    @overload
    def score_samples(self, X: ArrayLike, return_std: Literal[False] = False) -> Array: ...

    @overload
    def score_samples(self, X: ArrayLike, return_std: Literal[True]) -> tuple[Array, Array]: ...

    def score_samples(self, X: ArrayLike, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Normalised log-density of each row, `(samples,)`, in the units of X.

        With `return_std` their standard errors too, `(samples,)`: that of log Z, which all rows share, so that
        differences between rows have none. How well the energy fits the data is not in it. NaN where log Z has no
        error. Warns where the log-densities are not to be trusted.
        """
        check_is_fitted(self)
        refuse_masks(X=X)
        x: Array = validate_data(self, X, dtype=np.float64, reset=False)
        if not self.verdict_.trusted:
            why = f"log-densities are not to be trusted: {self.verdict_.reason}"
            warnings.warn(why, UntrustedDensityWarning, stacklevel=2)
        found = self._evaluate_log_density(x)
        if not return_std:
            return found
        return found, np.full(len(x), self.log_partition_.standard_error)

    def _evaluate_log_density(self, x: Array) -> Array:
        z = torch.from_numpy((x - self.mean_) / self.scale_).to(self.device)
        with torch.no_grad():
            found = torch.cat([-self.energy_(part) for part in torch.split(z, ROWS_AT_ONCE)]).cpu().numpy()
        log_density: Array = found - self.log_partition_.value - np.log(self.scale_).sum()
        return log_density

    def score(self, X: ArrayLike, y: Any = None) -> float:
        """Mean log-density of the rows."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: int | np.random.RandomState | None = None) -> Array:
        """Draw from the model, `(n_samples, features)`: noise samples resampled by their weights, then moved on by
        Metropolis-adjusted Langevin steps."""
        check_is_fitted(self)
        count = validation.positive_int("n_samples", n_samples)
        seed = int(check_random_state(self.random_state if random_state is None else random_state).randint(2**31 - 1))
        generator = torch.Generator().manual_seed(seed)
        pool = self.noise_.sample(max(LEAST_POOL, POOL * count), generator).double()
        with torch.no_grad():
            weights = -self.energy_(pool) - self.noise_.log_prob(pool)
        chosen = torch.multinomial(torch.softmax(weights, 0).cpu(), count, replacement=True, generator=generator)
        start = pool[chosen.to(pool.device)]
        moved = MALA().run(self.energy_, start, 1, generator, warm_up=POLISH) if POLISH else None
        z = start if moved is None else moved.samples[-1]
        x: Array = z.cpu().numpy() * self.scale_ + self.mean_
        return x

    def distribution(self) -> EnergyDistribution:
        """The model as `torch.distributions` know them: `log_prob`, `sample`, `event_shape`, in the units of X."""
        from relaxon.neuromorphic.energy.estimators.distribution import EnergyDistribution

        check_is_fitted(self)
        return EnergyDistribution(self)

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to a folder: safetensors and JSON, no pickle."""
        from relaxon.neuromorphic.energy.storage import save_estimator

        check_is_fitted(self)
        save_estimator(self, path)

    def _parts(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
        """Modules, values and tensors that make the fitted estimator; `_restore` takes them back."""
        from relaxon.neuromorphic.energy.storage import describe_training

        card = {
            "log_partition": asdict(self.log_partition_),
            "verdict": asdict(self.verdict_),
            "training": describe_training(self.training_),
        }
        arrays = {"mean": self.mean_, "scale": self.scale_, "validation": self.validation_}
        return {"energy": self.energy_}, card, {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _restore(self, modules: dict[str, Any], card: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        from relaxon.neuromorphic.energy.storage import decode_json, restore_training

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
