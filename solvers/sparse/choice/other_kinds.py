"""The automatic choice for matrices that are not symmetric positive definite, by their kind."""
# Imported on first use, for their weight: SciPy, `solvers.sparse.amg`.

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relaxon.core.extras import find_missing
from relaxon.solvers.sparse.choice.handover import Fallback, HandOver
from relaxon.solvers.sparse.choice.trial import pick_piece
from relaxon.solvers.sparse.direct.pivoted import PivotedFactor
from relaxon.solvers.sparse.direct.solver import NEEDS, DirectFactorisation
from relaxon.solvers.sparse.engine import MatrixEngine
from relaxon.solvers.sparse.krylov.bicgstab import MatrixBiCGStab
from relaxon.solvers.sparse.krylov.gmres import MatrixGMRES
from relaxon.solvers.sparse.krylov.minres import MatrixMINRES
from relaxon.solvers.sparse.preconditioners.setup import is_dominated, is_like_convection
from relaxon.solvers.sparse.system.matrix_kinds import NAMES
from relaxon.solvers.sparse.system.matrix_system import MatrixSystem
from relaxon.solvers.sparse.system.row_scaling import find_row_scaling

SMALL = 1_000
"""Unknowns up to which a factor takes milliseconds."""
FACTOR_LIMIT = 300_000
"""Unknowns up to which a factor by SuperLU is tried."""
FACTOR_COST = 2e11
"""The envelope's `Σ band²` up to which SuperLU computes a factor; the true cost is a fraction of that."""
FACTOR_OPERATIONS = 2e11
"""Operations, counted from the pattern, up to which rslab computes a factor: half a minute of one thread."""
MULTIGRID_PATIENCE, INCOMPLETE_PATIENCE = 90, 200
"""Expected iterations beyond which the next method is tried, for multigrid and for ILU(0)."""
DOMINANT = 1.0
"""ILU(0) is tried before a factor where each diagonal entry is at least this fraction of the row's other magnitudes."""


def prepare_kind(system: MatrixSystem) -> MatrixEngine:
    """Set up the methods that suit the system's kind; `reason` names the first one, and why."""
    article = NAMES[system.kind]
    if system.is_complex and system.kind == "nonsymmetric":
        article = "a complex nonsymmetric"
    head = f"{article} matrix ({system.why})" if system.why else f"{article} matrix"
    few = Fallback("scipy-direct", "few enough unknowns to factor with pivoting", 10, lambda: PivotedFactor(system))
    library = "scipy-direct" if find_missing(NEEDS) else "direct"
    factor = Fallback(library, "a factor with pivoting fits", 10, lambda: _make_fitting_factor(system, library))
    stages = _list_iterative(system)
    if system.unknowns <= SMALL:
        return HandOver(head, [few, *stages])
    if system.kind == "complex-symmetric" and (parts := add_parts(system)) is not None:
        why = "whose parts look definite: multigrid for their sum"
        summed = Fallback("gmres", why, MULTIGRID_PATIENCE, lambda: _precondition_by(system, parts))
        return HandOver(head, [summed, factor, *stages])
    if system.kind == "nonsymmetric" and not system.is_complex:
        return HandOver(head, [*stages, factor, stages[-1]])
    if system.kind in ("nonsymmetric", "complex-symmetric") and is_dominated(system, DOMINANT):
        return HandOver(head, [*stages, factor, stages[-1]])
    return HandOver(head, [factor, *stages])


def add_parts(system: MatrixSystem) -> MatrixSystem | None:
    """Return the real system of `Re A + Im A` (`Re A − Im A` where the imaginary part is negative), where both parts
    look positive semidefinite and the sum definite; else None.

    With such parts the preconditioned eigenvalues `(w + i t) / (w + t)` have moduli from `1/√2` to 1.
    Source: O. Axelsson, A. Kucherov, "Real valued iterative methods for solving complex symmetric linear systems",
    Numer. Linear Algebra Appl. 7 (2000).
    """
    real, imaginary = system.matrix.real, system.matrix.imag
    if imaginary.diagonal().sum() < 0:
        imaginary = -imaginary
    # A wave's part is negative for the vector of ones, as `−k²` outweighs what the boundaries add.
    if any((part.diagonal() < 0).any() or part.sum() < 0 for part in (real, imaginary)):
        return None
    parts = MatrixSystem.of((real + imaginary).tocsr())
    return parts if parts.kind == "spd" and not parts.null.dimension else None


def symmetrise(system: MatrixSystem) -> tuple[MatrixSystem, NDArray[np.float64]] | None:
    """Return the system of `diag(d) A` and `d (n,)` where that looks positive definite; None where there is none.

    A piece is tried first, as most nonsymmetric matrices have no such factors anywhere.
    """
    from scipy.sparse import diags_array

    a = system.matrix
    if system.kind != "nonsymmetric" or system.is_complex or system.symmetric is False or a.indices.dtype != np.int32:
        return None
    kept = pick_piece(a)
    if find_row_scaling(a[kept][:, kept].tocsr()) is None or (factors := find_row_scaling(a)) is None:
        return None
    scaled = MatrixSystem.of((diags_array(factors) @ a).tocsr())
    return (scaled, factors) if scaled.kind == "spd" else None


def _precondition_by(system: MatrixSystem, other: MatrixSystem, factors: Any = 1.0) -> MatrixEngine:
    """Set up GMRES with multigrid for another, real system, whose right-hand side is this one's times `factors`."""
    from relaxon.solvers.sparse.amg import AlgebraicMultigrid

    precondition = AlgebraicMultigrid().prepare_matrix(other).preconditioner()
    assert precondition is not None

    def apply(r: NDArray[Any]) -> NDArray[Any]:
        z = np.zeros_like(r)
        precondition(np.ascontiguousarray(factors * r.real), part := np.empty(len(r)))
        z.real = part
        if r.dtype.kind == "c":
            precondition(np.ascontiguousarray(factors * r.imag), part)
            z.imag = part
        return z

    return MatrixGMRES(apply).prepare_matrix(system)


def _list_iterative(system: MatrixSystem) -> list[Fallback]:
    """Return the methods without a factor that suit the system's kind, the best one first."""
    if system.kind in ("spd", "symmetric-indefinite", "hermitian"):
        why = "with the diagonal, as no preconditioner is given"
        return [Fallback("minres", why, math.inf, lambda: MatrixMINRES().prepare_matrix(system))]
    stages = []
    if is_like_convection(system):
        why = "like one of convection and diffusion: multigrid downstream"
        stages.append(Fallback("gmres", why, MULTIGRID_PATIENCE, lambda: MatrixGMRES("amg").prepare_matrix(system)))
    elif (found := symmetrise(system)) is not None:
        why = "symmetric but for a factor of each row: multigrid for the symmetric one"
        stages.append(Fallback("gmres", why, MULTIGRID_PATIENCE, lambda: _precondition_by(system, *found)))
    why = "with ILU(0)"
    stages.append(Fallback("gmres", why, INCOMPLETE_PATIENCE, lambda: MatrixGMRES("ilu").prepare_matrix(system)))
    return stages


def _make_fitting_factor(system: MatrixSystem, library: str) -> MatrixEngine:
    """Compute a factor; ValueError where it costs too much or does not fit into memory, or the matrix is singular."""
    if library == "direct":
        factors = DirectFactorisation()
        factoriser = factors.analyse(system)
        if factoriser.size is not None and factoriser.size.flops > FACTOR_OPERATIONS:
            raise ValueError(
                f"a factor takes {factoriser.size.flops:.1e} operations, more than {FACTOR_OPERATIONS:.1e}"
            )
        return factors.factor(system, factoriser)
    if system.unknowns > FACTOR_LIMIT:
        raise ValueError(f"a factor takes at most {FACTOR_LIMIT} unknowns, got {system.unknowns}")
    cost = envelope(system.matrix)
    if cost > FACTOR_COST:
        raise ValueError(f"a factor's envelope costs {cost:.1e} operations, more than {FACTOR_COST:.1e}")
    return PivotedFactor(system)


def envelope(matrix: Any) -> float:
    """Return `Σ band_i²` of the pattern of `A + Aᵀ` in reverse Cuthill–McKee order."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    n = matrix.shape[0]
    pattern = csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    pattern = (pattern + pattern.T).tocsr()
    order = reverse_cuthill_mckee(pattern, symmetric_mode=True)
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    rows = np.repeat(np.arange(n), np.diff(pattern.indptr))
    bands = np.zeros(n, np.int64)
    np.maximum.at(bands, place[rows], place[rows] - place[pattern.indices])
    return float(np.sum(bands.astype(np.float64) ** 2))


GENERAL_SOLVERS = {"gmres": MatrixGMRES(), "bicgstab": MatrixBiCGStab(), "minres": MatrixMINRES()}
"""By the names that `solve` takes."""
