"""Which solver for which sparse matrix: the names, and the automatic choice with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from relaxon.solvers.sparse.algebraic import AlgebraicMultigridCG
from relaxon.solvers.sparse.amg import AlgebraicMultigrid
from relaxon.solvers.sparse.direct import DIRECT_LIMIT, MatrixDirect
from relaxon.solvers.sparse.engine import MatrixEngine, MatrixSolver
from relaxon.solvers.sparse.incomplete_cholesky import MatrixIncompleteCholeskyCG
from relaxon.solvers.sparse.krylov import MatrixCG, MatrixJacobiCG
from relaxon.solvers.sparse.system import MatrixSystem
from relaxon.solvers.sparse.watched import Watched

# All numbers below come from what bench/sparse.py measures on two cores.
SMALL = 1_000
"""Unknowns up to which a factor takes milliseconds, were it full."""
FACTOR_COST = {False: 3e8, True: 1e11}
"""The envelope's `Σ band²` up to which a factor is made; more of it where iterations are expected to be slow (many
positive off-diagonals: plates, elasticity), as a factor does not mind. A factor's real cost is a part of it."""
DOMINANT = 0.9
"""Largest `Σ|a_ij| / a_ii` for which the scaled matrix's condition is at most 19: some thirty steps to 1e-6."""
MULTIGRID_FROM = 30_000
"""Unknowns below which an incomplete factor is as quick, and asks for a tenth of the compiling on a new machine."""
NARROW = 100.0
"""Operations a row up to which a factor is made at once: bands of some ten entries."""
PATIENCE = 150
"""Multigrid's iterations before something else is tried."""
POSITIVE_PART = 0.05
"""Of the off-diagonal weight: with more of it positive, the matrix is not like a Laplacian."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A solver and, in a sentence, why it."""

    solver: MatrixSolver
    reason: str


@dataclass(frozen=True, slots=True)
class Automatic(MatrixSolver):
    """Multigrid, but for small and narrow matrices; where it is slow, what suits the matrix better goes on.

    `Solution.message` has the choice and the reason.
    """

    name: ClassVar[str] = "auto"
    summary: ClassVar[str] = "chooses by the matrix, and says why"

    def prepare_matrix(self, system: MatrixSystem) -> MatrixEngine:
        choice = choose(system)
        if isinstance(choice.solver, AlgebraicMultigrid):
            engine: MatrixEngine = Watched(system, choice.solver.prepare_matrix(system), PATIENCE, _instead)
            engine.reason = f"auto chose {_name(choice.solver)}: {choice.reason}"
            return engine
        engine, name, reason = _set_up(system, choice)
        engine.reason = f"auto chose {name}: {reason}"
        return engine


def _set_up(system: MatrixSystem, choice: Choice) -> tuple[MatrixEngine, str, str]:
    """Set a chosen method up, or another where its incomplete factor breaks down; its name, and why it."""
    engine, name, reason = choice.solver.prepare_matrix(system), _name(choice.solver), choice.reason
    if engine.info.get("retries", 0.0) > 0 and find_spec("pyamg") is not None:
        engine = AlgebraicMultigridCG("sa").prepare_matrix(system)
        name, reason = "pyamg-sa", f"an incomplete factor without fill breaks down ({reason})"
    return engine, name, reason


def _instead(system: MatrixSystem) -> tuple[MatrixEngine, str]:
    """Set up what goes on where multigrid is slow, and say why it."""
    engine, name, reason = _set_up(system, alternative(system))
    return engine, f"{name} went on: {reason}"


MATRIX_SOLVERS: dict[str, MatrixSolver] = {
    "auto": Automatic(),
    "amg": AlgebraicMultigrid(),
    "pyamg-sa": AlgebraicMultigridCG("sa"),
    "pyamg-rs": AlgebraicMultigridCG("rs"),
    "ic-cg": MatrixIncompleteCholeskyCG(),
    "jacobi-cg": MatrixJacobiCG(),
    "cg": MatrixCG(),
    "scipy-direct": MatrixDirect(),
}


def choose(system: MatrixSystem) -> Choice:
    """The solver that is expected to answer one right-hand side soonest, set-up included."""
    n = system.unknowns
    if n <= SMALL:
        return Choice(MATRIX_SOLVERS["scipy-direct"], f"{n} unknowns are few enough to factor, whatever the pattern")
    dominance, positive = _weights(system.matrix, system.diagonal)
    if dominance <= DOMINANT:
        return Choice(
            MATRIX_SOLVERS["jacobi-cg"],
            f"every row's off-diagonal sum is at most {dominance:.2g} of its diagonal, so that few steps do",
        )
    if n < MULTIGRID_FROM:
        return _without_multigrid(system, positive)
    cost = _band(system.matrix)
    if cost <= NARROW * n and n <= DIRECT_LIMIT:
        return Choice(MATRIX_SOLVERS["scipy-direct"], f"a factor's envelope costs {cost:.1e} operations at most")
    return Choice(MATRIX_SOLVERS["amg"], f"{n} unknowns, too wide a pattern for a factor to be soon made")


def alternative(system: MatrixSystem) -> Choice:
    """The solver for a matrix on which multigrid is slow."""
    return _without_multigrid(system, _weights(system.matrix, system.diagonal)[1])


def _without_multigrid(system: MatrixSystem, positive: float) -> Choice:
    """A factor where it is cheap, else an incomplete one; `positive` is a part of the off-diagonal weight."""
    cost, depth = _envelope(system.matrix)
    unlike = positive > POSITIVE_PART
    if cost <= FACTOR_COST[unlike] and system.unknowns <= DIRECT_LIMIT:
        return Choice(MATRIX_SOLVERS["scipy-direct"], f"a factor's envelope costs {cost:.1e} operations at most")
    if unlike:
        return Choice(
            MATRIX_SOLVERS["ic-cg"],
            f"{positive:.0%} of the off-diagonal weight is positive, and a factor would cost up to {cost:.1e}",
        )
    return Choice(MATRIX_SOLVERS["ic-cg"], f"like a Laplacian, on a graph of {depth:.0f} levels")


def _band(matrix: Any) -> float:
    """`Σ band_i²` in the order of the rows, which are sorted."""
    starts = matrix.indptr[:-1]
    filled = np.diff(matrix.indptr) > 0
    first = matrix.indices[starts[filled]]
    return float(np.sum((np.flatnonzero(filled) - first).clip(0).astype(np.float64) ** 2))


def named(name: str, peers: bool = False) -> MatrixSolver:
    """The matrix solver of that name; ValueError for one that is unknown or needs a grid.

    With `peers`, those of other libraries in `relaxon.solvers.sparse.peers` too.
    """
    if name in MATRIX_SOLVERS:
        return MATRIX_SOLVERS[name]
    if peers:
        from relaxon.solvers.sparse.peers import PEERS

        if name in PEERS:
            return PEERS[name]
    from relaxon.solvers.registry import list_solvers

    hint = ""
    if name in {entry.name for entry in list_solvers()}:
        hint = ", which needs a grid"
    elif near := get_close_matches(name, MATRIX_SOLVERS, 1):
        hint = f"; did you mean {near[0]!r}?"
    raise ValueError(f"solver must be one of {', '.join(MATRIX_SOLVERS)} for a sparse matrix, got {name!r}{hint}")


def _name(solver: MatrixSolver) -> str:
    return next((name for name, known in MATRIX_SOLVERS.items() if known == solver), solver.name)


def _weights(matrix: Any, diagonal: Any) -> tuple[float, float]:
    """The largest `Σ_{j≠i}|a_ij| / a_ii`, and the positive part of the off-diagonal weight."""
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    weight = np.abs(matrix.data) * (rows != matrix.indices)
    sums = np.bincount(rows, weight, matrix.shape[0])
    dominance = float(np.max(sums / np.where(diagonal > 0, diagonal, 1.0)))
    total = float(weight.sum())
    positive = float(weight[matrix.data > 0].sum()) / total if total > 0 else 0.0
    return dominance, positive


def _envelope(matrix: Any) -> tuple[float, float]:
    """`Σ band_i²` in reverse Cuthill–McKee order, and how many levels its search has: `n` over the mean band."""
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    n = matrix.shape[0]
    order = reverse_cuthill_mckee(matrix, symmetric_mode=True)
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    rows = np.repeat(np.arange(n), np.diff(matrix.indptr))
    bands = np.zeros(n, np.int64)
    np.maximum.at(bands, place[rows], place[rows] - place[matrix.indices])
    return float(np.sum(bands.astype(np.float64) ** 2)), n / max(1.0, float(bands.mean()))
