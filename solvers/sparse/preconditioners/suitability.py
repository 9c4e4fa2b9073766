"""Which preconditioner a matrix that is not symmetric wants, and what may stand for one."""

from __future__ import annotations

from typing import Any

import numpy as np

from relaxon.solvers.sparse.preconditioners.setup import NAMES
from relaxon.solvers.sparse.system.caller_maps import is_map
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

POSITIVE_PART = 0.1
"""Of the off-diagonal weight: with more of it positive, a matrix is not like one of convection and diffusion."""
HELD = 0.999
"""Rows, or columns, in which the diagonal is at least so much of the others' magnitudes are held by it."""
HELD_PART = 0.9
"""Of the rows or of the columns: with fewer of them held, aggregates do not represent the matrix."""


def choose_preconditioner(system: MatrixSystem) -> str:
    """Return "amg" for a real matrix like those of convection and diffusion, "ilu" for other matrices, "none" for an
    operator without entries."""
    if system.matrix is None:
        return "none"
    return "amg" if is_like_convection(system) else "ilu"


def is_like_convection(system: MatrixSystem) -> bool:
    """Return whether a matrix is real, its diagonal of one sign, its off-diagonals of the other for the most part, and
    most rows or most columns held by their diagonal."""
    a, d = system.matrix, system.diagonal
    if system.is_complex or not ((d > 0).all() or (d < 0).all()):
        return False
    size, against = np.abs(a.data), float(a.data[(a.data > 0) == (d[0] > 0)].sum())
    d, against = np.abs(d), abs(against)
    rows = np.repeat(np.arange(len(d), dtype=np.int32), np.diff(a.indptr))
    by_row, by_column = np.bincount(rows, size, len(d)) - d, np.bincount(a.indices, size, len(d)) - d
    weight = float(by_row.sum())
    positive = against - float(d.sum())
    held = max(float((d >= HELD * sums).mean()) for sums in (by_row, by_column))
    return positive <= POSITIVE_PART * weight and held >= HELD_PART


def is_dominated(system: MatrixSystem, least: float) -> bool:
    """Return whether each diagonal entry's magnitude is at least so much of the sum of the others' in its row."""
    others = np.asarray(abs(system.matrix).sum(axis=1)).ravel() - np.abs(system.diagonal)
    return bool((np.abs(system.diagonal) >= least * others).all())


def check_preconditioner(preconditioner: Any) -> None:
    """Raise ValueError or TypeError for what is neither None nor a name nor a map."""
    if isinstance(preconditioner, str):
        if preconditioner not in NAMES:
            raise ValueError(f"preconditioner must be one of {', '.join(NAMES)} or a map, got {preconditioner!r}")
    elif preconditioner is not None and not is_map(preconditioner):
        raise TypeError(
            "preconditioner must be a name, a callable, a LinearOperator or a sparse matrix, "
            f"got {type(preconditioner).__name__}"
        )
