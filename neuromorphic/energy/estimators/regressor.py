"""Regression by a conditional energy: the full, exactly normalised density p(y|x) of a scalar y.

The energy `E(x, y) = −⟨a(x), b(y)⟩` of two networks is evaluated at the nodes of a grid over y and interpolated
linearly between them; beyond the grid it rises at a fixed rate. The normaliser, mean, variance and quantiles of such a
density have closed forms, so that nothing is sampled and maximum likelihood is exact.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_array, check_is_fitted
from torch import Tensor, nn

from relaxon.core import validation
from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.energy.energies.families import blank_layer, initialise
from relaxon.neuromorphic.energy.estimators.grid_density import GridDensity
from relaxon.neuromorphic.energy.estimators.stored import StoredEstimator
from relaxon.neuromorphic.energy.estimators.tilting import LARGEST_GAP, REFERENCE_ROWS
from relaxon.neuromorphic.energy.estimators.verdict import DensityVerdict
from relaxon.neuromorphic.energy.noise.rank import explain_generalisation_gap
from relaxon.neuromorphic.energy.training.settings import TrainingSettings, check_optimizer, make_optimizer
from relaxon.neuromorphic.parameters import check_real, check_widths, store_arguments
from relaxon.neuromorphic.table_estimators import read_numbers, read_random_state, read_rows, read_table
from relaxon.neuromorphic.tabular.categories import (
    TableColumns,
    TargetCategories,
    check_categorical_features,
    encode_categories,
    find_categorical_columns,
    match_columns,
    read_columns,
)

Array = NDArray[np.float64]
MARGIN = 0.25
"""Fraction of the targets' range by which the grid extends beyond them at each end."""
CHECK_EVERY = 25
"""Steps between two evaluations on the hold-out rows."""
FEWEST_HELD_OUT = 10
"""Number of hold-out rows below which none are used."""
OCTAVES = 4
"""Octaves of sines and cosines of y that b(y) sees."""
FEATURES = 32
"""Length of a(x) and b(y)."""
MOST_CATEGORIES = 1000
"""Maximum number of categories of a column; a column with more holds numbers or names."""
ABSENT = "X must have no missing categories, got some in column {}: give them a category of their own"
UNSEEN = "no category"


@dataclass(frozen=True)
class IndicatorCategories:
    """The categorical columns and their categories in ascending order.

    The first layer of a network thus learns a vector for each category. A category that did not occur in training has
    no indicator and is encoded as all zeros, with an `UnseenCategoryWarning`.
    """

    columns: tuple[int, ...]
    values: tuple[tuple[Any, ...], ...]

    @classmethod
    def fit(cls, columns: TableColumns, wanted: Any) -> IndicatorCategories:
        """Collect the categories of a table's columns; `wanted` is the estimator's `categorical_features`.

        Raises `ValueError` or `TypeError` for columns that do not exist, and for categories that are missing or too
        many.
        """
        check_categorical_features(wanted)
        places = find_categorical_columns(wanted, columns)
        known = encode_categories(columns, places, None, False, ABSENT)[1]
        for place, keys in zip(places, known.keys, strict=True):
            if len(keys) > MOST_CATEGORIES:
                name = columns.names[place] if columns.names else place
                raise ValueError(f"X must have at most {MOST_CATEGORIES} categories in {name!r}, got {len(keys)}")
        return cls(places, tuple(tuple(sorted(keys, key=_rank)) for keys in known.keys))

    def read_codes(self, columns: TableColumns) -> Array:
        """Return the table as numbers `(n, d)`, with the place of each category among its column's instead of it."""
        known = TargetCategories(self.columns, self.values)
        return encode_categories(columns, self.columns, known, False, ABSENT, UNSEEN)[0]

    def encode(self, x: Array) -> Array:
        """Return the columns of `read_codes` that are not categories, followed by the indicators, `(n, inputs)`."""
        indicators = [
            x[:, column, None] == np.arange(len(values))
            for column, values in zip(self.columns, self.values, strict=True)
        ]
        others = np.delete(x, self.columns, axis=1)
        return np.concatenate([others, *[one.astype(np.float64) for one in indicators]], axis=1)

    @property
    def indicators(self) -> int:
        """Number of inputs that are indicators."""
        return sum(map(len, self.values))


def _rank(key: Any) -> tuple[bool, Any]:
    return isinstance(key, str), key


class ConditionalEnergy(nn.Module):
    """`E(x, y) = −⟨a(x), b(y)⟩ + y²/2` for standardised x `(n, d)` at nodes y `(g,)`: `(n, g)`."""

    def __init__(self, features: int, hidden: tuple[int, ...], seed: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.features, self.hidden = features, hidden
        widths = (features, *hidden)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [blank_layer(nn.Linear, before, after, dtype=dtype), nn.SiLU()]
        self.a = nn.Sequential(*layers, blank_layer(nn.Linear, widths[-1], FEATURES, dtype=dtype))
        self.b = nn.Sequential(
            blank_layer(nn.Linear, 1 + 2 * OCTAVES, 64, dtype=dtype),
            nn.SiLU(),
            blank_layer(nn.Linear, 64, FEATURES, dtype=dtype),
        )
        initialise(self.a, seed)
        initialise(self.b, seed + 1)
        with torch.no_grad():
            # Only one of the two factors may start small; otherwise both gradients would vanish.
            self.b[-1].weight.mul_(10)  # type: ignore[operator]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        inputs = [y[:, None]]
        for octave in range(OCTAVES):
            angle = y[:, None] * (math.pi * 2**octave / 4)
            inputs += [angle.sin(), angle.cos()]
        out: Tensor = 0.5 * y.square() - self.a(x) @ self.b(torch.cat(inputs, 1)).T
        return out


class EnergyRegressor(RegressorMixin, StoredEstimator):  # type: ignore[misc]
    """A conditional energy-based model p(y|x), trained by exact maximum likelihood.

    Parameters
    ----------
    hidden_sizes : units of the network a(x).
    categorical_features : names or indices of the categorical columns of X (numbers or strings), a mask, or
        "from_dtype", which means the columns of strings and categories of a pandas, polars or Arrow table. They are
        one-hot encoded. A category that did not occur in training is encoded as all zeros, with an
        `UnseenCategoryWarning`.
    nodes : number of grid nodes over y; structure finer than their spacing is not resolved.
    steps, batch_size, learning_rate, weight_decay : parameters of AdamW; the learning rate follows a cosine schedule
        to 0.
    optimizer : "adam", "sgd", "momentum", "diffgrad" or "normalized"; the last requires `weight_decay=0`.
    validation_fraction, patience : fraction of hold-out rows, and number of evaluations on them (one every 25 steps)
        without a higher likelihood after which training stops; the best weights are kept.
    random_state : seed; the same seed gives the same bits.
    device : torch device.

    Attributes
    ----------
    energy_ : `ConditionalEnergy` over standardised x and y, in double precision.
    grid_ : the standardised nodes.
    categories_ : `IndicatorCategories` of the categorical columns, or None.
    mean_, scale_, target_mean_, target_scale_ : means and scales of the standardisations.
    validation_ : mean log-density of the hold-out rows at each evaluation, for standardised y.
    verdict_ : whether the densities are reliable: hold-out rows are about as likely as training rows, and the targets
        vary.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.energy import EnergyRegressor
    >>> rng = np.random.default_rng(0)
    >>> x = rng.uniform(-1, 1, (600, 1))
    >>> y = np.where(rng.random(600) < 0.5, 1, -1) * (1 + x[:, 0]) + 0.1 * rng.standard_normal(600)
    >>> model = EnergyRegressor(random_state=0).fit(x, y)
    >>> low, high = model.quantiles([[0.9]], [0.25, 0.75])[0]
    >>> bool(low < -1.5 and high > 1.5)
    True
    """

    def __init__(
        self,
        hidden_sizes: tuple[int, ...] = (64, 64),
        *,
        categorical_features: Sequence[int | str] | Literal["from_dtype"] | None = None,
        nodes: int = 200,
        steps: int = 1500,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        weight_decay: float = 1e-3,
        optimizer: str = "adam",
        validation_fraction: float = 0.15,
        patience: int = 12,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
    ) -> None:
        store_arguments(self, locals())

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit to `X (samples, features)` and targets `y (samples,)`."""
        self._check()
        x, target = self._read_training(X, y)
        seed = int(read_random_state(self.random_state).randint(2**30))
        with np.errstate(over="ignore"):
            self.mean_, spread = x.mean(0), x.std(0)
            self.target_mean_, deviation = float(target.mean()), float(target.std())
        indicators = slice(x.shape[1] - (0 if self.categories_ is None else self.categories_.indicators), None)
        self.mean_[indicators], spread[indicators] = 0.0, 1.0  # an unseen category stays all zeros
        # A constant feature carries no information; dividing it by its rounding error would amplify noise.
        self.scale_ = np.where(spread > 1e-12 * np.abs(self.mean_).clip(1), spread, 1.0)
        if not np.isfinite([*spread, deviation]).all():
            raise ValueError("X and y must have a finite variance in double precision; rescale them")
        self.target_scale_ = deviation if deviation > 1e-12 * max(1.0, abs(self.target_mean_)) else 1.0
        z = (target - self.target_mean_) / self.target_scale_
        low, high = float(z.min()), float(z.max())
        reach = MARGIN * max(high - low, 1.0)
        self.grid_ = np.linspace(low - reach, high + reach, self.nodes)
        self.energy_ = ConditionalEnergy(x.shape[1], tuple(self.hidden_sizes), seed).to(self.device)
        self._train((x - self.mean_) / self.scale_, z, seed)
        self.energy_.double()
        reasons = [self._overfitting] if self._overfitting else []
        if not low < high:
            reasons.append("the targets do not vary, so that they have no density")
        self.verdict_ = DensityVerdict(not reasons, "; ".join(reasons))
        if not self.verdict_.trusted:
            warnings.warn(f"the density is unreliable: {self.verdict_.reason}", ConvergenceWarning, stacklevel=2)
        return self

    def _read_training(self, X: Any, y: Any) -> tuple[Array, Array]:
        """Return the inputs `(n, inputs)`, with categories as indicators, and the targets `(n,)`."""
        options = {"dtype": np.float64, "y_numeric": True, "ensure_min_samples": 2}
        self.categories_: IndicatorCategories | None = None
        if self.categorical_features is None:
            x, target = read_table(self, X, y, **options)
            return x, read_numbers("y", target)
        refuse_masks(X=X)
        columns = read_columns(X)
        self.categories_ = IndicatorCategories.fit(columns, self.categorical_features)
        x, target = read_table(self, self.categories_.read_codes(columns), y, **options)
        if columns.names is not None:
            self.feature_names_in_ = np.array(columns.names, dtype=object)
        return self.categories_.encode(x), read_numbers("y", target)

    def _check(self) -> None:
        for name in ("nodes", "steps", "batch_size", "patience"):
            validation.positive_int(name, getattr(self, name))
        if self.nodes < 3:
            raise ValueError(f"nodes must be at least 3, got {self.nodes}")
        check_widths("hidden_sizes", self.hidden_sizes)
        validation.positive_float("learning_rate", self.learning_rate)
        check_optimizer("optimizer", self.optimizer, self.weight_decay)
        self._build_settings()
        check_real("validation_fraction", self.validation_fraction, least=0.0, below=1.0)

    def _build_settings(self) -> TrainingSettings:
        return TrainingSettings(
            steps=self.steps,
            rate=self.learning_rate,
            weight_decay=self.weight_decay,
            optimiser=self.optimizer,
            device=self.device,
        )

    def _train(self, x: Array, y: Array, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(x), generator=generator)
        count = round(self.validation_fraction * len(x))
        count = count if count >= FEWEST_HELD_OUT else 0
        inputs = torch.from_numpy(x).float()[order].to(self.device)
        targets = torch.from_numpy(y).float()[order].to(self.device)
        grid = torch.from_numpy(self.grid_).float().to(self.device)
        optimiser = make_optimizer(self._build_settings(), list(self.energy_.parameters()))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.steps)
        best, weights, since, scores = -math.inf, None, 0, list[float]()
        for step in range(1, self.steps + 1):
            chosen = count + torch.randint(len(x) - count, (min(self.batch_size, len(x) - count),), generator=generator)
            chosen = chosen.to(self.device)
            optimiser.zero_grad()
            loss = -GridDensity(grid, -self.energy_(inputs[chosen], grid)).log_density(targets[chosen]).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
            if count and (step % CHECK_EVERY == 0 or step == self.steps):
                with torch.no_grad():
                    held = GridDensity(grid, -self.energy_(inputs[:count], grid)).log_density(targets[:count])
                scores.append(float(held.mean()))
                since += 1
                if scores[-1] > best:
                    best, since = scores[-1], 0
                    weights = {name: tensor.clone() for name, tensor in self.energy_.state_dict().items()}
                if since >= self.patience:
                    break
        if weights is not None:
            self.energy_.load_state_dict(weights)
        self.validation_ = np.array(scores)
        self._overfitting = f"none of {len(x)} rows were held out to judge by (at least {FEWEST_HELD_OUT} are needed)"
        if count:
            with torch.no_grad():
                some = slice(count + REFERENCE_ROWS)
                judged = GridDensity(grid, -self.energy_(inputs[some], grid)).log_density(targets[some])
            each = judged.double().cpu().numpy()
            self._overfitting = explain_generalisation_gap(each[count:], each[:count], 1, LARGEST_GAP)

    def _predict_density(self, X: ArrayLike) -> GridDensity:
        check_is_fitted(self)
        if self.categories_ is None:
            x = read_rows(self, X)
        else:
            refuse_masks(X=X)
            columns = read_columns(X)
            match_columns(columns, self.n_features_in_, getattr(self, "feature_names_in_", None))
            x = self.categories_.encode(check_array(self.categories_.read_codes(columns), dtype=np.float64))
        z = torch.from_numpy((x - self.mean_) / self.scale_).to(self.device)
        grid = torch.from_numpy(self.grid_).to(self.device)
        with torch.no_grad():
            return GridDensity(grid, -self.energy_(z, grid))

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:
        """Return the mean of p(y|x), `(samples,)`; with `return_std`, also its standard deviation."""
        density = self._predict_density(X)
        mean = density.mean().cpu().numpy() * self.target_scale_ + self.target_mean_
        if not return_std:
            return mean
        return mean, density.variance().sqrt().cpu().numpy() * self.target_scale_

    def log_density(self, X: ArrayLike, y: ArrayLike) -> Array:
        """Return `log p(y|x)` of the pairs, `(samples,)`."""
        density = self._predict_density(X)
        refuse_masks(y=y)
        target = read_numbers("y", y)
        if target.shape != (len(density.log_values),):
            raise ValueError(f"y must be of shape ({len(density.log_values)},), got {target.shape}")
        if not np.isfinite(target).all():
            raise ValueError("y must be finite, got NaN or infinite entries")
        z = torch.from_numpy((target - self.target_mean_) / self.target_scale_).to(density.grid)
        return np.asarray(density.log_density(z).cpu().numpy() - math.log(self.target_scale_))

    def quantiles(self, X: ArrayLike, levels: ArrayLike) -> Array:
        """Return the quantiles of p(y|x) at the levels in (0, 1), `(samples, levels)`."""
        refuse_masks(levels=levels)
        p = np.atleast_1d(read_numbers("levels", levels))
        if p.ndim != 1 or not ((p > 0) & (p < 1)).all():
            raise ValueError(f"levels must be numbers in (0, 1), got {levels!r}")
        density = self._predict_density(X)
        each = torch.from_numpy(p).to(density.grid).expand(len(density.log_values), -1)
        return np.asarray(density.quantile(each).cpu().numpy() * self.target_scale_ + self.target_mean_)

    def sample(self, X: ArrayLike, count: int = 1, random_state: int | np.random.RandomState | None = None) -> Array:
        """Draw independent samples of y for each row, `(samples, count)`."""
        validation.positive_int("count", count)
        density = self._predict_density(X)
        random = read_random_state(self.random_state if random_state is None else random_state)
        # 0 and 1 are excluded, as their quantiles are infinite.
        levels = random.uniform(np.finfo(np.float64).eps, 1, (len(density.log_values), count))
        found: Array = density.quantile(torch.from_numpy(levels).to(density.grid)).cpu().numpy()
        return found * self.target_scale_ + self.target_mean_

    def _parts(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
        tensors = {
            name: torch.from_numpy(getattr(self, f"{name}_")) for name in ("mean", "scale", "grid", "validation")
        }
        tensors |= {f"energy.{name}": tensor for name, tensor in self.energy_.state_dict().items()}
        values = {"target_mean": self.target_mean_, "target_scale": self.target_scale_}
        return (
            {},
            values | {"verdict": asdict(self.verdict_), "categories": self.categories_ and asdict(self.categories_)},
            tensors,
        )

    def _restore(self, modules: dict[str, Any], card: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for name in ("mean", "scale", "grid", "validation"):
            setattr(self, f"{name}_", tensors[name].numpy())
        self.target_mean_, self.target_scale_ = float(card["target_mean"]), float(card["target_scale"])
        found = card.get("categories")
        self.categories_ = None
        if found is not None:
            self.categories_ = IndicatorCategories(tuple(found["columns"]), tuple(map(tuple, found["values"])))
        unknown = {"trusted": False, "reason": "it was stored by a version that did not assess it"}
        self.verdict_ = DensityVerdict(**card.get("verdict", unknown))
        self.energy_ = ConditionalEnergy(len(self.mean_), tuple(self.hidden_sizes), 0, torch.float64)
        weights = {name.removeprefix("energy."): t for name, t in tensors.items() if name.startswith("energy.")}
        try:
            self.energy_.load_state_dict(weights)
        except RuntimeError as error:
            raise ValueError(f"the stored weights do not match the parameters: {error}") from error
