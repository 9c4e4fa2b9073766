"""The base class of the estimators of densities, which are stored as safetensors and JSON."""

from __future__ import annotations

from pathlib import Path

from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from relaxon.neuromorphic.energy.storage import save_estimator


class StoredEstimator(BaseEstimator):  # type: ignore[misc]
    """An estimator that `load_estimator` reads; subclasses have `_parts`, and `_restore` as its inverse."""

    def save(self, path: str | Path) -> None:
        """Write the fitted estimator to a folder as safetensors and JSON, without pickle."""
        check_is_fitted(self)
        save_estimator(self, path)
