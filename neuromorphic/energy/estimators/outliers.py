"""Outlier detection by an energy-based density: rows with a low log-density are outliers."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import OutlierMixin
from torch import Tensor

from relaxon.core import validation
from relaxon.neuromorphic.checkpoints import check_hooks
from relaxon.neuromorphic.energy.estimators.density import EnergyDensity
from relaxon.neuromorphic.energy.estimators.stored import StoredEstimator
from relaxon.neuromorphic.energy.estimators.trimming import select_dense_rows
from relaxon.neuromorphic.energy.objectives.noise_contrastive import Objective
from relaxon.neuromorphic.energy.training.loop import Watcher
from relaxon.neuromorphic.parameters import check_real, store_arguments
from relaxon.neuromorphic.table_estimators import MOST_NAMED, read_rows, read_table

Array = NDArray[np.float64]
DEVIANT = 1e6
"""Penalty on the log-density of a row that differs in a constant feature, larger than all log-density differences."""


class EnergyOutlierDetector(OutlierMixin, StoredEstimator):  # type: ignore[misc]
    """An outlier detector: rows with a low density under an `EnergyDensity` are outliers.

    Parameters
    ----------
    contamination : share of outliers among the training rows, in (0, 0.5]; it sets the zero of `decision_function`.
    hidden_sizes, noise, objective, steps, batch_size, noise_batch_size, learning_rate, weight_decay, optimizer,
    random_state, device : as for `EnergyDensity`. Kernels rank remote points by their distance from the data, which
        Gaussians do not.
    trim : share of the training rows, the most remote ones, that the density is not fitted to (`select_dense_rows`);
        in [0, 0.5). Larger than the share of outliers where there are any, so that they do not raise the density of
        their like. Without outliers it costs accuracy.

    Attributes
    ----------
    density_ : the fitted `EnergyDensity` over the features that vary; its `verdict_` says whether it is reliable.
    varying_ : mask of the features that vary. Constant features are dropped; a row that differs in one is an outlier.
    constants_ : the value of each feature in the first row that the density is fitted to.
    offset_ : `decision_function` is `score_samples − offset_`.

    >>> import numpy as np
    >>> from relaxon.neuromorphic.energy import EnergyOutlierDetector
    >>> x = np.random.default_rng(0).standard_normal((300, 2))
    >>> EnergyOutlierDetector(steps=100, random_state=0).fit(x).predict([[0.0, 0.0], [6.0, -6.0]])
    array([ 1, -1])
    """

    def __init__(
        self,
        contamination: float = 0.1,
        *,
        hidden_sizes: tuple[int, ...] = (64, 64),
        noise: Any = "kernel",
        objective: str | Objective = "meco",
        steps: int = 1000,
        batch_size: int = 256,
        noise_batch_size: int = 512,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.01,
        optimizer: str = "adam",
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        trim: float = 0.0,
    ) -> None:
        store_arguments(self, locals())

    def fit(self, X: ArrayLike, y: Any = None, watcher: Watcher | None = None) -> Self:
        """Fit to `X (samples, features)`; `y` is ignored.

        Raises `ValueError` if X has no density: if no feature varies or, except for `noise="kernel"`, if some features
        are linearly dependent. With kernels `density_.verdict_` reports the latter.
        """
        check_hooks(watcher, None)
        x: Array = read_table(self, X, dtype=np.float64, ensure_min_samples=2)
        share = validation.positive_float("contamination", self.contamination)
        if share > 0.5:
            raise ValueError(f"contamination must be in (0, 0.5], got {self.contamination!r}")
        check_real("trim", self.trim, least=0.0, below=0.5)
        fitted = x[select_dense_rows(x, self.trim)] if self.trim else x
        self.constants_ = fitted[0].copy()
        with np.errstate(over="ignore"):
            self.varying_ = fitted.std(0) > 1e-12 * np.abs(fitted.mean(0))
        names = getattr(self, "feature_names_in_", np.arange(x.shape[1]))
        if not self.varying_.any():
            raise ValueError(f"X must vary in at least one feature, got {len(x)} equal rows")
        if not self.varying_.all():
            flat = names[~self.varying_].tolist()
            said = ", ".join(map(str, flat[:MOST_NAMED])) + (", …" if len(flat) > MOST_NAMED else "")
            warnings.warn(f"features {said} of X do not vary and are excluded from the density", stacklevel=2)
        known = EnergyDensity().get_params()
        own = {name: value for name, value in self.get_params(deep=False).items() if name in known}
        density = EnergyDensity(octaves=0, **own)
        density._columns = names[self.varying_]
        self.density_ = density.fit(fitted[:, self.varying_], watcher=watcher)
        self.offset_ = float(np.percentile(self._score(x), 100 * share))
        return self

    def score_samples(self, X: ArrayLike) -> Array:
        """Return the log-density of each row over the features that vary; lower values are more outlying."""
        return self._score(read_rows(self, X))

    def _score(self, x: Array) -> Array:
        found = self.density_._evaluate_log_density(x[:, self.varying_])
        deviant = (x[:, ~self.varying_] != self.constants_[~self.varying_]).sum(1)
        return np.asarray(found - DEVIANT * deviant)

    def decision_function(self, X: ArrayLike) -> Array:
        """Return `score_samples − offset_`, which is negative for outliers."""
        return np.asarray(self.score_samples(X) - self.offset_)

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Return 1 for inliers and −1 for outliers."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _parts(self) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
        modules, card, tensors = self.density_._parts()
        own = {"varying": torch.from_numpy(self.varying_), "constants": torch.from_numpy(self.constants_)}
        return modules, card | {"offset": self.offset_}, tensors | own

    def _restore(self, modules: dict[str, Any], card: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        self.varying_, self.constants_ = tensors["varying"].numpy(), tensors["constants"].numpy()
        self.offset_ = float(card["offset"])
        self.density_ = EnergyDensity(self.hidden_sizes)
        self.density_.n_features_in_ = int(self.varying_.sum())
        self.density_._restore(modules, {name: card[name] for name in card if name != "offset"}, tensors)
