"""Shapley values of a network's outputs, by sampled orders of the columns, with their standard errors."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array, check_is_fitted

from relaxon.core.masked import refuse_masks
from relaxon.neuromorphic.parameters import check_choice, check_whole

Array = NDArray[np.float64]

MOST_COLUMNS = 15
"""Of exact values: 2¹⁵ coalitions."""


@dataclass(frozen=True, slots=True)
class ShapleyValues:
    """How much each column moves each row's output away from the background's mean.

    `values` and `standard_errors` are `(n, d)`, with more than one output `(n, d, K)`; `base` is the mean output of the
    background rows that were taken, a number or `(K,)`. The sum over columns is the output less `base`.
    """

    values: Array
    standard_errors: Array
    base: Array | float


def shapley_values(
    estimator: Any,
    X: ArrayLike,
    background: ArrayLike,
    *,
    method: Literal["sampled", "exact"] = "sampled",
    orders: int = 32,
    random_state: int = 0,
) -> ShapleyValues:
    """Estimate the Shapley values of the outputs before the link (numbers, log-means, logits) at the rows of `X`.

    A column that is out of the coalition has the value of a background row (the interventional game: Lundberg & Lee
    2017; Štrumbelj & Kononenko 2014). Each sampled order of the columns is gone through forwards and backwards, each
    with a background row of its own, and the pair's mean is one sample. Background rows are taken in turn from random
    orders; `base` is the mean output of those that were taken, and the values of a row sum to its output less `base`.
    Where the output is a sum over columns and each background row was taken equally often (twice `orders` is a multiple
    of their number), the values are exact.

    With "exact" every coalition of the columns that the network looks at (whose weights are not all zero) is asked,
    with every background row: there may be at most `MOST_COLUMNS`; `orders` and `random_state` count for nothing, and
    standard errors are 0. `base` is then the mean output of all background rows.

    Raises `ValueError` for `orders` below 2, for rows with another number of columns than the estimator's, for more
    than `MOST_COLUMNS` columns under "exact", and for categorical columns.
    """
    check_choice("method", method, ("sampled", "exact"))
    check_whole("orders", orders)
    if orders < 2:
        raise ValueError(f"orders must be at least 2, for a standard error, got {orders}")
    check_whole("random_state", random_state, least=0)
    rows, others = _check_rows(estimator, "X", X), _check_rows(estimator, "background", background)
    d = rows.shape[1]
    if method == "exact":
        return _compute_exact(estimator, rows, others)
    rng = np.random.default_rng([random_state, 0, 4])
    turns = np.concatenate([rng.permutation(len(others)) for _ in range(-(-2 * orders // len(others)))])
    base = estimator.raw_outputs(others[turns[: 2 * orders]]).mean(axis=0)
    total = np.zeros((len(rows), d, base.size))
    square = np.zeros_like(total)
    for index in range(orders):
        order = rng.permutation(d)
        there = _walk_order(estimator, rows, others[turns[2 * index]], order)
        back = _walk_order(estimator, rows, others[turns[2 * index + 1]], order[::-1])
        sample = 0.5 * (there + back)
        total += sample
        square += np.square(sample)
    mean = total / orders
    spread = np.sqrt(np.maximum(square / orders - np.square(mean), 0.0) / (orders - 1))
    if mean.shape[2] == 1:
        return ShapleyValues(mean[:, :, 0], spread[:, :, 0], float(base[0]))
    return ShapleyValues(mean, spread, base)


def _check_rows(estimator: Any, name: str, X: ArrayLike) -> Array:
    check_is_fitted(estimator)
    if estimator._categories is not None:
        raise ValueError("estimator must not have categorical_features: coalitions of columns are of numbers")
    refuse_masks(**{name: X})
    finite = "allow-nan" if estimator.missing != "refuse" else True
    rows = np.asarray(check_array(X, dtype=np.float64, ensure_all_finite=finite, input_name=name))
    if rows.shape[1] != estimator.n_features_in_:
        raise ValueError(f"{name} must have the {estimator.n_features_in_} columns of training, got {rows.shape[1]}")
    return rows


def _compute_exact(estimator: Any, rows: Array, others: Array) -> ShapleyValues:
    """Shapley's sum over all coalitions of the columns that count, each with all background rows."""
    n, d = rows.shape
    network = estimator.network_
    seen = (
        np.abs(network.layers[0].weights).sum(axis=0) * network.scale
        if network.layers
        else np.zeros(len(network.scale))
    )
    active = np.unique(estimator._sources(network.outputs)[seen != 0.0])
    size = len(active)
    if size > MOST_COLUMNS:
        raise ValueError(
            f"method must be 'sampled' where more than {MOST_COLUMNS} columns count, got 'exact' with {size}: "
            f"{2**size} coalitions"
        )
    worth = np.empty((2**size, n, network.outputs))
    mixed = np.tile(others, (n, 1))
    for coalition in range(2**size):
        inside = active[(coalition >> np.arange(size)) & 1 == 1]
        mixed[:] = np.tile(others, (n, 1))
        mixed[:, inside] = np.repeat(rows[:, inside], len(others), axis=0)
        worth[coalition] = estimator.raw_outputs(mixed).reshape(n, len(others), -1).mean(axis=1)
    values = np.zeros((n, d, network.outputs))
    every = np.arange(2**size)
    members = np.array([int(coalition).bit_count() for coalition in every])
    share = np.array([1.0 / (size * comb(size - 1, k)) for k in range(size)])
    for place, column in enumerate(active):
        without = every[(every >> place) & 1 == 0]
        gain = worth[without | (1 << place)] - worth[without]
        values[:, column] = np.tensordot(share[members[without]], gain, axes=1)
    if network.outputs == 1:
        return ShapleyValues(values[:, :, 0], np.zeros((n, d)), float(worth[0, 0, 0]))
    return ShapleyValues(values, np.zeros_like(values), worth[0, 0])


def _walk_order(estimator: Any, rows: Array, other: Array, order: NDArray[np.int64]) -> Array:
    """What each column adds when the columns of `rows` take the place of `other`'s one after another: `(n, d, K)`."""
    n, d = rows.shape
    mixed = np.tile(other, (n, 1))
    before = estimator.raw_outputs(mixed)
    added = np.empty((n, d, before.shape[1]))
    for column in order:
        mixed[:, column] = rows[:, column]
        after = estimator.raw_outputs(mixed)
        added[:, column] = after - before
        before = after
    return added
