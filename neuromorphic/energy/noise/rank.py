"""Checks that a table has a density, which requires a covariance of full rank; free of torch, for the server."""
# Imported on first use, for their weight: scipy.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEAST_SPREAD = 1e-6
"""Minimum spread of a feature that the others do not explain, in standard deviations; a tilt is trained in single
precision, which does not resolve less."""
CLEAR = 1e-8
"""Smallest eigenvalue of the correlation matrix above which the rank is certainly full."""
COUNTED = 1e-3
"""Minimum coefficient of a feature that a message lists as part of another."""
MOST_NAMED = 5
"""Maximum number of features that a message lists."""


def explain_rank_deficiency(z: Array, names: Sequence[Any] | None = None) -> str:
    """Return why standardised rows `z (n, d)` have no density, or an empty string if their covariance has full rank.

    `names` are the names of the features; None for their indices.
    """
    rows, features = z.shape
    if rows <= features:
        return f"{rows} rows of {features} features leave directions without any spread: reduce the features (by PCA)"
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
        f"{features - rank} of {features} features are combinations of others, drop them: {', '.join(dependent)} "
        f"({said[rank]} is a combination of {', '.join(of[:MOST_NAMED])}{more})"
    )


def explain_table_rank_deficiency(x: NDArray[Any], names: Sequence[Any] | None = None) -> str:
    """Return what `explain_rank_deficiency` does for rows in their own units; empty if a feature is constant."""
    x = np.asarray(x, np.float64)
    spread = x.std(0)
    if not (spread > 0).all() or not np.isfinite(spread).all():
        return ""
    return explain_rank_deficiency((x - x.mean(0)) / spread, names)


def explain_generalisation_gap(trained: Array, held: Array, features: int, largest: float) -> str:
    """Return why log-densities that are higher on training than on hold-out rows are unreliable, or an empty string.

    `largest` is the accepted gap, in nats per feature; at least one nat and three standard errors of the hold-out rows
    are always accepted.
    """
    if not (np.isfinite(trained).all() and np.isfinite(held).all()):
        return "the log-density of a training or hold-out row is not finite"
    gap = float(trained.mean() - held.mean())
    error = float(held.std(ddof=1)) / np.sqrt(len(held)) if len(held) > 1 else 0.0
    # A large spread of the hold-out rows can itself be a sign of overfitting and must not excuse a gap; the spread of
    # the training rows is used if it is smaller.
    error = min(error, float(trained.std()) / np.sqrt(len(held)))
    if gap <= max(1.0, largest * features, 3.0 * error):
        return ""
    return (
        f"the training rows are more likely than the hold-out rows by {gap:.3g} nats on average (mean log-density "
        f"{trained.mean():.4g} and {held.mean():.4g}): there are too few rows for so many features"
    )
