"""Compression of a network to fewer units, which are chosen greedily and whose output weights are refitted.

The method is orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad 1993) with the network's own outputs before
the link on some rows as the target. On request the hidden weights of the chosen units are then fitted to the same
target, by the projected L-BFGS of the stages, and copies of the rows with noise on their inputs join the rows, so that
the outputs agree between them too. No further targets are needed, and nothing new is learnt.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.neuromorphic.boosting.networks.merged import Layer, MergedNetwork, logistic
from relaxon.neuromorphic.boosting.stages import descent_kernels
from relaxon.neuromorphic.boosting.stages.fitting import MEMORY
from relaxon.neuromorphic.parameters import check_whole

Array = NDArray[np.float64]

RIDGE = 1e-10
"""Ridge on the refitted output weights, relative to the mean variance of a unit's activations."""
REFINED_RIDGE, REFINED_TOLERANCE = 1e-6, 1e-7
"""Ridge of refined weights for outputs of unit variance, and the relative gain of an iteration that ends them."""
NOISE, SEED = 0.2, 0
"""Standard deviation of the noise on a column relative to that of the column, and the seed of the generator."""


def compress(estimator: Any, X: ArrayLike, n_units: int, refine: int = 0, noisy_copies: int = 0) -> Any:
    """Return a copy of a fitted boosted network with the `n_units` units that best reproduce its outputs on `X`.

    The output weights are refitted by least squares to the outputs before the link, each in units of its standard
    deviation; then hidden and output weights together, by at most `refine` iterations of L-BFGS. `noisy_copies` further
    copies of each row, with normal noise of 0.2 standard deviations on each input, count like the rows. The result is a
    single stage, so that it cannot be truncated further, and its losses are NaN. `estimator` is not modified.

    Raises `TypeError` for numbers that are not integers, and `ValueError` for deep networks and sign units, for more
    units than the network has, and for rows that the estimator refuses.
    """
    network: MergedNetwork = estimator._fitted()
    if estimator.binary or len(network.layers) != 1:
        what = "sign units" if estimator.binary else f"{len(network.layers)} hidden layers"
        raise ValueError(f"estimator must have one layer of logistic units to be compressed, got {what}")
    if estimator.monotone_constraints is not None and any(estimator._directions(network.outputs) or ()):
        raise ValueError("estimator must not have monotone_constraints: refitted output weights may have any sign")
    check_whole("n_units", n_units)
    check_whole("refine", refine, 0)
    check_whole("noisy_copies", noisy_copies, 0)
    if n_units > network.units:
        raise ValueError(f"n_units must be at most the {network.units} units there are, got {n_units}")
    z = _add_noisy_copies(network.standardised(estimator._encode_input(X)), int(noisy_copies))
    H = logistic(z @ network.layers[0].weights.T + network.layers[0].bias)
    F = H @ network.output
    chosen, output, intercept = _match_outputs(H, F, int(n_units))
    layer = Layer(network.layers[0].weights[chosen], network.layers[0].bias[chosen])
    if refine:
        layer, output, intercept = _refine_units(layer, output, z, F, int(refine))
    shorter = copy.copy(estimator)
    shorter.network_ = replace(
        network,
        layers=(layer,),
        output=output,
        intercepts=(network.intercepts.sum(axis=0) + intercept)[None],
        sizes=np.array([len(chosen)], np.int64),
    )
    shorter.train_loss_, shorter.validation_loss_ = np.full(2, np.nan), np.empty(0)
    return shorter


def _add_noisy_copies(z: Array, copies: int) -> Array:
    """Return the standardised inputs `z` (n, d) followed by copies of them with noise, `((1 + copies) n, d)`."""
    noise = np.random.default_rng(SEED).normal(scale=NOISE, size=(copies, *z.shape)) * z.std(axis=0)
    return np.concatenate([z, *(z + noise)])


def _match_outputs(H: Array, F: Array, count: int) -> tuple[NDArray[np.int64], Array, Array]:
    """Choose `count` columns of `H` (n, U); return their indices, output weights (count, K) and constant (K,)."""
    mean, level = H.mean(axis=0), F.mean(axis=0)
    spread = F.std(axis=0)
    spread = np.where(spread > 0.0, spread, 1.0)
    A, B = H - mean, (F - level) / spread
    gram, right = A.T @ A, A.T @ B
    added = RIDGE * np.trace(gram) / len(gram) + np.finfo(float).tiny
    chosen: list[int] = []
    # Residual norm of each unit, and its product with the residual, after projecting out the chosen units.
    left, product, basis = np.diag(gram).copy(), right.copy(), np.zeros((count, len(gram)))
    for place in range(count):
        gains = np.square(product).sum(axis=1) / (left + added)
        gains[chosen] = -np.inf
        best = int(np.argmax(gains))
        row = (gram[best] - basis[:place].T @ basis[:place, best]) / np.sqrt(max(left[best], 0.0) + added)
        product = product - np.outer(row, product[best] / np.sqrt(max(left[best], 0.0) + added))
        left = left - np.square(row)
        basis[place] = row
        chosen.append(best)
    kept = np.array(chosen, np.int64)
    some = gram[np.ix_(kept, kept)] + added * np.eye(count)
    output = np.linalg.solve(some, right[kept]) * spread
    return kept, output, level - mean[kept] @ output


def _refine_units(layer: Layer, output: Array, z: Array, F: Array, iterations: int) -> tuple[Layer, Array, Array]:
    """Fit units to outputs `F` (n, K) at standardised inputs `z` (n, d); return them, their weights and constant."""
    level, spread = F.mean(axis=0), F.std(axis=0)
    spread = np.where(spread > 0.0, spread, 1.0)
    (units, d), (n, K), hidden = layer.weights.shape, F.shape, layer.weights.size + len(layer.bias)
    theta = np.concatenate([layer.weights.ravel(), layer.bias, (output / spread).ravel(), np.zeros(K)])
    arrays: Any = (
        np.ascontiguousarray(array.T, np.float32) for array in (z, (F - level) / spread, np.full(n, 1.0 / n))
    )
    scratch = descent_kernels.buffers(d, n, units, K, MEMORY, np.float32)
    options = (units, REFINED_RIDGE, True, iterations, REFINED_TOLERANCE, 0.0)
    descent_kernels.minimise(theta, *arrays, n, *options, *scratch)
    found = Layer(theta[: units * d].reshape(units, d).copy(), theta[units * d : hidden].copy())
    return found, theta[hidden:-K].reshape(units, K) * spread, level + theta[-K:] * spread
