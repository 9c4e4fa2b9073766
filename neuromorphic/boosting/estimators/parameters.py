"""What the parameters of the boosted estimators must be."""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np

from relaxon.neuromorphic.boosting.estimators.inputs import check_monotone_constraints
from relaxon.neuromorphic.parameters import check_choice, check_real, check_whole
from relaxon.neuromorphic.tabular.categories import check_categorical_features

MOST_BITS = 64
"""Of the code of a column."""


def check_parameters(estimator: Any) -> None:
    """Raise `ValueError` or `TypeError` for a parameter of both estimators that is refused whatever the data."""
    for name in ("n_units", "units_per_stage", "stage_iterations", "restarts", "candidates", "n_iter_no_change"):
        check_whole(name, getattr(estimator, name))
    check_real("learning_rate", estimator.learning_rate, above=0.0, up_to=1.0)
    if estimator.subsample != "auto":
        check_real("subsample", estimator.subsample, above=0.0, up_to=1.0)
    for name in ("ridge", "stage_tolerance"):
        if getattr(estimator, name) is not None:
            check_real(name, getattr(estimator, name), least=0.0)
    check_real("tol", estimator.tol, least=0.0)
    check_real("validation_fraction", estimator.validation_fraction, above=0.0, below=1.0)
    check_choice("newton", estimator.newton, ("guarded", "published"))
    check_choice("missing", estimator.missing, ("refuse", "mean", "indicate"))
    check_choice("precision", estimator.precision, ("double", "single"))
    check_categorical_features(estimator.categorical_features)
    _check_binary(estimator)
    check_monotone_constraints(estimator)
    check_single(estimator)
    for name in ("binary", "early_stopping", "warm_start"):
        if not isinstance(getattr(estimator, name), bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {getattr(estimator, name)!r}")
    if estimator.layers is not None:
        if isinstance(estimator.layers, str | bytes | Real) or len(tuple(estimator.layers)) == 0:
            raise ValueError(f"layers must be None or units of each hidden layer, got {estimator.layers!r}")
        for width in estimator.layers:
            check_whole("layers", width)


def check_single(estimator: Any) -> None:
    """ValueError for networks that are not predicted in single precision."""
    layers = 1 if estimator.layers is None else len(tuple(estimator.layers))
    if estimator.precision == "single" and (estimator.binary or layers > 1):
        what = "sign units" if estimator.binary else f"{layers} hidden layers"
        raise ValueError(f"precision must be 'double' for {what}, got 'single': one layer of logistic units has both")


def _check_binary(estimator: Any) -> None:
    """ValueError naming what sign units cannot be."""
    check_whole("bits", estimator.bits)
    if estimator.bits > MOST_BITS:
        raise ValueError(f"bits must be at most {MOST_BITS}, got {estimator.bits}")
    if not estimator.binary:
        return
    if estimator.newton == "published":
        raise ValueError("newton must be 'guarded' for sign units: the published stage fits logistic ones")
    if estimator.layers is not None and len(tuple(estimator.layers)) > 1:
        raise ValueError(f"layers must have one layer for sign units, got {tuple(estimator.layers)}")
