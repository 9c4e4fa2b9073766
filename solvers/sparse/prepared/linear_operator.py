"""A prepared solver as a preconditioner for other Krylov methods: a fixed, linear, symmetric map."""
# Imported on first use, for its weight: scipy.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core import scaling
from relaxon.core.masked import plain_array
from relaxon.solvers.sparse.engine import MatrixEngine
from relaxon.solvers.sparse.system.matrix_system import Array

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

    from relaxon.solvers.sparse.prepared.prepared_matrix import PreparedMatrix


def as_linear_operator(prepared: PreparedMatrix) -> LinearOperator:
    """Return `M ≈ A⁻¹` as an operator on the unknowns, `(n, n)` float64, symmetric and positive (semi)definite.

    Unknowns that their own diagonal decides, which the solver eliminates, are divided by it. On components whose rows
    sum to zero both the argument and the result are projected.

    Raises
    ------
    ValueError : where the solver has no fixed linear map.
    """
    from scipy.sparse.linalg import LinearOperator

    system, n = prepared.system, prepared.system.unknowns
    kept = None if prepared.reduced is None or prepared.elimination is None else prepared.elimination.index
    inverse = np.empty(0) if prepared.elimination is None else system.inverse_diagonal
    inner = _make_inner_map(prepared)

    def matvec(v: NDArray[Any]) -> Array:
        r = np.array(plain_array("r", v), np.float64).reshape(-1)
        if not np.isfinite(r).all():
            return np.full(n, np.nan)
        system.project(r)
        exponent = scaling.exponent_of(float(np.abs(r).max()))
        scaling.scale(r, -exponent)  # by a power of two: the cycle is in float32
        z = inverse * r if len(inverse) else np.empty(n)
        if inner is not None:
            z[slice(None) if kept is None else kept] = inner(r if kept is None else r[kept])
        scaling.scale(z, exponent - system.exponent)
        return system.project(z)

    return LinearOperator((n, n), matvec=matvec, rmatvec=matvec, dtype=np.float64)


def _make_inner_map(prepared: PreparedMatrix) -> Any:
    """Return the map on the unknowns that elimination leaves; None where it leaves none."""
    if prepared.elimination is not None and prepared.reduced is None:
        return None
    left = prepared if prepared.reduced is None else prepared.reduced
    engine = left.engine
    precondition = engine.preconditioner() if isinstance(engine, MatrixEngine) else None
    if precondition is None:
        raise ValueError(
            f"solver must have a fixed linear map to be a preconditioner (amg, ic-cg, jacobi-cg, pyamg-sa, pyamg-rs, "
            f"scipy-direct), got {prepared.solver.name!r}"
        )
    system = left.system
    shift = 0 if left is prepared else -left.system.exponent

    def apply_map(r: Array) -> Array:
        z = np.empty_like(r)
        precondition(system.project(r.copy()), z)
        scaling.scale(z, shift)
        return system.project(z)

    return apply_map
