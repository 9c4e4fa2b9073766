"""Which preconditioners suit a nonsymmetric matrix, and which arguments name one."""

from __future__ import annotations

from typing import Any

import numpy as np

from relaxon.solvers.sparse.preconditioners.setup import NAMES
from relaxon.solvers.sparse.system.caller_maps import is_map
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

POSITIVE_PART = 0.1
"""Largest positive fraction of the off-diagonal weight in matrices like those of convection and diffusion."""
HELD = 0.999
"""A row or column is dominated where its diagonal is at least this fraction of the sum of the other magnitudes."""
HELD_PART = 0.9
"""With fewer than this fraction of the rows or columns dominated, aggregates do not represent the matrix."""


def choose_preconditioner(system: MatrixSystem) -> str:
    """Choose "amg" for a real matrix like those of convection and diffusion, "ilu" for other matrices, and "none" for
    an operator without entries."""
    if system.matrix is None:
        return "none"
    return "amg" if is_like_convection(system) else "ilu"


def is_like_convection(system: MatrixSystem) -> bool:
    """Return whether a matrix is real, with a diagonal of one sign, mostly off-diagonals of the other, and most rows or
    most columns dominated by their diagonal."""
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
    """Return whether each diagonal entry's magnitude is at least the fraction `least` of the others' sum in its row."""
    others = np.asarray(abs(system.matrix).sum(axis=1)).ravel() - np.abs(system.diagonal)
    return bool((np.abs(system.diagonal) >= least * others).all())


def check_preconditioner(preconditioner: Any) -> None:
    """Raise ValueError or TypeError unless `preconditioner` is None, a name or a map."""
    if isinstance(preconditioner, str):
        if preconditioner not in NAMES:
            raise ValueError(f"preconditioner must be one of {', '.join(NAMES)} or a map, got {preconditioner!r}")
    elif preconditioner is not None and not is_map(preconditioner):
        raise TypeError(
            "preconditioner must be a name, a callable, a LinearOperator or a sparse matrix, "
            f"got {type(preconditioner).__name__}"
        )
