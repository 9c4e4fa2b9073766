"""A network with fewer units that gives the same outputs: units chosen greedily, their output weights solved for.

Orthogonal matching pursuit (Pati, Rezaiifar and Krishnaprasad 1993), with the network's own outputs on some rows,
before the link, as what is to be matched: no targets are needed, and nothing is learnt that the network does not have.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from relaxon.neuromorphic.boosting.networks.merged import Layer, MergedNetwork
from relaxon.neuromorphic.parameters import check_whole

Array = NDArray[np.float64]

RIDGE = 1e-10
"""Of the solved output weights, relative to the mean square of a unit's activations about their mean."""


def compress(estimator: Any, X: ArrayLike, n_units: int) -> Any:
    """A copy of a fitted boosted network with the `n_units` units that give its outputs on the rows `X` best.

    The output weights are solved for by least squares of outputs before the link, each in units of its own spread. The
    copy is one stage: it can be cut to nothing else, and its losses are NaN. `estimator` stays as it is.

    Raises `ValueError` for deep networks and sign units, for more units than there are, and for rows that the estimator
    refuses.
    """
    network: MergedNetwork = estimator._fitted()
    if estimator.binary or len(network.layers) != 1:
        what = "sign units" if estimator.binary else f"{len(network.layers)} hidden layers"
        raise ValueError(f"estimator must have one layer of logistic units to be compressed, got {what}")
    if estimator.monotone_constraints is not None and any(estimator._directions(network.outputs) or ()):
        raise ValueError("estimator must not have monotone_constraints: solved output weights may have any sign")
    check_whole("n_units", n_units)
    if n_units > network.units:
        raise ValueError(f"n_units must be at most the {network.units} units there are, got {n_units}")
    H = network.activations(estimator._encode_input(X))
    chosen, output, intercept = _match_outputs(H, H @ network.output, int(n_units))
    layer = network.layers[0]
    shorter = copy.copy(estimator)
    shorter.network_ = replace(
        network,
        layers=(Layer(layer.weights[chosen], layer.bias[chosen]),),
        output=output,
        intercepts=(network.intercepts.sum(axis=0) + intercept)[None],
        sizes=np.array([len(chosen)], np.int64),
    )
    shorter.train_loss_, shorter.validation_loss_ = np.full(2, np.nan), np.empty(0)
    return shorter


def _match_outputs(H: Array, F: Array, count: int) -> tuple[NDArray[np.int64], Array, Array]:
    """Places of `count` columns of `H` (n, U) in the order chosen, with output weights (count, K) and constant (K,)."""
    mean, level = H.mean(axis=0), F.mean(axis=0)
    spread = F.std(axis=0)
    spread = np.where(spread > 0.0, spread, 1.0)
    A, B = H - mean, (F - level) / spread
    gram, right = A.T @ A, A.T @ B
    added = RIDGE * np.trace(gram) / len(gram) + np.finfo(float).tiny
    chosen: list[int] = []
    # What is left of each unit, and of its product with what is left, once the chosen ones are taken out.
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
