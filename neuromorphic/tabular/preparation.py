"""What training sees of a table: standardised features, rows without repeats, a validation share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from relaxon.neuromorphic.boosting.training.runs import TrainingRows

Array = NDArray[np.float64]

SMALL = 500
"""Below so many distinct rows, equal ones are merged."""


MEAN_ONE = 1e-9
"""A mean weight that is this near to 1 is 1 but for rounding."""
LARGEST_COUNT = 2.0**53
"""Whole numbers beyond it are not told from their neighbours in float64."""


def scale_weights(w: Array) -> Array:
    """Return weights `(n,)` whose unit does not matter: of mean 1 over the rows that have any.

    The ridge counts against the sum of the weights, so that probabilities, which sum to 1, or inverse variances would
    shrink a model to nothing or not regularise it at all. Whole numbers are counts, a weight of 2 a row given twice,
    and stay as they are; so do weights whose mean is 1 but for rounding.
    """
    rows = int(np.count_nonzero(w))
    if rows == 0:
        return w
    largest = float(w.max())
    if largest <= LARGEST_COUNT and np.array_equal(w, np.floor(w)):
        return w
    share = w / largest
    mean = float(share.sum()) / rows
    return w if abs(mean * largest - 1.0) <= MEAN_ONE else share / mean


def merge_rows(x: Array, y: Array, w: Array) -> tuple[Array, Array, Array]:
    """Rows in a fixed order, equal ones merged and their weights summed: `x` (n, d), `y` (n, K), `w` (n,).

    With it a weight of 2 is the same, bit for bit, as a row given twice, and a weight of 0 the same as none.
    """
    kept = w > 0.0
    x, y, w = x[kept], y[kept], w[kept]
    if len(x) >= SMALL * SMALL:
        return x, y, w
    both = np.hstack([x, y])
    # Most tables show on their first rows that they have too many distinct ones.
    if len(np.unique(both[: 2 * SMALL], axis=0, equal_nan=True)) >= SMALL:
        return x, y, w
    distinct, where = np.unique(both, axis=0, return_inverse=True, equal_nan=True)
    if len(distinct) >= SMALL:
        return x, y, w
    d = x.shape[1]
    summed = np.bincount(where.ravel(), weights=w, minlength=len(distinct)).astype(np.float64)
    return distinct[:, :d], distinct[:, d:], summed


def find_standardisation(x: Array, w: Array) -> tuple[Array, Array]:
    """Shift (weighted mean) and scale (1/standard deviation, 0 for a constant) of each column, missing left out."""
    present = ~np.isnan(x)
    weight = np.where(present, w[:, None], 0.0).sum(axis=0)
    filled = np.where(present, x, 0.0)
    largest = np.maximum(np.abs(filled).max(axis=0), np.finfo(float).tiny)
    share = np.divide(np.where(present, w[:, None], 0.0), weight, out=np.zeros_like(x), where=weight > 0.0)
    shift = (filled / largest * share).sum(axis=0) * largest
    centred = np.where(present, filled / 2.0 - shift / 2.0, 0.0)
    reach = np.abs(centred).max(axis=0)
    # A spread at the rounding of the mean is no spread.
    flat = reach <= 1e-14 * largest
    unit = np.where(flat, 1.0, reach)
    deviation = 2.0 * unit * np.sqrt((np.square(centred / unit) * share).sum(axis=0))
    with np.errstate(divide="ignore", over="ignore"):
        scale = np.where(flat | (deviation == 0.0), 0.0, 1.0 / deviation)
    return shift, np.where(np.isfinite(scale), scale, 0.0)


def find_target_units(y: Array, w: Array) -> Array:
    """The weighted standard deviation of each output (1 for a constant): `y` (n, K)."""
    shift, scale = find_standardisation(y, w)
    del shift
    return np.divide(1.0, scale, out=np.ones_like(scale), where=scale > 0.0)


def build_rows(z: Array, y: Array, w: Array) -> TrainingRows:
    """Training's arrays from standardised features (n, d), targets (n, K) and weights (n,)."""
    total = float(w.sum())
    return TrainingRows(np.ascontiguousarray(z.T), np.ascontiguousarray(y.T), w / total, total)


def split_rows(n: int, fraction: float, labels: NDArray[np.int64] | None, seed: int) -> tuple[NDArray[np.int64], ...]:
    """Indices to train on and to validate on; of each class its share, where there are labels."""
    rng = np.random.default_rng([seed, 0, 1])
    validation: list[NDArray[np.int64]] = []
    groups = [np.arange(n)] if labels is None else [np.flatnonzero(labels == label) for label in np.unique(labels)]
    for group in groups:
        validation.append(rng.permutation(group)[: min(round(fraction * group.size), group.size - 1)])
    held = np.sort(np.concatenate(validation))
    if held.size == 0:
        raise ValueError(
            f"early_stopping needs rows to validate on: validation_fraction={fraction} of {n} rows is none"
        )
    return np.setdiff1d(np.arange(n), held), held
