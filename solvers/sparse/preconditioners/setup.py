"""The set-up of preconditioners for matrices of any kind: a caller's map, the diagonal, ILU(0), multigrid; and which of
them suit a nonsymmetric matrix."""

# Imported on first use, for its weight: scipy.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.solvers.sparse.downstream.multigrid import DownstreamMultigrid
from relaxon.solvers.sparse.preconditioners import incomplete_lu_kernels as kernels
from relaxon.solvers.sparse.system.caller_maps import Map, Vector, is_map, wrap_map
from relaxon.solvers.sparse.system.matrix_kinds import row_maxima
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem

LEAST_PIVOT = 1e-8
"""Pivots of the incomplete factor below this fraction of their row's largest magnitude are raised to it."""
NAMES = ("amg", "ilu", "jacobi", "none")


def prepare_map(system: MatrixSystem, preconditioner: Any) -> tuple[Map | None, dict[str, float]]:
    """Set up the preconditioner of a name of `NAMES`, or validate a caller's; return it (None for "none") and figures.

    ValueError where the preconditioner is not for the system's matrix.
    """
    if not isinstance(preconditioner, str):
        return wrap_map("M", preconditioner, system.whole or system.unknowns, system.is_complex, system.kept), {}
    if preconditioner == "none":
        return None, {}
    if system.matrix is None:
        raise ValueError(
            f"preconditioner must be 'none' or a map for an operator without entries, got {preconditioner!r}"
        )
    if preconditioner == "jacobi":
        inverse = inverse_magnitudes(system)
        return (lambda r: inverse * r), {}
    if preconditioner == "ilu":
        factor = IncompleteLU(system.matrix)
        return factor.apply, factor.info
    if system.is_complex:
        raise ValueError("preconditioner 'amg' is for real matrices, got a complex one")
    if not ((system.diagonal > 0).all() or (system.diagonal < 0).all()):
        raise ValueError("preconditioner 'amg' is for matrices with a diagonal of one sign")
    multigrid = DownstreamMultigrid(system.matrix)
    return multigrid.apply, multigrid.info


def inverse_magnitudes(system: MatrixSystem) -> NDArray[np.float64]:
    """Return the reciprocal of each diagonal entry's magnitude, or of the row's largest where that is zero; 0 in empty
    rows."""
    size = np.abs(system.diagonal)
    if not size.all():
        size = np.where(size > 0, size, row_maxima(system.matrix))
    return np.divide(1.0, size, out=np.zeros(len(size)), where=size > 0)


class IncompleteLU:
    """The incomplete factor ILU(0), in the dtype and order of the matrix."""

    def __init__(self, matrix: Any) -> None:
        own = add_missing_diagonal(matrix)
        self._arrays = own.indptr.view(np.uint32), own.indices.view(np.uint32), own.data
        self._middle = np.zeros(own.shape[0], np.uint32)
        place = np.empty(own.shape[0], np.uint32)
        least = LEAST_PIVOT * row_maxima(matrix)
        least[least == 0] = 1.0
        raised = kernels.factor(*self._arrays, self._middle, least, place)
        self.info = {"raised_pivots": float(raised), "factor_nonzeros": float(own.nnz)}

    def apply(self, r: Vector) -> Vector:
        """Return `U⁻¹ L⁻¹ r`."""
        z = np.empty(len(r), self._arrays[2].dtype)
        kernels.solve(*self._arrays, self._middle, np.ascontiguousarray(r, z.dtype), z)
        return z


def add_missing_diagonal(matrix: Any) -> Any:
    """Return a copy of a CSR matrix, sorted and with int32 indices, in which each row stores its diagonal."""
    from scipy.sparse import coo_array, csr_array

    n = matrix.shape[0]
    rows = np.repeat(np.arange(n, dtype=np.int32), np.diff(matrix.indptr))
    stored = np.zeros(n, bool)
    stored[rows[rows == matrix.indices]] = True
    if stored.all():
        return csr_array((matrix.data.copy(), matrix.indices, matrix.indptr), shape=matrix.shape)
    lacking = np.flatnonzero(~stored).astype(np.int32)
    places = np.concatenate([rows, lacking]), np.concatenate([matrix.indices, lacking])
    full = coo_array((np.concatenate([matrix.data, np.zeros(len(lacking))]), places), shape=matrix.shape).tocsr()
    full.sort_indices()
    full.indices, full.indptr = full.indices.astype(np.int32), full.indptr.astype(np.int32)
    return full


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
