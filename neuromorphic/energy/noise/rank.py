"""Whether a table has a density at all: its covariance must have full rank. Without torch, for the server's checks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_SPREAD = 1e-6
"""Of a direction, in standard deviations of a feature, beside all others; a tilt is trained in single precision, which
tells nothing finer."""
CLEAR = 1e-8
"""Smallest eigenvalue of the correlation matrix above which the rank is full without a closer look."""
COUNTED = 1e-3
"""Smallest coefficient of a feature that is said to be a part of another."""
MOST_NAMED = 5


def explain_rank_deficiency(z: Array, names: Sequence[Any] | None = None) -> str:
    """Why rows `z (n, d)`, standardised, have no density; empty where their covariance has full rank.

    `names` are the features', their numbers where None.
    """
    rows, features = z.shape
    if rows <= features:
        return f"{rows} rows of {features} features leave directions without any spread: reduce the features (PCA)"
    centred = z - z.mean(0)
    if float(np.linalg.eigvalsh(centred.T @ centred / rows)[0]) > CLEAR:
        return ""
    from scipy.linalg import qr, solve_triangular

    triangle, order = qr(centred, mode="r", pivoting=True)
    triangle = triangle[:features] / np.sqrt(rows)
    rank = int((np.abs(triangle.diagonal()) > LEAST_SPREAD).sum())
    if rank == features:
        return ""
    known = order.tolist() if names is None else [names[k] for k in order]
    said = [repr(name) if isinstance(name, str) else str(name) for name in known]
    parts = solve_triangular(triangle[:rank, :rank], triangle[:rank, rank])
    of = [said[k] for k in np.flatnonzero(np.abs(parts) > COUNTED)]
    dependent = said[rank : rank + MOST_NAMED] + (["…"] if features - rank > MOST_NAMED else [])
    more = ", …" if len(of) > MOST_NAMED else ""
    return (
        f"{features - rank} of {features} features are combinations of others, leave them out: {', '.join(dependent)} "
        f"({said[rank]} is a combination of {', '.join(of[:MOST_NAMED])}{more})"
    )


def explain_table_rank_deficiency(x: NDArray[Any], names: Sequence[Any] | None = None) -> str:
    """As `lacking_rank`, of rows in their own units; empty where a feature is constant, which is said elsewhere."""
    x = np.asarray(x, np.float64)
    spread = x.std(0)
    if not (spread > 0).all() or not np.isfinite(spread).all():
        return ""
    return explain_rank_deficiency((x - x.mean(0)) / spread, names)


def explain_generalisation_gap(trained: Array, held: Array, features: int, largest: float) -> str:
    """Why log-densities that are higher on the training rows than on rows held out are not to be trusted; or nothing.

    `largest` is the gap, in nats for each feature, that is taken; at least one nat, and three standard errors of the
    rows held out.
    """
    if not (np.isfinite(trained).all() and np.isfinite(held).all()):
        return "the log-density of a training row, or of one held out, is not finite"
    gap = float(trained.mean() - held.mean())
    error = float(held.std(ddof=1)) / np.sqrt(len(held)) if len(held) > 1 else 0.0
    # Where the spread of the rows held out is itself the sign of a density that fits the training rows alone, three
    # errors of it excuse nothing: the spread of the training rows is taken where it is smaller.
    error = min(error, float(trained.std()) / np.sqrt(len(held)))
    if gap <= max(1.0, largest * features, 3.0 * error):
        return ""
    return (
        f"the training rows are likelier than rows held out by {gap:.3g} nats on average (mean log-density "
        f"{trained.mean():.4g} and {held.mean():.4g}): the rows are too few for so many features"
    )
